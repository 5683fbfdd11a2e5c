"""Perturbations of the mixing weights in the pass that trains the weights."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.method import get_method
from kdarts.search.perturbations import Adversarial, Random, perturbed, projected
from kdarts.search.search import Search

RNG = np.random.default_rng(0)
SEED = tf.constant([3, 1], tf.int64)
P = np.array([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25], [0.97, 0.01, 0.01, 0.01]])


def linear(slopes):
    """The loss Σ slopes · (p + shift), but for a constant."""

    def loss_at(shifts):
        return tf.add_n([tf.reduce_sum(s * g) for s, g in zip(shifts, slopes, strict=True)]), slopes

    return loss_at


def shifted(kind, weights, loss_at=None, progress=0.0, present=None, seed=SEED):
    """The mixing weights after a perturbation."""
    weights = [tf.constant(w, tf.float64) for w in weights]
    found = kind.shifts(weights, present or [None] * len(weights), loss_at, tf.constant(progress, tf.float64), seed)
    return [(w + shift).numpy() for w, shift in zip(weights, found, strict=True)]


def test_noise_of_no_size_changes_no_bit():
    weights = RNG.dirichlet(np.ones(7), 50).astype(np.float32)
    for kind in (Random(0.0, 0.0), Adversarial(0.0, 0.0)):
        [shift] = kind.shifts([tf.constant(weights)], [None], linear([tf.ones((50, 7))]), tf.constant(0.5), SEED)
        assert not np.any(shift)


@pytest.mark.parametrize("kind", [Random(0.9, 0.9), Adversarial(0.9, 0.9)])
def test_an_edge_keeps_weights_from_0_to_1_and_their_sum(kind):
    weights = RNG.dirichlet(np.ones(4), 200)
    present = np.array([[True, True, False, True]] * 200)
    weights[100:, 2] = 0
    weights[100:] /= weights[100:].sum(1, keepdims=True)
    slopes = [tf.constant(RNG.normal(size=(100, 4))) for _ in range(2)]
    whole, part = shifted(kind, [weights[:100], weights[100:]], linear(slopes), 0.0, [None, present[100:]])
    for found in (whole, part):
        assert found.min() >= 0 and found.max() <= 1 + 1e-12
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
    assert not part[:, 2].any()
    assert np.abs(whole - weights[:100]).max() > 0.3


def test_where_all_are_below_0_the_greatest_takes_everything():
    moved = tf.constant([[-0.3, -0.1, -0.2], [0.5, -0.5, 1.5]])
    np.testing.assert_allclose(projected(tf.constant([[0.2, 0.3, 0.5]] * 2), moved), [[0, 1, 0], [1 / 3, 0, 2 / 3]])
    # A sigmoid's weights have a sum of their own; a single candidate stays as it is.
    np.testing.assert_allclose(projected(tf.constant([[0.9, 0.5]]), tf.constant([[0.2, 0.5]])), [[0.4, 1.0]])
    np.testing.assert_allclose(projected(tf.constant([[1.0]]), tf.constant([[0.7]])), [[1.0]])


def test_the_mean_of_random_noise_is_nothing():
    draws = shifted(Random(0.05, 0.05), [np.repeat(P[:2], 4000, 0)])[0].reshape(2, 4000, 4)
    np.testing.assert_allclose(draws.mean(1), P[:2], atol=0.002)
    assert draws.std(1).min() > 0.02
    one = shifted(Random(), [P], progress=0.5)[0]
    np.testing.assert_array_equal(one, shifted(Random(), [P], progress=0.5)[0])
    assert np.abs(one[1] - P[1]).max() < 0.4 and not np.allclose(one, shifted(Random(), [P], seed=[4, 1])[0])


def test_the_noise_grows_along_the_search():
    kind = Random()
    radii = [float(kind.radius(tf.constant(progress), tf.float64)) for progress in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(radii, [0.03, 0.165, 0.3], rtol=1e-6)


def test_on_a_linear_loss_the_ascent_ends_at_the_bound_by_the_signs_of_the_slopes():
    slopes = [tf.constant([[1.0, -2.0, 0.5, -0.1]] * 2, tf.float64)]
    found = shifted(Adversarial(0.05, 0.05), [P[:2]], linear(slopes))[0]
    # As many go up as down, so that the sum of an edge stays what it is.
    np.testing.assert_allclose(found, P[:2] + 0.05 * np.sign(slopes[0]), atol=1e-9)


def test_what_would_lower_the_loss_is_undone():
    def misleading(shifts):
        loss, slopes = linear([tf.constant([[1.0, -1.0, 1.0, -1.0]] * 3, tf.float64)])(shifts)
        return -loss, slopes

    np.testing.assert_array_equal(shifted(Adversarial(), [P], misleading)[0], P)


def small_search(method="darts", **choices) -> Search:
    sizes = {"channels": 2, "cells": 2, "reductions": (1,), "space": "none,skip_connect,dil_conv_3x3", "nodes": 1}
    search = Search(method, (8, 8, 3), 3, **{**sizes, **choices})
    search.compile()
    for index, alpha in enumerate(search.supernet.alphas):
        alpha.assign(np.random.default_rng(index).normal(size=alpha.shape))
    search.supernet.mixture.progress.assign(0.5)
    return search


def batch(seed=0, dtype="float32"):
    x = np.random.default_rng(seed).normal(size=(6, 8, 8, 3))
    return tf.constant(x, dtype), tf.constant([0, 1, 2] * 2)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_noise_of_no_size_is_darts_bit_for_bit(kind):
    none = {"perturb_from": 0.0, "perturb_to": 0.0} | ({"perturb_steps": 1} if kind == "adversarial" else {})
    still, usual = small_search(perturbation=kind, seed=5, **none), small_search(seed=5)
    for search in (still, usual):
        search.train_step((batch(), batch(1)))
    for ours, theirs in zip(still.supernet.variables, usual.supernet.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.usefixtures("eagerly")
def test_the_adversary_raises_the_loss_and_touches_neither_alpha_nor_the_running_statistics():
    search = small_search("sdarts_adv", perturb_steps=3)
    objective, values = search.objective, search.objective.values()
    before = [v.numpy() for v in search.supernet.variables]
    kind = search.method.axes["perturbation"]
    shifts = perturbed(kind, objective, values, batch())
    clean = objective.gradients(*values, batch())
    attacked = objective.gradients(*values, batch(), None, shifts)
    drawn = objective.gradients(*values, batch(), None, perturbed(Random(), objective, values, batch()))
    assert float(attacked["loss"]) > max(float(clean["loss"]), float(drawn["loss"]))
    for variable, value in zip(search.supernet.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "choices",
    [
        {
            **{
                "mixing": "softmax_eg",
                "arch_optimizer": "sgd",
                "partial_channels": 2,
                "channels": 4,
                "level": "single",
            },
            **{"cells": 3, "alignment_weight": 0.5, "search_drop_path": 0.2},
        },
        pytest.param({"sampling": "gumbel", "auxiliary_skip": True}, marks=pytest.mark.slow),
        pytest.param({"mixing": "sigmoid", "order": "joint", "sharing": "individual"}, marks=pytest.mark.slow),
    ],
)
def test_perturbations_mix_with_the_other_axes(choices):
    search = small_search("sdarts_adv", perturb_steps=1, **choices)
    before = [v.numpy() for v in search.supernet.trainable_variables]
    loss = search.train_step((batch(), batch(1)))["loss"]
    assert np.isfinite(float(loss))
    moved = [not np.array_equal(v, b) for v, b in zip(search.supernet.trainable_variables, before, strict=True)]
    assert np.mean(moved) > 0.8


def test_the_options_of_a_perturbation_are_its_own():
    assert get_method("sdarts_adv").differences() == {"perturbation": "adversarial"} | {
        "perturb_from": 0.03,
        "perturb_to": 0.3,
        "perturb_steps": 7,
    }
    with pytest.raises(KdartsError, match="perturb_steps 3: has no effect with perturbation 'random'"):
        get_method("sdarts_rs").override(perturb_steps=3)
