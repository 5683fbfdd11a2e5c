"""Where a cell's skip connections are worth most, as measured along shared paths.

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
from kdarts.nets.spaces import SearchSpace
from kdarts.search.discretize import discretize
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
    pruned = soft_prune(probabilities, space, 2, reductions=reductions, multiplier=multiplier)
    [skip] = [name for name in space.operations if name in SKIPS]
    weights = np.array(probabilities[0], np.float64)
    weights[:, space.operations.index(skip)] = -1
    first = discretize([weights, *probabilities[1:]], space, "darts", reductions=reductions, multiplier=multiplier)
    others = [k for k, name in enumerate(space.operations) if name not in ("none", skip)]
    normal = []
    for _, to, source in first.cells[0]:
        best = others[int(weights[edge_row(to, source, space.inputs), others].argmax())]
        normal.append((to, source, (space.operations[best], skip)))
    return dataclasses.replace(pruned, cells=(tuple(normal), *pruned.cells[1:]))


def check_skips(space: SearchSpace) -> None:
    """Raises `KdartsError` if `space` has not one skip connection and another operation."""
    skips = [name for name in space.operations if name in SKIPS]
    if len(skips) != 1 or not set(space.operations) - {"none", *skips}:
        raise KdartsError(f"space {space.name!r}: to place skip connections needs one, and another operation")


def compare_places(space: PathSpace, count: int, measure: Callable[[Path], float]) -> list[tuple[Path, float]]:
    """Places skip connections in the normal cell, one after another, each where the loss is least.

    The loss, and not the accuracy, as it tells paths apart by fewer images: where a training is short most of them are
    still classified wrongly.

    Args:
        space: as of `skip_paths`.
        count: how many, 1 or more; as many as there are edges at most.
        measure: gives the loss along a path.

    Returns:
        Every path that was looked at and its loss, in order; `best_place` is what was found.
    """
    looked_at, path, edges = [], (0,) * space.edges, len(space.cells[0])
    for _ in range(min(count, edges)):
        free = [edge for edge in range(edges) if path[edge] == 0]
        found = [tuple(int(k == edge) or path[k] for k in range(space.edges)) for edge in free]
        losses = [measure(candidate) for candidate in found]
        looked_at += zip(found, losses, strict=True)
        path = found[int(np.argmin(losses))]
    return looked_at


def best_place(looked_at: list[tuple[Path, float]]) -> Path:
    """Of what `compare_places` looked at, the path with all skip connections and the least loss (the first)."""
    most = max(sum(path) for path, _ in looked_at)
    return min(((path, loss) for path, loss in looked_at if sum(path) == most), key=lambda pair: pair[1])[0]
