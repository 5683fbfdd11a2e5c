"""The order of a cell's edges, one row of α each: node by node from node 2 on, sources ascending.

Most cells have two inputs, the nodes 0 and 1; those of NAS-Bench-201 have one, node 1. No number of edges is that of
both kinds (2, 5, 9, 14, ... and 1, 3, 6, 10, ...), so the number tells the kind.

A cell's topology: which two inputs each of its nodes reads (eDARTS, Siddiqui et al., section III-B).

A topology is a tuple of pairs, one for each intermediate node from node 2 on; a pair is `(a, b)`, `0 <= a < b < node`.
The paper gives its 180 topologies no numbers. Here they stand in lexicographic order, so that number 0 reads the cell's
two inputs at every node.
"""

import itertools
import math

from kdarts.genotypes.errors import KdartsError


def edge_count(nodes: int, inputs: int = 2) -> int:
    """Number of edges of a cell of `nodes` intermediate nodes that read all earlier ones and its 1 or 2 inputs."""
    return nodes * (nodes + 2 * inputs - 1) // 2


def cell_of(edges: int) -> tuple[int, int]:
    """`(nodes, inputs)` of the cell with so many edges; raises `KdartsError` if none has."""
    for inputs in (2, 1):
        nodes = 1
        while edge_count(nodes, inputs) < edges:
            nodes += 1
        if edge_count(nodes, inputs) == edges:
            return nodes, inputs
    raise KdartsError(f"{edges} edges: a cell of two inputs has 2, 5, 9, 14, ..., one of one input 1, 3, 6, 10, ...")


def edge_row(to: int, source: int, inputs: int = 2) -> int:
    """The row of the edge into node `to` from `source`; before it stand the edges of the nodes before."""
    return edge_count(to - 2, inputs) + source - (2 - inputs)


def node_rows(edges: int, inputs: int | None = None) -> dict[int, slice]:
    """For each node of a cell of so many edges, by its number, the rows of the edges that lead to it.

    Args:
        edges: of the cell.
        inputs: edges that lead to a node, where a topology keeps as many of each; None: one from every node before it.
    """
    leading = 0 if inputs else 2 - cell_of(edges)[1]
    rows, node, start = {}, 2, 0
    while start < edges:
        rows[node] = slice(start, start + (inputs or node - leading))
        node, start = node + 1, rows[node].stop
    return rows


Topology = tuple[tuple[int, int], ...]


def topology_count(nodes: int = 4) -> int:
    """How many topologies a cell of so many intermediate nodes has: 180 for 4."""
    return math.prod(math.comb(node, 2) for node in range(2, nodes + 2))


def topologies(nodes: int = 4) -> list[Topology]:
    """All topologies of a cell of so many intermediate nodes, 1 or more, by their numbers."""
    return list(itertools.product(*(itertools.combinations(range(node), 2) for node in range(2, nodes + 2))))


def check_topology(topology, nodes: int) -> Topology:
    """The topology as tuples.

    Args:
        topology: a pair of inputs for each node, in any kind of sequence.
        nodes: intermediate nodes of the cell.

    Raises:
        KdartsError: if it has another number of nodes, or a node does not read two earlier ones, the lower first.
    """
    try:
        pairs = tuple(tuple(int(source) for source in pair) for pair in topology)
    except (TypeError, ValueError):
        raise KdartsError(f"topology {topology!r}: needs a pair of inputs for each node") from None
    if len(pairs) != nodes:
        raise KdartsError(f"topology {topology_text(pairs)}: has {len(pairs)} nodes, the cell has {nodes}")
    for node, pair in enumerate(pairs, 2):
        if len(pair) != 2 or not 0 <= pair[0] < pair[1] < node:
            raise KdartsError(
                f"topology {topology_text(pairs)}: node {node} must read two different ones of 0 to {node - 1}, "
                "the lower first"
            )
    return pairs


def topology_text(topology) -> str:
    """The text that `parse_topology` reads, such as `0,1;0,1;0,1;0,1`."""
    return ";".join(",".join(map(str, pair)) for pair in topology)


def parse_topology(text: str, nodes: int = 4) -> Topology:
    """The topology that a text means.

    Args:
        text: either a pair of inputs for each node, `0,1;0,2;0,1;1,4`, or a topology's number.
        nodes: intermediate nodes of the cell.

    Raises:
        KdartsError: if it is neither, or the cell has no such topology.
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
    """`topologies(nodes)[number]` without the list, which has 57 million entries for 8 nodes."""
    found = []
    for node in range(nodes + 1, 1, -1):
        number, index = divmod(number, math.comb(node, 2))
        found.append(next(itertools.islice(itertools.combinations(range(node), 2), index, None)))
    return tuple(found[::-1])


def topology_edges(topology) -> list[int]:
    """The rows of the edges that a topology keeps, among all edges of the cell (`edges.edge_row`), ascending."""
    return [edge_row(node, source) for node, pair in enumerate(topology, 2) for source in pair]
