"""docs/papers.md: the page is that of its data, which lists every part once and names only what is there."""

import importlib
import inspect
import shlex

import pytest
from test_docs import ROOT, check_flags, small
from test_recipes import read, variants

from kdarts.cli.main import main


@pytest.fixture
def papers(tool):
    return tool("papers_page")


def _rows(papers) -> list[dict]:
    return [row for paper in papers.read()["paper"] for row in paper["row"]]


def test_the_pages_are_up_to_date(papers):
    for path, text in papers.pages().items():
        assert text == path.read_text("utf-8"), f"{path.name}: run python tools/papers_page.py"


def test_every_part_of_a_paper_is_there_once(papers):
    for paper in papers.read()["paper"]:
        numbers = {kind: range(1, n + 1) if isinstance(n, int) else n for kind, n in paper["has"].items()}
        parts = [f"{kind} {number}" for kind, found in numbers.items() for number in found]
        assert sorted(part for row in paper["row"] for part in row["what"]) == sorted(parts), paper["title"]


def test_a_row_has_a_status_and_a_command_or_says_why_not(papers):
    for row in _rows(papers):
        assert row.keys() <= {"what", "where", "command", "status", "note"}, row
        assert row["status"] in papers.read()["status"], row
        assert ("command" in row) == (row["status"] != "not made"), row
        assert "note" in row or row["status"] != "not made", row


def test_every_file_and_every_name_in_it_exists(papers):
    for row in _rows(papers):
        for place in row["where"]:
            path, _, name = place.partition(":")
            assert (ROOT / path).is_file(), place
            if name:
                module = path.removesuffix(".py").replace("/", ".")
                found = importlib.import_module(module)
                for part in name.split("."):
                    found = getattr(found, part)
                assert getattr(found, "__module__", module) == module or not inspect.isroutine(found), place


def test_every_command_is_one(papers, tool, monkeypatch):
    """Of flagfiles the commands are those in their headers, which `test_recipes` runs dry."""
    monkeypatch.chdir(ROOT)
    for row in _rows(papers):
        for program, *words in [shlex.split(row["command"])] if "command" in row else []:
            check_flags(program, words)
            given = next((word for word in words if word.startswith("--flagfile=")), None)
            if given:
                flagfile = read(ROOT / given.removeprefix("--flagfile="))
                known = [flagfile.command, *(_overridden(flagfile.command, more) for _, more in variants(flagfile))]
                assert sorted([program, *words]) in map(sorted, known), row["command"]
            elif program == "python" and hasattr(study := tool(words[0][6:-3]), "parse"):
                found = study.parse(words[1:])
                if hasattr(study, "plan"):
                    assert study.plan(found[0].study, *found)


def _overridden(words: list[str], more: list[str]) -> list[str]:
    """A command with further flags, each in place of one of its name."""
    names = {word.partition("=")[0] for word in more}
    return [word for word in words if word.partition("=")[0] not in names] + more


@pytest.mark.slow
def test_what_is_done_is_shown_by_its_command(papers, tmp_path, monkeypatch, eagerly):
    monkeypatch.chdir(tmp_path)
    for command in dict.fromkeys(row["command"] for row in _rows(papers) if row["status"] == "done"):
        program, *words = shlex.split(command)
        if program == "kdarts":
            assert main([*words, *small(words)]) == 0, command
