"""Masks: when candidates leave, which ones, and what a search computes without them."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_removal import FEW, _data
from test_resume import finish, kill_at, same_state

from kdarts.genotypes.errors import KdartsError
from kdarts.search.masks import Greedy, Narrowing, Shrinking, certainty, choose, decide, named, shrink, stability
from kdarts.search.method import get_method
from kdarts.search.search import Search
from kdarts.search.shrink import information, statistics
from kdarts.supernet.cell import edge_sources
from kdarts.supernet.spaces import get_space
from kdarts.supernet.supernet import Supernet

EDGES = edge_sources(4)


def _search(method, space=FEW, **choices) -> Search:
    keras.utils.set_random_seed(1)
    mixing = choices.get("mixing", get_method(method).mixing)
    net = Supernet(space, (8, 8, 3), 3, channels=4, cells=1, mixing=mixing)
    search = Search(net, method, **choices)
    search.compile()
    return search


def test_moments_are_those_of_the_papers_and_in_proportion_in_other_lengths():
    def times(kind, epochs, count):
        return [
            done
            for done in range(1, epochs + 1)
            for _ in range(kind.due(done, epochs, count) - kind.due(done - 1, epochs, count))
        ]

    assert times(Greedy(), 50, 8) == [10, 15, 20, 25, 30, 35, 40, 45]  # After epochs 9, 14, ..., counted from 0.
    assert times(Shrinking(), 50, 7) == [30, 33, 36, 39, 42, 45, 48]
    assert times(Narrowing(), 50, 1) == [25]
    assert times(Greedy(), 25, 8)[-1] <= 23 and len(times(Greedy(), 3, 8)) == 8 and times(Greedy(), 1, 8) == [1] * 8
    method = get_method("darts").override(masks="progressive", warmup_epochs=10)
    rests = [epoch for epoch in range(50) if method.axes["masks"].rests(epoch, method)]
    assert rests == [*range(25, 35)]


def test_certainty_is_0_of_equal_weights_and_stability_1_of_equal_histories():
    q, importance = named(np.zeros((3, 8)), 0)
    np.testing.assert_allclose(importance, 7 / 8)
    np.testing.assert_allclose(q[:, 1:], 1 / 7)
    np.testing.assert_allclose(certainty(q, 7), 0, atol=1e-12)
    np.testing.assert_allclose(certainty(np.eye(7), 7), 1)
    random = named(np.random.default_rng(0).normal(size=(3, 8)), 0)[0]
    np.testing.assert_allclose(stability(random, [random, random]), 1)
    np.testing.assert_allclose(stability(np.eye(3), [np.eye(3)[[1, 0, 2]], np.eye(3)]), [0.5, 0.5, 1])


def test_after_eight_decisions_every_node_has_two_edges():
    rng = np.random.default_rng(3)
    for past in (None, [rng.normal(size=(14, 8)) for _ in range(4)]):
        mask, alpha = np.ones((14, 8)), rng.normal(size=(14, 8))
        for _ in range(8):
            edge, column = choose(alpha, mask, 0, past)
            assert mask[edge].sum() == 8 and column == 1 + alpha[edge, 1:].argmax()
            decide(mask, EDGES, edge, column, 2)
        left = np.array([to for (to, _), row in zip(EDGES, mask, strict=True) if row.any()])
        assert left.tolist() == [2, 2, 3, 3, 4, 4, 5, 5] and set(mask.sum(1)) == {0, 1}
    mask, alpha = np.ones((2, 3)), np.array([[0.0, 3, 0], [2, 3, 0]])  # The second edge has more of `none`.
    assert choose(alpha, mask, 0) == (0, 1)


def test_the_statistic_is_its_closed_form_and_falls_with_the_fourth_power():
    y = np.random.default_rng(0).normal(size=(2, 3, 5, 6))
    sigma = y.std(-1, ddof=1, keepdims=True)
    plain = np.mean(3 * (y - y.mean(-1, keepdims=True)) ** 2 / sigma**6)
    assert float(information(tf.constant(y))) == pytest.approx(plain, rel=1e-4)
    assert plain == pytest.approx(3 * 5 / 6 * np.mean(sigma**-4.0), rel=1e-9)
    assert float(information(tf.constant(2 * y))) == pytest.approx(plain / 16, rel=1e-4)
    assert float(information(tf.zeros((1, 2, 2, 3)))) == math.inf


def test_the_worst_pairs_of_a_node_leave_first_and_none_before_all():
    mask, values = np.ones((3, 4)), np.array([[np.inf, 5, 1, 2], [np.inf, np.inf, 3, 4], [np.inf, 0, 9, 0]])
    shrink(mask, values, [0, 1], 0, 2)
    assert mask[:, 0].tolist() == [0, 0, 1] and mask.sum() == 10
    shrink(mask, values, [0, 1], 0, 3)
    np.testing.assert_array_equal(mask, [[0, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1]])
    kind, left = Shrinking(), 5 * 8
    for number in range(7):
        left -= -(-(left - 2) // (kind.shrinks - number))
    assert left == 2


def test_every_candidate_is_measured_alone_with_the_statistics_of_the_batch(eagerly):
    search = _search("is_darts", get_space("nasbench201"))
    net, (x, y) = search.supernet, next(iter(_data().held_back()))
    before = [variable.numpy() for variable in search.variables]
    [found] = statistics(search, [(x, y)])
    assert all(map(np.array_equal, search.variables, before))
    assert np.isinf(found[:, 0]).all() and np.isfinite(found[:, 1:]).all()
    weights = np.asarray(net.mixing_weights()[0])
    seen, (row, column) = [], (3, 2)
    for index in range(len(net.cells)):
        states = net.states(x, training=True, mixtures=[(weights, None)])
        alone = np.zeros_like(weights)
        alone[row, column] = 1  # An edge from the cell's input to its output, and nothing else.
        seen.append(
            float(information(net.run_cell(index, *states[index : index + 2], tf.constant(alone), training=True)))
        )
    assert found[row, column] == pytest.approx(np.mean(seen), rel=1e-4)


@pytest.mark.parametrize("name, space, left", [("is_darts", FEW, 2), ("is_darts", "nasbench201", 1), ("sgas", FEW, 2)])
def test_a_search_ends_with_what_its_masks_leave(name, space, left, eagerly, monkeypatch):
    rng = np.random.default_rng(0)
    first = np.where(np.arange(5) > 0, 0, np.inf)  # `none` has no finite statistic.
    drawn = lambda net: [first[: alpha.shape[1]] + rng.normal(size=alpha.shape) for alpha in net.alphas]  # noqa: E731
    monkeypatch.setattr("kdarts.search.shrink.statistics", lambda search, batches: drawn(search.supernet))
    search = _search(name, get_space(space) if isinstance(space, str) else space, epochs=2)
    search.train_step = lambda batch: search.compute_metrics(None, batch[0][1], tf.zeros((6, 3)))
    search.fit(_data(1), verbose=0)
    net = search.supernet
    [mask], [weights] = [m.numpy() for m in net.mixture.masks], [np.asarray(w) for w in net.mixing_weights()]
    for node in {to for to, _ in net.edges}:
        rows = [row for row, (to, _) in enumerate(net.edges) if to == node]
        assert mask[rows].sum() == (left if len(rows) > 1 or left == 2 else 1) or net.space.stages
    if net.space.stages:
        assert mask.sum(1).tolist() == [1] * 6
    divisor = len(net.space.operations) if name == "is_darts" else 1
    np.testing.assert_allclose(weights, mask / divisor, rtol=1e-6)
    found = {(name, to, at) for name, to, at in search.genotype().cells[0]}
    expected = {(net.space.operations[c], *net.edges[r]) for r, c in zip(*np.nonzero(mask), strict=True)}
    assert found == expected


def test_narrowing_keeps_the_largest_alphas_and_their_order_and_shares_the_weight():
    search = _search("darts", masks="progressive", kept=2, mixing="softmax")
    [alpha], net = search.supernet.alphas, search.supernet
    alpha.assign(np.arange(20).reshape(5, 4)[:, ::-1] / 10)
    whole, masks = np.asarray(net.mixing_weights()[0]), [net.mixture.masks[0].numpy()]
    search.method.axes["masks"].narrow(search, masks, 0, None)
    net.mixture.masks[0].assign(masks[0])
    assert masks[0].tolist() == [[1, 1, 0, 0]] * 5 and (alpha.numpy()[:, 2:] == 0).all() and alpha.numpy()[:, :2].all()
    expected = whole * masks[0] / (whole * masks[0]).sum(1, keepdims=True)
    np.testing.assert_allclose(net.mixing_weights()[0], expected, rtol=1e-5)


def test_before_the_first_decision_a_search_is_that_without_masks_bit_for_bit(eagerly):
    batch = next(iter(_data(1).pairs()))
    plain, masked = _search("darts"), _search("darts", masks="sgas", mixing="softmax")
    for search in (plain, masked):
        search.train_step(batch)
    left = [v for v in masked.supernet.variables if "mask" not in v.name]
    for one, other in zip(plain.supernet.variables, left, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"discretization": "removal"}, "masks 'sgas': does not go with discretization 'removal'"),
        ({"samples": 3}, "masks 'sgas': goes with no samples"),
        ({"masks": "shrink", "auxiliary_skip": True}, "masks 'shrink' looks at whole candidates"),
    ],
)
def test_what_masks_do_not_go_with_is_refused(choices, message):
    method, net = get_method("darts").override(masks="sgas").override(**choices), Supernet(FEW, (8, 8, 3), 3, 4, 1)
    with pytest.raises(KdartsError, match=message):
        method.axes["masks"].check(method, net)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["is_darts", "sgas", "drnas_progressive"])
def test_a_killed_search_with_masks_comes_to_the_same_result(name, tmp_path):
    arguments = ["search", f"--method={name}", "--cells=2", "--channels=4", "--nodes=2", "--epochs=5"]
    arguments += ["--train_examples=64", "--valid_examples=64", "--batch_size=16"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(arguments, whole)
    for mark in ("backup: 2, 0", "backup: 4, 0"):
        kill_at(mark, arguments, killed)
    finish(arguments, killed)
    for file in ("genotype.json", "genotypes.jsonl", "history.csv"):
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    same_state(whole / "backup", killed / "backup")
