"""P-DARTS' derivation against the authors' code, and what it does where they leave no doubt."""

import numpy as np
import pytest

from kdarts.search.schedules import SkipDropout
from kdarts.search.selection import discretize, select
from kdarts.search.stages import narrow
from kdarts.supernet.spaces import get_space

DARTS = get_space("darts")
KINDS = "normal", "reduce"


def _shares(alphas, there):
    """Softmax over what an edge has, 0 elsewhere."""
    there, weights = np.array(there), np.zeros(np.shape(there))
    alphas = np.exp(np.array(alphas))
    weights[there] = (alphas / alphas.sum(1, keepdims=True)).ravel()
    return weights


def _stages(golden, number):
    cases = [case["stages"][number] for case in golden("pdarts_parse.json")["cases"]]
    assert len(cases) == 6
    for case in cases:
        there = [np.array(case[f"switches_{kind}_before"]) for kind in KINDS]
        yield case, [_shares(case[f"alphas_{kind}"], t) for kind, t in zip(KINDS, there, strict=True)], there


@pytest.mark.parametrize("number, operations", [(0, 5), (1, 3)])
def test_the_papers_code_keeps_the_same_operations_for_the_next_stage(golden, number, operations):
    for case, weights, before in _stages(golden, number):
        for kind, given, there in zip(KINDS, weights, before, strict=True):
            after = narrow(given, there, operations)
            assert after.dtype == bool and np.array_equal(after, case[f"switches_{kind}_after"])


def test_the_papers_code_finds_the_same_cells_at_any_number_of_skips(golden):
    compared = 0
    for case, weights, _ in _stages(golden, 2):
        for skips, expected in [(None, case["genotype_unrestricted"]), *case["genotype_by_max_skip"].items()]:
            found = discretize(weights, DARTS, "progressive", max_skips=None if skips is None else int(skips))
            for cell, concat, kind in zip(found.cells, found.concats, KINDS, strict=True):
                assert [[op, source] for op, _, source in cell] == expected[kind], (case["alphas_normal"][0], skips)
                assert [to for _, to, _ in cell] == [2 + i // 2 for i in range(8)]
                assert list(concat) == expected[f"{kind}_concat"]
            compared += 1
    assert compared == 34


def test_of_equal_operations_the_later_stays():
    weights, there = np.full((2, 5), 0.2), np.array([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0]], bool)
    assert narrow(weights, there, 2).tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 0]]
    assert np.array_equal(narrow(weights, there, 5), there)  # no more than there are
    weights[0, 0] = 0.3
    assert narrow(weights, there, 2)[0].tolist() == [1, 0, 0, 0, 1]


def test_of_equal_edges_the_later_is_chosen_and_inputs_are_listed_in_order():
    cell = select(np.full((14, 8), 1 / 8), DARTS.operations, None)
    assert cell == [("dil_conv_5x5", to, source) for to in range(2, 6) for source in (to - 2, to - 1)]


def _skipping(*shares):
    """A cell of which each edge has a skip connection with the given weight and a weak convolution."""
    weights = np.zeros((5, 8))
    weights[:, 4] = 0.1
    weights[:, 3] = shares
    return weights


def test_the_weakest_skip_gives_way_until_there_are_few_enough():
    weights = _skipping(0.5, 0.9, 0.7, 0.8, 0.6)

    def skips(most):
        return [source for op, _, source in select(weights, DARTS.operations, most) if op == "skip_connect"]

    assert skips(None) == skips(4) == [0, 1, 0, 1]
    # 0.5 goes first; then 0.7, after which its node takes the third edge, where 0.6 goes next, and then 0.8.
    assert skips(3) == [1, 0, 1] and skips(2) == [1, 1] and skips(1) == [1] and skips(0) == []
    cell = select(weights, DARTS.operations, 1)
    assert cell[0] == ("sep_conv_3x3", 2, 0) and [op for op, _, _ in cell].count("skip_connect") == 1


def test_an_edge_of_skip_and_none_alone_passes_its_input_on_however_few_are_allowed():
    weights = np.zeros((2, 8))
    weights[:, 0], weights[:, 3] = 0.9, 0.1
    assert select(weights, DARTS.operations, 0) == [("skip_connect", 2, 0), ("skip_connect", 2, 1)]
    weights[1, 3] = 0  # an edge of none alone
    assert select(weights, DARTS.operations, None) == [("skip_connect", 2, 0)]


@pytest.mark.parametrize(
    "reductions, sequence, restricted",
    [
        (None, None, [0]),
        (None, (0, 1, 2, 0), [0]),
        ((0,), (0, 1, 2, 1), [1, 2]),
        ((), (0, 1, 2), [0, 1, 2]),
        ((0,), (0, 1, 0), [0, 1]),
    ],
)
def test_normal_cells_alone_have_few_skips(reductions, sequence, restricted):
    cells = 2 if sequence is None else max(sequence) + 1
    weights = _skipping(0.5, 0.9, 0.7, 0.8, 0.6)
    found = discretize([weights] * cells, DARTS, "progressive", 0.85, reductions, sequence, 2, max_skips=1)
    counts = [sum(op == "skip_connect" for op, _, _ in cell) for cell in found.cells]
    assert counts == [1 if index in restricted else 4 for index in range(cells)]
    assert found.skip_connects() == sum(counts)


def test_skip_dropout_follows_the_papers_code(golden):
    table = golden("pdarts_dropout.json")
    for rate, expected in zip((0.0, 0.4, 0.7), table["schedule_for_p0_0_0.4_0.7"].values(), strict=True):
        schedule = SkipDropout(rate, 25, 10)
        assert [schedule(epoch) for epoch in range(25)] == pytest.approx(expected, rel=0, abs=1e-12)
        later = SkipDropout(rate, 25, 10, begin=3)
        assert [later(epoch) for epoch in range(28)] == [schedule(0)] * 3 + [schedule(epoch) for epoch in range(25)]


def test_skip_dropout_without_a_warm_up_decays_from_the_start():
    assert [SkipDropout(0.5, 4)(epoch) for epoch in range(3)] == pytest.approx([0.5, 0.40937, 0.33516], abs=1e-5)
