"""Where a cell's skip connections are worth most, as measured along shared paths.

How strong a skip connection is in the mixture says little of what it is worth in the network, where an edge has one
operation and a skip connection is the way around all others. So each edge is left with two, its best other operation
and a skip connection, these paths are trained with shared weights and fairly (DARTS-PD section 3.2), and the places are
compared by the loss along their paths.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import SKIPS
from kdarts.genotypes.path_space import PathSpace
from kdarts.nets.spaces import SearchSpace
from kdarts.search.evolution import Path
from kdarts.search.prune import soft_prune


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
