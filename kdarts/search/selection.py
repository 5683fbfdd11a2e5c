"""So many skip connections in a cell, where they are surest.

Skip connections train fastest and spread, or are overtaken one by one until none is left. P-DARTS (Chen et al. 2019,
section 3.3) gives up the weakest of too many. Here a cell has a fixed number, on the edges of the largest margins: how
much stronger the skip connection is there than the best other operation. An edge where both are strong loses little by
the other one.

P-DARTS' derivation: candidates dropped between stages, and cells with few skip connections after the last.

From mixing weights to a genotype.

From the weights of a HyperCuboid to a path, and what of a method a HyperCuboid has no use for.
"""

import functools

import numpy as np

from kdarts.genotypes.best_path import best_path, greedy_path
from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.edges import cell_of, edge_count, node_rows
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import SKIPS, Genotype, thirds
from kdarts.search.curvature import watched_every
from kdarts.search.method import Method
from kdarts.supernet.hypercuboid import HyperCuboid
from kdarts.supernet.spaces import SearchSpace


def place_skips(weights: np.ndarray, operations: tuple[str, ...], count: int) -> np.ndarray:
    """The weights with nothing but skip connections on the `count` edges of the largest margins, and none elsewhere.

    Args:
        weights: after mixing, `[edges, operations]`.
        operations: names of the columns; if none or all of them are skip connections nothing changes.
        count: 0 or more; of equal margins the earlier edge's counts.

    Returns:
        A copy, -1, less than any weight, in place of what an edge loses.
    """
    skips = np.array([name in SKIPS for name in operations])
    others = ~skips & np.array([name != "none" for name in operations])
    weights = np.array(weights, np.float64)
    if skips.any() and others.any():
        edges = np.argsort(weights[:, others].max(1) - weights[:, skips].max(1), kind="stable")
        weights[np.ix_(edges[count:], skips)] = -1
        weights[np.ix_(edges[:count], ~skips)] = -1
    return weights


def narrow(weights: np.ndarray, present: np.ndarray, operations: int) -> np.ndarray:
    """The candidates that an edge keeps for the next stage: those with the largest weights (section 3.2).

    Of equal ones the later in the space is kept. `none` counts as any other.

    Args:
        weights: after mixing, `[edges, operations]`.
        present: which candidates an edge had, boolean of that shape.
        operations: how many it is to keep.

    Returns:
        Boolean of that shape.
    """
    kept = np.zeros_like(present)
    for row, columns in enumerate(_ascending(w, p) for w, p in zip(weights, present, strict=True)):
        kept[row, columns[-operations:]] = True
    return kept


def select(weights: np.ndarray, operations: tuple[str, ...], max_skips: int | None) -> list:
    """A cell of one operation on each of two edges to a node, with no more than `max_skips` skip connections.

    Of each edge the strongest operation but `none`, of each node the two edges where that is strongest; of equal ones
    the later in each case. While there are too many skip connections, the weakest of those chosen gets weight 0 and
    all is chosen again (section 3.3 and the authors' program).

    Args:
        weights: after mixing, `[edges, operations]`, edges node by node; 0: the edge does not have the operation.
        operations: names of the columns.
        max_skips: None: any number.

    Returns:
        `(operation, to, from)` of the edges, in α's order.
    """
    weights, present = np.array(weights, np.float64), np.asarray(weights) > 0
    for column, name in enumerate(operations):
        if name == "none":
            present[:, column] = False
    while True:
        chosen = _chosen(weights, present)
        skips = [(row, column) for row, column, _, _ in chosen if operations[column] in SKIPS]
        more = [place for place in skips if weights[place] > 0]
        if max_skips is None or len(skips) <= max_skips or not more:
            return [(operations[column], to, source) for _, column, to, source in chosen]
        weights[min(more, key=lambda place: weights[place])] = 0


def _ascending(weights, present):
    """The columns of an edge that are present, from the least weight to the largest, equal ones in order."""
    columns = np.flatnonzero(present)
    return columns[np.argsort(weights[columns], kind="stable")]


def _chosen(weights, present) -> list:
    """`(row, column, to, from)` of the two strongest edges of each node."""
    chosen = []
    for to, into in node_rows(len(weights)).items():
        rows = [row for row in range(into.start, into.stop) if present[row].any()]
        best = {row: _ascending(weights[row], present[row])[-1] for row in rows}
        strongest = sorted(rows, key=lambda row: weights[row, best[row]])[-2:]
        chosen += [(row, int(best[row]), to, row - into.start) for row in sorted(strongest)]
    return chosen


def strongest_two(weights: np.ndarray, operations: tuple[str, ...], threshold: float) -> list:
    """DARTS' rule for one node (section 2.4): its two strongest inputs, each by its best operation but `none`.

    `none` never wins, yet its share lowers the edge. The stronger input comes first; equal ones by the lower number.

    Args:
        weights: mixing weights of the node's edges, `[sources, operations]`.
        operations: names of the columns.
        threshold: not used by this rule.

    Returns:
        `(operation, source)` pairs.
    """
    return [(operation, source) for operation, source, _ in _two_best(weights, operations)]


def sparse(weights: np.ndarray, operations: tuple[str, ...], threshold: float) -> list:
    """Of what DARTS' rule keeps that whose weight reaches the threshold (FairDARTS; D-DARTS' `threshold_sparse`).

    At most two inputs to a node and one operation on each; a node may come out empty. The arguments and the order are
    those of `strongest_two`; a weight that equals the threshold reaches it.
    """
    return [(operation, source) for operation, source, weight in _two_best(weights, operations) if weight >= threshold]


def strongest_pairs(weights: np.ndarray, operations: tuple[str, ...], threshold: float) -> list:
    """The node's two strongest operations, which may stand on one edge (GDAS' program); the stronger comes first.

    Of equal ones the lower input comes first, then the earlier operation; `none` never wins.
    """
    columns = _named(operations)
    order = np.argsort(-weights[:, columns].ravel(), kind="stable")[:2]
    return [(operations[columns[k % len(columns)]], int(k // len(columns))) for k in order]


def two_of_each_edge(weights: np.ndarray, operations: tuple[str, ...], threshold: float) -> list:
    """Of every input its two best operations, where they reach the threshold (D-DARTS' `threshold_edge`).

    Any number of inputs. The weaker of the two comes first; of equal ones the later in the space counts as stronger.
    """
    columns = _named(operations)
    kept = []
    for source, row in enumerate(weights):
        strongest = np.argsort(row[columns], kind="stable")[-2:]
        kept += [(operations[columns[k]], source) for k in strongest if row[columns[k]] >= threshold]
    return kept


def complete(weights: np.ndarray, operations: tuple[str, ...], threshold: float) -> list:
    """Every operation of every input that reaches the threshold, in the space's order (D-DARTS' code alone)."""
    columns = _named(operations)
    return [(operations[k], source) for source, row in enumerate(weights) for k in columns if row[k] >= threshold]


def _named(operations) -> list[int]:
    """The columns that a rule may pick: all but `none`."""
    return [k for k, name in enumerate(operations) if name != "none"]


def _two_best(weights, operations) -> list:
    """`(operation, source, weight)` of the two inputs whose best operation is strongest."""
    columns = _named(operations)
    scores = weights[:, columns]
    best = scores.argmax(1)
    order = np.argsort(-scores.max(1), kind="stable")[:2]
    return [(operations[columns[best[source]]], int(source), scores[source, best[source]]) for source in order]


def argmax(weights: np.ndarray, operations: tuple[str, ...], threshold: float) -> list:
    """Of every input its strongest operation, `none` among them; of equals the first (NAS-Bench-201).

    The arguments are those of `strongest_two`.
    """
    return [(operations[column], source) for source, column in enumerate(weights.argmax(1))]


def _of_nodes(rule):
    """A rule for a whole cell from one for a node."""

    def of_cell(weights, operations, threshold, max_skips):
        cell, first = [], 2 - cell_of(len(weights))[1]
        for node, rows in node_rows(len(weights)).items():
            found = rule(weights[rows], operations, threshold)
            cell += [(operation, node, source + first) for operation, source in found]
        return cell

    return of_cell


def residual(weights: np.ndarray, operations: tuple[str, ...], threshold: float, max_skips: int | None) -> list:
    """A cell with skip connections on `max_skips` edges, where they lead by most (see `place_skips`; `kdarts`).

    Otherwise two inputs to a node as by `strongest_two`, which may leave such an edge out, or, in cells of one input,
    one operation on each edge as by `argmax`.

    Args:
        weights: of the cell, `[edges, operations]`.
        operations, threshold: as of `strongest_two`.
        max_skips: None: any number.
    """
    if max_skips is not None:
        weights = place_skips(weights, operations, max_skips)
    rule = argmax if cell_of(len(weights))[1] == 1 else strongest_two
    return _of_nodes(rule)(weights, operations, threshold, max_skips)


def _progressive(weights, operations, threshold, max_skips):
    """See `progressive.select`."""
    return select(weights, operations, max_skips)


RULES = {
    "darts": _of_nodes(strongest_two),
    "sparse": _of_nodes(sparse),
    "edge": _of_nodes(two_of_each_edge),
    "complete": _of_nodes(complete),
    "argmax": _of_nodes(argmax),
    "pairs": _of_nodes(strongest_pairs),
    "progressive": _progressive,
    "residual": residual,
}


def discretize(
    probabilities,
    space: SearchSpace,
    method: str = "darts",
    threshold: float = 0.85,
    reductions=None,
    sequence=None,
    multiplier: int | None = None,
    max_skips: int | None = 2,
) -> Genotype:
    """The genotype that the mixing weights stand for.

    Args:
        probabilities: for each distinct cell its weights after mixing, `[edges, operations]`, edges node by node;
            compared as they are, in float64.
        space: names the operations.
        method: the rule: "darts", "pairs", "progressive", "residual", "argmax", or, where a node or a cell may come out
            empty, "sparse", "edge" or "complete". In a space with stages "darts" is "argmax": all edges are kept.
        threshold: least weight of an operation, 0 to 1, of "sparse", "edge" and "complete".
        reductions: positions of the reduction cells; None: the default of the depth; a space with stages has none.
        sequence: for each cell of the network the index of its distinct cell; None: of two sets of weights the
            first is the normal cell and the second the reduction cell, of any other number each is one cell; in a space
            with stages a single one stands everywhere.
        multiplier: nodes in a cell's output, counted from the last; None: the space's, or all where a cell has fewer.
        max_skips: with "progressive" and "residual" the most skip connections of a cell that is no reduction, with the
            latter all that have a place; None: any number.

    Returns:
        The genotype; `Genotype.gaps` tells of nodes and cells that came out empty.

    Raises:
        KdartsError: if the shapes do not fit the space or the multiplier, the method is unknown, or the threshold is
            not within 0 to 1.
    """
    rule = RULES[choice("discretisation", method, RULES)]
    if not 0 <= threshold <= 1:
        raise KdartsError(f"threshold {threshold}: allowed is 0 to 1")
    if space.stages:
        rule, reductions = RULES["argmax"] if method == "darts" else rule, None
    cells, concats = [], []
    reduce = set() if space.stages else _reduction_cells(len(probabilities), reductions, sequence)
    for index, weights in enumerate(probabilities):
        weights = np.asarray(weights, np.float64)
        nodes = _nodes(weights, space, index)
        outputs = multiplier or min(space.multiplier, nodes)
        if not 1 <= outputs <= nodes:
            raise KdartsError(f"multiplier {outputs}: allowed is 1 to the {nodes} nodes of cell {index}")
        cells.append(tuple(rule(weights, space.operations, threshold, None if index in reduce else max_skips)))
        concats.append(tuple(range(2 + nodes - outputs, 2 + nodes)))
    if sequence is None and len(cells) != (1 if space.stages else 2):
        sequence = range(len(cells))
    return Genotype(tuple(cells), tuple(concats), reductions, sequence, stages=space.stages)


def _reduction_cells(cells: int, reductions, sequence) -> set[int]:
    """The distinct cells that stand at reductions alone."""
    if sequence is None and cells == 2:
        return {1}
    sequence = range(cells) if sequence is None else sequence
    normal = set(range(len(sequence))) - set(thirds(len(sequence)) if reductions is None else reductions)
    return set(range(cells)) - {sequence[position] for position in normal}


def _nodes(weights: np.ndarray, space: SearchSpace, index: int) -> int:
    """Number of intermediate nodes with as many edges as `weights` has rows."""
    nodes = 1
    while weights.ndim and edge_count(nodes, space.inputs) < len(weights):
        nodes += 1
    fits = weights.ndim == 2 and weights.shape == (edge_count(nodes, space.inputs), len(space.operations))
    if not fits or not np.isfinite(weights).all():
        counts = ", ".join(str(edge_count(n, space.inputs)) for n in range(1, 6))
        raise KdartsError(
            f"weights of cell {index}: shape {weights.shape}; needs finite [edges, {len(space.operations)}] with "
            f"{counts}, ... edges"
        )
    return nodes


PATH_RULES = {
    "best_path": best_path,
    "greedy_forward": greedy_path,
    "greedy_backward": functools.partial(greedy_path, backward=True),
}
"""The path of the greatest sum of weights; the strongest transition at each stage, from the first or from the last."""

_OF_CELLS = {
    "ablation_weight": 0.0,
    "attention": (),
    "auxiliary_skip": False,
    "partial_channels": 1,
    "paths": 0,
    "samples": 0,
    "sampling": "all",
    "skip_dropout": 0.0,
    "stages": (),
    "topology": "",
}


def check_for_cuboid(supernet: HyperCuboid, method: Method) -> None:
    """Refuses what the search of a HyperCuboid would pass over or get wrong.

    Raises:
        KdartsError: for a rule of cells, an axis that is about cells, or what needs second derivatives where a layer of
            the HyperCuboid has no right one.
    """
    choice("discretization of a HyperCuboid", method.discretization, PATH_RULES)
    for axis, rest in _OF_CELLS.items():
        if getattr(method, axis) != rest:
            raise KdartsError(f"{axis} {getattr(method, axis)!r} is about cells; a HyperCuboid takes {rest!r}")
    choice("stop of a HyperCuboid", method.stop, ("epochs", "eigenvalue"))
    asking = {"order 'exact'": method.order == "exact", "the eigenvalue": watched_every(method) > 0}
    wrong = supernet.without_second_derivative()
    for asked in [name for name, needed in asking.items() if needed and wrong]:
        raise KdartsError(
            f"{asked}: TensorFlow's second derivative of {', '.join(wrong)} is wrong; take order 'second' and "
            "watch_hessian 0, or placed operations"
        )


def found_path(supernet: HyperCuboid, rule: str) -> HyperPath:
    """The path that α stands for.

    Args:
        supernet: gives the weights.
        rule: one of `PATH_RULES`.
    """
    states, choices, _ = PATH_RULES[rule](supernet.path_weights())
    return supernet.path(states, choices)
