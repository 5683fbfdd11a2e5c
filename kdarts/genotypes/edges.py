"""The order of a cell's edges, one row of α each: node by node from node 2 on, sources ascending."""


def edge_row(to: int, source: int) -> int:
    """The row of the edge into node `to` from `source`; before it stand the 2 + 3 + ... edges of the nodes before."""
    return (to - 2) * (to + 1) // 2 + source


def node_rows(edges: int, inputs: int | None = None) -> dict[int, slice]:
    """For each node of a cell of so many edges, by its number, the rows of the edges that lead to it.

    Args:
        edges: of the cell.
        inputs: edges that lead to a node, where a topology keeps as many of each; None: one from every node before it.
    """
    rows, node, start = {}, 2, 0
    while start < edges:
        rows[node] = slice(start, start + (inputs or node))
        node, start = node + 1, rows[node].stop
    return rows
