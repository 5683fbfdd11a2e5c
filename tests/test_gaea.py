"""GAEA: exponentiated gradient on the mixing weights, as plain descent of α."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli import idle
from kdarts.cli.options import chosen_method
from kdarts.cli.search import SEARCH
from kdarts.search.method import get_method
from kdarts.search.optimizers import SGD
from kdarts.search.relaxations import LEAST
from kdarts.search.search import Search
from kdarts.supernet.parameters import Mixture
from kdarts.supernet.relaxation import Softmax, get_relaxation

OPERATIONS = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
RNG = np.random.default_rng(0)


def mixture(**options) -> Mixture:
    """Of one cell of two nodes, in float64: five edges, the first two into one node."""
    made = Mixture(1, 2, OPERATIONS, "softmax_eg", shares=True, dtype="float64", **options)
    assert not np.any(made.alphas[0]) and not np.any(made.betas[0])
    return made


def descend(made: Mixture, by_weights, by_shares, rate: float) -> None:
    """One step on a loss whose gradients by the mixing weights and by the shares are given."""
    variables = [*made.alphas, *made.betas]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(made.weights_of_operations()[0] * by_weights)
        loss += tf.reduce_sum(made.shares()[0] * by_shares)
    SGD(rate).apply(tape.gradient(loss, [v.value for v in variables]), variables)
    made.keep_bounded()


def values(made: Mixture):
    return made.weights_of_operations()[0].numpy(), made.shares()[0].numpy()


def exponentiated(p, g, rate):
    """A step, with the lower bound of the authors' program."""
    p = p * np.exp(-rate * g)
    p = np.maximum(p / p.sum(-1, keepdims=True), LEAST)
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("rate", [0.125, 3.0, 30.0])
def test_a_step_is_one_of_exponentiated_gradient(rate):
    made = mixture()
    for _ in range(3):
        g, h = RNG.normal(size=(5, 4)), RNG.normal(size=5)
        p, s = values(made)
        descend(made, g, h, rate)
        found, shares = values(made)
        np.testing.assert_allclose(found, exponentiated(p, g, rate), rtol=0, atol=1e-12)
        of_nodes = [exponentiated(s[part], h[part], rate) for part in (slice(0, 2), slice(2, 5))]
        np.testing.assert_allclose(shares, np.concatenate(of_nodes), rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-12)
    assert rate < 30 or found.min() == pytest.approx(LEAST, rel=1e-4)


def test_a_constant_in_the_gradient_of_an_edge_changes_nothing():
    one, other = mixture(), mixture()
    g, h = RNG.normal(size=(5, 4)), RNG.normal(size=5)
    descend(one, g, h, 0.5)
    descend(other, g + RNG.normal(size=(5, 1)), h + np.array([2, 2, -1, -1, -1]), 0.5)
    np.testing.assert_allclose(values(one)[0], values(other)[0], atol=1e-12)
    np.testing.assert_allclose(values(one)[1], values(other)[1], atol=1e-12)


def test_on_a_linear_loss_the_ratio_of_two_weights_grows_by_the_rate_times_their_slopes():
    made, g = mixture(), RNG.normal(size=(5, 4))
    for step in range(1, 6):
        descend(made, g, np.zeros(5), 0.125)
        logs = np.log(values(made)[0])
        np.testing.assert_allclose(logs - logs[:, :1], -0.125 * step * (g - g[:, :1]), atol=1e-12)


def test_what_is_no_candidate_any_more_stays_out():
    present = np.array([[True, True, False, True]] * 5)
    made = mixture(candidates=[present])
    descend(made, RNG.normal(size=(5, 4)), np.zeros(5), 50.0)
    found, _ = values(made)
    assert not found[:, 2].any() and not made.alphas[0].numpy()[:, 2].any()
    assert found[:, [0, 1, 3]].min() == pytest.approx(LEAST, rel=1e-4)


def test_it_lacks_the_jacobian_of_darts_and_nothing_else():
    alpha, g = tf.constant(RNG.normal(size=(5, 4))), RNG.normal(size=(5, 4))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(alpha)
        weights = [relaxation.weights(alpha) for relaxation in (Softmax(), get_relaxation("softmax_eg"))]
        losses = [tf.reduce_sum(tf.sin(w) * g) for w in weights]
    np.testing.assert_array_equal(*weights)
    # Of an array, as a report reads it.
    np.testing.assert_array_equal(get_relaxation("softmax_eg").weights(alpha.numpy()), weights[0])
    usual, free = (tape.gradient(loss, alpha).numpy() for loss in losses)
    p = weights[0].numpy()
    np.testing.assert_allclose(free, np.cos(p) * g, atol=1e-12)
    np.testing.assert_allclose(usual, p * (free - (p * free).sum(-1, keepdims=True)), atol=1e-12)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "choices",
    [
        {"partial_channels": 2, "nodes": 2, "space": "none,skip_connect,dil_conv_3x3"},
        pytest.param({"space": "nasbench201"}, marks=pytest.mark.slow),
    ],
)
def test_a_search_moves_alpha_by_exponentiated_gradient(choices):
    search = Search("gaea", (8, 8, 1), 10, channels=4, cells=1, dtype="float64", **choices)
    search.compile()
    search.arch_optimizer.learning_rate = 5.0
    pair = [(tf.constant(RNG.normal(size=(4, 8, 8, 1))), tf.constant([0, 1, 2, 3])) for _ in range(2)]
    gradients = search.architecture_gradients(*pair, betas=True)
    before = [w.numpy() for w in search.supernet.mixing_weights()]
    search.train_step(pair)
    for p, g, after in zip(before, gradients, search.supernet.mixing_weights(), strict=False):
        assert np.any(g)
        np.testing.assert_allclose(after, exponentiated(p, g.numpy(), 5.0), atol=1e-12)
    assert len(search.supernet.betas) == len(before) * ("partial_channels" in choices)
    for beta, g in zip(search.supernet.betas, gradients[len(before) :], strict=False):
        np.testing.assert_allclose(beta, -5.0 * g.numpy(), atol=1e-12)
        assert np.any(g)


def test_what_gaea_asks_for():
    method = get_method("gaea")
    assert method.differences() == {
        "mixing": "softmax_eg",
        "arch_optimizer": "sgd",
        "arch_learning_rate": 0.1,
        "arch_l2": 0.0,
    }
    optimizer = method.axes["update"].optimizer()
    assert isinstance(optimizer, SGD) and (optimizer.momentum, optimizer.l2, optimizer.global_clipnorm) == (0, 0, None)
    assert method.small().arch_learning_rate == 1.0
    values = SEARCH.parse(["search", "--method=gaea", "--arch_beta_1=0.9"])
    [note] = idle.in_search(values, chosen_method(values))
    assert note == "--arch_beta_1=0.9: has no effect with --arch_optimizer=sgd; it is for adam"
