"""Deepening: Algorithm 1 of D-DARTS, row by row, and what is done where it divides by zero."""

import dataclasses

import pytest

import kdarts
from kdarts.genotypes.deepen import deepen, derived
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, get_genotype, thirds


def _searched(count, reductions=None) -> Genotype:
    """A network of `count` cells, each of which another operation tells from the others."""
    cells = tuple(((f"operation_{i}", 2, 0), ("skip_connect", 2, 1)) for i in range(count))
    return Genotype(cells, ((2,),) * count, thirds(count) if reductions is None else reductions, range(count))


def _printed(count, n):
    """Algorithm 1 as it is printed; None where it divides by zero."""
    m, m2 = count // 3, 2 * count // 3
    if n <= count:
        return list(range(n))
    found = []
    try:
        for i in range(n):
            if i < n // 3:
                found.append(i % m)
            elif i == n // 3:
                found.append(m)
            elif i < 2 * n // 3:
                found.append(i % (m2 - 1 - m) + m + 1)
            elif i == 2 * n // 3:
                found.append(m2)
            else:
                found.append(i % (count - 1 - m2) + m2 + 1)
    except ZeroDivisionError:
        return None
    return found


def test_every_published_row_comes_out_as_the_paper_prints_it(golden):
    rows = golden("ddarts_alg1.json")["rows"]
    assert len(rows) == 22 and sum(row["paper"] is not None for row in rows) >= 15
    for row in rows:
        deeper = deepen(_searched(row["C"]), row["n"])
        assert len(deeper.sequence) == row["n"]
        reductions = "reductions_small_floor" if row["n"] == row["C"] else "reductions_target_floor"
        assert deeper.reductions == tuple(row[reductions]), row
        if row["paper"] is not None:
            assert list(deeper.sequence) == row["paper"] == _printed(row["C"], row["n"])


def test_the_printed_algorithm_fails_where_it_was_found_to_fail_and_nowhere_else(golden):
    failures = golden("ddarts_alg1.json")["failures"]
    for count in range(1, 14):
        failing = [n for n in range(1, 61) if _printed(count, n) is None]
        assert failing == failures[str(count)]["paper_fails_for_n"]


@pytest.mark.parametrize("count", range(1, 14))
def test_every_depth_has_its_reductions_and_its_cells(count):
    searched = _searched(count)
    m, m2 = thirds(count) if count > 1 else (0, 0)
    for n in range(1, 61):
        deeper = deepen(searched, n)
        sequence, reductions = deeper.at_depth(None)
        assert deeper.cells == searched.cells and deeper.concats == searched.concats
        assert len(sequence) == n and set(sequence) <= set(range(count)) and reductions == thirds(n)
        printed = _printed(count, n)
        places, reused = derived(count, n)
        assert places == sequence and (not reused if printed else reused)
        if printed:
            assert list(sequence) == printed
        elif count > 2:
            # Reductions stand at reductions only, and cells whose run has some stand where the paper has them.
            assert [i for i, cell in enumerate(sequence) if cell in (m, m2)] == list(reductions)
            assert all(cell < m for cell in sequence[: n // 3])
            assert count == 3 or set(sequence[2 * n // 3 + 1 :]) <= set(range(m2 + 1, count))
            assert set(reused) <= {"between", "after"}


def test_runs_without_a_normal_cell_repeat_the_nearest():
    assert derived(4, 8) == ((0, 0, 1, 0, 0, 2, 3, 3), {"between": 0})  # 0 and 3 are as near; the earlier
    assert derived(3, 6) == ((0, 0, 1, 0, 2, 0), {"between": 0, "after": 0})
    assert derived(2, 6) == ((0, 0, 0, 0, 1, 1), {"before": 0, "between": 0, "after": 1})
    assert derived(1, 4) == ((0, 0, 0, 0), {"before": 0, "after": 0})
    assert derived(1, 2) == ((0, 0), {}) and derived(5, 8)[1] == {}


def test_the_same_depth_is_the_same_genotype_whatever_its_reductions():
    for reductions in (None, (2, 6), (), (1, 2, 3)):
        searched = dataclasses.replace(_searched(8), reductions=reductions)
        assert deepen(searched, 8) is searched


def test_fewer_cells_are_the_first_with_reductions_at_thirds():
    deeper = deepen(_searched(8, (2, 6)), 6)
    assert deeper.sequence == (0, 1, 2, 3, 4, 5) and deeper.reductions == (2, 4)


def test_a_sequence_that_repeats_cells_is_composed():
    searched = Genotype(_searched(3).cells, ((2,),) * 3, (2, 5), (0, 0, 1, 2, 2, 1, 0, 2))
    deeper = deepen(searched, 14)
    assert deeper.cells == searched.cells
    assert deeper.sequence == tuple(searched.sequence[c] for c in (0, 1, 0, 1, 2, 4, 3, 4, 3, 5, 6, 7, 6, 7))
    assert deepen(dataclasses.replace(searched, reductions=None), 14) == deeper


def test_two_cells_have_at_any_depth_what_they_had():
    darts = get_genotype("DARTS_V2")
    for n in (1, 2, 5, 20):
        deeper = deepen(darts, n)
        assert deeper.at_depth(None) == darts.at_depth(n) and deeper.cells == darts.cells
        assert deeper.name == f"DARTS_V2-{n}"


def test_dd_4_has_fourteen_cells():
    deeper = kdarts.deepen(kdarts.Genotype.load("DD-4"), 14)
    assert deeper.sequence == (0, 1, 0, 1, 2, 4, 3, 4, 3, 5, 6, 7, 6, 7) and deeper.reductions == (4, 9)
    of_the_file = deepen(get_genotype("D-DARTS_threshold_edge_abl0.5_fair7_cifar100_0.85_50"), 14)
    assert of_the_file.named("") == deeper.named("")


def test_what_algorithm_1_does_not_know_is_refused():
    for n in (4, 20):
        with pytest.raises(KdartsError, match=r"reductions at \[1, 2, 3\]; Algorithm 1 allows two at most") as caught:
            deepen(_searched(8, (1, 2, 3)), n)
        assert "\n" not in str(caught.value)
    for n in (0, -3, 2.0, "14", None, True):
        with pytest.raises(KdartsError, match="needs a whole number from 1"):
            deepen(_searched(8), n)
