"""A cell of a genotype as data: its edges, its outputs, and what is well-formed."""

from kdarts.genotypes.errors import KdartsError

Edge = tuple[str, int, int]
"""`(operation, to, from)`; nodes 0 and 1 are a cell's inputs, 2 and on its intermediate nodes."""

LAST_NODE = 1001  # the 1000th intermediate node


def rows(value, what: str):
    """`value`, if it is a list of lists; raises `KdartsError` naming `what` otherwise."""
    if not isinstance(value, list | tuple) or any(not isinstance(row, list | tuple | range) for row in value):
        raise KdartsError(f"genotype: {what} must be a list of lists")
    return value


def integers(value, what: str) -> tuple[int, ...]:
    """`value` as a tuple, if it is a list of whole numbers; raises `KdartsError` naming `what` otherwise."""
    if not isinstance(value, list | tuple | range) or any(type(i) is not int for i in value):
        raise KdartsError(f"genotype: {what} must be a list of whole numbers, got {value!r}")
    return tuple(value)


def edge_of(edge, where: str) -> Edge:
    """`edge` as a tuple; raises `KdartsError` saying `where` it stands if it is no `(operation, to, from)`."""
    if not isinstance(edge, list | tuple) or len(edge) != 3:
        raise KdartsError(f"genotype: {where} must be [operation, to, from], got {edge!r}")
    operation, to, source = edge
    if not isinstance(operation, str) or type(to) is not int or type(source) is not int:
        raise KdartsError(f"genotype: {where} must be [operation, to, from], got {edge!r}")
    if not 0 <= source < to or to < 2:
        raise KdartsError(f"genotype: {where} goes from node {source} to node {to}; needs 0 <= from < to and to >= 2")
    if to > LAST_NODE:
        raise KdartsError(f"genotype: {where} leads to node {to}; allowed are 2 to {LAST_NODE}")
    return operation, to, source


def reached_in(cell) -> set[int]:
    """The nodes that edges lead to from the cell's inputs, and these."""
    reached = {0, 1}
    for _, to, source in sorted(cell, key=lambda edge: edge[1]):  # edges lead to higher nodes only
        if source in reached:
            reached.add(to)
    return reached


def check_concat(index: int, concat) -> None:
    """Raises `KdartsError` if cell number `index` cannot have these outputs."""
    if not concat:
        raise KdartsError(f"genotype: concats[{index}] is empty; a cell needs an output")
    for node in concat:
        if not 0 <= node <= LAST_NODE:
            raise KdartsError(f"genotype: concats[{index}] names node {node}; allowed are 0 to {LAST_NODE}")
    if len(set(concat)) < len(concat):
        raise KdartsError(f"genotype: concats[{index}] names a node twice: {list(concat)}")
