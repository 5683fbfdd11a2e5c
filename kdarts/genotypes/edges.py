"""The order of a cell's edges, one row of α each: node by node from node 2 on, sources ascending.

Most cells have two inputs, the nodes 0 and 1; those of NAS-Bench-201 have one, node 1. No number of edges is that of
both kinds (2, 5, 9, 14, ... and 1, 3, 6, 10, ...), so the number tells the kind.
"""

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
