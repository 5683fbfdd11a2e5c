"""The order of a cell's edges, and topologies of cells.

An edge has one row of α. Rows are ordered by the node that an edge leads to, from node 2 on, then by its source. Most
cells have two inputs, the nodes 0 and 1; NAS-Bench-201's cells have one, node 1. The numbers of edges of the two kinds
(2, 5, 9, 14, ... and 1, 3, 6, 10, ...) have none in common, so the number of rows tells the kind.

A topology says which two inputs each node reads (eDARTS, Siddiqui et al., section III-B). It is a tuple of pairs
`(a, b)`, `0 <= a < b < node`, one for each intermediate node from node 2 on. The paper does not number its 180
topologies; here they are numbered in lexicographic order, so in number 0 every node reads the cell's two inputs.
"""

import itertools
import math

from kdarts.genotypes.errors import KdartsError


def edge_count(nodes: int, inputs: int = 2) -> int:
    """Returns the number of edges of a cell of `nodes` intermediate nodes that read all earlier ones and its inputs."""
    return nodes * (nodes + 2 * inputs - 1) // 2


def cell_of(edges: int) -> tuple[int, int]:
    """Returns `(nodes, inputs)` of the cell with `edges` edges; raises `KdartsError` if there is no such cell."""
    for inputs in (2, 1):
        nodes = 1
        while edge_count(nodes, inputs) < edges:
            nodes += 1
        if edge_count(nodes, inputs) == edges:
            return nodes, inputs
    raise KdartsError(f"{edges} edges: a cell of two inputs has 2, 5, 9, 14, ..., one of one input 1, 3, 6, 10, ...")


def edge_row(to: int, source: int, inputs: int = 2) -> int:
    """Returns the row of the edge into node `to` from node `source`, in a cell of 1 or 2 inputs."""
    return edge_count(to - 2, inputs) + source - (2 - inputs)


def node_rows(edges: int, inputs: int | None = None) -> dict[int, slice]:
    """Returns the rows of the edges that lead to each node of a cell, by the number of the node.

    Args:
        edges: Number of edges of the cell.
        inputs: Number of edges that lead to each node, if a topology keeps equally many. Defaults to one from every
            earlier node.
    """
    leading = 0 if inputs else 2 - cell_of(edges)[1]
    rows, node, start = {}, 2, 0
    while start < edges:
        rows[node] = slice(start, start + (inputs or node - leading))
        node, start = node + 1, rows[node].stop
    return rows


def rows_into(edges) -> list[list[int]]:
    """Returns the rows of the edges that lead to each node, node by node, of a list of edges `(to, from)`."""
    nodes = sorted({to for to, _ in edges})
    return [[row for row, (to, _) in enumerate(edges) if to == node] for node in nodes]


Topology = tuple[tuple[int, int], ...]


def topology_count(nodes: int = 4) -> int:
    """Returns the number of topologies of a cell of `nodes` intermediate nodes: 180 for 4."""
    return math.prod(math.comb(node, 2) for node in range(2, nodes + 2))


def topologies(nodes: int = 4) -> list[Topology]:
    """Returns all topologies of a cell of `nodes` intermediate nodes, at least 1, in the order of their numbers."""
    return list(itertools.product(*(itertools.combinations(range(node), 2) for node in range(2, nodes + 2))))


def check_topology(topology, nodes: int) -> Topology:
    """Returns a topology, a sequence of a pair of inputs for each of `nodes` intermediate nodes, as tuples.

    Raises `KdartsError` if the number of nodes is another, or a node does not read two earlier ones, the lower first.
    """
    try:
        pairs = tuple(tuple(int(source) for source in pair) for pair in topology)
    except (TypeError, ValueError):
        raise KdartsError(f"topology {topology!r}: needs a pair of inputs for each node") from None
    if len(pairs) != nodes:
        raise KdartsError(f"topology {topology_text(pairs)}: has {len(pairs)} nodes, the cell has {nodes}")
    for node, pair in enumerate(pairs, 2):
        if len(pair) != 2 or not 0 <= pair[0] < pair[1] < node:
            needed = f"must read two different ones of 0 to {node - 1}, the lower first"
            raise KdartsError(f"topology {topology_text(pairs)}: node {node} {needed}")
    return pairs


def topology_text(topology) -> str:
    """Returns the text form of a topology, such as `0,1;0,1;0,1;0,1`, which `parse_topology` reads."""
    return ";".join(",".join(map(str, pair)) for pair in topology)


def parse_topology(text: str, nodes: int = 4) -> Topology:
    """Reads a topology from text.

    Args:
        text: A pair of inputs for each node, `0,1;0,2;0,1;1,4`, or the number of a topology.
        nodes: Number of intermediate nodes of the cell.

    Raises:
        KdartsError: If the text has neither form, or the cell has no such topology.
    """
    example = topology_text([(0, 1)] * nodes)
    form = f"allowed are a number from 0 to {topology_count(nodes) - 1}, or two inputs a node such as {example}"
    parts = [part.split(",") for part in text.split(";")]
    if not all(number.isascii() and number.isdigit() for part in parts for number in part):
        raise KdartsError(f"topology {text!r}: {form}")
    if parts == [[text]]:
        if len(text) > 9 or int(text) >= topology_count(nodes):
            raise KdartsError(f"topology {text!r}: {form}")
        return _numbered(int(text), nodes)
    return check_topology(parts, nodes)


def _numbered(number: int, nodes: int) -> Topology:
    """Returns `topologies(nodes)[number]` without building the list, which has 57 million entries for 8 nodes."""
    pairs = []
    for node in range(nodes + 1, 1, -1):
        number, index = divmod(number, math.comb(node, 2))
        pairs.append(next(itertools.islice(itertools.combinations(range(node), 2), index, None)))
    return tuple(pairs[::-1])
