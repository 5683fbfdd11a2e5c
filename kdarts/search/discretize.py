"""From mixing weights to a genotype."""

import numpy as np

from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype
from kdarts.nets.spaces import SearchSpace


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
    named = [k for k, name in enumerate(operations) if name != "none"]
    scores = weights[:, named]
    order = np.argsort(-scores.max(1), kind="stable")[:2]
    return [(operations[named[int(scores[source].argmax())]], int(source)) for source in order]


RULES = {"darts": strongest_two}


def discretize(
    probabilities,
    space: SearchSpace,
    method: str = "darts",
    threshold: float = 0.85,
    reductions=None,
    sequence=None,
    multiplier: int | None = None,
) -> Genotype:
    """The genotype that the mixing weights stand for.

    Args:
        probabilities: for each distinct cell its weights after mixing, `[edges, operations]`, edges node by node.
        space: names the operations.
        method: the rule: "darts".
        threshold: least weight of an operation, for the rules that have one, 0 to 1.
        reductions: positions of the reduction cells; None: the default of the depth.
        sequence: for each cell of the network the index of its distinct cell; None: of two sets of weights the
            first is the normal cell and the second the reduction cell, of any other number each is one cell.
        multiplier: nodes in a cell's output, counted from the last; None: the space's, or all where a cell has fewer.

    Returns:
        The genotype.

    Raises:
        KdartsError: if the shapes do not fit the space or the multiplier, or the method is unknown.
    """
    rule = RULES[choice("discretisation", method, RULES)]
    cells, concats = [], []
    for index, weights in enumerate(probabilities):
        weights = np.asarray(weights, np.float64)
        nodes = _nodes(weights, space, index)
        outputs = multiplier or min(space.multiplier, nodes)
        if not 1 <= outputs <= nodes:
            raise KdartsError(f"multiplier {outputs}: allowed is 1 to the {nodes} nodes of cell {index}")
        cell, first = [], 0
        for node in range(2, nodes + 2):
            rows = weights[first : first + node]
            cell += [(operation, node, source) for operation, source in rule(rows, space.operations, threshold)]
            first += node
        cells.append(tuple(cell))
        concats.append(tuple(range(2 + nodes - outputs, 2 + nodes)))
    if sequence is None and len(cells) != 2:
        sequence = range(len(cells))
    return Genotype(tuple(cells), tuple(concats), reductions, sequence)


def _nodes(weights: np.ndarray, space: SearchSpace, index: int) -> int:
    """Number of intermediate nodes with as many edges as `weights` has rows."""
    nodes = 1
    while weights.ndim and nodes * (nodes + 3) // 2 < len(weights):
        nodes += 1
    fits = weights.ndim == 2 and weights.shape == (nodes * (nodes + 3) // 2, len(space.operations))
    if not fits or not np.isfinite(weights).all():
        raise KdartsError(
            f"weights of cell {index}: shape {weights.shape}; needs finite [edges, {len(space.operations)}] with "
            "2, 5, 9, 14, 20, ... edges"
        )
    return nodes
