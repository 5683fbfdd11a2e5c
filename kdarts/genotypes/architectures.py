"""Architectures, which are genotypes (cells) or paths (grids): reading either, and the published paths.

The package's `path_zoo.json` has the published paths through MultiChannelNet by name: the filters at the start, and for
each step the filters after it and the operation; a `note` is what is special about it.
"""

import functools
import importlib.resources
import json
import os
import pathlib

from kdarts.genotypes.cuboid import FORMAT, Cuboid, HyperPath, path_of
from kdarts.genotypes.errors import choice
from kdarts.genotypes.genotype import Genotype


@functools.cache
def _path_zoo() -> dict:
    return json.loads(importlib.resources.files("kdarts.genotypes").joinpath("path_zoo.json").read_text("utf-8"))


def path_names() -> list[str]:
    """Names of the published paths."""
    return list(_path_zoo()["paths"])


def get_path(name: str) -> HyperPath:
    """The published path called `name`; raises `KdartsError` with what is near otherwise."""
    zoo = _path_zoo()
    entry = zoo["paths"][choice("path", name, path_names())]
    steps = [{"filters": filters, "primitive": primitive} for filters, primitive in entry["steps"]]
    return path_of(Cuboid(**zoo["axes"]), {"filters": entry["start"]}, steps, "multichannelnet", name)


def describe_path(name: str) -> str:
    """Where the path called `name` was published, and what is special about it."""
    zoo = _path_zoo()
    return f"{zoo['source']}; {zoo['paths'][choice('path', name, path_names())]['note']}"


Architecture = Genotype | HyperPath


def architecture_from_json(text: str, where: str = "genotype") -> Architecture:
    """Reads what either's `to_json` wrote; raises `KdartsError` naming the fault and `where` it stands."""
    return HyperPath.from_json(text, where) if _is_path(text) else Genotype.from_json(text, where)


def load_architecture(name_or_path: str | os.PathLike) -> Architecture:
    """A genotype, as of `Genotype.load`, or a path, by its name in the zoo or from its file."""
    if str(name_or_path) in path_names():
        return get_path(str(name_or_path))
    path = pathlib.Path(name_or_path)
    try:
        is_path = os.path.isfile(path) and _is_path(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        is_path = False  # `Genotype.load` says what is wrong.
    return HyperPath.load(path) if is_path else Genotype.load(name_or_path)


def _is_path(text: str) -> bool:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("format") == FORMAT
