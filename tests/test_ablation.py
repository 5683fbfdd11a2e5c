"""The ablation and the zero-one loss: against the reference code, against numeric derivatives, and their limits."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import state_dict

from kdarts.genotypes.errors import KdartsError
from kdarts.networks.reference import load_reference_state
from kdarts.search.ablation import REMOVALS, AblationLoss, Removed
from kdarts.search.gradients import Validation
from kdarts.search.losses import zero_one_loss
from kdarts.search.method import get_method
from kdarts.search.search import Search
from kdarts.supernet.relaxation import Sigmoid
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

sigmoid = Sigmoid().weights

FEW = SearchSpace("few", ("avg_pool_3x3", "skip_connect", "dil_conv_3x3"), nodes=2, multiplier=2)
UNBOUND = {"ablation_clip": 1e9, "ablation_margin": -1e9}


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def _batch(seed=0, size=6, dtype="float64"):
    return tf.constant(_random(size, 8, 8, 3, seed=seed), dtype), tf.constant(np.arange(seed, seed + size) % 4)


def _search(sharing="individual", dtype="float64", method="ddarts", cells=3, net_options=(), **overrides) -> Search:
    """A search; where cells share an α, `sharing` lists those of each cell."""
    options = {"channels": 4, "cells": cells, "sharing": sharing, "mixing": "sigmoid", "dtype": dtype}
    sharing = "individual" if sharing == "individual" else "shared"
    net = Supernet(FEW, (8, 8, 3), 4, **options, **dict(net_options))
    for index, variable in enumerate(net.trainable_variables):
        variable.assign(_random(*variable.shape, seed=index) * (1 if "alpha" in variable.name else 0.5))
    search = Search(net, method, sharing=sharing, **{"zero_one_weight": 0.0, **overrides})
    search.compile()
    return search


def _first(search, batch) -> Validation:
    return search.method.gradient(search.objective, None, batch, None)


def _forward(search, batch) -> Validation:
    """The same without its gradient."""
    values = search.objective.values()
    found = search.objective.loss(*values, batch)
    return Validation([], found["loss"], found["states"], values[0])


def _relative(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def _reference_search(arrays, sharing, method, space="ddarts", channels=4, **sizes) -> tuple[Search, tuple]:
    options = {"channels": channels, "sharing": sharing, "mixing": "sigmoid", "dtype": "float64", **sizes}
    net = Supernet(space, (16, 16, 3), 10, **options)
    load_reference_state(net, state_dict(arrays))
    for alpha, value in zip(net.alphas, arrays["alpha"], strict=True):
        alpha.assign(value)
    search = Search(net, method, sharing="individual" if sharing == "individual" else "shared")
    search.compile()
    return search, (tf.constant(arrays["x"].transpose(0, 2, 3, 1), tf.float64), tf.constant(arrays["y"]))


def _check_adam(search, arrays, name):
    """One step along the reference's own gradient: Adam's first is nearly a sign, and magnifies any difference."""
    alphas = search.supernet.alphas
    search.arch_optimizer.apply([tf.constant(g, tf.float64) for g in arrays["grad_alpha_total"]], alphas)
    clear = np.abs(arrays["grad_alpha_total"] + 1e-3 * arrays["alpha"]) > 1e-6
    assert clear.mean() > 0.99
    after = np.stack([alpha.numpy() for alpha in alphas])
    np.testing.assert_allclose(after[clear], arrays[name][clear], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "sharing", "sizes"),
    [
        pytest.param("ddarts_supernet.npz", "individual", {}, marks=pytest.mark.slow),
        (
            "ddarts_opti_supernet.npz",
            [0, 1, 0, 1],
            {"space": "dartopti", "channels": 2, "cells": 4, "reductions": [1, 3]},
        ),
    ],
)
def test_ddarts_equals_the_reference(file, sharing, sizes, golden, eagerly):
    arrays = golden(file)
    search, batch = _reference_search(arrays, sharing, "ddarts", **sizes)
    net, ablation = search.supernet, search.attached["ablation"]
    assert net.reductions == tuple(arrays["reductions"]) and net.sequence == list(arrays["alpha_of_cell"])
    assert list(ablation.owners.values()) == list(arrays["cells_with_optimizer"])
    values = search.objective.values()
    results = search.objective.gradients(*values, batch)
    at = Validation(results["by_alphas"], results["loss"], results["states"], values[0])
    assert _relative(results["logits"], arrays["logits"]) < 1e-6
    assert _relative(at.loss, arrays["ce"]) < 1e-6
    for index, name in ((0, "stem"), (2, "cell0"), (-1, f"cell{len(net.cells) - 1}")):
        assert _relative(np.transpose(at.states[index], (0, 3, 1, 2)), arrays[f"{name}_out"]) < 1e-6
    assert _relative(tf.stack(at.gradients), arrays["grad_alpha_ce"]) < 1e-6

    mixed = net.mixing_weights()
    assert _relative([zero_one_loss([w]) for w in mixed], arrays["l01_cell"]) < 1e-6
    assert _relative(zero_one_loss(mixed, joint=True), arrays["l01_global"]) < 1e-6
    weight, ablation_weight = arrays["hyper"][:2]
    method = search.method
    ours = (method.zero_one_weight, method.ablation_weight, method.arch_learning_rate, method.arch_beta_1)
    assert np.allclose([*ours, method.arch_beta_2, method.arch_l2], arrays["hyper"][:6])

    replayed = [Removed(tf.constant(w)) for w in arrays["rand"]]
    contributions = ablation.contributions(at, batch, replayed)
    assert _relative(contributions, arrays["mc"]) < 1e-5
    assert _relative(at.loss - contributions, arrays["mc_ce_without"]) < 1e-6
    mean = tf.reduce_mean(contributions)
    assert _relative(mean, arrays["mc_mean"]) < 1e-5
    l_ab = (contributions - mean) / mean
    assert _relative(l_ab, arrays["l_ab_paper"]) < 1e-5
    total = at.loss + weight * arrays["l01_cell"] + ablation_weight * l_ab
    assert _relative(total, arrays["total_paper"]) < 1e-5
    removed = [REMOVALS["half"](net.space.operations, 14, 0)] * len(net.alphas)
    assert _relative(ablation.contributions(at, batch, removed), arrays["mc_half_weights"]) < 1e-5

    constant = Search(net, search.method.override(ablation="constant", removal="zero"))
    constant.compile()
    gradients, contributions = constant._compute_architecture_gradients(batch, batch)
    assert _relative(contributions, arrays["mc_zero_weights"]) < 1e-5
    assert _relative(tf.stack(gradients), arrays["grad_alpha_total"]) < 1e-6
    _check_adam(constant, arrays, "alpha_after_clean_adam")


def test_fairdarts_equals_the_reference(golden, eagerly):
    arrays = golden("ddarts_fair_supernet.npz")
    search, batch = _reference_search(arrays, "shared", "fairdarts")
    net = search.supernet
    results = search.objective.gradients(*search.objective.values(), batch)
    assert _relative(results["logits"], arrays["logits"]) < 1e-6
    l01 = zero_one_loss(net.mixing_weights(), joint=True)
    assert _relative(l01, arrays["l01"]) < 1e-6
    assert _relative(results["loss"] + 10 * l01, arrays["total"]) < 1e-6
    assert _relative(tf.stack(results["by_alphas"]), arrays["grad_alpha_ce"]) < 1e-6
    gradients = search.architecture_gradients(batch, batch)
    assert _relative(tf.stack(gradients), arrays["grad_alpha_total"]) < 1e-6
    _check_adam(search, arrays, "alpha_after_adam")
    for alpha, value in zip(net.alphas, arrays["alpha"], strict=True):
        alpha.assign(value)
    for variable, value in zip(net.non_trainable_variables, results["statistics"], strict=True):
        variable.assign(value)
    assert _relative(net(batch[0]), arrays["eval_logits_after_one_train_forward"]) < 1e-6


@pytest.mark.parametrize("removal", ["skip", "zero", "half"])
@pytest.mark.parametrize("sharing", ["individual", [0, 1, 0]])
def test_the_exact_gradient_is_the_numeric_derivative(removal, sharing, eagerly, monkeypatch):
    monkeypatch.setattr(tf.nn, "relu", lambda x: tf.math.softplus(3 * x) / 3)
    search = _search(sharing, ablation="exact", ablation_weight=2.0, removal=removal, **UNBOUND)
    net, ablation, batch = search.supernet, search.attached["ablation"], _batch()
    gradients, _ = ablation.gradients(_first(search, batch), batch, 0)

    def loss_of(index):
        contributions = ablation.contributions(_forward(search, batch), batch, ablation.removed(0)).numpy()
        return -2.0 * (contributions[index] / contributions.mean() - 1)

    for index, alpha in enumerate(net.alphas):
        before, direction, step = alpha.numpy(), _random(*alpha.shape, seed=index), 1e-5
        values = []
        for side in (1, -1):
            alpha.assign(before + side * step * direction)
            values.append(loss_of(index))
        alpha.assign(before)
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(float(np.sum(gradients[index].numpy() * direction)), rel=1e-5)


def test_the_own_gradient_is_its_formula(eagerly):
    search, batch = _search(ablation="own", ablation_weight=0.5, **UNBOUND), _batch()
    at = _first(search, batch)
    removed = search.attached["ablation"].removed(0)
    contributions = search.attached["ablation"].contributions(at, batch, removed).numpy()
    mean, n = contributions.mean(), len(contributions)
    total = search.architecture_gradients(batch, batch)
    for index, gradient in enumerate(at.gradients):
        factor = 1 - 0.5 / mean * (1 - contributions[index] / (n * mean))
        np.testing.assert_allclose(total[index], factor * gradient, rtol=1e-10)
    paper = _search(ablation="own", ablation_weight=0.5, ablation_sign="paper", **UNBOUND)
    paper = paper.architecture_gradients(batch, batch)
    for index, gradient in enumerate(at.gradients):
        np.testing.assert_allclose(paper[index] - gradient, gradient - total[index], rtol=1e-6, atol=1e-12)


def test_the_loss_counts_only_where_cells_help_and_its_factors_are_bounded(eagerly):
    batch = _batch()
    plain = _search(ablation_weight=0.0).architecture_gradients(batch, batch)
    search = _search(ablation_margin=1e3)
    far = search.architecture_gradients(batch, batch)
    bounds = {"ablation_weight": 1e6, "ablation_clip": 0.25, "ablation_margin": -1e9}
    bound = _search(ablation="own", **bounds).architecture_gradients(batch, batch)
    constant = _search(ablation="constant").architecture_gradients(batch, batch)
    mean = float(tf.reduce_mean(search._compute_architecture_gradients(batch, batch)[1]))
    for index, gradient in enumerate(plain):
        np.testing.assert_allclose(far[index], gradient)
        np.testing.assert_allclose(constant[index], gradient)
        np.testing.assert_allclose(bound[index], (1 - 0.25 * np.sign(mean)) * gradient, rtol=1e-9)


@pytest.mark.parametrize("sharing", ["individual", [0, 1, 0]])
@pytest.mark.parametrize(
    "choices",
    [
        {"removal": "skip"},
        {"removal": "zero", "order": "second", "net_options": {"partial_channels": 2}},
        {"removal": "half", "net_options": {"auxiliary_skip": True}},
        {"removal": "random", "ablation_clip": 0.5},
    ],
    ids=str,
)
def test_the_drawn_gradient_is_the_exact_one_on_average(choices, sharing, eagerly, monkeypatch):
    choices = {"ablation_weight": 2.0, **UNBOUND, **choices.get("net_options", {}), **choices}
    exact, drawn = (_search(sharing, ablation=mode, **choices) for mode in ("exact", "drawn"))
    ablation, batch = drawn.attached["ablation"], _batch()
    wanted = exact.architecture_gradients(batch, batch, betas=True)
    found = []
    for place in range(len(ablation.owners)):
        monkeypatch.setattr(ablation, "drawn", lambda seed, place=place: tf.constant(place))
        found.append(drawn.architecture_gradients(batch, batch, betas=True))
    for position, gradient in enumerate(wanted):
        mean = np.mean([gradients[position] for gradients in found], 0)
        np.testing.assert_allclose(mean, gradient, rtol=1e-9, atol=1e-12)
        assert _relative(found[0][position], gradient) > 1e-3  # A single draw is not.


def test_each_step_and_seed_draws_a_cell_and_a_resumed_run_the_same():
    search = _search()
    ablation = search.attached["ablation"]
    draws = [int(ablation.drawn(step)) for step in range(300)]
    assert draws == [int(ablation.drawn(step)) for step in range(300)]
    assert all(70 < draws.count(place) < 130 for place in range(3))
    search.seed = 2**32 - 1
    assert draws != [int(ablation.drawn(step)) for step in range(300)]


def test_a_clip_shrinks_all_factors_of_a_cell_alike(eagerly):
    batch, terms = _batch(), []
    for clip in (1e9, 1e-3):
        search = _search(ablation="exact", ablation_clip=clip, ablation_margin=-1e9)
        terms.append(search.attached["ablation"].gradients(_first(search, batch), batch, 0)[0])
    for free, held in zip(*terms, strict=True):
        ratio = held / free
        assert 0 < float(ratio[0, 0]) < 1
        np.testing.assert_allclose(ratio, float(ratio[0, 0]), rtol=1e-9)


@pytest.mark.parametrize("mode", ["drawn", "exact", "own"])
def test_one_cell_alone_has_no_share_to_speak_of_and_that_is_told_once(mode, eagerly):
    with pytest.warns(UserWarning, match="the ablation loss is always 0 here") as told:
        search = _search([0, 0, 0], ablation=mode, **UNBOUND)
    assert len(told) == 1
    gradients, contributions = search.attached["ablation"].gradients(_first(search, _batch()), _batch(), 0)
    assert contributions.shape == (1,)
    np.testing.assert_array_equal(gradients[0], 0)


def test_the_history_has_the_contribution_of_each_cell():
    search, alone = _search(dtype="float32"), _search([0, 0, 0], dtype="float32")
    data = tf.data.Dataset.from_tensors((_batch(dtype="float32"), _batch(1, dtype="float32"))).repeat(2)
    history = search.fit(data, epochs=1, verbose=0, validation_data=_batch(dtype="float32")).history
    each = [history[f"contribution_cell_{index}"][0] for index in range(3)]
    assert len(set(each)) == 3
    assert np.mean(each) == pytest.approx(history["contribution"][0], rel=1e-5)
    assert not any(name.startswith("val_contribution") for name in history)
    names = alone.fit(data, epochs=1, verbose=0).history
    assert [name for name in names if name.startswith("contribution")] == ["contribution"]


def test_ablated_passes_leave_weights_and_statistics_alone(eagerly):
    search, batch = _search(), _batch()
    before = [v.numpy() for v in search.variables]
    search.architecture_gradients(batch, batch)
    for variable, value in zip(search.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


def test_the_weights_never_see_the_images_of_alpha(eagerly):
    results = []
    for seed in (1, 2):
        search = _search(dtype="float32", arch_learning_rate=1e-30, zero_one_weight=7.0)
        data = tf.data.Dataset.from_tensors((_batch(dtype="float32"), _batch(seed, dtype="float32")))
        search.fit(data, epochs=1, verbose=0)
        results.append([v.numpy() for v in search.supernet.network_variables])
        results[-1] += [v.numpy() for v in search.supernet.non_trainable_variables]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_random_removal_differs_from_step_to_step_and_comes_again():
    search = _search(removal="random")
    first, second = (search.attached["ablation"].removed(step) for step in (0, 1))
    assert not np.array_equal(first[0].weights, first[1].weights)
    assert not np.array_equal(first[0].weights, second[0].weights)
    np.testing.assert_array_equal(first[0].weights, search.attached["ablation"].removed(0)[0].weights)
    assert np.min(first[0].weights) >= 0 and np.max(first[0].weights) < 1


def test_zero_one_loss_is_least_at_clear_weights():
    undecided, clear = np.full((5, 3), 0.5), np.tile([0.0, 1.0, 1.0], (5, 1))
    for form, least in (("l2", -0.25), ("l1", -0.5)):
        assert zero_one_loss([undecided], form) == 0
        assert zero_one_loss([clear], form) == least
        assert zero_one_loss([clear, clear], form) == 2 * least
        assert zero_one_loss([clear, clear], form, joint=True) == least
    alpha = tf.constant(_random(5, 3))
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        loss = zero_one_loss([sigmoid(alpha)])
    p = sigmoid(alpha)
    np.testing.assert_allclose(tape.gradient(loss, alpha), -2 * (p - 0.5) * p * (1 - p) / 15)


@pytest.mark.parametrize("mode", ["own", "drawn", "exact"])
def test_recomputed_cells_give_the_same_gradients(mode, eagerly):
    batch = _batch()
    kept = _search(ablation=mode, zero_one_weight=7.0).architecture_gradients(batch, batch)
    again = _search(ablation=mode, zero_one_weight=7.0, net_options={"recompute": True})
    for one, other in zip(kept, again.architecture_gradients(batch, batch), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("choice", "allowed"),
    [
        ({"ablation": "both"}, "drawn, exact, own, constant"),
        ({"removal": "all"}, "skip, zero, half, random"),
        ({"ablation_sign": "minus"}, "reward, paper"),
        ({"zero_one": "l3", "zero_one_weight": 1.0}, "l2, l1"),
    ],
)
def test_a_wrong_choice_is_told_with_what_is_allowed(choice, allowed, eagerly):
    with pytest.raises(KdartsError) as error:
        _search(cells=1, **choice).architecture_gradients(_batch(), _batch())
    assert allowed in str(error.value).replace("'", "")


def test_a_space_without_skips_cannot_remove_by_skip():
    space = SearchSpace("bare", ("avg_pool_3x3", "dil_conv_3x3"), nodes=1, multiplier=1)
    net = Supernet(space, (8, 8, 3), 4, channels=4, cells=2, mixing="sigmoid", sharing="individual")
    with pytest.raises(KdartsError, match="skip_connect"):
        Search(net, "ddarts")
    method = get_method("ddarts").override(removal="zero")
    AblationLoss(Search(net, method), method)
