"""Distances between genotypes: metric M of D-DARTS (Heuillet et al., section 4.5), and an aligned variant.

An edge is represented by a vector of zeros and ones with one entry for each operation: whether the edge has it. A cell
is represented by the set of the vectors of all its edges; those without an operation are zero.

(a) Edges: d(u, v) is the sum of the scores W_i of the operations i in which u and v differ, divided by the sum of all
    W_i (the authors' code) or by their number (the paper's Algorithm 2).
(b) Cells: the Hausdorff distance of the two sets of edges: the largest distance of an edge of one cell from the nearest
    edge of the other (Eq. 11), taken in both directions, of which the larger counts (Eq. 12).
(c) Architectures: the mean over the cells, position by position (Eq. 13).

The paper calls M a metric, but it is not one: (b) ignores where in the cell an edge is and how many edges are equal, so
different cells can have distance 0. With `aligned`, (b) is the sum of d over the edges, each compared with the edge
between the same nodes; that is a metric.

The published scores W are of the operations of DARTOpti's space. With scores of their own, genotypes of any operations
can be compared, also those whose cells have one input, such as NAS-Bench-201's.
"""

import math
import os
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from kdarts.genotypes.edges import edge_count, edge_row
from kdarts.genotypes.errors import KdartsError, choice, quoted, shortened
from kdarts.genotypes.files import json_in
from kdarts.genotypes.genotype import Genotype

SCORES = {
    "median": {
        "conv_3x1_1x3": 82.76499747314453,
        "conv_7x1_1x7": 82.71999720458984,
        "max_pool_3x3": 82.9599975830078,
        "avg_pool_3x3": 82.50499731445314,
        "skip_connect": 82.15499764404296,
        "simple_conv_1x1": 82.26999738769531,
        "simple_conv_3x3": 83.12499739990236,
        "sep_conv_3x3": 83.18999750976562,
        "sep_conv_5x5": 84.87499729003906,
        "dil_conv_3x3": 82.964997265625,
        "dil_conv_5x5": 82.98999738769531,
        "bottleneck_1x3x1": 83.06999747314453,
    },
    "mean": {
        "conv_3x1_1x3": 82.105830863444,
        "conv_7x1_1x7": 83.1591640991211,
        "max_pool_3x3": 82.13416411336264,
        "avg_pool_3x3": 81.56333073120116,
        "skip_connect": 81.34166406249999,
        "simple_conv_1x1": 81.49166413777668,
        "simple_conv_3x3": 82.30333082275389,
        "sep_conv_3x3": 83.39583075561525,
        "sep_conv_5x5": 84.97416410115558,
        "dil_conv_3x3": 82.73583073323566,
        "dil_conv_5x5": 82.89249749959309,
        "bottleneck_1x3x1": 82.87499756469727,
    },
}
"""The accuracy of each operation alone on the edges of a small network on CIFAR-10, in percent.

"median" is the median over the edges: D-DARTS' Table 1 before rounding (`op_stats_2.json` of aheuillet/D-DARTS). "mean"
is the mean, which the authors' program uses (`op_stats.json`)."""

OPERATIONS = tuple(SCORES["median"])
"""The operations of DARTOpti's space S_o, in the order of the vectors."""

_NO_OPERATION = "none"


def distance(
    a: Genotype,
    b: Genotype,
    weights: str | os.PathLike | Mapping[str, float] = "median",
    normalize: bool = True,
    aligned: bool = False,
) -> float:
    """Computes metric M of D-DARTS (Eq. 11 to 13), or its aligned variant, which is a true metric.

    The cells at the same position of the two architectures are compared. A genotype without a sequence takes the depth
    of the other; if neither has one, their distinct cells are compared. The operation `none` counts as no operation.

    Args:
        a: A `Genotype`.
        b: A `Genotype` of the same depth, whose cells have as many inputs.
        weights: The scores W of the operations. "median" (the paper's Table 1) and "mean" (the authors' program) are
            of the operations of DARTOpti's space. Other scores can be given as a mapping `{operation: score}` or as
            the path of a JSON file with one; it must have all operations of both genotypes.
        normalize: Whether to divide the distance of two edges by the sum of all scores. Otherwise it is divided by
            their number, and has the unit of the scores.
        aligned: Whether to compare cells edge by edge and to sum the distances of the edges. Two genotypes then have
            distance 0 if and only if their cells have the same operations on the same edges. A node that only one of
            the cells has counts as a node without operations in the other.

    Returns:
        The distance, at least 0. With `normalize` and without `aligned` it is at most 1.

    Raises:
        KdartsError: If the depths or the numbers of inputs differ, an operation has no score, or a score is not a
            finite number above 0.

    Example:

    >>> a, b = (kdarts.Genotype.from_text(f"|{name}~0|") for name in ("nor_conv_3x3", "none"))
    >>> kdarts.distance(a, b, {"nor_conv_1x1": 1.0, "nor_conv_3x3": 3.0})
    0.75
    """
    scores = read_weights(weights)
    _check_pair(a, b, scores, weights)
    nodes = max(_nodes(a), _nodes(b)) if aligned else None
    cells_a, cells_b = (edge_vectors(genotype, nodes, tuple(scores)) for genotype in (a, b))
    values = np.array(list(scores.values()), np.float64)

    def compare(x, y):
        # The mean over the edges instead of the sum would depend on the number of empty edges.
        return float(((x != y) @ values).sum()) if aligned else hausdorff(x, y, values)

    pairs = _paired(a, b)
    # Most cells occur several times in an architecture, and so do pairs of them.
    distances = {(i, k): compare(cells_a[i], cells_b[k]) for i, k in set(pairs)}
    return float(np.mean([distances[pair] for pair in pairs]) / (values.sum() if normalize else len(values)))


def hausdorff(x: np.ndarray, y: np.ndarray, scores: np.ndarray) -> float:
    """Computes the Hausdorff distance of two cells, before normalisation (Eq. 12).

    `x` and `y` are the vectors of their edges, `[edges, operations]`, of any numbers of edges; `scores` are W.
    """
    return max(directed(x, y, scores), directed(y, x, scores))


def directed(x: np.ndarray, y: np.ndarray, scores: np.ndarray) -> float:
    """Computes the largest distance of an edge of `x` from its nearest edge in `y` (Eq. 11); see `hausdorff`."""
    x, y = np.unique(x, axis=0), np.unique(y, axis=0)
    return float(((x[:, None] != y[None]) @ scores).min(1).max())


def edge_vectors(
    genotype: Genotype, nodes: int | None = None, operations: Sequence[str] = OPERATIONS
) -> list[np.ndarray]:
    """Returns the vectors of the edges of each distinct cell, `[edges, operations]`, in the order of `edge_row`.

    All operations of the genotype, apart from `none`, must be in `operations`. A cell has `nodes` intermediate nodes,
    by default those that edges lead to or outputs name.
    """
    nodes, inputs = nodes or _nodes(genotype), _inputs(genotype)
    columns = {name: column for column, name in enumerate(operations)}
    cells = []
    for cell in genotype.cells:
        rows = np.zeros((edge_count(nodes, inputs), len(columns)), bool)
        for operation, to, source in cell:
            if operation != _NO_OPERATION:
                rows[edge_row(to, source, inputs), columns[operation]] = True
        cells.append(rows)
    return cells


def read_weights(weights: str | os.PathLike | Mapping[str, float]) -> dict[str, float]:
    """Returns the scores of the operations, `{operation: score}`, without one of `none`; see `distance`.

    Raises:
        KdartsError: If the name or the file is unknown, there is no score, or one is not a finite number above 0.
    """
    where = "weights"
    if not isinstance(weights, Mapping):
        if isinstance(weights, str) and not weights.endswith(".json"):
            weights = SCORES[choice("weights", weights, [*SCORES, "a .json file"])]
        else:
            where, weights = os.fspath(weights), _read_json(weights)
    scores = {str(name): value for name, value in weights.items() if name != _NO_OPERATION}
    if not scores:
        raise KdartsError(f"{where}: needs the score of at least one operation")
    for name, value in scores.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
            raise KdartsError(f"{where}: {shortened(name)} has {quoted(value)}; needs a finite number above 0")
    return {name: float(value) for name, value in scores.items()}


def _read_json(path) -> dict:
    found = json_in(path)
    if not isinstance(found, dict):
        raise KdartsError(f"{path}: needs an object {{operation: score}}")
    found.pop("sha256", None)  # Earlier releases wrote a checksum.
    return found


def _check_pair(a: Genotype, b: Genotype, scores: Mapping[str, float], weights) -> None:
    """Raises `KdartsError` if an operation has no score, or the cells of the two have different numbers of inputs."""
    for genotype in (a, b):
        missing = ", ".join(name for name in genotype.operations if name not in scores and name != _NO_OPERATION)
        if missing and isinstance(weights, str) and weights in SCORES:
            allowed = f"allowed: {', '.join(OPERATIONS)}, which metric M has published scores of"
            others = "for others, weights may be a .json file {operation: score}"
            raise KdartsError(f"distance: {missing} in {_name(genotype)}; {allowed}; {others}")
        if missing:
            where = "weights" if isinstance(weights, Mapping) else os.fspath(weights)
            raise KdartsError(f"{where}: no score of {missing} in {_name(genotype)}; has {', '.join(scores)}")
    if _inputs(a) != _inputs(b):
        one, two = (a, b) if _inputs(a) == 1 else (b, a)
        inputs = f"the cells of {_name(one)} have one input and those of {_name(two)} two"
        raise KdartsError(f"distance: {inputs}; only cells of equally many inputs can be compared")


def _name(genotype: Genotype) -> str:
    return genotype.name or "a genotype"


def _inputs(genotype: Genotype) -> int:
    """Returns the number of inputs of its cells; with stages it is 1."""
    return 1 if genotype.stages else 2


def _nodes(genotype: Genotype) -> int:
    """Returns the number of intermediate nodes of its cells, with those that only an output names."""
    return max(genotype.nodes, max(max(concat) for concat in genotype.concats) - 1, 1)


def _paired(a: Genotype, b: Genotype) -> list[tuple[int, int]]:
    """Returns the distinct cells of both at each position."""
    if a.sequence is None and b.sequence is None:
        return [(index, index) for index in range(len(a.cells))]
    depth = len(b.sequence if a.sequence is None else a.sequence)
    first, second = (g.sequence or ((0,) * depth if g.stages else g.at_depth(depth)[0]) for g in (a, b))
    if len(first) != len(second):
        counts = " and ".join(f"{_name(g)} has {len(s)} cells" for g, s in ((a, first), (b, second)))
        raise KdartsError(f"distance: {counts}; only genotypes of equally many cells can be compared")
    return list(zip(first, second, strict=True))
