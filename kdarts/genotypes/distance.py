"""How far two genotypes are apart: metric M of D-DARTS (Heuillet et al.), section 4.5.

An edge is a vector of zeros and ones, one for each operation of DARTOpti's space S_o: whether the edge has it. A cell
is the set of the vectors of all its edges, of which those without an operation are zero.

(a) Edges: d(u, v) = sum of the scores W_i where u_i and v_i differ (Hamming), over the sum of all W_i (the authors'
    code) or over their number, 12 (the paper's Algorithm 2).
(b) Cells: the farthest that an edge of one is from its nearest edge in the other (Hausdorff, Eq. 11), taken both ways,
    of which the larger counts (Eq. 12).
(c) Architectures: the mean over their cells, position by position (Eq. 13).

The paper calls M a metric, and it is none: (b) forgets which edge has what, and how many edges have the same, so that
different cells may be at 0. With `aligned`, (b) is the sum of d over the edges, each against the one between the same
nodes; that is a metric of what stands on which edge.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from numbers import Real

import numpy as np

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.seals import unsealed

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
"""What each operation scored alone on the edges of a small network on CIFAR-10, in percent: the median over the edges,
which is D-DARTS' Table 1 before rounding (`op_stats_2.json` of aheuillet/D-DARTS), and the mean, which the authors'
program uses (`op_stats.json`)."""

OPERATIONS = tuple(SCORES["median"])
"""S_o, in the order of the vectors."""


def distance(
    a: Genotype,
    b: Genotype,
    weights: str | os.PathLike | Mapping[str, float] = "median",
    normalize: bool = True,
    aligned: bool = False,
) -> float:
    """Metric M of D-DARTS (Eq. 11 to 13), or a true metric in its spirit.

    Args:
        a, b: of operations of S_o, as deep as each other; cells that stand at the same position are paired. One
            without a sequence takes the other's depth; of two of that kind the normal cells and the reduction cells
            are compared.
        weights: the operations' scores W: "median" (the paper's Table 1), "mean" (the authors' program), a mapping
            `{operation: score}` of all of S_o, or the path of a JSON file with one.
        normalize: whether an edge's distance is over the sum of W (0 to 1), else over 12 (in the unit of W).
        aligned: whether cells are compared edge by edge and their distances summed, which gives a metric: at 0 are
            those genotypes alone that have the same operations on the same edges, whatever their outputs and their
            reductions, and no detour is shorter. Nodes that only one of the two has count as empty in the other.

    Returns:
        The distance, from 0; without `aligned` and with `normalize` at most 1.

    Raises:
        KdartsError: if they differ in depth, an operation is not in S_o, or the weights do not fit it.
    """
    scores = read_weights(weights)
    between, nodes = (_edge_by_edge, max(_nodes(a), _nodes(b))) if aligned else (hausdorff, None)
    cells_a, cells_b = edge_vectors(a, nodes), edge_vectors(b, nodes)
    pairs = _paired(a, b)
    # Cells repeat within a network, and so do pairs of them.
    found = {(i, k): between(cells_a[i], cells_b[k], scores) for i, k in set(pairs)}
    return float(np.mean([found[pair] for pair in pairs]) / (scores.sum() if normalize else len(scores)))


def hausdorff(x: np.ndarray, y: np.ndarray, scores: np.ndarray) -> float:
    """The distance of two cells before it is scaled (Eq. 12).

    Args:
        x, y: their edges' vectors, `[edges, 12]`; the numbers of edges may differ.
        scores: W, `[12]`.
    """
    return max(directed(x, y, scores), directed(y, x, scores))


def directed(x: np.ndarray, y: np.ndarray, scores: np.ndarray) -> float:
    """How far an edge of `x` can be from its nearest in `y` (one half of Eq. 11); the arguments are `hausdorff`'s."""
    x, y = np.unique(x, axis=0), np.unique(y, axis=0)
    return float(((x[:, None] != y[None]) @ scores).min(1).max())


def _edge_by_edge(x, y, scores) -> float:
    """The sum over the edges of two cells with equally many; a mean would depend on empty edges, and be no metric."""
    return float(((x != y) @ scores).sum())


def edge_vectors(genotype: Genotype, nodes: int | None = None) -> list[np.ndarray]:
    """For each distinct cell its edges' vectors, `[edges, 12]`, node by node: 2, 5, 9, 14, ... edges.

    Args:
        genotype: of operations of S_o.
        nodes: intermediate nodes of a cell, at least those that edges lead to; None: as far as its outputs name them,
            too.

    Raises:
        KdartsError: if an operation is not in S_o.
    """
    strange = [name for name in genotype.operations if name not in OPERATIONS]
    if strange:
        raise KdartsError(
            f"distance: {', '.join(strange)} in {genotype.name or 'a genotype'}; allowed: {', '.join(OPERATIONS)}"
        )
    nodes = nodes or _nodes(genotype)
    cells = []
    for cell in genotype.cells:
        rows = np.zeros((nodes * (nodes + 3) // 2, len(OPERATIONS)), bool)
        for operation, to, source in cell:
            rows[edge_row(to, source), OPERATIONS.index(operation)] = True
        cells.append(rows)
    return cells


def read_weights(weights: str | os.PathLike | Mapping[str, float]) -> np.ndarray:
    """The scores of S_o's operations, `[12]`, from what `distance` takes for its `weights`.

    Raises:
        KdartsError: if the name or the file is unknown, or an operation is missing, unknown, or scored by anything but
            a finite number above 0.
    """
    where = "weights"
    if not isinstance(weights, Mapping):
        if isinstance(weights, str) and not weights.endswith(".json"):
            weights = SCORES[choice("weights", weights, [*SCORES, "a .json file"])]
        else:
            where, weights = str(weights), _read_json(weights)
    unknown = [str(name) for name in weights if name not in OPERATIONS]
    missing = [name for name in OPERATIONS if name not in weights]
    if unknown or missing:
        raise KdartsError(f"{where}: unknown operations {unknown}, missing operations {missing}")
    for name in OPERATIONS:
        value = weights[name]
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
            raise KdartsError(f"{where}: {name} has {value!r}; needs a finite number above 0")
    return np.array([weights[name] for name in OPERATIONS], np.float64)


def _read_json(path) -> dict:
    try:
        found = json.loads(pathlib.Path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise KdartsError(f"{path}: cannot be read as JSON ({error})") from None
    found = unsealed(found, path)
    if not isinstance(found, dict):
        raise KdartsError(f"{path}: needs an object {{operation: score}}")
    return found


def _nodes(genotype: Genotype) -> int:
    """Intermediate nodes of its cells, those that a search left empty included, as far as an output names them."""
    return max(genotype.nodes, max(max(concat) for concat in genotype.concats) - 1, 1)


def _paired(a: Genotype, b: Genotype) -> list[tuple[int, int]]:
    """The distinct cells of both that stand at each position."""
    if a.sequence is None and b.sequence is None:
        return [(0, 0), (1, 1)]
    depth = len(b.sequence if a.sequence is None else a.sequence)
    first, second = (g.at_depth(depth)[0] if g.sequence is None else g.sequence for g in (a, b))
    if len(first) != len(second):
        counts = " and ".join(f"{g.name or 'one'} has {len(s)} cells" for g, s in ((a, first), (b, second)))
        raise KdartsError(f"distance: {counts}; only equally many can be paired")
    return list(zip(first, second, strict=True))
