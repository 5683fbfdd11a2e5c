"""The decisions of a selection by removal: their order, and what one leaves of an edge or of a node.

The order is a function of the seed alone, and a decision one of a function that measures; neither knows a supernet's
variables.
"""

from typing import NamedTuple

import numpy as np

from kdarts.genotypes.edges import rows_into


class Step(NamedTuple):
    """One decision: of a row of α, which operation stays, or of a node, which two of its edges.

    Attributes:
        index: of the α.
        rows: of the edges, one, or those of a node.
        whole: whether edges are removed, not operations.
    """

    index: int
    rows: tuple[int, ...]
    whole: bool


class Plan:
    """The order of the decisions, in rounds; in each round every α has one.

    Args:
        edges: `(to, from)` of each row of α.
        sets: number of α.
        seed: integers that the order depends on.
        every: whether all edges of a node stay, so that nodes need no decision.

    Attributes:
        rounds: lists of `Step`.
    """

    def __init__(self, edges: list[tuple[int, int]], sets: int, seed: list[int], every: bool = False):
        random = np.random.RandomState(seed)  # A legacy generator: its stream is the same in every version of NumPy.
        nodes = [] if every else [tuple(rows) for rows in rows_into(edges) if len(rows) > 2]
        orders = [(random.permutation(len(edges)), random.permutation(len(nodes))) for _ in range(sets)]
        self.rounds = [
            [Step(index, (int(order[number]),), False) for index, (order, _) in enumerate(orders)]
            for number in range(len(edges))
        ]
        self.rounds += [
            [Step(index, nodes[order[number]], True) for index, (_, order) in enumerate(orders)]
            for number in range(len(nodes))
        ]


def plan_of(net, seed: list[int]) -> Plan:
    """The plan of a supernet's decisions; in cells of one input all edges stay."""
    return Plan(net.edges, len(net.alphas), seed, bool(net.space.stages))


def decide(step: Step, mask: np.ndarray, none: int | None, harm) -> dict[int, float]:
    """Takes a decision, by changing the `mask` of its α; returns what was measured.

    Args:
        step: of a `Plan`.
        mask: `[edges, operations]`, 1 for what is there.
        none: column of `none`, or None.
        harm: from a row and a column, or a row and None for the whole edge, to how much worse the supernet is without
            it; a number.

    Returns:
        The harm by column, or by row; {} where there was no choice.
    """
    if step.whole:
        found = {row: harm(row, None) for row in step.rows}
        kept = sorted(step.rows, key=lambda row: -found[row])[:2]
        mask[[row for row in step.rows if row not in kept]] = 0
        return found
    [row] = step.rows
    there = [int(column) for column in np.flatnonzero(mask[row])]
    named = [column for column in there if column != none] or there
    found = {column: harm(row, column) for column in named} if len(named) > 1 else {}
    kept = max(named, key=lambda column: found.get(column, 0.0))
    mask[row] = 0
    mask[row, kept] = 1
    return found
