"""Soft pruning: several operations on each of a cell's strongest edges, where a discretisation keeps one.

Where a cell's skip connections are worth most, as measured along shared paths.

How strong a skip connection is in the mixture says little of what it is worth in the network, where an edge has one
operation and a skip connection is the way around all others. So each edge is left with two, its best other operation
and a skip connection, these paths are trained with shared weights and fairly (DARTS-PD section 3.2), and the places are
compared by the loss along their paths.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import SKIPS
from kdarts.genotypes.path_space import PathSpace
from kdarts.paths.evolution import Path
from kdarts.search.selection import discretize
from kdarts.supernet.spaces import SearchSpace


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


def skip_paths(probabilities, space: SearchSpace, reductions=None, multiplier: int | None = None) -> PathSpace:
    """The paths of which each has a skip connection, or not, on every edge of the normal cell.

    Args:
        probabilities, space, reductions, multiplier: as of `soft_prune`.

    Returns:
        Of the normal cell the edges that its other operations alone keep, each with the best of these and a skip
        connection; of the reduction cell, if any, what soft pruning to two leaves.

    Raises:
        KdartsError: if the space has no skip connection or nothing else, and as of `soft_prune`.
    """
    check_skips(space)
    [skip] = [name for name in space.operations if name in SKIPS]
    normal = np.array(probabilities[0], np.float64)
    normal[:, space.operations.index(skip)] = -1  # Less than any weight.
    pruned = soft_prune([normal, *probabilities[1:]], space, 2, reductions=reductions, multiplier=multiplier)
    slots = tuple((to, source, (names[0], skip)) for to, source, names in pruned.cells[0])
    return dataclasses.replace(pruned, cells=(slots, *pruned.cells[1:]))


def check_skips(space: SearchSpace) -> None:
    """Raises `KdartsError` if `space` has not one skip connection and another operation."""
    skips = [name for name in space.operations if name in SKIPS]
    if len(skips) != 1 or not set(space.operations) - {"none", *skips}:
        raise KdartsError(f"space {space.name!r}: to place skip connections needs one, and another operation")


def best_places(space: PathSpace, count: int, measure: Callable[[Path], float]) -> Path:
    """Places skip connections in the normal cell, one after another, each where the loss is least.

    The loss, and not the accuracy, as it tells paths apart by fewer images: where a training is short most of them are
    still classified wrongly.

    Args:
        space: as of `skip_paths`.
        count: how many, 1 or more; as many as there are edges at most.
        measure: gives the loss along a path.

    Returns:
        The path with all of them; of equal losses the earlier edge's counts.
    """
    path, edges = (0,) * space.edges, len(space.cells[0])
    for _ in range(min(count, edges)):
        free = [edge for edge in range(edges) if path[edge] == 0]
        candidates = [tuple(int(k == edge) or path[k] for k in range(space.edges)) for edge in free]
        path = min(candidates, key=measure)
    return path
