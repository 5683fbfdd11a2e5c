"""The three gradients of α against numeric derivatives, against each other and against the reference code."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import numbered_by_reference, state_dict

from kdarts.genotypes.errors import KdartsError
from kdarts.networks.reference import load_reference_state
from kdarts.ops import kernels
from kdarts.search import gradients
from kdarts.search.optimizers import SGD
from kdarts.search.search import Search
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

FEW = SearchSpace("few", ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5"), 1, 1)
KINDS = ("normal", "reduce")
first, second, forward, exact = map(gradients.get_order, ("first", "second", "second_forward", "exact"))


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def _batches(dtype="float64", size=8, batch=6):
    return [
        (tf.constant(_random(batch, size, size, 2, seed=s), dtype), tf.constant(np.arange(s, s + batch) % 3))
        for s in (1, 2)
    ]


def _search(order, dtype="float64", **kwargs) -> Search:
    """A tiny search in the midst of its run: α are spread, the momentum buffers are filled."""
    net = Supernet(FEW, (8, 8, 2), 3, channels=2, cells=2, reductions=(1,), dtype=dtype)
    for index, variable in enumerate(net.trainable_variables):
        scale = 1 if any(variable is alpha for alpha in net.alphas) else 0.5
        variable.assign(scale * _random(*variable.shape, seed=10 + index))
    search = Search(net, order=order, learning_rate=0.1, **kwargs)
    search.compile()
    for index, buffer in enumerate(search.optimizer.buffers):
        buffer.assign(0.1 * _random(*buffer.shape, seed=1000 + index))
    return search


def _smooth(monkeypatch):
    """As in the smooth reference files: no kink is left for a finite difference to cross."""
    monkeypatch.setattr(tf.nn, "relu", lambda x: tf.math.softplus(3 * x) / 3)
    monkeypatch.setattr(kernels, "max_pool", kernels.average_pool)


def _relative(ours, theirs):
    return max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)) / max(np.abs(b).max() for b in theirs)


def _slope(search, train, valid, unrolled, step):
    """Derivative of L_valid(w'(α), α) along one direction of α, by central differences on the supernet itself."""
    net, optimizer = search.supernet, search.optimizer
    weights, start = net.network_variables, [v.numpy() for v in net.trainable_variables]
    directions = [_random(*alpha.shape, seed=77 + i) for i, alpha in enumerate(net.alphas)]
    alphas = [alpha.numpy() for alpha in net.alphas]

    def loss_and_gradients(x, y):
        with tf.GradientTape() as tape:
            logits = net(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        return loss, tape.gradient(loss, [w.value for w in weights])

    def objective(shift):
        for alpha, value, direction in zip(net.alphas, alphas, directions, strict=True):
            alpha.assign(value + shift * direction)
        if unrolled:
            _, by_weights = loss_and_gradients(*train)
            for weight, gradient, buffer in zip(weights, by_weights, optimizer.buffers, strict=True):
                weight.assign_sub(0.1 * (0.9 * buffer + gradient + 3e-4 * weight))
        loss, _ = loss_and_gradients(*valid)
        for variable, value in zip(net.trainable_variables, start, strict=True):
            variable.assign(value)
        return loss.numpy()

    return (objective(step) - objective(-step)) / (2 * step), directions


def _along(found, directions):
    return sum(np.sum(g * d) for g, d in zip(found, directions, strict=True))


@pytest.mark.parametrize("order, unrolled", [("first", False), ("exact", True)])
def test_the_gradient_is_the_derivative_of_the_validation_loss(order, unrolled):
    search, (train, valid) = _search(order), _batches()
    found = search.architecture_gradients(train, valid)
    numeric, directions = _slope(search, train, valid, unrolled, 1e-6)
    other, _ = _slope(search, train, valid, not unrolled, 1e-6)
    np.testing.assert_allclose(_along(found, directions), numeric, rtol=1e-6)
    assert abs(numeric - other) > 1e-3 * abs(numeric), "the two orders cannot be told apart here"


@pytest.mark.slow
def test_finite_differences_approach_the_exact_gradient_with_the_square_of_their_reach(monkeypatch):
    _smooth(monkeypatch)
    search, (train, valid) = _search("second"), _batches()
    given = search.objective, train, valid, search.optimizer
    true = exact(*given).gradients
    assert _relative(first(*given).gradients, true) > 0.01
    errors = [_relative(second(*given, radius=radius).gradients, true) for radius in (1e-3, 1e-4)]
    assert errors[1] < 1e-6 and 80 < errors[0] / errors[1] < 120
    one_sided = [_relative(forward(*given, radius=radius).gradients, true) for radius in (1e-3, 1e-4)]
    assert one_sided[1] < 1e-3 and 8 < one_sided[0] / one_sided[1] < 12
    assert gradients.RADIUS == 0.01
    ahead = *given[:3], SGD(0.1, 0.9, 3e-4, nesterov=True)
    assert _relative(second(*ahead, radius=1e-4).gradients, exact(*ahead).gradients) < 1e-5
    as_searched = search.architecture_gradients(train, valid)
    assert _relative(as_searched, second(*given).gradients) < 1e-9


def test_without_a_step_behind_it_momentum_counts_as_zero():
    search, (train, valid) = _search("second"), _batches()
    for buffer in search.optimizer.buffers:
        buffer.assign(tf.zeros_like(buffer))
    zero = second(search.objective, train, valid, search.optimizer).gradients
    fresh = SGD(0.1, 0.9, 3e-4)
    assert not fresh.buffers
    assert _relative(second(search.objective, train, valid, fresh).gradients, zero) < 1e-12


def test_an_unknown_order_is_refused():
    with pytest.raises(KdartsError, match="unknown order 'third'; allowed: first, second, second_forward, exact"):
        gradients.get_order("third")


def _reference_search(arrays: dict, cells: int, order: str, dtype: str):
    """The reference's search after some steps, its batches, and its weights' names."""
    net = Supernet("darts", (32, 32, 3), 10, channels=4, cells=cells, dtype=dtype)
    search = Search(net, order=order)
    search.compile()
    load_reference_state(net, state_dict(arrays, ("mom:",)))
    for buffer, weight in zip(search.optimizer.buffers, net.network_variables, strict=True):
        buffer.assign(weight)
    load_reference_state(net, state_dict(arrays))
    for alpha, kind in zip(net.alphas, KINDS, strict=True):
        alpha.assign(arrays[f"alphas_{kind}"])
    return search, *[
        (tf.constant(arrays[f"x_{half}"].transpose(0, 2, 3, 1), dtype), tf.constant(arrays[f"y_{half}"]))
        for half in ("train", "val")
    ]


def _reference_gradient(arrays: dict, key: str, suffix: str = ""):
    return [arrays[f"{key}_{kind}{suffix}"] for kind in KINDS]


@pytest.mark.slow
def test_smooth_gradients_equal_the_reference(golden, monkeypatch):
    _smooth(monkeypatch)
    arrays = golden("darts_second_order_smooth.npz")
    search, train, valid = _reference_search(arrays, 5, "second", "float64")
    given = search.objective, train, valid, search.optimizer
    assert _relative(first(*given).gradients, _reference_gradient(arrays, "first_order")) < 1e-5
    found = second(*given).gradients
    assert _relative(found, _reference_gradient(arrays, "fd64")) < 1e-7
    assert _relative(found, _reference_gradient(arrays, "exact")) < 1e-4
    assert _relative(exact(*given).gradients, _reference_gradient(arrays, "exact")) < 2e-7


@pytest.mark.slow
def test_finite_differences_equal_the_reference(golden):
    arrays = golden("darts_second_order.npz")
    search, train, valid = _reference_search(arrays, 8, "second", "float64")
    given = search.objective, train, valid, search.optimizer
    fresh = *given[:3], SGD(0.025, 0.9, 3e-4)
    assert _relative(first(*given).gradients, _reference_gradient(arrays, "first_order")) < 1e-5
    assert _relative(second(*given).gradients, _reference_gradient(arrays, "fd64")) < 1e-7
    assert _relative(second(*fresh).gradients, _reference_gradient(arrays, "fd64", "_nomom")) < 1e-7
    close = second(*fresh, radius=1e-6).gradients
    assert _relative(close, _reference_gradient(arrays, "fd64_r1e-6", "_nomom")) < 1e-6
    assert _relative(close, _reference_gradient(arrays, "exact", "_nomom")) < 1e-3


@pytest.mark.slow
def test_exact_gradients_equal_the_reference(golden):
    arrays = golden("darts_second_order.npz")
    search, train, valid = _reference_search(arrays, 8, "exact", "float64")
    found = search.architecture_gradients(train, valid)
    assert _relative(found, _reference_gradient(arrays, "exact")) < 2e-7
    for buffer in search.optimizer.buffers:
        buffer.assign(tf.zeros_like(buffer))
    found = search.architecture_gradients(train, valid)
    assert _relative(found, _reference_gradient(arrays, "exact", "_nomom")) < 2e-7


def _adam_steps(alpha, gradients, l2):
    """Where PyTorch's Adam moves α to, with DARTS' learning rate and betas."""
    alpha, first, second = np.float64(alpha), 0.0, 0.0
    for step, gradient in enumerate(gradients, 1):
        gradient = gradient + l2 * alpha
        first, second = 0.5 * first + 0.5 * gradient, 0.999 * second + 0.001 * gradient**2
        alpha = alpha - 3e-4 * (first / (1 - 0.5**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return alpha


def test_the_steps_of_the_alphas_equal_the_reference(golden):
    arrays = golden("darts_second_order.npz")
    search = Search(Supernet("darts", (8, 8, 3), 10, channels=4, cells=3))
    search.compile()
    alphas, optimizer = search.supernet.alphas, search.arch_optimizer
    for alpha, kind in zip(alphas, KINDS, strict=True):
        alpha.assign(arrays[f"alphas_{kind}"])
    given = [_reference_gradient(arrays, "fd")]
    optimizer.apply([tf.constant(g) for g in given[0]], alphas)
    for alpha, kind in zip(alphas, KINDS, strict=True):
        assert np.abs(alpha - arrays[f"alphas_{kind}"]).max() > 2e-4
        np.testing.assert_allclose(alpha, arrays[f"alphas_{kind}_after"], rtol=0, atol=1e-6)
    # A first step has only the gradient's signs, which the L2 penalty does not change here. Steps along gradients as
    # small as the penalty, from empty moments, depend on it.
    for variable in optimizer.variables:
        if variable is not optimizer._learning_rate:
            variable.assign(tf.zeros_like(variable))
    given = [[1e-3 * _random(*a.shape, seed=seed + i) for i, a in enumerate(alphas)] for seed in range(0, 10, 2)]
    before = [alpha.numpy() for alpha in alphas]
    for gradients_of_step in given:
        optimizer.apply([tf.constant(g, tf.float32) for g in gradients_of_step], alphas)
    for alpha, start, each in zip(alphas, before, zip(*given, strict=True), strict=True):
        np.testing.assert_allclose(alpha, _adam_steps(start, each, 1e-3), rtol=0, atol=2e-6)
        assert np.abs(alpha - _adam_steps(start, each, 0.0)).max() > 5e-4


def test_without_any_slope_of_the_loss_the_l2_penalty_moves_alpha_towards_zero():
    search = _search("first", arch_learning_rate=0.1, arch_l2=0.01)
    before = [alpha.numpy() for alpha in search.supernet.alphas]
    search.arch_optimizer.apply([tf.zeros_like(alpha) for alpha in before], search.supernet.alphas)
    for alpha, start in zip(search.supernet.alphas, before, strict=True):
        np.testing.assert_allclose(alpha, start - 0.1 * np.sign(start), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_step_of_the_weights_equals_the_reference(golden):
    arrays = golden("darts_second_order.npz")
    search, train, _ = _reference_search(arrays, 8, "first", "float32")
    net = search.supernet
    for alpha, kind in zip(net.alphas, KINDS, strict=True):
        alpha.assign(arrays[f"alphas_{kind}_after"])
    step = search.objective.gradients(*search.objective.values(), train)
    np.testing.assert_allclose(step["loss"], arrays["w_step_train_loss"], rtol=1e-5)
    np.testing.assert_allclose(tf.linalg.global_norm(step["by_weights"]), arrays["w_step_grad_norm"], rtol=1e-3)
    search.optimizer.apply(step["by_weights"], net.network_variables)
    after = [weight.numpy() for weight in net.network_variables]
    named = numbered_by_reference(net, state_dict(arrays))(net.network_variables, after)
    names = [key.removeprefix("wnorm_after:") for key in arrays if key.startswith("wnorm_after:")]
    assert set(names) == set(named)
    ours, theirs = [np.linalg.norm(named[n]) for n in names], [arrays[f"wnorm_after:{n}"] for n in names]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    for key in (key for key in arrays if key.startswith("w_after:")):
        np.testing.assert_allclose(named[key.removeprefix("w_after:")], arrays[key], rtol=0, atol=1e-4, err_msg=key)


@pytest.mark.usefixtures("eagerly")
def test_one_level_takes_both_gradients_at_the_same_place():
    """α moves as in first order with the training batch in place of the validation's, the weights as with α at rest."""
    train, valid = _batches()
    joint, alone, still = _search("joint"), _search("first"), _search("first", update="frozen")
    joint.train_step((train, valid))
    alone.train_step((train, train))
    still.train_step((train, valid))
    assert _relative(joint.supernet.alphas, alone.supernet.alphas) < 1e-12
    assert _relative(joint.supernet.network_variables, still.supernet.network_variables) < 1e-12
    other = _search("joint")
    other.train_step((train, train))
    assert _relative(other.supernet.alphas, joint.supernet.alphas) == 0  # the other batch only measures
    assert _relative(alone.supernet.network_variables, still.supernet.network_variables) > 1e-6
