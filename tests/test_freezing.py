"""Freezing of operations (OLES): its score, what it stops, and what it leaves alone."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.freezing import cosines
from kdarts.search.search import Search

pytestmark = pytest.mark.usefixtures("eagerly")

SIZE = {"channels": 2, "cells": 1, "nodes": 2, "space": "skip_connect,nor_conv_1x1,dil_conv_3x3"}


def search(method="oles", seed=0, **choices) -> Search:
    rates = {"arch_learning_rate": 0.1, "learning_rate": 0.1}
    made = Search(method, (8, 8, 1), 3, seed=seed, **{**SIZE, **rates, **choices})
    made.compile()
    return made


def batch(seed):
    x = np.random.default_rng(seed).normal(size=(6, 8, 8, 1)).astype("float32")
    return tf.constant(x), tf.constant([0, 1, 2] * 2)


def steps(made: Search, pairs) -> None:
    for train, valid in pairs:
        made.train_step((batch(train), batch(valid)))


PAIRS = [(0, 10), (1, 11), (2, 12), (3, 13)]


def weights(made: Search) -> list:
    return [variable.numpy() for variable in made.supernet.variables]


def test_the_score_is_the_cosine_over_all_weights_of_an_operation():
    """Two operations; the first has two tensors and stands on two edges, whose shares are side by side."""
    first = np.array([[1.0, 2.0, 10.0, 0.0], [0.0, 2.0, 0.0, 10.0]]), np.array([1.0, -4.0])
    other = np.array([[2.0, 1.0, 0.0, 3.0], [0.0, 0.0, 4.0, 0.0]]), np.array([5.0, 1.0])
    third = np.array([1.0, 2.0]), np.array([-2.0, -4.0])
    train, valid = ([tf.constant(a) for a in (*pair, each)] for pair, each in zip((first, other), third, strict=True))
    found = cosines(train, valid, [(0, 0, 2), (1, 0, 2), (2, 2, 1)])
    # Edge 0: (1, 2, 0, 2, 1) and (2, 1, 0, 0, 5); edge 1: (10, 0, 0, 10, -4) and (0, 3, 4, 0, 1).
    expected = [9 / np.sqrt(10 * 30), -4 / np.sqrt(216 * 26), -1]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.isnan(cosines([tf.zeros(2)], [tf.ones(2)], [(0, 0, 1)])).all()


def test_every_operation_with_weights_is_one_of_each_edge_of_each_cell():
    made = search("oles", freeze_window=3)
    net, freezing = made.supernet, made.freezing
    # A reduction cell of five edges, of which the four that halve have a skip connection with weights.
    assert freezing.frozen.shape == (5 * 2 + 4,)
    held = {place for place, _, _ in freezing.slices}
    names = [net.network_variables[place].path for place in range(len(net.network_variables)) if place not in held]
    assert all("from_" not in name for name in names) and any("stem" in name for name in names)


def test_a_threshold_that_nothing_falls_below_is_darts_bit_for_bit():
    plain, never = search("darts"), search("oles", freeze_below=-1.0, freeze_window=1)
    steps(plain, PAIRS[:2]), steps(never, PAIRS[:2])
    for one, other in zip(weights(plain), weights(never), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.asarray(never.freezing.frozen).any()


@pytest.mark.parametrize(
    "choices",
    [
        {},
        pytest.param({"perturbation": "random"}, marks=pytest.mark.slow),
        pytest.param({"alignment_weight": 0.5, "cells": 2, "reductions": ()}, marks=pytest.mark.slow),
    ],
    ids=list,
)
def test_equal_batches_agree_whole_and_freeze_nothing(choices):
    """Also where the weights are trained at shifted mixing weights, or along more than the loss alone."""
    made = search("oles", freeze_window=2, freeze_below=0.999, **choices)
    made.supernet.mixture.progress.assign(0.5)  # At the start the agreement of cells does not count yet.
    steps(made, [(0, 0), (1, 1)])
    logs = made.freezing.epoch_logs()
    assert logs["frozen_operations"] == 0 and logs["gradient_cosine"] == pytest.approx(1, abs=1e-5)


def test_a_frozen_operation_keeps_its_weights_bit_for_bit_while_the_rest_moves():
    made = search("oles", freeze_window=1, freeze_below=-1.0)
    net, freezing = made.supernet, made.freezing
    steps(made, PAIRS[:2])  # Momentum has gathered.
    chosen = np.arange(freezing.frozen.shape[0]) % 3 == 0
    freezing.frozen.assign(chosen)
    before, alphas = [v.numpy() for v in net.network_variables], [a.numpy() for a in net.alphas]
    steps(made, PAIRS[2:])
    seen = np.zeros(len(chosen), bool)
    for place, first, copies in freezing.slices:
        parts = [
            each.reshape(-1, copies, each.shape[-1] // copies)
            for each in (before[place], net.network_variables[place].numpy())
        ]
        for edge in range(copies):
            same = np.array_equal(parts[0][:, edge], parts[1][:, edge])
            assert same == chosen[first + edge]
            seen[first + edge] = True
    assert seen.all()
    assert all(not np.array_equal(a, b) for a, b in zip(net.alphas, alphas, strict=True))
    np.testing.assert_array_equal(freezing.frozen, chosen)


def test_an_operation_freezes_once_the_mean_of_its_window_is_below_the_threshold():
    made = search("oles", freeze_window=3, freeze_below=0.4)
    freezing = made.freezing
    first = {place: number for place, number, _ in reversed(freezing.slices)}

    def note(cosine):
        """Gradients whose cosine is given for every operation but the first, whose training gradient is 0."""
        train, valid = [], []
        for place, variable in enumerate(made.supernet.network_variables):
            one, other = np.zeros(variable.shape, "float32"), np.zeros(variable.shape, "float32")
            if place in first:
                copies = next(c for p, _, c in freezing.slices if p == place)
                width = variable.shape[-1] // copies
                flat = one.reshape(-1, copies, width), other.reshape(-1, copies, width)
                flat[0][0, :, 0], flat[1][0, :, 0] = 1, cosine
                flat[1][0, :, 1] = np.sqrt(1 - cosine**2)
                if first[place] == 0:
                    flat[0][:, 0] = 0
            train.append(tf.constant(one)), valid.append(tf.constant(other))
        freezing.measure(train, valid)
        return np.asarray(freezing.frozen).sum()

    assert [note(c) for c in (0.9, 0.1, 0.3)] == [0, 0, 0]  # Their mean is 0.43.
    # The mean of the last three is 0.37; the first operation was never measured.
    assert note(0.7) == freezing.frozen.shape[0] - 1 and not freezing.frozen[0]
    assert note(1.0) == note(1.0) == note(1.0) == freezing.frozen.shape[0] - 1
    assert made.freezing.epoch_logs()["gradient_cosine"] == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_measuring_less_often_takes_every_so_many_steps():
    made = search("oles", freeze_window=10, freeze_every=3)
    steps(made, PAIRS)
    counts = np.asarray(made.freezing._counts)
    assert (counts == 2).all()
    made.searching = False
    steps(made, PAIRS)
    assert (np.asarray(made.freezing._counts) == counts).all()


def test_what_is_not_drawn_is_not_measured():
    made = search("gdas", freezing="oles", freeze_window=10)
    steps(made, PAIRS[:1])
    counts = np.asarray(made.freezing._counts)
    assert 0 < counts.sum() < len(counts) and counts.max() == 1
    assert np.isfinite(made.freezing.epoch_logs()["gradient_cosine"])


def test_what_oles_cannot_do_is_refused():
    for choices, message in (
        ({"order": "second"}, "order 'second' unrolls a step of all weights; choose order 'first'"),
        ({"update": "frozen"}, "which it never does with update 'frozen'"),
        ({"space": "skip_connect,max_pool_3x3"}, "has weights"),
    ):
        with pytest.raises(KdartsError, match=message):
            Search("oles", (8, 8, 1), 3, **{**SIZE, **choices}, reductions=())
    with pytest.raises(KdartsError, match="a HyperCuboid has none"):
        Search("multichannelnet", (16, 16, 3), 3, channels=4, cells=2, freezing="oles")


def test_the_history_tells_how_many_are_frozen():
    made = search("oles", freeze_window=1, freeze_below=1.0)
    pairs = tf.data.Dataset.from_tensors((batch(0), batch(1)))
    made.fit(pairs, epochs=2, verbose=0)
    rows = made.record.history
    assert [row["frozen_operations"] for row in rows] == [made.freezing.frozen.shape[0]] * 2
    assert -1 <= rows[-1]["gradient_cosine"] < 1
