"""Published paths through MultiChannelNet by name: the package's `path_zoo.json`.

An entry has the filters at the start, and for each step the filters after it and the operation; a `note` is what is
special about it.
"""

import functools
import importlib.resources
import json

from kdarts.genotypes.cuboid import Cuboid
from kdarts.genotypes.errors import choice
from kdarts.genotypes.hyper_path import HyperPath, path_of


@functools.cache
def _zoo() -> dict:
    return json.loads(importlib.resources.files("kdarts.genotypes").joinpath("path_zoo.json").read_text("utf-8"))


def path_names() -> list[str]:
    """Names of the published paths."""
    return list(_zoo()["paths"])


def get_path(name: str) -> HyperPath:
    """The published path called `name`; raises `KdartsError` with what is near otherwise."""
    zoo = _zoo()
    entry = zoo["paths"][choice("path", name, path_names())]
    steps = [{"filters": filters, "primitive": primitive} for filters, primitive in entry["steps"]]
    return path_of(Cuboid(**zoo["axes"]), {"filters": entry["start"]}, steps, "multichannelnet", name)


def describe_path(name: str) -> str:
    """Where the path called `name` was published, and what is special about it."""
    zoo = _zoo()
    return f"{zoo['source']}; {zoo['paths'][choice('path', name, path_names())]['note']}"
