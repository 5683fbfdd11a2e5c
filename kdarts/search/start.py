"""Where a search starts that improves a network: α from a genotype (DARTOpti; D-DARTS, section 4.4)."""

import numpy as np

from kdarts.genotypes.edges import edge_count, edge_row, topology_text
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.supernet.spaces import SearchSpace, get_space
from kdarts.supernet.supernet import Supernet

PRESENT, ABSENT = 10.0, 0.0
"""α of an operation that stands on an edge and of one that does not: after a sigmoid 0.99995 and an undecided 0.5, as
in the authors' code."""


def alphas_from(genotype: Genotype, space: SearchSpace | str, nodes: int | None = None) -> list[np.ndarray]:
    """What α must be for a search to start from `genotype`; `discretize` of its sigmoid gives the genotype back.

    What comes back is the same but for the order of its edges and an operation that an edge has twice, with the rule
    "complete", or with "edge" where no edge has more than two operations. Outputs are the rule's, the last nodes.

    Args:
        genotype: a start of any origin.
        space: a `SearchSpace` or the name of one, with every operation of the genotype.
        nodes: intermediate nodes of a cell; None: the space's, or as many as the genotype's edges lead to if those are
            more.

    Returns:
        For each distinct cell `[edges, operations]`, float32, edges node by node, operations in the space's order:
        10 where the genotype has the operation, 0 elsewhere.

    Raises:
        KdartsError: if the space lacks an operation, its cells have other inputs, or a cell has too few nodes.
    """
    space = get_space(space) if isinstance(space, str) else space
    lacking = [name for name in genotype.operations if name not in space.operations]
    if lacking:
        raise KdartsError(f"space {space.name!r} lacks {', '.join(lacking)}; it has {', '.join(space.operations)}")
    if genotype.stages != space.stages:
        raise KdartsError(f"start: space {space.name!r} has cells of {space.inputs} inputs, the genotype others")
    nodes = nodes or max(space.nodes, genotype.nodes)
    if nodes < genotype.nodes:
        raise KdartsError(f"nodes {nodes}: the genotype has {genotype.nodes}")
    alphas = []
    for cell in genotype.cells:
        alpha = np.full((edge_count(nodes, space.inputs), len(space.operations)), ABSENT, np.float32)
        for operation, to, source in cell:
            alpha[edge_row(to, source, space.inputs), space.operations.index(operation)] = PRESENT
        alphas.append(alpha)
    return alphas


def start_from(supernet: Supernet, genotype: Genotype) -> None:
    """Sets the α of a supernet to a genotype.

    Raises:
        KdartsError: if the depth or the reductions differ, if cells share an α that differ in the genotype, if a cell
            ends before the supernet's outputs, if an edge is not in the supernet's topology, or as of `alphas_from`.
    """
    sequence, reductions = genotype.at_depth(supernet.depth)
    if tuple(sorted(reductions)) != tuple(supernet.reductions):
        raise KdartsError(
            f"start: its reductions are at {sorted(reductions)}, the supernet's at {list(supernet.reductions)}"
        )
    cells = {}
    for index, cell in zip(supernet.sequence, sequence, strict=True):
        if cells.setdefault(index, cell) != cell:
            raise KdartsError(f"start: cells {cells[index]} and {cell} differ, but the supernet has one α for both")
    values = alphas_from(genotype, supernet.space, supernet.nodes)
    first = supernet.nodes + 2 - supernet.multiplier
    for number, (cell, concat) in enumerate(zip(genotype.cells, genotype.concats, strict=True)):
        ends = {to for _, to, _ in cell} & set(concat)
        if ends and max(ends) < first:
            raise KdartsError(
                f"start: cell {number} ends at node {max(ends)}, but the supernet's output begins at node {first}"
            )
    rows = [edge_row(to, source, supernet.space.inputs) for to, source in supernet.edges]
    if any(np.delete(value, rows, 0).any() for value in values):
        raise KdartsError(f"start: has edges that the topology {topology_text(supernet.topology)} leaves out")
    for index, cell in cells.items():
        supernet.alphas[index].assign(values[cell][rows])
