"""From mixing weights to a genotype: each rule against the papers' code, and against a slow statement of it."""

import numpy as np
import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.search.selection import discretize
from kdarts.supernet.spaces import SearchSpace, get_space

DARTS = get_space("darts")
EDGES = [(node, source) for node in range(2, 6) for source in range(node)]


def _softmax(alphas):
    shares = np.exp(np.asarray(alphas) - np.max(alphas, 1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def _random(seed, edges=14, operations=8):
    return _softmax(np.random.default_rng(seed).normal(size=(edges, operations)))


def _slow(weights, space=DARTS, nodes=4):
    """The rule, said one edge at a time: of each input its best operation, then the two best inputs."""
    cell, row = [], 0
    for node in range(2, 2 + nodes):
        arriving = []
        for source in range(node):
            shares = {op: w for op, w in zip(space.operations, weights[row], strict=True) if op != "none"}
            best = max(shares, key=shares.get)
            arriving.append((-shares[best], source, best))
            row += 1
        cell += [(best, node, source) for _, source, best in sorted(arriving)[:2]]
    return tuple(cell)


def test_the_papers_code_finds_the_same_genotypes_in_the_same_order(golden):
    table = golden("darts_parse.json")
    assert tuple(table["primitives"]) == DARTS.operations and len(table["cases"]) == 8
    for case in table["cases"]:
        shares = [_softmax(case[f"alphas_{kind}"]) for kind in ("normal", "reduce")]
        found = discretize(shares, DARTS, "darts")
        for cell, concat, kind in zip(found.cells, found.concats, ("normal", "reduce"), strict=True):
            expected = case["genotype"][kind]
            assert [[op, source] for op, _, source in cell] == expected, case["name"]
            assert [to for _, to, _ in cell] == [2 + i // 2 for i in range(len(expected))]
            assert list(concat) == case["genotype"][f"{kind}_concat"]
        assert found.sequence is found.reductions is None


@pytest.mark.parametrize("seed", range(20))
def test_each_node_keeps_its_two_strongest_inputs_the_stronger_first(seed):
    found = discretize([_random(seed), _random(seed + 100)], DARTS)
    assert found.cells == (_slow(_random(seed)), _slow(_random(seed + 100)))
    assert found.concats == ((2, 3, 4, 5),) * 2


def test_none_never_wins_but_its_share_lowers_its_edge():
    weights = np.full((14, 8), 0.05)
    weights[:, 4] = 0.3
    weights[0, 0], weights[4, 0], weights[4, 4] = 0.9, 0.9, 0.1
    found = discretize([weights, weights], DARTS).cells[0]
    assert all(operation == "sep_conv_3x3" for operation, _, _ in found)
    assert [source for _, _, source in found] == [0, 1, 0, 1, 0, 1, 0, 1]
    alphas = np.zeros((14, 8))
    alphas[:, 4], alphas[0, 0], alphas[2, 0] = 1.0, 5.0, 5.0  # none takes its edge's share away
    found = discretize([_softmax(alphas)] * 2, DARTS).cells[0]
    assert [source for _, _, source in found[:4]] == [1, 0, 1, 2]


def test_equal_edges_and_equal_operations_go_to_the_lower_number():
    equal = np.full((14, 8), 1 / 8)
    first = tuple(("max_pool_3x3", node, source) for node in range(2, 6) for source in (0, 1))
    assert discretize([equal, equal], DARTS).cells == (first, first)
    tied = np.tile([0.5, 0.0, 0.1, 0.1, 0.05, 0.1, 0.1, 0.05], (14, 1))
    tied[EDGES.index((5, 3)), 6] = tied[EDGES.index((5, 4)), 3] = 0.2
    cell = discretize([tied, tied], DARTS).cells[0]
    assert cell[:2] == (("avg_pool_3x3", 2, 0), ("avg_pool_3x3", 2, 1))
    assert cell[6:] == (("dil_conv_3x3", 5, 3), ("skip_connect", 5, 4))


@pytest.mark.parametrize("nodes, edges", [(1, 2), (2, 5), (3, 9), (4, 14), (5, 20), (7, 35)])
def test_the_number_of_edges_says_the_number_of_nodes(nodes, edges):
    weights = _random(1, edges)
    found = discretize([weights, weights], DARTS, multiplier=min(nodes, 3))
    assert found.cells[0] == _slow(weights, nodes=nodes) and found.nodes == nodes
    assert found.concats[0] == tuple(range(2 + nodes - min(nodes, 3), 2 + nodes))


def test_a_space_without_none_uses_every_column():
    space = get_space("ddarts")
    weights = _random(2, 14, len(space.operations))
    found = discretize([weights] * 3, space)
    assert found.cells == (_slow(weights, space),) * 3
    weights[:, 0] = 2
    assert set(discretize([weights] * 2, space).operations) == {space.operations[0]} == {"max_pool_3x3"}


def test_weights_of_each_cell_become_a_sequence_of_its_own():
    weights = [_random(seed) for seed in range(5)]
    found = discretize(weights, DARTS)
    assert found.sequence == (0, 1, 2, 3, 4) and found.cells == tuple(map(_slow, weights))
    assert found.at_depth(None) == ((0, 1, 2, 3, 4), (1, 3))
    assert discretize(weights[:1], DARTS).sequence == (0,)
    assert discretize(weights[:2], DARTS).sequence is None
    assert discretize(weights[:2], DARTS, sequence=[0, 1, 1, 0]).sequence == (0, 1, 1, 0)
    assert discretize(weights[:3], DARTS, sequence=[2, 1, 0, 0]).at_depth(None)[0] == (2, 1, 0, 0)


def test_reductions_are_passed_on():
    weights = [_random(seed) for seed in range(4)]
    assert discretize(weights, DARTS, reductions=(0, 2)).at_depth(None) == ((0, 1, 2, 3), (0, 2))
    assert discretize(weights[:2], DARTS, reductions=[1]).at_depth(3) == ((0, 1, 0), (1,))
    assert discretize(weights[:2], DARTS, reductions=()).at_depth(3) == ((0, 0, 0), ())
    assert discretize(weights[:2], DARTS).reductions is None
    with pytest.raises(KdartsError, match="reduction at 4"):
        discretize(weights, DARTS, reductions=(4,))


@pytest.mark.parametrize(
    "weights",
    [
        np.ones((13, 8)),
        np.ones((15, 8)),
        np.ones((1, 8)),
        np.ones((0, 8)),
        np.ones((14, 7)),
        np.ones((14, 9)),
        np.ones((8, 14)),
        np.ones(14),
        np.ones((1, 14, 8)),
        np.float64(1),
        np.full((14, 8), np.nan),
        np.where(np.arange(112).reshape(14, 8) == 100, np.inf, 0),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_their_cell(weights):
    with pytest.raises(KdartsError, match=r"^weights of cell 1: shape \(.*; needs finite \[edges, 8\]") as caught:
        discretize([_random(0), weights], DARTS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("multiplier", [-1, 5, 7])
def test_an_output_has_no_more_nodes_than_its_cell(multiplier):
    with pytest.raises(KdartsError, match=f"multiplier {multiplier}: allowed is 1 to the 4 nodes"):
        discretize([_random(0)] * 2, DARTS, multiplier=multiplier)


def test_an_output_is_all_of_a_small_cell_unless_it_is_said():
    weights = [_random(0, 5)] * 2
    assert discretize(weights, DARTS).concats == discretize(weights, DARTS, multiplier=2).concats == ((2, 3),) * 2
    assert discretize(weights, DARTS, multiplier=1).concats == ((3,),) * 2
    with pytest.raises(KdartsError, match="multiplier 3: allowed is 1 to the 2 nodes of cell 0"):
        discretize(weights, DARTS, multiplier=3)


def test_an_unknown_rule_is_answered_with_the_known_ones():
    with pytest.raises(KdartsError, match=r"unknown discretisation 'dart' \(did you mean 'darts'\?\)"):
        discretize([_random(0)] * 2, DARTS, "dart")


def test_no_weights_make_no_genotype():
    with pytest.raises(KdartsError, match="at least one cell"):
        discretize([], DARTS)


def test_the_weights_given_are_left_as_they_were():
    weights = _random(3).astype(np.float32)
    before = weights.copy()
    found = discretize([weights, weights], DARTS)
    np.testing.assert_array_equal(weights, before)
    assert found == discretize([weights.tolist()] * 2, DARTS)


def _sigmoid(alphas):
    return 1 / (1 + np.exp(-np.asarray(alphas, np.float64)))


@pytest.mark.parametrize("method", ["darts", "sparse", "edge", "complete"])
def test_the_thresholds_of_ddarts_find_what_its_code_finds_in_its_order(golden, method):
    table = golden("ddarts_parse.json")
    assert len(table["cases"]) == 6
    for case in table["cases"]:
        space = SearchSpace("of the file", tuple(table["op_sets"][case["op_set"]]))
        expected = case["results"]["darts" if method == "darts" else f"threshold_{method}"]
        given = [case["prob"]] if case["alpha"] is None else [case["prob"], _sigmoid(case["alpha"])]
        for probabilities in given:
            found = discretize(probabilities, space, method, case["threshold"], expected["reductions"], multiplier=4)
            drop = slice(0, 3, 2) if method == "darts" else slice(3)
            assert [[list(edge[drop]) for edge in cell] for cell in found.cells] == expected["cells"], case["name"]
            assert list(map(list, found.concats)) == [expected["concat"]] * len(found.cells)
            assert found.reductions == tuple(expected["reductions"])


def _slow_threshold(weights, method, threshold, space=DARTS):
    """Each rule with a threshold, said one edge at a time."""
    cell, row = [], 0
    for node in range(2, 6):
        edges = []
        for source in range(node):
            shares = [(w, k) for k, w in enumerate(weights[row]) if space.operations[k] != "none"]
            edges.append((source, shares))
            row += 1
        if method == "sparse":
            best = [(source, max(shares, key=lambda s: (s[0], -s[1]))) for source, shares in edges]
            kept = [(source, [share]) for source, share in sorted(best, key=lambda e: (-e[1][0], e[0]))[:2]]
        else:
            kept = [(source, sorted(shares)[-2:] if method == "edge" else shares) for source, shares in edges]
        cell += [(space.operations[k], node, s) for s, shares in kept for w, k in shares if w >= threshold]
    return tuple(cell)


@pytest.mark.parametrize("method", ["sparse", "edge", "complete"])
@pytest.mark.parametrize("seed", range(10))
def test_the_rules_with_a_threshold_do_what_they_say(method, seed):
    drawn = np.random.default_rng(seed)
    weights = drawn.random((14, 8)) if seed % 2 else drawn.integers(0, 5, (14, 8)) / 4  # ties in every second case
    for threshold in (0, 0.25, 0.5, 0.85, 1):
        cell = discretize([weights, weights], DARTS, method, threshold).cells[0]
        assert cell == _slow_threshold(weights, method, threshold)
        assert all(operation != "none" for operation, _, _ in cell)


def test_none_is_never_picked_however_strong():
    weights = np.zeros((14, 8))
    weights[:, 0] = 1
    assert DARTS.operations[0] == "none"
    for method in ("sparse", "edge", "complete"):
        found = discretize([weights, weights], DARTS, method, 0.5)
        assert found.cells == ((), ()) and found.concats == ((2, 3, 4, 5),) * 2
        assert found.gaps() == [f"cell {i} is empty and passes its second input on" for i in (0, 1)]
    assert {op for op, _, _ in discretize([weights, weights], DARTS, "edge", 0).cells[0]} == set(DARTS.operations[-2:])


@pytest.mark.parametrize("method", ["sparse", "edge", "complete"])
def test_a_weight_that_equals_the_threshold_reaches_it_and_one_below_does_not(method):
    weights = np.zeros((14, 8))
    weights[EDGES.index((2, 0)), 3] = 0.85
    weights[EDGES.index((3, 1)), 4] = np.nextafter(0.85, 0)
    found = discretize([weights, weights], DARTS, method, 0.85).cells[0]
    assert found == ((DARTS.operations[3], 2, 0),)
    weights = weights.astype(np.float32)  # which rounds 0.85 up, and is compared as it is
    both = ((DARTS.operations[3], 2, 0), (DARTS.operations[4], 3, 1))
    assert discretize([weights, weights], DARTS, method, 0.85).cells[0] == both


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(KdartsError, match=f"threshold {threshold}: allowed is 0 to 1"):
        discretize([_random(0)] * 2, DARTS, "sparse", threshold)
