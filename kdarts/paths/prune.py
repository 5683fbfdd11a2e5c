"""Choices among paths: soft pruning, the evolution of paths, and the places of skip connections.

- Soft pruning keeps several operations on each of a cell's strongest edges (DARTS-PD, section 3.2).
- The evolution finds the best path of each size (SPOS, Guo et al. 2020, section 3.4; DARTS-PD's third stage).
- The weight of a skip connection says little of its worth in the network, where each edge has one operation. So each
  edge keeps its best other operation and a skip connection, and the places are compared by the loss along their
  paths.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import SKIPS
from kdarts.genotypes.path_space import PathSpace
from kdarts.search.selection import discretize
from kdarts.supernet.spaces import SearchSpace

Path = tuple[int, ...]


def soft_prune(
    probabilities, space: SearchSpace, kept: int = 2, none: bool = False, reductions=None, multiplier: int | None = None
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


PARENTS = 5
"""One of so many candidates of a generation may be a parent of the next: the ten best at a population of fifty."""

MUTATION = 0.1
"""Probability that a mutation draws a gene anew."""

_TRIES = 10
"""How often as many candidates are drawn as are wanted, at most."""


class Evolution:
    """Says which paths are measured next; a round is a generation.

    What it says depends on its arguments and on the accuracies so far alone.

    Args:
        space: what a path may be.
        population: candidates of a generation.
        generations: how many, the first of which is random.
        seed: 0 to 2**32 - 1.
        allowed: whether a path is within the budget.

    Attributes:
        limit: the most candidates in all.
    """

    def __init__(self, space: PathSpace, population: int, generations: int, seed: int, allowed: Callable[[Path], bool]):
        self.space, self.population, self.seed, self._allowed = space, population, seed, allowed
        self.limit, self._generation = population * generations, 0

    def next_round(self, measured: list[tuple[Path, float]]) -> list[Path]:
        """The next generation, from the best paths so far; [] where no path is left.

        Args:
            measured: every path of the generations before and its accuracy, in their order.
        """
        best = sorted(measured, key=lambda pair: -pair[1])[: max(1, self.population // PARENTS)]
        random = np.random.RandomState([self.seed, self._generation])
        parents, seen = [path for path, _ in best], {path for path, _ in measured}
        new = new_generation(self.space, parents, self.population, seen, self._allowed, random)
        self._generation += bool(new)
        return new


def new_generation(
    space: PathSpace,
    parents: list[Path],
    size: int,
    seen: set[Path],
    allowed: Callable[[Path], bool],
    random: np.random.RandomState,
) -> list[Path]:
    """Candidates that were never looked at: half of them mutated parents, half crossed ones, the gap filled at random.

    Args:
        space: what a path may be.
        parents: the best paths so far; none for the first generation, which is random.
        size: wanted number of candidates.
        seen: paths looked at before; the new ones are added.
        allowed: whether a path is within the budget.
        random: drawn from in turn.

    Returns:
        At most `size` paths, fewer where what is left is hard to find: each of the three ways gives up after ten times
        as many draws as it was to give candidates.
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


def family_of(candidates: list[dict], bin_width: float, per_bin: int) -> list[dict]:
    """The best candidates of each size bin (DARTS-PD: "architectures with different parameter sizes at one time").

    Args:
        candidates: each with `accuracy` and `params`, in the order of their trials.
        bin_width: 10^6 weights, above 0; bin `i` holds sizes from `i` widths to below `i + 1`.
        per_bin: most of each bin.

    Returns:
        Their rows from the smallest bin on, the best of a bin first (see `ranked`), each with a `name`, and `from` and
        `to`, its bin in weights.
    """
    width, bins = bin_width * 1e6, {}
    for row in candidates:
        bins.setdefault(int(row["params"] // width), []).append(row)
    family = []
    for number, rows in sorted(bins.items()):
        best = ranked(rows)[:per_bin]
        bounds = {"from": round(number * width), "to": round((number + 1) * width)}
        family += [{"name": f"size{number:03d}-{rank}", **bounds, **row} for rank, row in enumerate(best, 1)]
    return family


def ranked(rows: list[dict]) -> list[dict]:
    """Candidates, the best first; of equally accurate ones the smaller, then the earlier."""
    return sorted(rows, key=lambda row: (-row["accuracy"], row["params"]))
