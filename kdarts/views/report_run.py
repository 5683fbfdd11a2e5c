"""Reads the files of a workdir for its report: curves, mixing weights, drawings, counts and costs by epoch."""

import math
import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from kdarts.genotypes.cuboid import Architecture, HyperPath, label, load_architecture
from kdarts.genotypes.errors import KdartsError, shortened
from kdarts.genotypes.genotype import Genotype
from kdarts.ops.cost import Cost
from kdarts.supernet.cost import network_cost
from kdarts.supernet.macro import MacroConfig
from kdarts.training.entries import finite
from kdarts.training.workdir import STOPPED, Workdir, read_arrays, read_genotypes, read_history, read_json, read_table
from kdarts.views.drawing import (
    BOTH,
    FAMILIES,
    NODES,
    OUTPUT,
    CellDrawing,
    are_one,
    cell_drawings,
    cell_layout,
    cell_titles,
    family,
)

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
        candidates, family: The candidates of DARTS-PD's evolution and the networks of its family, as rows of text.
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

    Raises `KdartsError` if there is no such folder, it contains no run, or a file is damaged.
    """
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise KdartsError(f"workdir {str(path)!r} {'is a file' if folder.exists() else 'does not exist'}")
    if (folder / "auto.json").exists():
        raise KdartsError(f"workdir {str(path)!r} is of kdarts auto, which writes report.html there by itself")
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
        _there(folder / "summary.json", read_json, {}),
        _there(folder / STOPPED, read_json, {}),
        load_architecture(last) if last.exists() else None,
        _there(folder / "candidates.csv", read_table, []),
        _there(folder / "family" / "family.csv", read_table, []),
    )


def _part(folder: pathlib.Path, label: str = "") -> Part:
    rows = _there(folder / "history.csv", read_history, [])
    architectures = _there(folder / "genotypes.jsonl", read_genotypes, [])
    arrays = [_arrays(folder / f"{name}.npz", axes) for name, axes in (("alphas", 3), ("betas", 2))]
    lengths = [len(each) for group in arrays for each in group.values()] + [len(architectures)]
    _check_epochs(folder, rows, architectures, max(lengths))
    architectures = architectures[: len(rows)]
    if not architectures and (folder / "genotype.json").exists():
        architectures = [load_architecture(folder / "genotype.json")]
    setting, summary = (_there(folder / f"{name}.json", read_json, {}) for name in ("setting", "summary"))
    return Part(folder, label, rows, architectures, *arrays, setting, summary)


def _check_epochs(folder: pathlib.Path, rows: list[Row], architectures: list[Architecture], most: int) -> None:
    """Raises `KdartsError` if what files say of epochs differs from the run's checkpoint, if there is one.

    `most` is the number of epochs in any other file. As a run that goes on writes its files one after another, they and
    the checkpoint may be one epoch ahead or behind.
    """
    path, again = folder / "history.csv", "the run's own command writes it again"
    if most > len(rows) + 1:
        raise KdartsError(f"{path}: has {len(rows)} epochs, and other files of the run {most}; {again}")
    if not (folder / "backup").is_dir():
        return
    from kdarts.training.checkpoint import notes
    from kdarts.training.search_run import epochs_of

    try:
        history, found = epochs_of(*notes(folder / "backup"))
    except KdartsError:  # Its command reports a damaged checkpoint.
        return
    if not len(history) - 1 <= len(rows) <= len(history):
        raise KdartsError(f"{path}: has {len(rows)} epochs, and the checkpoint of the run {len(history)}; {again}")
    for number, (row, kept) in enumerate(zip(rows, history, strict=False)):
        for name in {**kept, **row}:
            if row.get(name) != finite(kept.get(name)):
                told = f"its {shortened(name)} of epoch {number} is {row.get(name)}, in the run's checkpoint it"
                raise KdartsError(f"{path}: {told} is {kept.get(name)}; {again}")
    for number, (one, other) in enumerate(zip(architectures, found, strict=False)):
        if one != other:
            name = folder / "genotypes.jsonl"
            raise KdartsError(f"{name}: the architecture of epoch {number} is not that of the checkpoint; {again}")


def _there(path: pathlib.Path, read, otherwise):
    """What `read` makes of a file; `otherwise` if there is none."""
    return read(path) if path.exists() else otherwise


def _arrays(path: pathlib.Path, axes: int) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    arrays = read_arrays(path)
    wrong = [n for n, array in arrays.items() if array.dtype.kind != "f" or array.ndim != axes or not array.size]
    if wrong:
        raise KdartsError(f"{path}: damaged; {wrong[0]!r} has the shape {arrays[wrong[0]].shape}")
    return {name: array.astype(np.float64) for name, array in arrays.items()}


MOST_VALUES = 250_000
"""Largest number of mixing weights in a page, at about five bytes each. Of a longer run only some epochs are shown."""

SCALE = 10_000
"""Mixing weights are multiplied by this factor and rounded."""


def alpha_data(run: Run) -> dict | None:
    """Returns the mixing weights of each cell, or of each stage of a HyperCuboid.

    Returns:
        `None` if the run has no α, or no `setting.json` that describes it. Otherwise a dictionary: `operations`, the
        names of the columns; `at`, the shown epochs, from 0; `high`, the end of the colour scale, which begins at 0;
        `mixing`; `preference`, how often its edge's mean the largest weight of an edge is, in the mean over all edges
        at the last epoch; and `sets`, one for each cell. A set has a `title`, labels of its `edges`, `nodes` as
        `[label, rows]`, and for each epoch of `at` its `values`, times `SCALE`, edge by edge, with `None` for removed
        candidates; `even`, the weight that every candidate of an edge has where α prefers none, in one row if all
        epochs have the same. With partial channels it also has the `shares` of the edges.

    Raises:
        KdartsError: If `setting.json` does not match the arrays.
    """
    parts = [part for part in run.shown if part.rows and part.alphas and part.setting and part.architectures]
    if not parts:
        return None
    try:
        forms = [_form(part) for part in parts]
        weights = [_weights(part) for part in parts]
        total = sum(array.size for arrays, _, _ in weights for array in arrays)
        starts = np.cumsum([0, *(len(part.rows) for part in run.shown)]).tolist()
        begin = {id(part): start for part, start in zip(run.shown, starts, strict=False)}
        lengths = [(begin[id(part)], len(arrays[0])) for part, (arrays, _, _) in zip(parts, weights, strict=True)]
        places = [start + epoch for start, length in lengths for epoch in range(length)]
        kept = range(len(places))[:: -max(1, math.ceil(total / MOST_VALUES))][::-1]  # Always with the last one.
        operations, sets = forms[-1]
        if any(form[0] != operations or len(form[1]) != len(sets) for form in forms):
            raise ValueError("its stages have different candidates")
        for index, entry in enumerate(sets):
            entry["values"] = _whole(np.concatenate([arrays[index] for arrays, _, _ in weights])[kept])
            even = np.concatenate([evens[index] for _, evens, _ in weights])[kept]
            entry["even"] = even[: 1 if (even == even[0]).all() else None].round(6).tolist()
            if all(shares for _, _, shares in weights):
                entry["shares"] = _whole(np.concatenate([shares[index] for _, _, shares in weights])[kept])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise KdartsError(f"{parts[0].folder / 'setting.json'}: does not fit alphas.npz ({error})") from None
    # From 0, and wide enough for twice the even weight: otherwise noise would have all colours.
    highest = max(np.nanmax(array, initial=0.0) for arrays, _, _ in weights for array in arrays)
    twice = 2 * max(evens.max() for _, each, _ in weights for evens in each)
    return {
        "operations": operations,
        "at": [places[k] for k in kept],
        "high": round(float(max(highest, min(1.0, twice))), 4) or 1.0,
        "mixing": parts[-1].setting["mixing"],
        "preference": _preference([array[-1] for array in weights[-1][0]]),
        "sets": sets,
    }


def _preference(arrays: list[np.ndarray]) -> float:
    """Returns the largest weight of an edge over the mean of its weights, in the mean over the edges of all arrays."""
    edges = [row[np.isfinite(row)] for array in arrays for row in array]
    return round(float(np.mean([row.max() / row.mean() for row in edges if row.size and row.mean() > 0] or [1.0])), 4)


def _form(part: Part) -> tuple[list[str], list[dict]]:
    """Returns the names of the columns, and the title and the labels of the rows of each set of mixing weights."""
    last = part.architectures[-1]
    if isinstance(last, HyperPath):
        cuboid, states = last.cuboid, [label(state) or "·" for state in last.cuboid.state_values]
        edges = [f"{source} → {target}" for target in states for source in states]
        count = len(states)
        nodes = [[f"state {name}", list(range(k * count, (k + 1) * count))] for k, name in enumerate(states)]
        titles = [label(position, True) for position in cuboid.positions]
        operations = [label(choice) or "weight" for choice in cuboid.choice_values]
    else:
        pairs = [(int(to), int(source)) for to, source in part.setting["edges"]]
        rows = groupby(range(len(pairs)), key=lambda row: pairs[row][0])
        nodes = [[f"node {to}", list(group)] for to, group in rows]
        titles = alpha_titles(list(part.alphas), last)
        edges = [f"{source} → {to}" for to, source in pairs]
        operations = list(part.setting["operations"])
    return operations, [{"title": title, "edges": edges, "nodes": nodes} for title in titles]


def alpha_titles(names: list[str], genotype: Genotype) -> list[str]:
    """Returns a title for each α: the title of its cell in the drawings, if there is one."""
    titles = cell_titles(genotype)
    if names == ["reduce"]:  # Of a search without a normal cell.
        return titles[1:]
    fit = names == ["normal", "reduce"] or names == [f"cell_{index}" for index in range(len(titles))]
    return titles if fit and len(titles) == len(names) else [name.replace("_", " ") for name in names]


def _weights(part: Part) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Returns for each set the mixing weights, `[epochs, edges, operations]`, those of an α without preference, and β.

    The latter two are `[epochs, edges]`; there is no β, as shares of the edges, without partial channels.
    """
    arrays = [array[: len(part.rows)] for array in part.alphas.values()]
    mix, offsets = _mixer(part)
    flat = [np.where(np.isfinite(array), 0.0, np.nan) for array in arrays]
    evens = []
    for array in flat:
        same = (np.isfinite(array) == np.isfinite(array[0])).all()
        for each in mix(array[: 1 if same else None]):
            even = np.nansum(each, -1) / np.maximum(np.isfinite(each).sum(-1), 1)
            evens.append(np.repeat(even, len(array), 0) if same else even)
    shares = []
    if part.betas:
        from kdarts.supernet.cell import edge_shares

        inputs = 2 if part.setting["topology"] else None
        betas = [rows[: len(part.rows)] for rows in part.betas.values()]
        shares = [np.stack([edge_shares(beta, inputs) for beta in rows]) for rows in betas]
    return [each for array in arrays for each in mix(array + offsets)], evens, shares


def _mixer(part: Part):
    """Returns a function from an array of α to the mixing weights of its sets, and the offsets of α (eDARTS)."""
    setting, last = part.setting, part.architectures[-1]
    if isinstance(last, HyperPath):
        stages, states, _, choices = last.cuboid.shape

        def mix(array):
            # Transitions are ordered by their source; the page groups them by their target.
            grid = _mixed(array, setting["mixing"]).reshape(-1, stages, states, states, choices).swapaxes(2, 3)
            return [grid[:, stage].reshape(len(grid), states * states, choices) for stage in range(stages)]

        return mix, 0.0
    offsets = np.array([setting["offsets"].get(name, 0.0) for name in setting["operations"]])

    def mix(array):
        if array.shape[1:] != (len(setting["edges"]), len(offsets)):
            raise ValueError(f"{len(setting['edges'])} edges and {len(offsets)} operations")
        return [_mixed(array, setting["mixing"], 2 if setting["topology"] else None)]

    return mix, offsets


def _mixed(alphas: np.ndarray, name: str, inputs: int | None = None) -> np.ndarray:
    """Returns the mixing weights of each epoch, with NaN where α is NaN."""
    import tensorflow as tf

    from kdarts.supernet.relaxation import among, get_relaxation

    relaxation, rows = get_relaxation(name), []
    for alpha in alphas:
        there = np.isfinite(alpha)
        value, left = tf.constant(np.where(there, alpha, 0.0)), None if there.all() else there
        mixed = among(lambda alpha: relaxation.weights(alpha, inputs), value, left)
        rows.append(np.where(there, mixed, np.nan))
    return np.stack(rows)


def _whole(values: np.ndarray) -> list[list[int | None]]:
    flat = values.reshape(len(values), -1)
    return [[round(SCALE * v) if np.isfinite(v) else None for v in row] for row in flat.tolist()]


MOST_DRAWINGS = 300
"""Largest number of different cells in a page. Each needs about 50 ms for its layout and one or two kilobytes."""

MOST_NETWORKS = 40
"""Largest number of different paths for which networks are built to determine their cost."""


def drawings(architectures: Sequence[Architecture], at: Sequence[int]) -> dict | None:
    """Returns drawings of the cells of the architectures of the epochs `at`, counted from 0.

    Returns:
        `None` if there is no genotype. Otherwise a dictionary: `titles` of the cells of the last genotype; `families`
        and `nodes`, as `[name, title, fill, line]`; `cells`, the different ones, in hundredths of an inch, with their
        `size`, `nodes` as `[name, x, y, width, height]`, `edges` as `[operation, family, to, from, x, y, width,
        route]`, and `routes` to the output; `at`, the shown epochs; `frames`, the indices of the cells of each of
        these; and `gaps`, the lines of `Genotype.notes` of each of these.
    """
    pairs = [(epoch, g) for epoch, g in zip(at, architectures, strict=True) if isinstance(g, Genotype)]
    if not pairs:
        return None
    step, shown = 1, pairs
    while len({cell for _, genotype in shown for cell in cell_drawings(genotype)}) > MOST_DRAWINGS and len(shown) > 1:
        step += 1
        shown = pairs[::-step][::-1]
    numbers: dict[CellDrawing, int] = {}
    one = are_one([genotype for _, genotype in shown])
    each = [cell_drawings(genotype)[: 1 if one else None] for _, genotype in shown]
    frames = [[numbers.setdefault(cell, len(numbers)) for cell in cells] for cells in each]
    used = {family(operation) for cell in numbers for operation, _, _ in cell.edges}
    kinds = {OUTPUT if node == OUTPUT else "input" if node < 2 else "node" for cell in numbers for node in cell.nodes}
    return {
        "titles": [BOTH] if one else cell_titles(shown[-1][1]),
        "families": [[n, look.name, look.fill, look.line] for n, look in FAMILIES.items() if n in used],
        "nodes": [[n, look.name, look.fill, look.line] for n, look in NODES.items() if n in kinds],
        "cells": [_drawing(cell) for cell in numbers],
        "at": [epoch for epoch, _ in shown],
        "frames": frames,
        "gaps": [genotype.notes() for _, genotype in shown],
    }


def _drawing(cell: CellDrawing) -> dict:
    layout = cell_layout(cell, starts=6)
    routes = [[_hundredths(*piece) for piece in route] for route in layout.routes]
    return {
        "size": _hundredths(layout.width, layout.height),
        "nodes": [[node, *_hundredths(b.x, b.y, b.width, b.height)] for node, b in layout.nodes.items()],
        "edges": [
            [operation, family(operation), to, source, *_hundredths(box.x, box.y, box.width), route]
            for (operation, to, source), box, route in zip(cell.edges, layout.labels, routes, strict=False)
        ],
        "routes": routes[len(cell.edges) :],
    }


def _hundredths(*values: float) -> list[int]:
    return [round(100 * value) for value in values]


def path_data(architectures: Sequence[Architecture], at: Sequence[int]) -> dict | None:
    """Returns the path of each epoch and the axes of its HyperCuboid, or `None` if there is no path."""
    pairs = [(epoch, path) for epoch, path in zip(at, architectures, strict=True) if isinstance(path, HyperPath)]
    if not pairs:
        return None
    cuboid = pairs[-1][1].cuboid
    return {
        "stages": [[f"{name} {value}" for name, value in position.items()] for position in cuboid.positions],
        "states": [label(state) or "·" for state in cuboid.state_values],
        "axis": ", ".join(name for name, _ in cuboid.states),
        "choices": [label(choice) for choice in cuboid.choice_values],
        "at": [epoch for epoch, _ in pairs],
        "frames": [[path.states, path.choices] for _, path in pairs],
    }


def counts(architectures: Sequence[Architecture], operations: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """Returns names of operations, and how often each is in the distinct cells or along the path of each epoch.

    The names begin with `operations`, in this order, even if they are not used.
    """
    each = []
    for one in architectures:
        path = isinstance(one, HyperPath)
        used = (label(s.choice) for s in one.steps) if path else (edge[0] for cell in one.cells for edge in cell)
        each.append(Counter(used))
    names = dict.fromkeys([*operations, *(name for counter in each for name in counter)])
    names = [name for name in names if name]
    return names, [[counter[name] for counter in each] for name in names]


def skips(architectures: Sequence[Architecture]) -> list[list[int]]:
    """Counts the skip connections of each cell by epoch; the result is empty if the number of cells changes."""
    by_epoch = [one.skips_by_cell() for one in architectures]
    if len({len(cells) for cells in by_epoch}) != 1:
        return []
    return [list(cell) for cell in zip(*by_epoch, strict=True)]


def costs(architectures: Sequence[Architecture], setting: dict) -> list[Cost] | None:
    """Computes the cost of the network of each epoch, at the sizes of the search.

    Returns `None` if the cost is unknown: without a setting, with operations or a HyperCuboid of a user's own, or with
    more than `MOST_NETWORKS` different paths.
    """
    distinct = list(dict.fromkeys(architectures))
    if not setting or not distinct or (isinstance(distinct[0], HyperPath) and len(distinct) > MOST_NETWORKS):
        return None
    try:
        known = {one: _cost(one, setting) for one in distinct}
    except (KdartsError, KeyError, TypeError):
        return None
    return [known[one] for one in architectures]


def _cost(architecture: Architecture, setting: dict) -> Cost:
    shape, classes = setting["input_shape"], setting["num_classes"]
    if isinstance(architecture, HyperPath):
        from kdarts.ops.layers import model_cost
        from kdarts.supernet.cuboids import build_path_network

        return model_cost(build_path_network(architecture, shape, classes))
    sizes = setting["channels"], setting["cells"], setting["stem"]
    return network_cost(architecture, shape, classes, *sizes, MacroConfig(**setting["frame"]))
