"""α of a run over its epochs, as the report's page wants it."""

import math
from itertools import groupby

import numpy as np

from kdarts.genotypes.cuboid import label
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.hyper_path import HyperPath
from kdarts.views.drawing import cell_titles
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
        from kdarts.nets.partial import edge_shares

        shares = [np.stack([edge_shares(beta, inputs) for beta in rows[:epochs]]) for rows in part.betas.values()]
    return [_mixed(array + offsets, setting["mixing"], inputs) for array in arrays], shares


def _mixed(alphas: np.ndarray, name: str, inputs: int | None = None) -> np.ndarray:
    """Weights after mixing, epoch by epoch; NaN where α is."""
    import tensorflow as tf

    from kdarts.nets.candidates import mix_candidates
    from kdarts.nets.mixing import get_mixing

    mix, rows = get_mixing(name), []
    for alpha in alphas:
        there = np.isfinite(alpha)
        mixed = mix_candidates(mix, tf.constant(np.where(there, alpha, 0.0)), None if there.all() else there, inputs)
        rows.append(np.where(there, mixed, np.nan))
    return np.stack(rows)


def _whole(values: np.ndarray) -> list[list[int | None]]:
    flat = values.reshape(len(values), -1)
    return [[round(SCALE * v) if np.isfinite(v) else None for v in row] for row in flat.tolist()]
