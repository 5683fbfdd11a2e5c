"""Reads the files of a workdir for its report."""

import csv
import json
import math
import os
import pathlib
from dataclasses import dataclass, field

import numpy as np

from kdarts.genotypes.architectures import Architecture, architecture_from_json, load_architecture
from kdarts.genotypes.errors import KdartsError
from kdarts.training.files import read_arrays, read_json
from kdarts.training.workdir import STOPPED, Workdir

Row = dict[str, float | None]


@dataclass
class Part:
    """A search or training with files of its own: a whole run, or one of its stages or seeds.

    Attributes:
        folder: Folder of the files.
        label: "stage 1" or "seed 0", or "" for a whole run.
        rows: Rows of `history.csv`. A value is `None` where an epoch does not have it.
        architectures: The architecture after each epoch; for a training, the one that is trained.
        alphas: α by name, `[epochs, edges, operations]`.
        betas: β by name, `[epochs, edges]`.
        setting: Contents of `setting.json`, or empty.
        summary: Contents of `summary.json`, or empty.
    """

    folder: pathlib.Path
    label: str = ""
    rows: list[Row] = field(default_factory=list)
    architectures: list[Architecture] = field(default_factory=list)
    alphas: dict[str, np.ndarray] = field(default_factory=dict)
    betas: dict[str, np.ndarray] = field(default_factory=dict)
    setting: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)


@dataclass
class Run:
    """The contents of a workdir.

    Attributes:
        name: Name of the run in the report; several runs have different names.
        parts: The whole run, or its stages or seeds; at least one.
        parallel: Whether the parts are seeds rather than consecutive stages.
        shown: The parts whose α and architectures are shown: the stages, or the best seed if there is one yet.
        flags: The flags that the run was started with.
        summary: Contents of `summary.json`; empty for an unfinished run.
        stopped: Contents of the record of an error that stopped the run, or empty.
        final: The architecture of the run; `None` before the first epoch.
        candidates: The candidates of DARTS-PD's evolution, as rows of text.
        family: The networks of DARTS-PD's family, as rows of text.
    """

    name: str
    parts: list[Part]
    parallel: bool
    shown: list[Part]
    flags: dict[str, str]
    summary: dict
    stopped: dict
    final: Architecture | None
    candidates: list[dict[str, str]]
    family: list[dict[str, str]]

    @property
    def trained(self) -> bool:
        """Whether the run trains a network, instead of searching for one."""
        return "genotype" in self.flags or any("test_accuracy" in part.summary for part in self.parts)


def read_run(path: str | os.PathLike) -> Run:
    """Reads the workdir of a search or a training, which may be unfinished.

    Args:
        path: The workdir.

    Returns:
        A `Run`.

    Raises:
        KdartsError: If there is no such folder, it contains no run, or a file is damaged.
    """
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise KdartsError(f"workdir {str(path)!r} {'is a file' if folder.exists() else 'does not exist'}")
    kind = next((kind for kind in ("stages", "seeds") if (folder / kind).is_dir()), "")
    inner = [p for p in (folder / kind).iterdir() if p.name.isdecimal() and p.is_dir()] if kind else []
    inner = [(p / "search" if (p / "search").is_dir() else p) for p in sorted(inner, key=lambda p: int(p.name))]
    parts = [_part(p, f"{kind[:-1]} {p.parent.name if p.name == 'search' else p.name}") for p in inner]
    if not parts and not any((folder / name).exists() for name in ("flags.flags", "history.csv")):
        raise KdartsError(f"workdir {str(path)!r} holds no run: neither flags.flags nor history.csv")
    last, parts, parallel = folder / "genotype.json", parts or [_part(folder)], bool(parts) and kind == "seeds"
    kept = [_part(folder)] if parallel and (folder / "genotypes.jsonl").exists() else []
    return Run(
        folder.resolve().name or str(folder),
        parts,
        parallel,
        kept if parallel else parts,
        Workdir(folder).flags(),
        _object(folder / "summary.json"),
        _object(folder / STOPPED),
        load_architecture(last) if last.exists() else None,
        _table(folder / "candidates.csv"),
        _table(folder / "family" / "family.csv"),
    )


def _part(folder: pathlib.Path, label: str = "") -> Part:
    rows = [_row(row, folder / "history.csv") for row in _table(folder / "history.csv")]
    architectures = _genotypes(folder / "genotypes.jsonl")[: len(rows)]
    if not architectures and (folder / "genotype.json").exists():
        architectures = [load_architecture(folder / "genotype.json")]
    arrays = [_arrays(folder / f"{name}.npz", axes) for name, axes in (("alphas", 3), ("betas", 2))]
    setting, summary = _object(folder / "setting.json"), _object(folder / "summary.json")
    return Part(folder, label, rows, architectures, *arrays, setting, summary)


def _object(path: pathlib.Path) -> dict:
    return read_json(path) if path.exists() else {}


def _table(path: pathlib.Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise KdartsError(f"{path}: cannot be read as a table ({error})") from None
    if any(None in row or None in row.values() for row in rows):
        raise KdartsError(f"{path}: damaged; a row has more or fewer values than there are columns")
    return rows


def _row(row: dict[str, str], path: pathlib.Path) -> Row:
    try:
        return {name: finite(float(value)) if value else None for name, value in row.items()}
    except ValueError as error:
        raise KdartsError(f"{path}: damaged ({error})") from None


def finite(value) -> float | None:
    """Returns a number as a float, or `None` if the value is not a finite number."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def _genotypes(path: pathlib.Path) -> list[Architecture]:
    if not path.exists():
        return []
    try:
        lines = path.read_text("utf-8").splitlines()
        return [architecture_from_json(json.dumps(json.loads(line)["genotype"]), str(path)) for line in lines]
    except KdartsError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise KdartsError(f"{path}: damaged ({error})") from None


def _arrays(path: pathlib.Path, axes: int) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    arrays = read_arrays(path)
    wrong = [n for n, array in arrays.items() if array.dtype.kind != "f" or array.ndim != axes or not array.size]
    if wrong:
        raise KdartsError(f"{path}: damaged; {wrong[0]!r} has the shape {arrays[wrong[0]].shape}")
    return {name: array.astype(np.float64) for name, array in arrays.items()}
