"""Which paths the evolution looks at next (SPOS, Guo et al. 2020, section 3.4; DARTS-PD's third stage).

The best of an evolution's candidates at every size.
"""

import pathlib
from collections.abc import Callable

import numpy as np

from kdarts.genotypes.path_space import PathSpace
from kdarts.training.files import write_table

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


def write_family(folder: pathlib.Path, space: PathSpace, rows: list[dict], paths: dict[int, Path]) -> None:
    """Writes each network of a family as a genotype, `NAME.json`, and the table of them, `family.csv`, at the end.

    Args:
        folder: where to.
        space: what the paths are in.
        rows: as of `family_of`, each with a `candidate`.
        paths: by candidate.
    """
    for row in rows:
        space.genotype(paths[row["candidate"]]).named(row["name"]).save(folder / f"{row['name']}.json")
    write_table(folder / "family.csv", rows)
