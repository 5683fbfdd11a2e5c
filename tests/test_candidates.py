"""Edges with fewer candidates, and dropout on skip connections: against the reference, and in every mix of choices."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import state_dict

from kdarts.genotypes.errors import KdartsError
from kdarts.networks.reference import load_reference_state
from kdarts.ops.mixed import MixedEdges
from kdarts.ops.operations import get_operation
from kdarts.search.search import Search
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

FEW = SearchSpace("few", ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3"), 2, 2)
LEFT = np.array([[1, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]], bool)


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def _supernet(candidates=None, **kwargs) -> Supernet:
    return Supernet(
        FEW, (8, 8, 3), 3, candidates=candidates, **{"channels": 4, "cells": 2, "reductions": (1,), **kwargs}
    )


def _batches(dtype="float32"):
    return [(tf.constant(_random(6, 8, 8, 3, seed=i), dtype), tf.constant([0, 1, 2] * 2)) for i in (1, 2)]


def test_a_supernet_with_five_operations_an_edge_equals_the_reference(golden):
    arrays = golden("pdarts_supernet.npz")
    left = [arrays["switches_normal"], arrays["switches_reduce"]]
    state = state_dict(arrays)
    net = Supernet("darts", (32, 32, 3), 10, channels=4, cells=5, candidates=left)
    load_reference_state(net, state)
    for alpha, there, kind in zip(net.alphas, left, ("normal", "reduce"), strict=True):
        value = np.zeros(there.shape)
        value[there] = arrays[f"alphas_{kind}"].ravel()
        alpha.assign(value)
    with tf.GradientTape() as tape:
        logits = net(tf.constant(arrays["x"].transpose(0, 2, 3, 1)), training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(arrays["y"], logits))
    by_alphas = tape.gradient(loss, [alpha.value for alpha in net.alphas])
    np.testing.assert_allclose(logits, arrays["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-6)
    for gradient, there, kind in zip(by_alphas, left, ("normal", "reduce"), strict=True):
        expected = arrays[f"dalpha_{kind}"]
        np.testing.assert_allclose(
            gradient.numpy()[there], expected.ravel(), rtol=0, atol=1e-5 * np.abs(expected).max()
        )
        assert not gradient.numpy()[~there].any()
    assert (
        net.cost().params == sum(a.size for a in state.values()) == sum(np.prod(w.shape) for w in net.network_variables)
    )


def test_what_an_edge_has_not_is_as_if_it_weighed_nothing():
    whole, part = _supernet(), _supernet([LEFT, LEFT[::-1]])
    for index, there in enumerate(part.mixture.candidates):
        alpha = _random(*there.shape, seed=index)
        part.alphas[index].assign(alpha)
        whole.alphas[index].assign(np.where(there, alpha, -1e9))
    pairs = [*zip((*part.stems, part.classifier), (*whole.stems, whole.classifier), strict=True)]
    for mine, full in zip(part.cells, whole.cells, strict=True):
        pairs += zip(mine.preprocess, full.preprocess, strict=True)
        for ours, theirs in zip(mine.mixed_edges, full.mixed_edges, strict=True):
            for column, stack in ours.stacks.items():
                for value, source in zip(stack.weights, theirs.stacks[column].weights, strict=True):
                    by_edge = source.numpy().reshape(*source.shape[:-1], theirs.copies, -1)
                    value.assign(by_edge[..., ours.edges[column], :].reshape(value.shape))
    for mine, full in pairs:
        mine.set_weights(full.get_weights())
    x = _random(3, 8, 8, 3)
    for training in (False, True):
        np.testing.assert_allclose(part(x, training=training), whole(x, training=training), rtol=0, atol=1e-5)
    assert part.cost().params == sum(np.prod(w.shape) for w in part.network_variables) < whole.cost().params
    assert part.cost().macs < whole.cost().macs


def test_all_candidates_are_the_same_as_none_left_out():
    whole, part = _supernet(), _supernet([np.ones((5, 4), bool)] * 2)
    part.set_weights(whole.get_weights())
    x = _random(3, 8, 8, 3)
    np.testing.assert_array_equal(part(x, training=True), whole(x, training=True))
    assert part.cost() == whole.cost()


def test_the_configuration_keeps_the_candidates_and_the_dropout():
    net = _supernet([LEFT, LEFT[::-1]], skip_dropout=0.25)
    config = {**net.get_config(), "space": FEW}
    again = Supernet.from_config(config)
    assert [(v.shape, v.dtype) for v in again.variables] == [(v.shape, v.dtype) for v in net.variables]
    assert again.get_config()["candidates"] == [LEFT.tolist(), LEFT[::-1].tolist()]
    assert again.skip_dropout == 0.25


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"candidates": [LEFT, LEFT, LEFT]}, "needs 2 boolean arrays"),
        ({"candidates": [LEFT, LEFT[:4]]}, r"bool \[4, 4\]; needs 2 boolean arrays \[5, 4\]"),
        ({"candidates": [LEFT, LEFT.astype(int)]}, "int64"),
        ({"candidates": [LEFT, LEFT & ~LEFT[2]]}, "one or more in each row"),
        ({"skip_dropout": 1}, "skip_dropout 1"),
    ],
)
def test_what_does_not_fit_is_refused(choices, message):
    with pytest.raises(KdartsError, match=message):
        _supernet(**choices)


MIXES = [
    ("shared", "softmax", "second", False),
    ("shared", "sigmoid", "first", True),
    ("shared", "max_w_stopped", "second", True),
    ("individual", "softmax", "first", False),
    ("individual", "sigmoid", "second", False),
    ("individual", "max_w", "first", True),
    ("shared", "softmax", "exact", False),
]


@pytest.mark.parametrize("sharing, mixing, order, recompute", MIXES)
def test_every_mix_takes_a_step_in_which_what_is_dropped_stays_zero(eagerly, sharing, mixing, order, recompute):
    choices = {"sharing": sharing, "mixing": mixing, "skip_dropout": 0.5}
    net = _supernet([LEFT, LEFT[::-1]], nodes=2, recompute=recompute, **choices)
    search = Search(net, order=order, zero_one_weight=1.0, arch_learning_rate=0.1, arch_l2=0.1, **choices)
    search.compile()
    for alpha, there in zip(net.alphas, net.mixture.candidates, strict=True):
        assert alpha.shape == there.shape and not alpha.numpy()[~there].any()
        alpha.assign(np.where(there, _random(*there.shape), 0))
    before = [alpha.numpy() for alpha in net.alphas]
    search.train_step(_batches())
    for alpha, old, weights, there in zip(
        net.alphas, before, net.mixing_weights(), net.mixture.candidates, strict=True
    ):
        assert not alpha.numpy()[~there].any() and not weights.numpy()[~there].any()
        assert weights.numpy()[there].all() and np.isfinite(weights).all()
        several = there & (there.sum(1, keepdims=True) > 1)
        assert np.all(alpha.numpy()[several] != old[several])
    assert int(net.mixture.draws) == 2, "one for α's passes, one for the weights'"


def test_the_zero_one_loss_is_the_mean_over_what_is_left(eagerly):
    net = _supernet([LEFT, LEFT[::-1]], mixing="sigmoid")
    for index, alpha in enumerate(net.alphas):
        alpha.assign(np.where(net.mixture.candidates[index], _random(5, 4, seed=index), 0))
    searches = [Search(net, mixing="sigmoid", zero_one_weight=weight) for weight in (0, 3.0)]
    plain, driven = (search.architecture_gradients(*_batches()) for search in searches)
    left = int(LEFT.sum()) * 2
    for alpha, there, without, gradient in zip(net.alphas, net.mixture.candidates, plain, driven, strict=True):
        s = 1 / (1 + np.exp(-alpha.numpy()))
        expected = np.where(there, -3 * 2 * (s - 0.5) * s * (1 - s) / left, 0)
        np.testing.assert_allclose(gradient - without, expected, rtol=0, atol=1e-6)


# Dropout on skip connections


def _skips(stride=1):
    operations = (get_operation("none"), get_operation("skip_connect"), get_operation("avg_pool_3x3"))
    there = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], bool)
    mixed = MixedEdges(operations, 3, 4, stride, there)
    mixed.build((None, None, None, 4))
    return mixed


def test_what_skips_pass_on_is_dropped_element_by_element_on_each_edge():
    mixed, x = _skips(), tf.constant(_random(8, 12, 12, 4) + 5)
    weights = tf.constant([[1.0, 2.0, 0.0], [1.0, 0.0, 1.0], [0.0, 4.0, 0.0]])
    dropout = tf.constant(0.25), tf.constant([3, 4])
    plain, dropped = mixed(x, weights), mixed(x, weights, dropout=dropout)
    np.testing.assert_array_equal(plain[1], dropped[1])
    shares = []
    for edge, weight in ((0, 2.0), (2, 4.0)):
        share = dropped[edge] / (weight * x)
        kept = np.isclose(share, 1 / 0.75, rtol=1e-5)
        assert np.all(kept | (share == 0)) and 0.72 < kept.mean() < 0.78
        np.testing.assert_allclose(plain[edge], weight * x, rtol=1e-5)
        shares.append(kept)
    assert 0.5 < np.mean(shares[0] == shares[1]) < 0.75  # independent: 0.625
    other = mixed(x, weights, dropout=(dropout[0], tf.constant([3, 5])))
    assert not np.array_equal(other[0], dropped[0])


def test_skips_of_stride_2_are_not_dropped():
    mixed, x = _skips(2), tf.constant(_random(2, 6, 6, 4))
    weights, dropout = tf.ones((3, 3)), (tf.constant(0.9), tf.constant([0, 0]))
    for plain, dropped in zip(mixed(x, weights), mixed(x, weights, dropout=dropout), strict=True):
        np.testing.assert_array_equal(plain, dropped)


def test_the_rate_is_a_variable_and_every_training_pass_draws_anew():
    x, plain, net = _random(2, 8, 8, 3), _supernet(), _supernet(skip_dropout=0.5)
    assert len(net.variables) == len(plain.variables) + 1
    for ours, theirs in zip(net.trainable_variables, plain.trainable_variables, strict=True):
        ours.assign(theirs)
    np.testing.assert_array_equal(net(x), plain(x))
    first, second = net(x, training=True), net(x, training=True)
    assert int(net.mixture.draws) == 2 and not np.allclose(first, second)
    net.mixture.draws.assign(0)
    np.testing.assert_array_equal(net(x, training=True), first)
    net.skip_dropout_rate.assign(0.0)
    np.testing.assert_allclose(net(x, training=True), plain(x, training=True), rtol=0, atol=1e-5)


def test_recomputed_cells_drop_the_same():
    nets = [_supernet(skip_dropout=0.5, recompute=recompute) for recompute in (False, True)]
    nets[1].set_weights(nets[0].get_weights())
    outcomes = []
    for net in nets:

        @tf.function(autograph=False)
        def run(x, net=net):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(net(x, training=True) ** 2)
            return loss, tape.gradient(loss, [v.value for v in net.trainable_variables])

        outcomes.append(run(_random(2, 8, 8, 3)))
    np.testing.assert_allclose(*(loss for loss, _ in outcomes), rtol=1e-5)
    for ours, theirs in zip(*(gradients for _, gradients in outcomes), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max() + 1e-6)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_low_precision_drops_too(eagerly, dtype):
    search = Search(_supernet([LEFT, LEFT[::-1]], skip_dropout=0.5, dtype=dtype), skip_dropout=0.5)
    search.compile()
    assert np.isfinite(search.train_step(_batches())["loss"])
