"""Searches that start from a genotype (D-DARTS section 4.4)."""

import numpy as np

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.nets.search_cell import edge_sources
from kdarts.nets.spaces import SearchSpace
from kdarts.nets.supernet import Supernet

PRESENT = 10.0
"""α of an operation that the start has: a sigmoid of 0.99995. The others are 0, a sigmoid of one half: undecided."""


def alphas_from(genotype: Genotype, space: SearchSpace, nodes: int) -> list[np.ndarray]:
    """α that stand for a genotype.

    Args:
        genotype: what to start from.
        space: names the columns.
        nodes: intermediate nodes of a cell; at least as many as the genotype has.

    Returns:
        For each distinct cell `[edges, operations]`, 10 where the genotype has the operation, else 0.

    Raises:
        KdartsError: if the space lacks an operation, or `nodes` are too few.
    """
    missing = [name for name in genotype.operations if name not in space.operations]
    if missing:
        raise KdartsError(f"start: space {space.name!r} has no {', '.join(missing)}; choose another --space")
    if nodes < genotype.nodes:
        raise KdartsError(f"start: its cells have {genotype.nodes} nodes, those of the supernet {nodes}")
    rows = {edge: row for row, edge in enumerate(edge_sources(nodes))}
    found = []
    for cell in genotype.cells:
        alpha = np.zeros((len(rows), len(space.operations)), np.float32)
        for operation, to, source in cell:
            alpha[rows[to, source], space.operations.index(operation)] = PRESENT
        found.append(alpha)
    return found


def start_from(supernet: Supernet, genotype: Genotype) -> None:
    """Sets the α of a supernet to a genotype.

    Raises:
        KdartsError: if the depth or the reductions differ, if cells share an α that differ in the genotype, or as of
            `alphas_from`.
    """
    sequence, reductions = genotype.at_depth(len(supernet.plan))
    if tuple(sorted(reductions)) != tuple(supernet.reductions):
        raise KdartsError(f"start: its reductions are at {list(reductions)}, the supernet's at {supernet.reductions}")
    values = alphas_from(genotype, supernet.space, supernet.nodes)
    cells = {}
    for index, cell in zip(supernet.sequence, sequence, strict=True):
        if cells.setdefault(index, cell) != cell:
            raise KdartsError(f"start: cells {cells[index]} and {cell} differ, but the supernet has one α for both")
    for index, cell in cells.items():
        supernet.alphas[index].assign(values[cell])
