"""The order of a cell's edges, one row of α each: node by node from node 2 on, sources ascending."""


def edge_row(to: int, source: int) -> int:
    """The row of the edge into node `to` from `source`; before it stand the 2 + 3 + ... edges of the nodes before."""
    return (to - 2) * (to + 1) // 2 + source


def node_rows(edges: int) -> dict[int, slice]:
    """For each node of a cell of so many edges, by its number, the rows of the edges that lead to it."""
    rows, node = {}, 2
    while edge_row(node, 0) < edges:
        rows[node] = slice(edge_row(node, 0), edge_row(node + 1, 0))
        node += 1
    return rows
