"""Published genotypes by name: the package's `zoo.json`."""

import functools
import importlib.resources
import json

from kdarts.genotypes.errors import choice
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.text import two_cells


@functools.cache
def _zoo() -> dict[str, dict]:
    text = importlib.resources.files("kdarts.genotypes").joinpath("zoo.json").read_text("utf-8")
    return json.loads(text)


def genotype_names() -> list[str]:
    """Names of the zoo, aliases included."""
    zoo = _zoo()
    return [*zoo["genotypes"], *zoo["aliases"]]


def get_genotype(name: str) -> Genotype:
    """The published genotype called `name`; raises `KdartsError` with what is near otherwise."""
    zoo = _zoo()
    choice("genotype", name, genotype_names())
    entry = zoo["genotypes"][zoo["aliases"].get(name, name)]
    return two_cells(entry, name)


def describe(name: str) -> str:
    """Where the genotype called `name` was published, and what is special about it."""
    zoo = _zoo()
    entry = zoo["genotypes"][zoo["aliases"].get(name, name)]
    return "; ".join(part for part in (entry["source"], entry.get("note", "")) if part)
