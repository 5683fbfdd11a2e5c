"""Layout of small layered graphs, drawn from left to right.

The algorithm is Sugiyama's. A node is placed in the column given by its longest path from the inputs. A label is placed
in a column between two columns of nodes, and an edge that crosses a column has a place in it, too. First the items of
each column are ordered such that few edges cross, then their heights are chosen such that edges are straight. Edges
bend only between columns and are horizontal within them, so no edge crosses a label or a node.
"""

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

# Inches.
LABEL_HEIGHT = 0.19
NODE_HEIGHT = 0.3  # of a node with few edges
_BEND_HEIGHT = 0.07  # of an edge passing by
_PORT = 0.11  # between edges at a node
_GAP = 0.07  # between neighbours in a column


@dataclass(frozen=True)
class Wire:
    """An edge of the graph; `label` is the width of its label in inches, 0 if it has no label."""

    source: Hashable
    target: Hashable
    label: float = 0.0


@dataclass(frozen=True)
class Box:
    """A rectangle, given by its centre and size in inches. y increases downwards."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """The layout of a graph, in inches. The origin is at the top left.

    Attributes:
        width, height: Size of the drawing.
        nodes: The box of each node.
        labels: The box of the label of each wire, or `None`.
        routes: The horizontal pieces `(from x, to x, y)` of each wire, in order; smooth curves connect them.
    """

    width: float
    height: float
    nodes: dict[Hashable, Box]
    labels: list[Box | None]
    routes: list[list[tuple[float, float, float]]]


@dataclass
class _Item:
    """An item of a column: a node, a label, or the crossing of an edge.

    Attributes:
        column: Index of the column.
        width, height: Size in inches.
        weight: How strongly the edges at the item are straightened.
        number: Index of the node; -1 for other items.
        y: Height of its centre.
        before, after: The neighbours in the columns on the left and on the right.
        ports: Where the edge to each neighbour meets the item; see `port`.
    """

    column: int
    width: float = 0.0
    height: float = _BEND_HEIGHT
    weight: float = 4.0
    number: int = -1
    y: float = 0.0
    before: list["_Item"] = field(default_factory=list)
    after: list["_Item"] = field(default_factory=list)
    ports: dict[int, float] = field(default_factory=dict)

    def port(self, other: "_Item") -> float:
        """Returns how far below its centre the edge to `other` meets this item."""
        return self.ports[id(other)]


def arrange(nodes: Mapping[Hashable, float], wires: Sequence[Wire], last: Hashable, starts: int = 24) -> Layout:
    """Returns the layout of an acyclic graph.

    Args:
        nodes: The widths of the nodes in inches; sources come before the nodes they lead to.
        wires: The edges. Several edges may connect the same two nodes.
        last: The node to place to the right of all others. No edge starts at it.
        starts: Number of initial orders to try, at least 1. More of them need more time and may give fewer crossings.

    Returns:
        A `Layout`. Of two nodes without incoming edges, the first of `nodes` is at the top.
    """
    ranks = _ranks(nodes, wires, last)
    spots = _label_ranks(ranks, wires)
    used = sorted({*ranks.values(), *(s for s in spots if s is not None)})
    number = {rank: i for i, rank in enumerate(used)}
    items = {name: _Item(number[ranks[name]], nodes[name], NODE_HEIGHT, 1.0, i) for i, name in enumerate(nodes)}
    columns = [[item for item in items.values() if item.column == i] for i in range(len(used))]
    chains = []
    for wire, spot in zip(wires, spots, strict=True):
        chain = [items[wire.source]]
        for column in range(chain[0].column + 1, items[wire.target].column):
            labelled = spot is not None and number[spot] == column
            chain.append(_Item(column, wire.label, LABEL_HEIGHT, 2.0) if labelled else _Item(column))
            columns[column].append(chain[-1])
        chain.append(items[wire.target])
        for left, right in pairwise(chain):
            left.after.append(right)
            right.before.append(left)
        chains.append(chain)
    for item in items.values():
        item.height = max(NODE_HEIGHT, _PORT * max(len(item.before), len(item.after)) + 0.06)
    columns = _ordered(columns, starts)
    if columns[0][0] is not next(iter(items.values())):
        columns = [column[::-1] for column in columns]
    _sort_ports(columns)
    _set_heights(columns)
    for chain in sorted((c for c in chains if len(c) > 2), key=len, reverse=True):
        _level(chain[1:-1], columns)
    return _measured(columns, items, chains, [None if s is None else number[s] for s in spots])


def _ranks(nodes, wires, last) -> dict[Hashable, int]:
    """Returns the rank of each node. Ranks of nodes are even; the odd ranks between them are for labels."""
    ranks = {}
    for name in nodes:
        ranks[name] = max((ranks[w.source] + 2 for w in wires if w.target == name), default=0)
    return ranks | {last: max(rank + 2 * (name != last) for name, rank in ranks.items())}


def _label_ranks(ranks, wires) -> list[int | None]:
    """Returns the odd rank of each wire's label: one with the fewest labels; of those, the nearest to the target."""
    spots, load = [None] * len(wires), {}
    labelled = [i for i, wire in enumerate(wires) if wire.label > 0]
    for i in sorted(labelled, key=lambda i: ranks[wires[i].target] - ranks[wires[i].source]):
        way = range(ranks[wires[i].target] - 1, ranks[wires[i].source], -2)
        spots[i] = min(way, key=lambda rank: load.get(rank, 0))
        load[spots[i]] = load.get(spots[i], 0) + 1
    return spots


def _crossings(columns) -> int:
    """Returns the number of crossings between neighbouring columns."""
    place = {id(item): i for column in columns for i, item in enumerate(column)}
    total = 0
    for column in columns:
        ends = np.array([(i, place[id(o)]) for i, item in enumerate(column) for o in item.after]).reshape(-1, 2)
        total += int(((ends[:, None, 0] < ends[None, :, 0]) & (ends[:, None, 1] > ends[None, :, 1])).sum())
    return total


def _ordered(columns, starts: int) -> list[list[_Item]]:
    """Returns the columns in an order with few crossings, by sweeps of mean positions from several initial orders."""
    chance, best, fewest = random.Random(0), columns, (_crossings(columns), float("inf"))
    for start in range(starts):
        trial = [column[:] for column in columns]
        if start:
            for column in trial:
                chance.shuffle(column)
        for sweep in range(8):
            forward = sweep % 2 == 0
            place = {id(item): (i + 0.5) / len(column) for column in trial for i, item in enumerate(column)}
            for column in trial if forward else trial[::-1]:
                means = {}
                for item in column:
                    beside = item.before if forward else item.after
                    means[id(item)] = sum(place[id(o)] for o in beside) / len(beside) if beside else place[id(item)]
                column.sort(key=lambda item: means[id(item)])
                place.update({id(item): (i + 0.5) / len(column) for i, item in enumerate(column)})
            count = _crossings(trial)
            if count > fewest[0]:
                continue
            _sort_ports(trial)
            _set_heights(trial, rounds=6)
            score = (count, _bent(trial) + 0.05 * _disorder(trial))
            if score < fewest:
                best, fewest = [column[:] for column in trial], score
    return best


def _bent(columns) -> float:
    """Returns the weighted sum of the squared differences in height along all edges."""
    lines = [(item, o) for column in columns for item in column for o in item.after]
    return sum(min(a.weight, b.weight) * (a.y + a.port(b) - b.y - b.port(a)) ** 2 for a, b in lines)


def _disorder(columns) -> int:
    """Returns the number of pairs of nodes in a column that are not in the order of their numbers."""
    numbers = [[item.number for item in column if item.number >= 0] for column in columns]
    return sum(a > b for column in numbers for i, a in enumerate(column) for b in column[i + 1 :])


def _sort_ports(columns) -> None:
    """Orders the edges at each item by the positions of the items at their other ends."""
    place = {id(item): i for column in columns for i, item in enumerate(column)}
    for column in columns:
        for item in column:
            for side in (item.before, item.after):
                side.sort(key=lambda o: place[id(o)])
                item.ports.update({id(o): (k - (len(side) - 1) / 2) * _PORT for k, o in enumerate(side)})


def _set_heights(columns, rounds: int = 60) -> None:
    """Sets the heights of all items, column by column, as near to their neighbours' as order and distances allow."""
    for column in columns:
        offsets = _offsets(column)
        for item, offset in zip(column, offsets, strict=True):
            item.y = offset - offsets[-1] / 2
    for turn in range(rounds):
        for column in columns if turn % 2 == 0 else columns[::-1]:
            wanted, weights = [], []
            for item in column:
                pulls = [(o.y + o.port(item) - item.port(o), item.weight * o.weight) for o in item.before + item.after]
                pulls = pulls or [(item.y, 0.01)]
                weights.append(sum(w for _, w in pulls))
                wanted.append(sum(y * w for y, w in pulls) / weights[-1])
            offsets = _offsets(column)
            heights = _rising(np.subtract(wanted, offsets), weights)
            for item, y in zip(column, np.add(heights, offsets).tolist(), strict=True):
                item.y = y


def _level(run, columns) -> None:
    """Moves the items of a wire to one height if there is room, otherwise each half of them.

    The height of one of the wire's ends is preferred, because the wire then has one bend less.
    """
    low, high = -float("inf"), float("inf")
    for item in run:
        column = columns[item.column]
        i = next(i for i, other in enumerate(column) if other is item)
        if i > 0:
            low = max(low, column[i - 1].y + (column[i - 1].height + item.height) / 2 + _GAP)
        if i + 1 < len(column):
            high = min(high, column[i + 1].y - (column[i + 1].height + item.height) / 2 - _GAP)
    if low > high:
        if len(run) > 1:
            _level(run[: len(run) // 2], columns)
            _level(run[len(run) // 2 :], columns)
        return
    begin, end = run[0].before[0], run[-1].after[0]
    ends = begin.y + begin.port(run[0]), end.y + end.port(run[-1])
    mean = sum(item.y for item in run) / len(run)
    free = [y for y in ends if low <= y <= high and min(ends) - 0.01 <= y <= max(ends) + 0.01]
    height = min(free, key=lambda y: abs(y - mean)) if free else min(max(mean, low), high)
    for item in run:
        item.y = height


def _offsets(column) -> list[float]:
    """Returns the least distance of each item of a column from the first one."""
    offsets = [0.0]
    for above, below in pairwise(column):
        offsets.append(offsets[-1] + (above.height + below.height) / 2 + _GAP)
    return offsets


def _rising(values, weights) -> list[float]:
    """Returns the non-decreasing sequence nearest to `values` in weighted squares (isotonic regression)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            v, w, n = blocks.pop()
            block = ((v * w + block[0] * block[1]) / (w + block[1]), w + block[1], n + block[2])
        blocks.append(block)
    return [value for value, _, n in blocks for _ in range(n)]


def _measured(columns, items, chains, spots) -> Layout:
    """Computes the horizontal positions of the columns, and returns the boxes and routes in inches."""
    everything = [item for column in columns for item in column]
    top = min(item.y - item.height / 2 for item in everything)
    bottom = max(item.y + item.height / 2 for item in everything)
    left, sides = 0.0, []
    for column in columns:
        wide = max(item.width for item in column)
        sides.append((left, left + wide))
        climb = max((abs(i.y + i.port(o) - o.y - o.port(i)) for i in column for o in i.after), default=0.0)
        left += wide + min(0.7, 0.22 + 0.22 * climb)
    centres = [(a + b) / 2 for a, b in sides]

    def box(item: _Item) -> Box:
        return Box(centres[item.column], item.y - top, item.width, item.height)

    labels = [next((box(i) for i in c if i.column == spot), None) for c, spot in zip(chains, spots, strict=True)]
    routes = []
    for chain in chains:
        begin, end = chain[0], chain[-1]
        start = begin.y + begin.port(chain[1]) - top
        route = [(centres[begin.column] + begin.width / 2, sides[begin.column][1], start)]
        route += [(*sides[item.column], item.y - top) for item in chain[1:-1]]
        stop = end.y + end.port(chain[-2]) - top
        routes.append([*route, (sides[end.column][0], centres[end.column] - end.width / 2, stop)])
    return Layout(sides[-1][1], bottom - top, {name: box(item) for name, item in items.items()}, labels, routes)
