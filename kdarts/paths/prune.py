"""Choices among paths: soft pruning, the evolution of paths, and the places of skip connections.

- Soft pruning keeps several operations on each of a cell's edges of largest weight (DARTS-PD, section 3.2).
- The evolution finds the best path of each size (SPOS, Guo et al. 2020, section 3.4; DARTS-PD's third stage).
- The weight of a skip connection does not predict how useful it is in the network, where each edge has one operation.
  So each edge keeps its best other operation and a skip connection, and the places are compared by the loss along their
  paths.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import SKIPS
from kdarts.genotypes.path_space import PathSpace
from kdarts.ops.cost import UNITS
from kdarts.search.selection import discretize
from kdarts.supernet.spaces import SearchSpace

Path = tuple[int, ...]


def soft_prune(
    probabilities, space: SearchSpace, kept: int = 2, reductions=None, multiplier: int | None = None
) -> PathSpace:
    """The best operations on each edge that DARTS' rule keeps (DARTS-PD section 3.2, "soft pruning").

    Args:
        probabilities: mixing weights `[edges, operations]` of the normal and of the reduction cell, or in a space with
            stages, where every edge is kept, of its cell; where edges have weights of their own (PC-DARTS), multiplied
            by those, which changes the choice of edges alone.
        space: names the operations.
        kept: k, operations on each edge: 1 to the space's; `none` is not one of them.
        reductions, multiplier: as of `discretize`.

    Returns:
        The path space, the edge of a node and the operation of an edge with the larger weight first; equal ones by the
        lower number.
    """
    check_kept(kept, space)
    if len(probabilities) != (1 if space.stages else 2):
        needed = "one set of weights" if space.stages else "two sets of weights, the normal and the reduction cell's"
        raise KdartsError(f"paths need {needed}; got {len(probabilities)}")
    genotype = discretize(probabilities, space, "darts", reductions=reductions, multiplier=multiplier)
    names = [name for name in space.operations if name != "none"]
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


def check_kept(kept: int, space: SearchSpace) -> None:
    """Raises `KdartsError` if `space` has not `kept` operations to keep on an edge, besides `none`."""
    most = len({*space.operations} - {"none"})
    if not 1 <= kept <= most:
        raise KdartsError(f"paths {kept}: space {space.name!r} allows 1 to {most} operations on an edge")


def skip_paths(probabilities, space: SearchSpace, reductions=None, multiplier: int | None = None) -> PathSpace:
    """The paths of which each has a skip connection, or not, on every edge of the normal cell (see `soft_prune`).

    The edges of the normal cell are those that its other operations alone keep, each with the best of these and a skip
    connection. The reduction cell, if any, has two operations on each edge, as after soft pruning.
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

    `space` is one of `skip_paths`, and `measure` gives the loss along a path. There are at most as many as edges. Of
    places of equal loss, that on the earlier edge counts.
    """
    path, edges = (0,) * space.edges, len(space.cells[0])
    for _ in range(min(count, edges)):
        free = [edge for edge in range(edges) if path[edge] == 0]
        candidates = [tuple(int(k == edge) or path[k] for k in range(space.edges)) for edge in free]
        path = min(candidates, key=measure)
    return path


PARENTS = 5
"""One of so many candidates of a generation may be a parent of the next: the ten best at a population of fifty."""

MUTATION = 0.1
"""Probability that a mutation draws a gene anew."""

_TRIES = 10
"""How often as many candidates are drawn as are wanted, at most."""


class Evolution:
    """Chooses the paths that are measured next, from its arguments and the accuracies so far alone.

    Args:
        space: the possible paths.
        population, generations: candidates of a generation, and number of generations, the first of which is random.
        seed: 0 to 2**32 - 1.
        allowed: whether a path is within the budget.

    Attributes:
        limit: the most candidates in all.
    """

    def __init__(self, space: PathSpace, population: int, generations: int, seed: int, allowed: Callable[[Path], bool]):
        self.space, self.population, self.seed, self._allowed = space, population, seed, allowed
        self.limit, self._generation = population * generations, 0

    def next_round(self, measured: list[tuple[Path, float]]) -> list[Path]:
        """The next generation, from every path `measured` before and its accuracy, in order; [] if no path is left."""
        best = sorted(measured, key=lambda pair: -pair[1])[: max(1, self.population // PARENTS)]
        random = np.random.RandomState([self.seed, self._generation])
        parents, seen = [path for path, _ in best], {path for path, _ in measured}
        new = new_generation(self.space, parents, self.population, seen, self._allowed, random)
        self._generation += bool(new)
        return new


def new_generation(
    space: PathSpace, parents: list[Path], size: int, seen: set[Path], allowed: Callable[[Path], bool], random
) -> list[Path]:
    """New candidates: half of them mutated parents, half crossed ones, the rest random. Without parents all are random.

    They are not in `seen`, to which they are added, and are `allowed`. `random` is a `RandomState`. There are at most
    `size`, and fewer where new ones are rare: each of the three ways gives up after ten times as many draws as the
    number of candidates that it should give.
    """
    found: list[Path] = []

    def add(draw, count):
        wanted = len(found) + count
        for _ in range(_TRIES * count):
            if len(found) == wanted:
                return
            path = tuple(map(int, draw()))
            if path not in seen and allowed(path):
                seen.add(path)
                found.append(path)

    def anew():
        return random.randint(0, space.kept, space.edges)

    def parent():
        return np.array(parents[random.randint(len(parents))])

    def mutated():
        return np.where(random.random_sample(space.edges) < MUTATION, anew(), parent())

    def crossed():
        return np.where(random.random_sample(space.edges) < 0.5, parent(), parent())

    if parents:
        add(mutated, size // 2)
        add(crossed, size // 2)
    add(anew, size - len(found))
    return found


def family_of(candidates: list[dict], bin_width: float, per_bin: int, size_by: str = "params") -> list[dict]:
    """The best candidates of each size bin (DARTS-PD: "architectures with different parameter sizes at one time").

    Candidates have `accuracy`, and their size under the name `size_by`, one of `UNITS`. Bin `i` holds sizes from `i` to
    below `i + 1` times `bin_width`, in its unit. The rows come from the smallest bin on, at most `per_bin` of each, the
    best first (see `ranked`). They also have a `name`, and `from` and `to`, their bin.
    """
    width, bins = bin_width * UNITS[size_by], {}
    for row in candidates:
        bins.setdefault(int(row[size_by] // width), []).append(row)
    family = []
    for number, rows in sorted(bins.items()):
        best = ranked(rows, size_by)[:per_bin]
        bounds = [round(end * width, 0 if width >= 1 else 9) for end in (number, number + 1)]
        bounds = dict(zip(("from", "to"), map(int, bounds) if UNITS[size_by] > 1 else bounds, strict=True))
        family += [{"name": f"size{number:03d}-{rank}", **bounds, **row} for rank, row in enumerate(best, 1)]
    return family


def usual_width(largest: float) -> float:
    """The width of the bins where none is given: a sixteenth of the largest size, made 1, 2 or 5 times a power of ten.

    Of these it is the nearest by its ratio: 0.2 for DARTS' networks of about 4 million weights.
    """
    exact = math.log10(largest / 16)
    steps = [math.floor(exact) + math.log10(step) for step in (1, 2, 5, 10)]
    return float(f"{10 ** min(steps, key=lambda step: abs(step - exact)):.0e}")


def ranked(rows: list[dict], size_by: str = "params") -> list[dict]:
    """Candidates, the best first; of equally accurate ones the smaller, then the earlier."""
    return sorted(rows, key=lambda row: (-row["accuracy"], row[size_by]))
