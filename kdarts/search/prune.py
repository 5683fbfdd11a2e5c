"""Soft pruning: several operations on each of a cell's strongest edges, where a discretisation keeps one."""

import numpy as np

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.path_space import PathSpace
from kdarts.nets.spaces import SearchSpace
from kdarts.search.discretize import discretize


def soft_prune(
    probabilities,
    space: SearchSpace,
    kept: int = 2,
    none: bool = False,
    reductions=None,
    multiplier: int | None = None,
) -> PathSpace:
    """The best operations on each edge that DARTS' rule keeps (DARTS-PD section 3.2, "soft pruning").

    Args:
        probabilities: weights after mixing `[edges, operations]` of the normal and of the reduction cell, or in a space
            with stages, where every edge is kept, of its cell; where edges have weights of their own (PC-DARTS),
            multiplied by those, which changes the choice of edges alone.
        space: names the operations.
        kept: k, operations on each edge: 1 to the space's, `none` not counted.
        none: whether `none` may be one of them; no edge is kept for its sake.
        reductions, multiplier: as of `discretize`.

    Returns:
        The path space, the stronger edge of a node and the stronger operation of an edge first; equal ones by the lower
        number.

    Raises:
        KdartsError: if there are not so many sets of weights, they do not fit the space, or `kept` is out of range.
    """
    check_kept(kept, space, none)
    if len(probabilities) != (1 if space.stages else 2):
        needed = "one set of weights" if space.stages else "two sets of weights, the normal and the reduction cell's"
        raise KdartsError(f"paths need {needed}; got {len(probabilities)}")
    genotype = discretize(probabilities, space, "darts", reductions=reductions, multiplier=multiplier)
    names = _columns(space, none)
    columns = [space.operations.index(name) for name in names]
    cells = []
    for cell, weights in zip(genotype.cells, probabilities, strict=True):
        weights, slots = np.asarray(weights, np.float64), []
        for _, to, source in cell:
            row = weights[edge_row(to, source, space.inputs), columns]
            best = np.argsort(-row, kind="stable")[:kept]
            slots.append((to, source, tuple(names[i] for i in best)))
        cells.append(tuple(slots))
    return PathSpace(tuple(cells), genotype.concats, genotype.reductions, space.stages)


def check_kept(kept: int, space: SearchSpace, none: bool = False) -> None:
    """Raises `KdartsError` if `space` has not `kept` operations to keep on an edge."""
    most = len(_columns(space, none))
    if not 1 <= kept <= most:
        raise KdartsError(f"paths {kept}: space {space.name!r} allows 1 to {most} operations on an edge")


def _columns(space: SearchSpace, none: bool) -> list[str]:
    return [name for name in space.operations if none or name != "none"]
