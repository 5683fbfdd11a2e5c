"""DrNAS: its Dirichlet distributions, their draws and their anchor."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.losses import anchor_divergence
from kdarts.search.relaxations import Concentration, Dirichlet
from kdarts.search.search import Search
from kdarts.supernet.relaxation import Softmax
from kdarts.supernet.supernet import Supernet

C = np.array([0.4, 1.0, 2.5])
"""Concentrations; α is ln c below 1 and c − 1 above."""

ALPHA = np.where(C < 1, np.log(C), C - 1)

DRAWS = 40_000


def draw(alpha, seed=(3, 1)):
    relaxation = Concentration()
    weights, logs = relaxation.weights(alpha), relaxation.log_weights(alpha)
    return Dirichlet().draw(weights, logs, None, 0.0, tf.constant(seed))


def test_concentrations_are_elu_plus_1_and_its_gradient_is_continuous():
    alpha = tf.constant([[-30.0, -0.5, 0.0, 2.0]])
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        c = tf.exp(Concentration().log_weights(alpha))
    np.testing.assert_allclose(c, tf.nn.elu(alpha) + 1, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(tape.gradient(c, alpha), np.minimum(np.exp(alpha), 1), rtol=1e-6)
    np.testing.assert_allclose(Concentration().weights(alpha), c / tf.reduce_sum(c), rtol=1e-6)
    np.testing.assert_array_equal(Concentration().ranking(alpha), Softmax().weights(alpha))
    # Far below, where elu(α) + 1 is 0 in 32 bits, the logarithm stays finite and so does its gradient.
    assert np.isfinite(Concentration().log_weights(tf.constant([[-1e30]]))).all()


def test_draws_have_the_moments_of_a_dirichlet_distribution():
    p = draw(tf.constant(np.tile(ALPHA, (DRAWS, 1)), tf.float32)).numpy().astype(float)
    whole = C.sum()
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(p.mean(0), C / whole, atol=0.005)
    second = C[:, None] * (C[None] + np.eye(3)) / (whole * (whole + 1))
    np.testing.assert_allclose(p.T @ p / DRAWS, second, atol=0.005)


def test_the_mean_gradient_of_the_draws_is_that_of_their_mean():
    alpha = tf.constant(np.tile(ALPHA, (DRAWS, 1)), tf.float32)
    whole, slope = C.sum(), np.minimum(C, 1)
    for j in range(3):
        with tf.GradientTape() as tape:
            tape.watch(alpha)
            drawn = draw(alpha)[:, j]
        found = tape.gradient(drawn, alpha).numpy()
        expected = (np.eye(3)[j] * whole - C[j]) / whole**2 * slope
        np.testing.assert_allclose(found.mean(0), expected, atol=0.006)


def test_large_concentrations_leave_no_noise():
    q, scale = np.array([[0.2, 0.3, 0.5]]), 3e3
    alpha = tf.constant(q * scale - 1)
    np.testing.assert_allclose(Concentration().weights(alpha), q, atol=1e-6)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(alpha)
        parts = tf.unstack(draw(alpha), axis=1)
    p = tf.stack(parts, 1)
    np.testing.assert_allclose(p, q, atol=0.03)
    # ∂p_j/∂c_k = (δ_jk − p_j) / c₀, the gradient of the mean.
    jacobian = [tape.gradient(part, alpha)[0] for part in parts]
    np.testing.assert_allclose(np.array(jacobian) * scale, np.eye(3) - q.T, atol=0.05)


def test_what_is_no_candidate_is_never_drawn_and_the_others_as_if_it_were_not_there():
    left = [np.array([[True, False, True], [True, True, False]])]
    options = {"mixing": "concentration", "sampling": "dirichlet", "nodes": 1, "multiplier": 1}
    net = Supernet("skip_connect,max_pool_3x3,dil_conv_3x3", (8, 8, 1), 2, 4, 2, candidates=left, **options)
    for alpha in net.alphas:
        alpha.assign([[-40, 0, -40], [3, -2, 0]])
    with tf.GradientTape() as tape:
        drawn = net.mixture.drawn(training=True)[0][0]
        value = tf.reduce_sum(drawn * tf.random.stateless_normal((2, 3), [1, 2]))
    assert (drawn.numpy()[~left[0]] == 0).all()
    np.testing.assert_allclose(tf.reduce_sum(drawn, 1), 1, atol=1e-6)
    slope = tape.gradient(value, net.alphas[0].value).numpy()
    assert np.isfinite(slope).all() and (slope[~left[0]] == 0).all()


def test_the_anchor_is_the_divergence_from_the_uniform_distribution():
    for c, expected in (
        ([[1.0] * 7], 0),
        ([[2.0, 1.0]], np.log(2) - 0.5),
        ([[2.0] + [1.0] * 6], 0.35305),
        ([[2.0, 1.0], [1.0, 2.0]], 2 * np.log(2) - 1),
        ([[5.0]], 0),
    ):
        np.testing.assert_allclose(anchor_divergence([tf.constant(c)]), expected, atol=5e-6)
    # What is no candidate does not count, whatever its c is.
    left = [np.array([[True, True, False]])]
    np.testing.assert_allclose(anchor_divergence([tf.constant([[2.0, 1.0, 9.0]])], left), np.log(2) - 0.5, atol=2e-6)


def test_the_anchor_pulls_alpha_back_to_zero():
    alpha = tf.constant([[0.0] * 7], tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(alpha)
        with tf.GradientTape() as inner:
            inner.watch(alpha)
            value = anchor_divergence([tf.exp(Concentration().log_weights(alpha))])
        slope = inner.gradient(value, alpha)
    np.testing.assert_allclose(slope, np.zeros((1, 7)), atol=1e-12)
    curvature = outer.jacobian(slope, alpha)[0, :, 0]
    expected = np.eye(7) * np.pi**2 / 6 - (np.pi**2 / 6 - sum(1 / k**2 for k in range(1, 7)))
    np.testing.assert_allclose(curvature, expected, atol=1e-9)


@pytest.mark.usefixtures("eagerly")
def test_the_anchor_adds_its_gradient_to_that_of_the_loss():
    batch = tf.random.stateless_normal((4, 8, 8, 1), [1, 2]), tf.constant([0, 1, 0, 1])
    found = []
    for weight in (0.0, 0.5):
        search = Search("drnas", (8, 8, 1), 2, channels=2, cells=1, nodes=1, anchor_weight=weight)
        search.supernet.alphas[0].assign(tf.random.stateless_normal((2, 7), [4, 5]))
        search.supernet.mixture.draws.assign(3)
        found.append(search.architecture_gradients(batch, batch)[0].numpy())
    alpha = tf.convert_to_tensor(search.supernet.alphas[0])
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        value = 0.5 * anchor_divergence([tf.nn.elu(alpha) + 1])
    np.testing.assert_allclose(found[1] - found[0], tape.gradient(value, alpha), atol=1e-5)


def test_what_needs_a_second_derivative_of_a_draw_is_refused():
    size = {"channels": 2, "cells": 1, "nodes": 1}
    for choices in ({"watch_hessian": 1}, {"stop": "eigenvalue"}):
        with pytest.raises(KdartsError, match="with sampling 'dirichlet' the loss has no second derivative in α"):
            Search("drnas", (8, 8, 1), 2, **size, **choices)
    with pytest.raises(KdartsError, match=r"anchor_weight 0.1: is for sampling 'dirichlet' only"):
        Search("darts", (8, 8, 1), 2, anchor_weight=0.1, **size)


@pytest.mark.usefixtures("eagerly")
def test_the_unrolled_gradient_goes_through_a_draw():
    """α enters the step once, so that also its exact derivative needs none of the draw's own."""
    batch = tf.random.stateless_normal((4, 8, 8, 1), [1, 2]), tf.constant([0, 1, 0, 1])
    size = {"channels": 2, "cells": 1, "nodes": 1, "space": "skip_connect,dil_conv_3x3"}
    first, exact = (Search("drnas", (8, 8, 1), 2, order=order, **size) for order in ("first", "exact"))
    found = [search.architecture_gradients(batch, batch)[0].numpy() for search in (first, exact)]
    assert np.isfinite(found).all() and 1e-5 < np.abs(found[1] - found[0]).max() < np.abs(found[0]).max()
