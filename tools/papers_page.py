"""Writes docs/papers.md, what kdarts makes of the papers' numbered parts, of docs/papers.toml.

The page of each paper's results gets the contents of its tables and figures, between two comments.

python tools/papers_page.py            # writes the pages
python tools/papers_page.py --check    # exits with 1 where a page is not up to date
"""

import argparse
import pathlib
import sys
import tomllib

DOCS = pathlib.Path(__file__).parent.parent / "docs"
DATA, PAGE = DOCS / "papers.toml", DOCS / "papers.md"
BEGIN, END = "<!-- contents of papers.toml -->", "<!-- end of contents -->"


def read() -> dict:
    """The data file: `paper`, a list, each with its `row`s; `status`; and the text before and behind the tables."""
    return tomllib.loads(DATA.read_text("utf-8"))


def pages() -> dict[pathlib.Path, str]:
    """The pages and their texts: docs/papers.md, and those of the papers' results."""
    data = read()
    return {PAGE: _page(data)} | {DOCS / paper["results"]: _with_contents(paper) for paper in data["paper"]}


def _with_contents(paper: dict) -> str:
    """The page of a paper's results with the contents as they are now."""
    path = DOCS / paper["results"]
    before, begin, rest = path.read_text("utf-8").partition(BEGIN)
    _, end, behind = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path}: needs a line {BEGIN} and one {END}")
    rows = [
        f"| {', '.join(parts)} | {_cell(row['status'])} | {_cell(row.get('note', ''))} |\n"
        for row in paper["row"]
        if (parts := [part for part in row["what"] if part.startswith(("Table", "Figure", "Algorithm"))])
    ]
    head = "| in the paper | here | where, or why not |\n| --- | --- | --- |\n"
    return f"{before}{BEGIN}\n\n{head}{''.join(rows)}\n{END}{behind}"


def _page(data: dict) -> str:
    statuses = "".join(f"| {status} | {meaning} |\n" for status, meaning in data["status"].items())
    return data["before"] + statuses + "".join(map(_section, data["paper"])) + data["behind"]


def _section(paper: dict) -> str:
    head = "| what | where | command | status | note |\n| --- | --- | --- | --- | --- |\n"
    return f"\n## {paper['title']}\n\n{paper['cite']}.\n\n{head}" + "".join(map(_row, paper["row"]))


def _row(row: dict) -> str:
    command = f"`{row['command']}`" if "command" in row else ""
    cells = ", ".join(row["what"]), _places(row["where"]), command, row["status"], row.get("note", "")
    return f"| {' | '.join(map(_cell, cells))} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _places(places: list[str]) -> str:
    """Links to the files, each with the names in it."""
    names = {}
    for path, _, name in (place.partition(":") for place in places):
        names.setdefault(path, []).extend([f"`{name}`"] if name else [])
    links = {path: f"[{path.removeprefix('kdarts/')}](../{path})" for path in names}
    return ", ".join(f"{', '.join(found)} in {links[path]}" if found else links[path] for path, found in names.items())


def main() -> int:
    """Writes the pages, or with --check says by the exit code whether they are up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if parser.parse_args().check:
        return int(any(path.read_text("utf-8") != text for path, text in pages().items()))
    for path, text in pages().items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
