"""A cell's topology: which two inputs each of its nodes reads (eDARTS, Siddiqui et al., section III-B).

A topology is a tuple of pairs, one for each intermediate node from node 2 on; a pair is `(a, b)`, `0 <= a < b < node`.
The paper gives its 180 topologies no numbers. Here they stand in lexicographic order, so that number 0 reads the cell's
two inputs at every node.
"""

import itertools
import math

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.errors import KdartsError

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
