"""Deeper networks from a searched one, without another search (D-DARTS, Algorithm 1)."""

from dataclasses import replace

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, thirds


def deepen(genotype: Genotype, cells: int) -> Genotype:
    """The genotype of a network of another depth, made of the same cells (D-DARTS section 4.3, Algorithm 1).

    Args:
        genotype: of any depth; with a `sequence`, at most two reductions.
        cells: number of cells of the new network, at least 1. If there are more than in the genotype, `derived` places
            them. Fewer are its first. As many: the result is the genotype itself.

    Returns:
        A genotype with the same distinct cells and a sequence of `cells`, whose reductions stand at a third and two
        thirds of it, rounded down. A genotype of two cells without a sequence fits any depth; it gets the sequence and
        the reductions that it has there.

    Raises:
        KdartsError: if `cells` is not a number from 1, or the genotype has more than two reductions, or stages.
    """
    if type(cells) is not int or cells < 1:
        raise KdartsError(f"cells {cells!r}: needs a whole number from 1")
    if genotype.stages:
        raise KdartsError("deepen: a genotype with stages fits any depth; say how many cells each stage has")
    if genotype.sequence is None:
        sequence, reductions = genotype.at_depth(cells)
    else:
        searched, reductions = genotype.at_depth(None)
        if cells == len(searched):
            return genotype
        if len(set(reductions)) > 2:
            places = sorted(set(reductions))
            raise KdartsError(f"deepen: the genotype has reductions at {places}; Algorithm 1 allows two at most")
        sequence = tuple(searched[place] for place in derived(len(searched), cells)[0])
        reductions = thirds(cells)
    name = genotype.name and f"{genotype.name}-{cells}"
    return replace(genotype, sequence=sequence, reductions=reductions, name=name)


def derived(searched: int, cells: int) -> tuple[tuple[int, ...], dict[str, int]]:
    """Which cell of the searched network stands at each position of the new one.

    With `|C|` cells searched, the algorithm takes those at `m = |C| // 3` and `m2 = 2|C| // 3` for the reductions and
    repeats each run of normal cells before, between and after them in the new network's run of the same place. It does
    so by the position in the network, not in the run: a run need not begin with its first cell. The paper's bounds
    "[0, n]" mean n positions.

    Where a run has no normal cell (|C| up to 4), the printed algorithm divides by zero. Here the nearest normal cell is
    repeated instead: the one with the fewest steps to a reduction that bounds the run, of equals the earlier. Where
    there is no normal cell at all (|C| up to 2), it is that reduction itself, of two the earlier.

    Args:
        searched: cells of the searched network, |C|.
        cells: cells of the new one; up to |C| they are the first.

    Returns:
        The positions, and for each run ("before", "between" or "after" the reductions) that had no cell of its own and
        is not empty in the new network, the position that is repeated there.
    """
    if cells <= searched:
        return tuple(range(cells)), {}
    first, second = searched // 3, 2 * searched // 3
    new_first, new_second = cells // 3, 2 * cells // 3
    runs = {
        "before": (range(first), range(new_first), (first,)),
        "between": (range(first + 1, second), range(new_first + 1, new_second), (first, second)),
        "after": (range(second + 1, searched), range(new_second + 1, cells), (second,)),
    }
    places, reused = {new_first: first, new_second: second}, {}
    for name, (own, new, bounds) in runs.items():
        if not own and new:
            reused[name] = _nearest(searched, (first, second), bounds)
            own = (reused[name],)
        places |= {i: own[i % len(own)] for i in new}
    return tuple(places[i] for i in range(cells)), reused


def _nearest(searched: int, reductions, bounds) -> int:
    """The normal cell nearest to one of `bounds`, the earlier of equals; the first of `bounds` if there is none."""
    normal = [place for place in range(searched) if place not in reductions]
    return min(normal, key=lambda place: min(abs(place - bound) for bound in bounds), default=bounds[0])
