"""From mixing weights to a genotype."""

import numpy as np

from kdarts.genotypes.edges import cell_of, edge_count, node_rows
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype, thirds
from kdarts.nets.spaces import SearchSpace
from kdarts.search.progressive import select
from kdarts.search.skip_places import place_skips


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
