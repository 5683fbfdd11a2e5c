"""Which paths the evolution looks at next (SPOS, Guo et al. 2020, section 3.4; DARTS-PD's third stage)."""

from collections.abc import Callable

import numpy as np

from kdarts.genotypes.path_space import PathSpace

Path = tuple[int, ...]

MUTATION = 0.1
"""Probability that a mutation draws a gene anew."""

_TRIES = 10
"""How often as many candidates are drawn as are wanted, at most."""


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
