"""Published genotypes by name: the package's `zoo.json`.

An entry holds the fields of a published text form (`kdarts.genotypes.text`): `normal`, `reduce` and their concats, or
`genes`, `concat`, `reductions` and perhaps `seq`; or, as `of`, another entry's name and the fields that differ from it.
`renamed` says what operations are called here whose names mean others in the publication.
Each says its `source`; a `note` is what is special about it.
"""

import functools
import importlib.resources
import json

from kdarts.genotypes.errors import choice
from kdarts.genotypes.text import cell_by_cell, two_cells


@functools.cache
def _zoo() -> dict[str, dict]:
    text = importlib.resources.files("kdarts.genotypes").joinpath("zoo.json").read_text("utf-8")
    return json.loads(text)


def genotype_names() -> list[str]:
    """Names of the zoo, aliases included."""
    zoo = _zoo()
    return [*zoo["genotypes"], *zoo["aliases"]]


def _entry(name: str) -> dict:
    """What the zoo holds under `name`; one that refers to another says only what differs."""
    zoo = _zoo()
    entry = zoo["genotypes"][zoo["aliases"].get(name, name)]
    return {**_entry(entry["of"]), **entry} if "of" in entry else entry


def genotype_fields(name: str) -> dict:
    """The fields of the published genotype called `name`; raises `KdartsError` with what is near otherwise."""
    entry = _entry(choice("genotype", name, genotype_names()))
    fields = cell_by_cell(entry) if "genes" in entry else two_cells(entry)
    renamed = entry.get("renamed", {})
    fields["cells"] = tuple(tuple((renamed.get(op, op), *ends) for op, *ends in cell) for cell in fields["cells"])
    return {**fields, "name": name}


def describe(name: str) -> str:
    """Where the genotype called `name` was published, and what is special about it."""
    entry = _entry(choice("genotype", name, genotype_names()))
    cells = f"the cells of {entry['of']}" if "of" in entry else ""
    renamed = ", ".join(f"{new} is its {old}" for old, new in entry.get("renamed", {}).items())
    return "; ".join(part for part in (entry["source"], entry.get("note", ""), renamed, cells) if part)
