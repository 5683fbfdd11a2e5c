"""Writes docs/papers.md, what kdarts makes of the papers' numbered parts, of docs/papers.toml.

python tools/papers_page.py            # writes the page
python tools/papers_page.py --check    # exits with 1 where the page is not up to date
"""

import argparse
import pathlib
import sys
import tomllib

DOCS = pathlib.Path(__file__).parent.parent / "docs"
DATA, PAGE = DOCS / "papers.toml", DOCS / "papers.md"


def read() -> dict:
    """The data file: `paper`, a list, each with its `row`s; `status`; and the text before and behind the tables."""
    return tomllib.loads(DATA.read_text("utf-8"))


def page() -> str:
    """The whole page."""
    data = read()
    statuses = "".join(f"| {status} | {meaning} |\n" for status, meaning in data["status"].items())
    return data["before"] + statuses + "".join(map(_section, data["paper"])) + data["behind"]


def _section(paper: dict) -> str:
    head = "| what | where | command | status | note |\n| --- | --- | --- | --- | --- |\n"
    return f"\n## {paper['title']}\n\n{paper['cite']}.\n\n{head}" + "".join(map(_row, paper["row"]))


def _row(row: dict) -> str:
    command = f"`{row['command']}`" if "command" in row else ""
    cells = ", ".join(row["what"]), _places(row["where"]), command, row["status"], row.get("note", "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _places(places: list[str]) -> str:
    """Links to the files, each with the names in it."""
    names = {}
    for path, _, name in (place.partition(":") for place in places):
        names.setdefault(path, []).extend([f"`{name}`"] if name else [])
    links = {path: f"[{path.removeprefix('kdarts/')}](../{path})" for path in names}
    return ", ".join(f"{', '.join(found)} in {links[path]}" if found else links[path] for path, found in names.items())


def main() -> int:
    """Writes the page, or with --check says by the exit code whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if parser.parse_args().check:
        return int(page() != PAGE.read_text("utf-8"))
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
