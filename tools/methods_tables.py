"""Writes the tables of docs/methods.md that are derived from the classes: the methods, and every axis with its choices.

python tools/methods_tables.py            # writes the page
python tools/methods_tables.py --check    # exits with 1 where the page is not up to date
"""

import argparse
import inspect
import pathlib
import sys

from kdarts.cli.catalogue import differences
from kdarts.genotypes.settings import settings_of
from kdarts.search.losses import LOSSES
from kdarts.search.method import AXES, get_method, method_names

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "methods.md"
START, END = "<!-- tables: tools/methods_tables.py -->", "<!-- end of tables -->"


def tables() -> str:
    """The text between the markers."""
    parts = [
        "## The methods\n",
        _table(("`--method`", "paper", "what differs from DARTS"), map(_method, method_names())),
    ]
    for slot in AXES:
        parts.append(f"## {slot.title}\n\n{slot.about[0].upper()}{slot.about[1:]}.\n")
        if slot.registry:
            rows = [(f"`{kind.name}`", _summary(kind)) for kind in slot.kinds()]
            parts.append(_table((f"`--{slot.key}`", "what it does"), rows))
        rows = _hyperparameters({kind.name: kind for kind in slot.kinds()})
        if rows:
            parts.append(_table(("flag", "what it is", "default", "range", "source"), rows))
    parts.append("## Losses\n\nTerms that are added to the loss of α; any of them may be there together.\n")
    parts.append(_table(("term", "what it does"), [(f"`{kind.name}`", _summary(kind)) for kind in LOSSES.items()]))
    rows = _hyperparameters({kind.name: kind for kind in LOSSES.items()})
    parts.append(_table(("flag", "what it is", "default", "range", "source"), rows))
    return "\n".join(parts)


def _method(name: str) -> tuple[str, str, str]:
    method = get_method(name)
    told = ", ".join(f"`{word}`" for word in differences(method))
    return f"`{name}`", method.paper, told or "nothing"


def _hyperparameters(kinds: dict[str, type]) -> list[tuple]:
    """A row of each field of the classes; where only some of them have it, or have other defaults, it says which."""
    rows, fields = [], {}
    for name, kind in kinds.items():
        for key, field in settings_of(kind).items():
            fields.setdefault(key, {})[name] = field
    for key, by_kind in fields.items():
        field = next(iter(by_kind.values()))
        about = field.metadata["setting"]
        values = {
            _value(each.default): [n for n, f in by_kind.items() if _value(f.default) == _value(each.default)]
            for each in by_kind.values()
        }
        default = (
            next(iter(values))
            if len(values) == 1
            else "; ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
        )
        some = f" (for {', '.join(f'`{name}`' for name in by_kind)})" if 0 < len(by_kind) < len(kinds) else ""
        rows.append((f"`--{key}`", about.help + some, default, about.range(), about.source))
    return rows


def _value(value) -> str:
    return "" if value in (None, (), "") else f"`{value}`"


def _summary(kind: type) -> str:
    """The first paragraph of its docstring."""
    return " ".join(inspect.getdoc(kind).split("\n\n")[0].split())


def _table(head: tuple, rows) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def page() -> str:
    """The whole page, with the tables of now."""
    text = PAGE.read_text("utf-8")
    before, rest = text.split(START)
    return f"{before}{START}\n\n{tables()}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    text = page()
    if parser.parse_args().check:
        return int(text != PAGE.read_text("utf-8"))
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
