"""α of a run over its epochs, as the report's page wants it.

What was found epoch by epoch, as the report's page wants it: drawings, counts and costs.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from kdarts.genotypes.architectures import Architecture
from kdarts.genotypes.cuboid import HyperPath, label
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import SKIPS, Genotype
from kdarts.ops.cost import Cost
from kdarts.supernet.cost import network_cost
from kdarts.supernet.macro import MacroConfig
from kdarts.views.drawing import FAMILIES, NODES, cell_layout, cell_titles, family
from kdarts.views.report_run import Part, Run

MOST_VALUES = 250_000
"""Most weights in a page, at about five bytes each; of a longer run every second epoch is shown, or every third, ..."""

SCALE = 10_000
"""Weights are written as whole numbers of this part of 1."""


def alpha_data(run: Run) -> dict | None:
    """The weights after mixing of each cell, or of each stage of a HyperCuboid.

    Args:
        run: a search.

    Returns:
        None without α or without a record of what it stands for. Else `operations`, the names of the columns; `at`, the
        epochs from 0 that are shown; `low` and `high`, the range of all; `mixing`; and `sets`, each with a `title`,
        labels of its `edges`, `nodes` as `[label, rows]`, and for each epoch of `at` the `values` in `SCALE`, edge by
        edge, None where a candidate is not there, and with partial channels the edges' `shares`.

    Raises:
        KdartsError: if the record does not fit the arrays.
    """
    parts = [part for part in run.shown if part.alphas and part.setting and part.found]
    if not parts:
        return None
    try:
        forms = [_form(part) for part in parts]
        weights = [_weights(part) for part in parts]
        total = sum(array.size for arrays, _ in weights for array in arrays)
        starts = np.cumsum([0, *(len(part.rows) for part in run.shown)]).tolist()
        begin = {id(part): start for part, start in zip(run.shown, starts, strict=False)}
        lengths = [(begin[id(part)], len(arrays[0])) for part, (arrays, _) in zip(parts, weights, strict=True)]
        places = [start + epoch for start, length in lengths for epoch in range(length)]
        kept = range(len(places))[:: -max(1, math.ceil(total / MOST_VALUES))][::-1]  # the last one for certain
        operations, sets = forms[-1]
        if any(form[0] != operations or len(form[1]) != len(sets) for form in forms):
            raise ValueError("its stages have different candidates")
        for index, entry in enumerate(sets):
            entry["values"] = _whole(np.concatenate([arrays[index] for arrays, _ in weights])[kept])
            if all(shares for _, shares in weights):
                entry["shares"] = _whole(np.concatenate([shares[index] for _, shares in weights])[kept])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise KdartsError(f"{parts[0].folder / 'setting.json'}: does not fit alphas.npz ({error})") from None
    finite = np.concatenate([array[np.isfinite(array)] for arrays, _ in weights for array in arrays] or [[0.0]])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return {
        "operations": operations,
        "at": [places[k] for k in kept],
        "low": round(low, 4),
        "high": round(high, 4),
        "mixing": parts[-1].setting["mixing"],
        "sets": sets,
    }


def _form(part: Part) -> tuple[list[str], list[dict]]:
    """Names of the columns, and for each set of weights what its rows are."""
    last = part.found[-1]
    if isinstance(last, HyperPath):
        cuboid, states = last.cuboid, [label(state) or "·" for state in last.cuboid.state_values]
        edges = [f"{source} → {target}" for target in states for source in states]
        nodes = [
            [f"state {name}", list(range(k * len(states), (k + 1) * len(states)))] for k, name in enumerate(states)
        ]
        titles = [label(position, True) for position in cuboid.positions]
        sets = [{"title": title, "edges": edges, "nodes": nodes} for title in titles]
        return [label(choice) or "weight" for choice in cuboid.choice_values], sets
    pairs = [(int(to), int(source)) for to, source in part.setting["edges"]]
    rows = groupby(range(len(pairs)), key=lambda row: pairs[row][0])
    nodes = [[f"node {to}", list(group)] for to, group in rows]
    titles = alpha_titles(list(part.alphas), last)
    edges = [f"{source} → {to}" for to, source in pairs]
    return list(part.setting["operations"]), [{"title": title, "edges": edges, "nodes": nodes} for title in titles]


def alpha_titles(names: list[str], genotype: Genotype) -> list[str]:
    """What each α is of, for the reader: as its cell is called in the drawings where it has one there."""
    titles = cell_titles(genotype)
    usual = names == ["normal", "reduce"]
    fit = usual or names == [f"cell_{index}" for index in range(len(titles))]
    return titles if fit and len(titles) == len(names) else [name.replace("_", " ") for name in names]


def _weights(part: Part) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each set its weights `[epochs, edges, operations]` after mixing, and its edges' shares `[epochs, edges]`."""
    epochs = len(part.rows)
    arrays = [array[:epochs] for array in part.alphas.values()]
    last = part.found[-1]
    if isinstance(last, HyperPath):
        stages, states, _, choices = last.cuboid.shape
        (array,) = (_mixed(array, part.setting["mixing"]) for array in arrays)
        # Transitions are noted by where they come from; the page groups them by where they lead to.
        grid = array.reshape(-1, stages, states, states, choices).swapaxes(2, 3)
        return [grid[:, stage].reshape(len(grid), states * states, choices) for stage in range(stages)], []
    setting, shares = part.setting, []
    offsets = np.array([setting["offsets"].get(name, 0.0) for name in setting["operations"]])
    inputs = 2 if setting["topology"] else None
    if any(array.shape[1:] != (len(setting["edges"]), len(offsets)) for array in arrays):
        raise ValueError(f"{len(setting['edges'])} edges and {len(offsets)} operations")
    if part.betas:
        from kdarts.supernet.cell import edge_shares

        shares = [np.stack([edge_shares(beta, inputs) for beta in rows[:epochs]]) for rows in part.betas.values()]
    return [_mixed(array + offsets, setting["mixing"], inputs) for array in arrays], shares


def _mixed(alphas: np.ndarray, name: str, inputs: int | None = None) -> np.ndarray:
    """Weights after mixing, epoch by epoch; NaN where α is."""
    import tensorflow as tf

    from kdarts.supernet.relaxation import get_mixing, mix_candidates

    mix, rows = get_mixing(name), []
    for alpha in alphas:
        there = np.isfinite(alpha)
        mixed = mix_candidates(mix, tf.constant(np.where(there, alpha, 0.0)), None if there.all() else there, inputs)
        rows.append(np.where(there, mixed, np.nan))
    return np.stack(rows)


def _whole(values: np.ndarray) -> list[list[int | None]]:
    flat = values.reshape(len(values), -1)
    return [[round(SCALE * v) if np.isfinite(v) else None for v in row] for row in flat.tolist()]


MOST_DRAWINGS = 300
"""Most different cells in a page: each takes a twentieth of a second to lay out and a kilobyte or two."""

MOST_NETWORKS = 40
"""Most different paths whose cost is found by building their networks."""

_STARTS = 6


def drawings(found: Sequence[Architecture], at: Sequence[int]) -> dict | None:
    """The cells of each epoch.

    Args:
        found: genotypes, one for each epoch noted.
        at: their epochs, from 0.

    Returns:
        None if there is no genotype among them. Else `titles` of the cells of the last; `families`, as `[name, title,
        fill, line]`, and `nodes` likewise; `cells`, the different ones, in hundredths of an inch: `size`, `nodes` as
        `[name, x, y, width, height]`, `edges` as `[operation, family, to, from, x, y, width, route]`, and the `routes`
        to the output; `frames`: for each epoch of `at` shown the number of each cell's drawing; and `gaps`, what each
        one cannot build as found, in lines.
    """
    pairs = [(epoch, f) for epoch, f in zip(at, found, strict=True) if isinstance(f, Genotype)]
    if not pairs:
        return None
    step, shown = 1, pairs
    while len({f.live(index) for _, f in shown for index in range(len(f.cells))}) > MOST_DRAWINGS and len(shown) > 1:
        step += 1
        shown = pairs[::-step][::-1]
    numbers: dict = {}
    frames = [
        [numbers.setdefault(genotype.live(index), len(numbers)) for index in range(len(genotype.cells))]
        for _, genotype in shown
    ]
    used = {family(operation) for edges, _ in numbers for operation, _, _ in edges}
    return {
        "titles": cell_titles(shown[-1][1]),
        "families": [[n, look.name, look.fill, look.line] for n, look in FAMILIES.items() if n in used],
        "nodes": [[n, look.name, look.fill, look.line] for n, look in NODES.items()],
        "cells": [_drawing(*live) for live in numbers],
        "at": [epoch for epoch, _ in shown],
        "frames": frames,
        "gaps": [genotype.gaps() for _, genotype in shown],
    }


def _drawing(edges, outputs) -> dict:
    layout = cell_layout(edges, outputs, _STARTS)
    routes = [[_hundredths(*piece) for piece in route] for route in layout.routes]
    return {
        "size": _hundredths(layout.width, layout.height),
        "nodes": [[node, *_hundredths(b.x, b.y, b.width, b.height)] for node, b in layout.nodes.items()],
        "edges": [
            [operation, family(operation), to, source, *_hundredths(box.x, box.y, box.width), route]
            for (operation, to, source), box, route in zip(edges, layout.labels, routes, strict=False)
        ],
        "routes": routes[len(edges) :],
    }


def _hundredths(*values: float) -> list[int]:
    return [round(100 * value) for value in values]


def path_data(found: Sequence[Architecture], at: Sequence[int]) -> dict | None:
    """The path of each epoch, and the axes that it goes through; None if there is none."""
    pairs = [(epoch, f) for epoch, f in zip(at, found, strict=True) if isinstance(f, HyperPath)]
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


def counts(found: Sequence[Architecture], operations: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """How often each operation was found, in the distinct cells or along the path.

    Args:
        found: for each epoch.
        operations: names that stand first, in this order, found or not.

    Returns:
        The names, and for each a count by epoch.
    """
    each = [Counter(_operations(one)) for one in found]
    names = list(dict.fromkeys([*operations, *(name for counter in each for name in counter)]))
    names = [name for name in names if name]
    return names, [[counter[name] for counter in each] for name in names]


def _operations(found: Architecture) -> list[str]:
    if isinstance(found, HyperPath):
        return [label(step.choice) for step in found.steps]
    return [operation for cell in found.cells for operation, _, _ in cell]


def skips(found: Sequence[Architecture]) -> list[list[int]]:
    """Skip connections of each cell by epoch; [] where what was found is not of one number of cells throughout."""
    if not found or len({len(f.cells) if isinstance(f, Genotype) else 0 for f in found}) > 1:
        return []
    if isinstance(found[0], HyperPath):
        return []
    return [[sum(op in SKIPS for op, _, _ in f.cells[index]) for f in found] for index in range(len(found[0].cells))]


def costs(found: Sequence[Architecture], setting: dict) -> list[Cost] | None:
    """What the network of each epoch would cost at the sizes of the search.

    Returns:
        None where this cannot be told: without a setting, with operations or a HyperCuboid of a program's own, or with
        more than `MOST_NETWORKS` different paths.
    """
    if not setting or not found or (isinstance(found[0], HyperPath) and len(set(found)) > MOST_NETWORKS):
        return None
    try:
        known = {one: _cost(one, setting) for one in dict.fromkeys(found)}
    except (KdartsError, KeyError, TypeError):
        return None
    return [known[one] for one in found]


def _cost(found: Architecture, setting: dict) -> Cost:
    shape, classes = setting["input_shape"], setting["num_classes"]
    if isinstance(found, HyperPath):
        from kdarts.ops.layers import model_cost
        from kdarts.supernet.cuboids import build_path_network

        return model_cost(build_path_network(found, shape, classes))
    sizes = setting["channels"], setting["cells"], setting["stem"]
    return network_cost(found, shape, classes, *sizes, MacroConfig(**setting["frame"]))
