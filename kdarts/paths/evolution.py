"""The evolution of paths (SPOS, Guo et al. 2020, section 3.4; DARTS-PD's third stage), and the best at every size."""

from collections.abc import Callable

import numpy as np

from kdarts.genotypes.path_space import PathSpace

Path = tuple[int, ...]

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
