"""Which candidates a pass goes through."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.relaxations import Concrete, Gumbel, RandomGenotype, ReinMax, TwoPaths, gumbel_noise, reinmax
from kdarts.search.search import Search
from kdarts.supernet.parameters import StageMixture
from kdarts.supernet.relaxation import Softmax, get_sampling
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

FEW = SearchSpace("few", ("none", "skip_connect", "dil_conv_3x3"), nodes=2, multiplier=2)


def gumbel(alpha, none, progress, seed):
    softmax = Softmax()
    return Gumbel().draw(softmax.weights(alpha), softmax.log_weights(alpha), none, progress, seed)


def random_genotype(weights, none, progress, seed):
    return RandomGenotype().draw(weights, None, none, progress, seed)


def _alpha(rows=5, columns=3, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(rows, columns)).astype("float32"))


def test_gumbel_draws_one_of_each_edge_as_often_as_its_weight_says():
    weights = Softmax().weights(_alpha())
    draws = [gumbel(_alpha(), 0, 0.0, tf.constant([step, 0])).numpy() for step in range(800)]
    assert all(np.array_equal(np.sort(d, -1)[:, :-1], np.zeros((5, 2))) for d in draws)
    np.testing.assert_allclose([d.max(-1) for d in draws], 1, atol=1e-6)
    np.testing.assert_allclose(np.mean(draws, 0), weights, atol=0.06)
    again = gumbel(_alpha(), 0, 0.0, tf.constant([7, 0])).numpy()
    np.testing.assert_array_equal(again, draws[7])
    assert any(not np.array_equal(again, d) for d in draws[:7])


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_gumbel_passes_the_gradient_of_what_is_drawn_through_the_tempered_softmax(progress):
    alpha, seed = _alpha(), tf.constant([3, 1])
    upstream = _alpha(seed=1)
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        drawn = gumbel(alpha, 0, progress, seed)
        value = tf.reduce_sum(drawn * upstream)
    noise = -np.log(-np.log(tf.random.stateless_uniform((5, 3), seed, 1e-20, 1.0).numpy()))
    temperature = 10.0 + (0.1 - 10.0) * progress
    scores = (alpha.numpy() - np.log(np.exp(alpha).sum(-1, keepdims=True)) + noise) / temperature
    soft = np.exp(scores - scores.max(-1, keepdims=True))
    soft /= soft.sum(-1, keepdims=True)
    chosen = np.argmax(scores, -1)
    np.testing.assert_array_equal(np.argmax(drawn, -1), chosen)
    rows = np.arange(5)
    g = upstream.numpy()[rows, chosen] * soft[rows, chosen]
    expected = g[:, None] * (np.eye(3)[chosen] - soft) / temperature
    np.testing.assert_allclose(tape.gradient(value, alpha), expected, atol=1e-5)


def test_a_measuring_pass_of_gumbel_takes_the_most_probable():
    weights = Softmax().weights(_alpha())
    taken = gumbel(_alpha(), 0, 0.3, None).numpy()
    np.testing.assert_array_equal(taken, np.eye(3)[np.argmax(weights, -1)])


def concrete(alpha, progress, seed):
    softmax = Softmax()
    return Concrete().draw(softmax.weights(alpha), softmax.log_weights(alpha), None, progress, seed)


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_the_largest_concrete_weight_is_a_draw_by_the_softmax(progress):
    alpha = tf.repeat(_alpha(), 2000, 0)
    drawn = concrete(alpha, progress, tf.constant([3, 1])).numpy()
    np.testing.assert_allclose(drawn.sum(-1), 1, atol=1e-5)
    frequency = np.eye(3)[drawn.argmax(-1)].reshape(5, 2000, 3).mean(1)
    np.testing.assert_allclose(frequency, Softmax().weights(_alpha()), atol=0.04)
    # At τ = 0.03 nearly every draw is one candidate; at τ = 1 it is not.
    assert (np.quantile(drawn.max(-1), 0.1) > 0.95) == (progress == 1)


def test_concrete_weights_without_noise_at_temperature_1_are_those_of_darts(monkeypatch):
    monkeypatch.setattr("kdarts.search.relaxations.gumbel_noise", lambda like, seed: tf.zeros_like(like))
    np.testing.assert_allclose(concrete(_alpha(), 0.0, tf.constant([3, 1])), Softmax().weights(_alpha()), atol=1e-6)
    cold = concrete(_alpha(), 1.0, tf.constant([3, 1])).numpy()
    np.testing.assert_allclose(cold, np.eye(3)[np.argmax(_alpha(), -1)], atol=0.02)
    np.testing.assert_allclose(concrete(_alpha(), 1.0, None), Softmax().weights(_alpha()), atol=1e-6)


def test_concrete_weights_have_the_gradient_of_the_tempered_softmax():
    alpha, seed, upstream = _alpha(), tf.constant([3, 1]), _alpha(seed=1).numpy()
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        value = tf.reduce_sum(concrete(alpha, 0.5, seed) * upstream)
    temperature = 1 + (0.03 - 1) * 0.5
    z = tf.nn.softmax((tf.nn.log_softmax(alpha) + gumbel_noise(alpha, seed)) / temperature).numpy()
    expected = z * (upstream - (z * upstream).sum(-1, keepdims=True)) / temperature
    np.testing.assert_allclose(tape.gradient(value, alpha), expected, atol=1e-5)


def test_reinmax_draws_as_gumbel_does():
    alpha, softmax = _alpha(), Softmax()
    for seed in (None, tf.constant([3, 1])):
        drawn = ReinMax().draw(softmax.weights(alpha), softmax.log_weights(alpha), None, 0.0, seed)
        np.testing.assert_allclose(drawn, gumbel(alpha, None, 0.0, seed), atol=1e-6)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_mean_of_reinmax_is_the_gradient_of_the_mean_up_to_a_quadratic_loss(degree):
    """By all draws, each with its probability; that of the straight-through estimate only for a linear loss."""
    alpha = tf.constant(np.random.default_rng(2).normal(size=(1, 4)))
    factors = [tf.constant(np.random.default_rng(k).normal(size=(4,) * k)) for k in range(1, degree + 1)]

    def loss(p):
        value = 0.0
        for factor in factors:
            for _ in range(len(factor.shape)):
                factor = tf.tensordot(factor, p[0], 1)
            value += factor
        return value

    found, plain = np.zeros((2, 4))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(alpha)
        softmax = tf.nn.softmax(alpha)
        mean = tf.add_n([softmax[0, k] * loss(tf.one_hot([k], 4, dtype=alpha.dtype)) for k in range(4)])
        drawn = [tf.one_hot([k], 4, dtype=alpha.dtype) for k in range(4)]
        losses = [loss(reinmax(tf.nn.log_softmax(alpha), one)) for one in drawn]
        straight = [loss(one + softmax - tf.stop_gradient(softmax)) for one in drawn]
    for k in range(4):
        each = tape.gradient(losses[k], alpha).numpy()[0]
        assert abs(each.sum()) < 1e-12
        found += softmax[0, k].numpy() * each
        plain += softmax[0, k].numpy() * tape.gradient(straight[k], alpha).numpy()[0]
    expected = tape.gradient(mean, alpha).numpy()[0]
    assert np.allclose(found, expected, atol=1e-12) == (degree < 3)
    assert np.allclose(plain, expected, atol=1e-12) == (degree < 2)


def test_the_temperature_of_reinmax_is_that_of_the_middle():
    alpha, upstream, drawn = _alpha(), _alpha(seed=1).numpy(), np.eye(3)[[0, 1, 2, 0, 1]].astype("float32")
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        value = tf.reduce_sum(reinmax(alpha, tf.constant(drawn), 2.0) * upstream)

    def projected(q):
        return q * (upstream - (q * upstream).sum(-1, keepdims=True))

    middle, p = (tf.nn.softmax(alpha / 2).numpy() + drawn) / 2, tf.nn.softmax(alpha).numpy()
    np.testing.assert_allclose(tape.gradient(value, alpha), 2 * projected(middle) - projected(p) / 2, atol=1e-6)
    with pytest.raises(KdartsError, match=r"gradient_temperature 0\.9: allowed is from 1"):
        ReinMax(gradient_temperature=0.9)


def two_paths(alpha, seed):
    softmax = Softmax()
    return TwoPaths().draw(softmax.weights(alpha), softmax.log_weights(alpha), None, 0.0, seed)


def test_two_paths_are_drawn_by_their_probabilities_and_share_the_weight():
    rows = 4000
    alpha = tf.repeat(_alpha(1, 4), rows, 0)
    drawn, p = two_paths(alpha, tf.constant([3, 1])).numpy(), Softmax().weights(_alpha(1, 4)).numpy()[0]
    taken = drawn > 0
    assert (taken.sum(-1) == 2).all()
    np.testing.assert_allclose(drawn, taken * p / (taken * p).sum(-1, keepdims=True), rtol=1e-5)
    second = [sum(p[j] * p[k] / (1 - p[j]) for j in range(4) if j != k) for k in range(4)]
    np.testing.assert_allclose(taken.mean(0), p + second, atol=4 * 0.5 / rows**0.5)
    np.testing.assert_array_equal(two_paths(alpha, tf.constant([3, 1])), drawn)
    np.testing.assert_array_equal(two_paths(_alpha(), None), np.eye(3)[np.argmax(_alpha(), -1)])
    one = tf.where(tf.constant([True, False, False]), 0.0, -1e30 * tf.ones((5, 3)))
    np.testing.assert_array_equal(TwoPaths().draw(None, one, None, 0.0, tf.constant([1, 0])), [[1, 0, 0]] * 5)


def test_the_gradient_of_two_paths_is_that_of_their_own_softmax():
    alpha, upstream = _alpha(), _alpha(seed=1).numpy()
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        drawn = two_paths(alpha, tf.constant([3, 1]))
        value = tf.reduce_sum(drawn * upstream)
    z = drawn.numpy()
    expected = z * (upstream - (z * upstream).sum(-1, keepdims=True))
    np.testing.assert_allclose(tape.gradient(value, alpha), expected, atol=1e-6)


def test_a_step_along_two_paths_leaves_the_others_their_probability():
    before, after, offset = _alpha(), _alpha(seed=7), np.array([0.3, -0.2, 0.1], np.float32)
    drawn = two_paths(before, tf.constant([2, 2]))
    logs = Softmax().log_weights(before + offset)
    moved, taken = TwoPaths().moved(before, after, drawn, logs).numpy(), drawn.numpy() > 0
    was, now = (tf.nn.softmax(alpha + offset).numpy() for alpha in (before, moved))
    np.testing.assert_allclose(now[~taken], was[~taken], rtol=1e-5)
    np.testing.assert_array_equal(moved[~taken], before.numpy()[~taken])
    ahead = (after - before).numpy()[taken].reshape(5, 2)
    shifted = (moved - before.numpy())[taken].reshape(5, 2)
    np.testing.assert_allclose(np.diff(shifted), np.diff(ahead), atol=1e-5)


def chain(sampling, **choices):
    """A search for a chain of narrow blocks, and two batches for it."""
    search = Search("darts", (8, 8, 1), 3, space="mobile", width=0.5, sampling=sampling, **choices)
    search.compile()
    random = np.random.default_rng(0)
    batches = [(random.normal(size=(4, 8, 8, 1)).astype("float32"), random.integers(3, size=4)) for _ in range(2)]
    return search, [tuple(map(tf.constant, batch)) for batch in batches]


def test_a_step_in_a_chain_moves_two_blocks_a_place_and_computes_no_other(eagerly):
    search, (train, valid) = chain("two_paths", arch_learning_rate=0.1)
    net, [alpha] = search.supernet, search.supernet.alphas
    before = alpha.numpy()
    net.mixture.draws.assign(1)
    [(drawn, _)] = net.mixture.drawn(training=True)
    net.mixture.draws.assign(0)
    taken, allowed = drawn.numpy() > 0, net.allowed[:, 0, 0]
    statistics = {v.path: v.numpy() for v in net.non_trainable_variables if "op_grid" in v.path or "_mean" in v.path}
    search.train_step((train, valid))
    assert (taken.sum(1) == 2).all() and not taken[~allowed].any() and int(net.mixture.draws) == 2
    assert (alpha.numpy() != before)[taken].all() and (alpha.numpy() == before)[~taken].all()
    for was, now in zip(tf.nn.softmax(before).numpy(), tf.nn.softmax(alpha).numpy(), strict=True):
        assert np.isfinite(was).all() and np.isfinite(now).all()
    weights = [tf.nn.softmax(np.where(allowed, a, -np.inf)).numpy() for a in (before, alpha.numpy())]
    np.testing.assert_allclose(weights[0][~taken], weights[1][~taken], rtol=1e-5)
    assert statistics
    [(drawn, _)] = net.mixture.drawn(training=True)
    for stage, choice in np.argwhere(allowed & (drawn.numpy() == 0)):
        for layer in net.chains[f"op_grid.{stage}.0.0.{choice}"].layers:
            for variable in layer.trainable_variables:
                variable.assign(variable * np.nan)
    assert np.isfinite(net.classify(net.states(train[0], training=True)[-1])).all()


@pytest.mark.parametrize("sampling", ["two_paths", pytest.param("gumbel", marks=pytest.mark.slow)])
def test_the_gradient_in_a_chain_is_that_of_all_blocks_computed(sampling, monkeypatch):
    found = []
    for leaves in (None, 0):
        if leaves is not None:
            monkeypatch.setattr(StageMixture, "leaves", leaves)
        search, batches = chain(sampling, seed=3, blocks="mb_k3_e3,mb_k5_e1,skip")
        found.append(search.architecture_gradients(*batches)[0])
    assert np.any(found[0])
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"space": "mobile", "sampling": "random"}, "sampling 'random' is about cells"),
        ({"space": "mobile", "sampling": "fair_paths"}, "sampling 'fair_paths' is about cells"),
        (
            {"space": "multichannelnet", "sampling": "gumbel"},
            "'gumbel' is about cells and chains of choices; of states",
        ),
        ({"space": "mobile", "sampling": "two_paths", "mixing": "sigmoid"}, "'two_paths': needs mixing 'softmax', got"),
    ],
)
def test_a_sampling_that_does_not_fit_is_refused(choices, said):
    with pytest.raises(KdartsError, match=said):
        Search("darts", (8, 8, 1), 3, **choices)


def test_a_random_genotype_has_two_inputs_of_each_node_and_never_none():
    weights, counts = Softmax().weights(_alpha(14)), np.zeros((14, 3))
    for step in range(300):
        drawn = random_genotype(weights, 0, 0.0, tf.constant([step, 0])).numpy()
        first = 0
        for node in range(2, 6):
            rows = drawn[first : first + node]
            assert rows.sum() == 2 and rows.max() == 1 and rows.sum(1).max() == 1
            first += node
        counts += drawn
    assert not counts[:, 0].any()
    np.testing.assert_allclose(counts[9:, 1:] / 300, 2 / 5 / 2, atol=0.09)  # the last node: 2 of 5 edges, 2 operations
    some_left = tf.constant([[0.0, 0.0, 1.0]] * 5)
    assert random_genotype(some_left, 0, 0.0, tf.constant([1, 0])).numpy()[:, 1].sum() == 0
    np.testing.assert_array_equal(random_genotype(weights, 0, 0.0, None), weights)


@pytest.mark.parametrize("sampling", ["gumbel", "random"])
def test_a_supernet_draws_anew_only_when_told(sampling):
    net = Supernet(FEW, (8, 8, 3), 3, channels=4, cells=2, reductions=(1,), sampling=sampling)
    net.mixture.draws.assign(5)
    first = [w.numpy() for w, _ in net.mixture.drawn(training=True)]
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32"))
    state, given = (net.states(x, training=True, mixtures=m)[-1] for m in (None, [(w, None) for w in first]))
    np.testing.assert_allclose(given, state, rtol=1e-5, atol=1e-5)
    assert not np.allclose(net(x, training=True), net.classify(state), atol=1e-3)
    seen = set()
    for _ in range(8):
        net.mixture.redraw()
        seen.add(str([w.numpy().tolist() for w, _ in net.mixture.drawn(training=True)]))
    assert len(seen) > 4 and int(net.mixture.draws) == 14
    assert not np.array_equal(*first)  # each α draws for itself


def test_an_unknown_sampling_is_refused():
    with pytest.raises(KdartsError, match="unknown sampling 'some'; allowed: all, gumbel, "):
        get_sampling("some")


def test_what_is_measured_depends_on_no_running_statistics():
    net = Supernet(FEW, (8, 8, 3), 3, channels=4, cells=2, reductions=(1,), sampling="gumbel")
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32"))
    before, logits = [v.numpy() for v in net.variables], net(x).numpy()
    assert all(np.array_equal(v, b) for v, b in zip(net.variables, before, strict=True))
    for variable in net.non_trainable_variables:
        if "mixture" not in variable.path:
            variable.assign(variable + 3)
    np.testing.assert_allclose(net(x), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("distance", [50.0, 150.0, 1e4])
def test_the_gradient_of_gumbel_is_finite_however_far_alphas_are_apart(distance):
    net = Supernet(FEW, (8, 8, 3), 3, channels=4, cells=2, reductions=(1,), sampling="gumbel")
    for alpha in net.alphas:
        alpha.assign(np.array([[0, distance, -distance]] * 5))
    with tf.GradientTape() as tape:
        total = tf.add_n([tf.reduce_sum(w * [[1.0, 2.0, 3.0]]) for w, _ in net.mixture.drawn(training=True)])
    for gradient in tape.gradient(total, [alpha.value for alpha in net.alphas]):
        assert np.isfinite(gradient).all()


def test_in_each_step_alpha_and_the_weights_have_draws_of_their_own(eagerly):
    net = Supernet(FEW, (8, 8, 3), 3, channels=2, cells=2, reductions=(1,), sampling="gumbel")
    search = Search(net, "darts", sampling="gumbel")
    images = tf.constant(np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32"))
    half = images, tf.constant([0, 1, 2, 0])
    search.fit(tf.data.Dataset.from_tensors((half, half)).repeat(3), epochs=1, verbose=0)
    assert int(net.mixture.draws) == 6, "three steps, two passes each"
