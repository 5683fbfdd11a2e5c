"""The methods that the papers compare with: what sets each apart, and that each takes steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.search.losses import beta_decay
from kdarts.search.method import get_method
from kdarts.search.random_search import best_random
from kdarts.search.search import Search
from kdarts.search.selection import StrongestPairs
from kdarts.supernet.relaxation import NodeSoftmax
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

RELATIVES = ("gdas", "darts_plus", "darts_minus", "beta_darts", "drnas", "i_darts", "oles", "random", "reinmax")
RELATIVES += ("sharpdarts", "snas")

FEW = SearchSpace("few", ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3"), nodes=2, multiplier=2)


def _net(**options) -> Supernet:
    keras.utils.set_random_seed(0)
    return Supernet(FEW, (8, 8, 3), 3, **{"channels": 4, "cells": 2, "reductions": (1,), **options})


def _search(method: str, **choices) -> Search:
    method = get_method(method)
    net = _net(mixing=method.mixing, sampling=method.sampling, auxiliary_skip=method.auxiliary_skip)
    search = Search(net, method, **choices)
    search.compile()
    return search


def _batch(seed=0):
    x = np.random.default_rng(seed).normal(size=(6, 8, 8, 3)).astype("float32")
    return tf.constant(x), tf.constant([0, 1, 2] * 2)


def _step(search) -> dict:
    return search.train_step((_batch(), _batch(1)))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", RELATIVES)
def test_every_relative_takes_a_step(name):
    search = _search(name)
    before = [v.numpy() for v in search.supernet.alphas], search.supernet.network_variables[0].numpy()
    search.supernet.mixture.progress.assign(0.5)
    assert np.isfinite(float(_step(search)["loss"]))
    moved = [not np.array_equal(v, b) for v, b in zip(search.supernet.alphas, before[0], strict=True)]
    assert moved == [name != "random"] * 2
    assert not np.array_equal(search.supernet.network_variables[0], before[1])
    assert len(search.genotype().cells) == 2


MIXED = ["softmax", "sigmoid", "max_w", "node_softmax", pytest.param("softmax_eg", marks=pytest.mark.slow)]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("mixed", MIXED)
@pytest.mark.parametrize("sampling", ["gumbel", "random"])
def test_samplings_mix_with_the_other_axes(mixed, sampling):
    choices = {"mixing": mixed, "sampling": sampling, "sharing": "individual", "auxiliary_skip": True}
    search = Search(_net(**choices), "ddarts", ablation="exact", ablation_margin=-9.0, order="second", **choices)
    search.compile()
    assert np.isfinite(float(_step(search)["loss"]))


def _parts(net) -> list:
    """Its layers but the auxiliary skips, in an order."""
    parts = [*net.stems, net.classifier]
    for cell in net.cells:
        parts += cell.preprocess
        for mixed in cell.mixed_edges:
            stacks = {**mixed.stacks, **mixed.free}
            parts += [stacks[column] for column in sorted(stacks) if column < len(FEW.operations)]
    return parts


def test_the_auxiliary_skip_fades_and_leaves_the_plain_supernet():
    plain, net = _net(), _net(auxiliary_skip=True)
    assert net.cost().params > plain.cost().params  # where an edge halves the image it has weights
    for ours, theirs in zip(_parts(net), _parts(plain), strict=True):
        for variable, value in zip(ours.variables, theirs.variables, strict=True):
            variable.assign(value)
    for ours, theirs in zip(net.alphas, plain.alphas, strict=True):
        ours.assign(theirs)
    x, _ = _batch()
    net.mixture.progress.assign(1.0)
    np.testing.assert_allclose(net(x, training=True), plain(x, training=True), atol=1e-5)
    net.mixture.progress.assign(0.25)
    one = _net(auxiliary_skip=True, cells=1, reductions=())
    one.mixture.progress.assign(0.25)
    s = tf.random.stateless_normal((2, 8, 8, one.stems[-1].filters), [1, 2])
    quiet = tf.concat([tf.zeros((5, 4)), one.mixture.drawn()[0][0][:, 4:]], 1)
    out = one.run_cell(0, s, s, quiet, training=True).numpy()
    a, b = (stack(tf.nn.relu(s), training=True).numpy() for stack in one.cells[0].preprocess)
    node2 = 0.75 * (a + b)
    np.testing.assert_allclose(out, np.concatenate([node2, 0.75 * (a + b + node2)], -1), atol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_progress_is_a_straight_line_of_the_epochs():
    search, seen = _search("darts_minus", pretrain_epochs=2), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(float(search.supernet.mixture.progress))

    search.fit(tf.data.Dataset.from_tensors((_batch(), _batch(1))), epochs=4, callbacks=Watch(), verbose=0)
    assert seen == [0, 0, 0, 0.25, 0.5, 0.75]


def test_beta_decay_pulls_each_edge_by_its_softmax():
    left = [np.ones((5, 4), bool), np.ones((5, 4), bool)]
    left[1][2, 1] = left[1][4, :2] = False
    net = _net(candidates=left)
    for seed, alpha in enumerate(net.alphas):
        alpha.assign(np.where(left[seed], np.random.default_rng(seed).normal(size=(5, 4)), 0))
    with tf.GradientTape() as tape:
        value = beta_decay(net.alphas, left)
    gradients = tape.gradient(value, [alpha.value for alpha in net.alphas])
    expected = []
    for alpha, present, gradient in zip(net.alphas, left, gradients, strict=True):
        e = np.where(present, np.exp(alpha.numpy()), 0)
        np.testing.assert_allclose(gradient, e / e.sum(1, keepdims=True) / 10, atol=1e-6)
        expected.append(np.log(e.sum(1)))
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-6)


@pytest.mark.usefixtures("eagerly")
def test_beta_decay_grows_with_the_search():
    search = _search("beta_darts")
    train, valid = _batch(), _batch(1)
    plain, later = [], []
    for found, progress in ((plain, 0.0), (later, 0.5)):
        search.supernet.mixture.progress.assign(progress)
        found += search.architecture_gradients(train, valid)
    for a, b, w in zip(plain, later, search.supernet.mixing_weights(), strict=True):
        np.testing.assert_allclose(b - a, 25 * w.numpy() / 10, rtol=1e-4, atol=1e-5)


def test_a_node_shares_one_softmax():
    alpha = tf.constant(np.random.default_rng(0).normal(size=(9, 4)).astype("float32"))
    weights = NodeSoftmax().weights(alpha).numpy()
    first = 0
    for node in (2, 3, 4):
        e = np.exp(alpha.numpy()[first : first + node])
        np.testing.assert_allclose(weights[first : first + node], e / e.sum(), rtol=1e-5)
        first += node


def test_pairs_may_stand_on_one_edge():
    names = ("none", "skip_connect", "sep_conv_3x3")
    weights = np.array([[0.9, 0.05, 0.05], [0.1, 0.5, 0.4]])
    assert StrongestPairs().node(weights, names) == [("skip_connect", 1), ("sep_conv_3x3", 1)]
    equal = np.full((2, 3), 1 / 3)
    assert StrongestPairs().node(equal, names) == [("skip_connect", 0), ("sep_conv_3x3", 0)]


@pytest.mark.usefixtures("eagerly")
def test_random_search_finds_the_best_of_what_it_compares():
    alphas = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            alphas.append([v.numpy() for v in search.supernet.alphas])

    search, batches = _search("random", samples=12), [_batch(0), _batch(1)]
    data = tf.data.Dataset.from_tensors((_batch(2), batches[0]))
    data = data.concatenate(tf.data.Dataset.from_tensors((_batch(2), batches[1])))
    search.fit(data, epochs=2, callbacks=Watch(), verbose=0)
    first, last = search.record.history
    assert all(np.array_equal(v, b.numpy()) for v, b in zip(alphas[0], _net(sampling="random").alphas, strict=True))
    before = [v.numpy() for v in search.variables]
    weights, accuracy = best_random(search, batches, 12, seed=0)
    assert all(np.array_equal(v, b) for v, b in zip(search.variables, before, strict=True))
    assert "val_accuracy" not in first and last["val_accuracy"] == accuracy
    found = search.genotype()
    for cell, rows in zip(found.cells, weights, strict=True):
        assert len(cell) == 4
        for operation, to, source in cell:
            edge = (to - 2) * (to + 1) // 2 + source
            assert rows[edge, FEW.operations.index(operation)] == 1
