"""What a search may find, a genotype or a path: reading either."""

import json
import os
import pathlib

from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.hyper_path import FORMAT, HyperPath
from kdarts.genotypes.path_zoo import get_path, path_names

Found = Genotype | HyperPath


def found_from_json(text: str, where: str = "genotype") -> Found:
    """Reads what either's `to_json` wrote; raises `KdartsError` naming the fault and `where` it stands."""
    return HyperPath.from_json(text, where) if _is_path(text) else Genotype.from_json(text, where)


def load_found(name_or_path: str | os.PathLike) -> Found:
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
