"""The architecture strings of NAS-Bench-201 (Dong and Yang, ICLR 2020).

`|op~0|+|op~0|op~1|+|op~0|op~1|op~2|` names, node after node, the operation on the edge from each node before it; node 0
is the cell's input. In a genotype that is node 1 and those that follow are 2, 3, ..., of which the last is the output.
"""

import re

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype

STAGES = 3
"""Runs of equal cells in the benchmark's networks."""

_ENTRY = re.compile(r"([A-Za-z_]\w*)~(\d{1,3})")


def read_architecture(text: str) -> Genotype:
    """The genotype of an architecture string, of any number of nodes and operations of any name.

    Raises:
        KdartsError: if it is no such string.
    """
    edges = []
    for number, group in enumerate(text.strip().split("+"), 1):
        entries = [_ENTRY.fullmatch(entry) for entry in group[1:-1].split("|")]
        framed = len(group) > 2 and group[0] == group[-1] == "|"
        if not framed or not all(entries) or [int(entry[2]) for entry in entries] != list(range(number)):
            form = "|".join(f"operation~{source}" for source in range(number))
            raise KdartsError(f"architecture string: {group[:80]!r} where |{form}| should stand, for node {number}")
        edges += [(entry[1], number + 1, source + 1) for source, entry in enumerate(entries)]
    return Genotype((tuple(edges),), ((edges[-1][1],),), stages=STAGES)


def architecture_text(genotype: Genotype) -> str:
    """The architecture string of a genotype, `none` where an edge has no operation.

    Raises:
        KdartsError: if it has none: cells of two inputs, more than one distinct cell, two operations on an edge, or an
            output other than the last node.
    """
    if genotype.stages is None or len(genotype.cells) != 1:
        raise KdartsError("no architecture string: it is for one cell of one input (space nasbench201)")
    (cell,), ((*others, last),) = genotype.cells, genotype.concats
    found = {(to, source): operation for operation, to, source in cell}
    if len(found) < len(cell) or others or any(to > last for to, _ in found):
        raise KdartsError("no architecture string: it has one operation on an edge, and the last node is the output")
    groups = [
        [f"{found.get((to, source), 'none')}~{source - 1}" for source in range(1, to)] for to in range(2, last + 1)
    ]
    return "+".join(f"|{'|'.join(group)}|" for group in groups)
