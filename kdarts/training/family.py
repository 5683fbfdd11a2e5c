"""The trainings of all networks of a family, and the table of their sizes and accuracies (DARTS-PD, section 4.1)."""

import gc
import os
import pathlib
from collections.abc import Callable

from kdarts.genotypes.cuboid import Architecture
from kdarts.genotypes.errors import KdartsError
from kdarts.training.entries import finite
from kdarts.training.repeats import diverged, training_is_whole
from kdarts.training.workdir import Workdir, read_json, read_table, write_json, write_table

FIGURES = ("test_accuracy", "held_back_accuracy")
"""What a training measured, the first of which that is there the table is of."""

_PARTS = "networks"
_MORE = ("test_accuracy_sd", "test_top_5_accuracy", "held_back_top_5_accuracy", "wall_seconds")


def known_figures(folder: str | os.PathLike) -> dict[str, dict[str, float]]:
    """Reads what a search knew of its family: `path_accuracy`, with shared weights, and `latency_ms`, by names.

    Without a `family.csv` in the folder, nothing is known. Entries that are no numbers are left out.
    """
    table, known = pathlib.Path(folder).expanduser() / "family.csv", {}
    for row in read_table(table) if table.exists() else []:
        own = known.setdefault(row.get("name", ""), {})
        for column, name in {"latency_ms": "latency_ms", "accuracy": "path_accuracy"}.items():
            try:
                own[name] = finite(float(row[column]))
            except (KeyError, ValueError):
                continue
    return known


def run_family(
    train: Callable[[Architecture, Workdir], dict],
    workdir: Workdir,
    family: dict[str, Architecture],
    known: dict[str, dict[str, float]],
    seeds: bool = False,
) -> list[dict]:
    """Trains each network of a family in `networks/NAME`, unless it is finished, and writes `family.csv`.

    A training that diverges is noted in the table, and the next one begins.

    Args:
        train: A function that trains or continues an architecture in a folder and returns the summary.
        workdir: The locked folder of the run.
        family: The architectures by name (see `load_family`).
        known: More figures for the table (see `known_figures`).
        seeds: Whether each training consists of several, which finds for itself what is finished.

    Returns:
        A row for each network, in the order of `family`: `name`, `params`, `macs`, the figures of `known` and those of
        the training, or `diverged`. `summary.json` has them as `networks`.
    """
    rows = []
    for number, (name, architecture) in enumerate(family.items(), 1):
        part = Workdir(workdir / _PARTS / name)
        done = not seeds and (part / "summary.json").exists() and training_is_whole(part, ("params", "macs"))
        print(f"{name}, {number} of {len(family)}" + (": finished before" if done else ""), flush=True)
        row = {"name": name}
        try:
            if _has_diverged(part):
                raise KdartsError(f"{part.path}: diverged before")
            summary = read_json(part / "summary.json") if done else train(architecture, part)
            row |= {size: summary[size] for size in ("params", "macs")} | known.get(name, {})
            row |= {figure: summary[figure] for figure in (*FIGURES, *_MORE) if figure in summary}
        except KdartsError as error:
            if not _has_diverged(part):
                raise
            print(f"{name}: {error}", flush=True)
            row["diverged"] = True
        rows.append(row)
        gc.collect()
    write_table(workdir / "family.csv", rows)
    seconds = sum(row.get("wall_seconds", 0) for row in rows)
    write_json(workdir / "summary.json", {"wall_seconds": seconds, "networks": rows})
    return rows


def _has_diverged(part: Workdir) -> bool:
    return any(diverged(folder) for folder in (part.path, *part.path.glob("seeds/*")))


def table(rows: list[dict]) -> list[str]:
    """Formats the rows of `run_family` as lines of a table."""
    figure = next((name for name in FIGURES if any(name in row for row in rows)), FIGURES[0])
    columns = {
        "weights": ("params", "{:,}"),
        "MACs": ("macs", "{:,}"),
        "ms": ("latency_ms", "{:.3g}"),
        "shared": ("path_accuracy", "{:.4f}"),
        figure.removesuffix("_accuracy").replace("_", "-"): (figure, "{:.4f}"),
        "± sd": ("test_accuracy_sd", "{:.4f}"),
    }
    there = {name for row in rows for name, value in row.items() if value is not None}
    columns = {title: column for title, column in columns.items() if column[0] in there}
    cells = [["network", *columns]]
    for row in rows:
        values = [(row.get(name), form) for name, form in columns.values()]
        figures = ["–" if value is None else form.format(value) for value, form in values]
        cells.append([row["name"], *(["diverged"] if "diverged" in row else figures)])
    wide = [max(len(line[k]) for line in cells if k < len(line)) for k in range(len(columns) + 1)]
    return [
        "  ".join(f"{text:{'<' if k == 0 else '>'}{wide[k]}}" for k, text in enumerate(line)).rstrip() for line in cells
    ]
