"""P-DARTS' derivation: candidates dropped between stages, and cells with few skip connections after the last."""

import numpy as np

from kdarts.genotypes.edges import node_rows
from kdarts.genotypes.genotype import SKIPS


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
