"""Scores without training: NASWOT, AZ-NAS, live parameters, the rule score, and the search by them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.zero_cost import activation_kernel, log_determinant, naswot
from kdarts.supernet.supernet import Supernet


def _relus(units: int) -> keras.Model:
    """ReLUs of the inputs themselves, and logits of them."""
    x = keras.Input((units,))
    return keras.Model(x, keras.layers.Dense(3, kernel_initializer="ones")(keras.layers.ReLU()(x)))


def test_naswot_of_two_images_is_that_of_their_hamming_distance():
    signs = np.array([[1, 1, -1, -1, 1, -1, 1], [1, -1, -1, 1, 1, -1, -1]], np.float32)
    units, distance = 7, 3
    assert naswot(_relus(units), signs) == pytest.approx(np.log(distance * (2 * units - distance)))


def test_naswot_of_two_equal_images_is_minus_infinity():
    signs = np.array([[1, -1, 1, -1]] * 2 + [[1, 1, 1, 1]], np.float32)
    assert naswot(_relus(4), signs) == -np.inf
    assert log_determinant(np.diag([4.0, 4.0])) == pytest.approx(np.log(16))


def test_naswot_needs_relus():
    x = keras.Input((4,))
    with pytest.raises(KdartsError, match="no ReLU"):
        naswot(keras.Model(x, keras.layers.Dense(2)(x)), np.ones((2, 4), np.float32))


def test_naswot_of_a_supernet_depends_on_what_its_mixtures_leave_and_not_on_the_scale_of_its_weights(eagerly):
    """Nor does it change anything: the weights of what is cut off do not count, those of what is left do."""
    net = Supernet("nasbench201", (8, 8, 1), 3, channels=4, cells=1)
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype("float32")
    kernel = activation_kernel(lambda x, mixing: net.classify(net.states(x, True, [(mixing, None)])[-1]))
    before = [variable.numpy() for variable in net.variables]

    def score(*columns):
        return log_determinant(kernel(images, tf.one_hot(columns, 5)).numpy())

    convolutions, cut = score(*[3] * 6), score(3, 3, 0, 0, 0, 3)
    assert convolutions != cut and np.isfinite([convolutions, cut]).all()
    assert all(np.array_equal(v, old) for v, old in zip(net.variables, before, strict=True))
    stack = net.cells[0].mixed_edges[0].stacks[3]
    stack.step_weights[1][0].assign(4 * stack.step_weights[1][0])
    assert score(*[3] * 6) == pytest.approx(convolutions, rel=1e-3)
    stack.step_weights[1][0].assign(stack.step_weights[1][0][::-1])  # Of node 1 to all, of which one edge is cut off.
    assert score(*[3] * 6) != pytest.approx(convolutions, rel=1e-3)
    left = score(3, 3, 0, 0, 0, 3)
    net.cells[0].mixed_edges[1].stacks[3].step_weights[1][0].assign(tf.zeros((3, 3, 4, 8)))
    assert score(3, 3, 0, 0, 0, 3) == left
