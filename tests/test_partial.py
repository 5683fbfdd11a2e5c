"""Partial channels and edge normalisation: against PC-DARTS' code, against the whole, and with every other choice."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import state_dict

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.reference import _mixed_values, _State, load_reference_state
from kdarts.ops.mixed import MixedEdges
from kdarts.search.gradients import Validation
from kdarts.search.search import Search
from kdarts.search.selection import discretize
from kdarts.supernet import cell as partial
from kdarts.supernet.cell import SearchCell, edge_sources
from kdarts.supernet.cost import supernet_cost
from kdarts.supernet.macro import check_reductions, choose_stem, plan_cells
from kdarts.supernet.spaces import SearchSpace, get_space
from kdarts.supernet.supernet import Supernet

FEW = SearchSpace("few", ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3"), 2, 2)
KINDS = ("normal", "reduce")


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def _few(partial_channels=2, dtype="float64", **kwargs) -> Supernet:
    sizes = {"channels": 4, "cells": 2, "reductions": (1,), **kwargs}
    net = Supernet(FEW, (8, 8, 3), 3, partial_channels=partial_channels, dtype=dtype, **sizes)
    for index, variable in enumerate(net.trainable_variables):
        variable.assign(_random(*variable.shape, seed=index))
    return net


def _search(net, method="darts", **choices) -> Search:
    """A search of a method with the partial channels of a supernet."""
    search = Search(net, method, partial_channels=net.partial_channels, **choices)
    search.compile()
    return search


def _batches(dtype="float64"):
    return [(tf.constant(_random(6, 8, 8, 3, seed=s), dtype), tf.constant(np.arange(s, s + 6) % 3)) for s in (1, 2)]


def _relative(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def _channels_last(array):
    return tf.constant(array.transpose(0, 2, 3, 1), tf.float64)


def _set(net, arrays):
    for name, variables in (("alphas", net.alphas), ("betas", net.betas)):
        for variable, kind in zip(variables, KINDS, strict=True):
            variable.assign(arrays[f"{name}_{kind}"])


def test_a_supernet_equals_the_reference(golden, eagerly):
    arrays = golden("pcdarts_supernet.npz")
    net = Supernet("darts", (32, 32, 3), 10, channels=8, cells=8, partial_channels=4, dtype="float64")
    load_reference_state(net, state_dict(arrays))
    _set(net, arrays)
    search = _search(net, "pcdarts")
    batch = _channels_last(arrays["x"]), tf.constant(arrays["y"])
    found = search.objective.gradients(*search.objective.values(), batch)
    assert _relative(found["logits"], arrays["logits_f64"]) < 1e-9
    assert _relative(found["loss"], arrays["loss"]) < 1e-6
    for index in range(8):
        state = np.transpose(found["states"][index + 2], (0, 3, 1, 2))
        assert _relative(state[0], arrays[f"out0:{index}"]) < 1e-5
        assert _relative([state.mean(), state.std(), np.abs(state).max()], arrays[f"outstat:{index}"]) < 1e-5
    names = [f"d{name}_{kind}_f64" for name in ("alphas", "betas") for kind in KINDS]
    for gradient, name in zip(found["by_alphas"], names, strict=True):
        assert _relative(gradient, arrays[name]) < 1e-9, name
    assert net.cost().params == sum(np.prod(v.shape) for v in net.network_variables) == 104_450


@pytest.mark.parametrize("stride", [1, 2])
def test_a_mixed_operation_equals_the_reference(golden, stride):
    arrays = golden("pcdarts_supernet.npz")
    prefix = f"mixed|s{stride}:"
    mixed = MixedEdges(get_space("darts").candidates, 1, 2, stride, dtype="float64")
    mixed.build((None, None, None, 2))
    weights = {k.removeprefix(prefix + "param:"): v for k, v in arrays.items() if k.startswith(prefix + "param:")}
    state = _State(weights)
    for variable, value in _mixed_values(mixed, [{k: f"_ops.{k}" for k in range(8)}], state):
        variable.assign(value)
    assert not state.left()
    x = _channels_last(arrays[prefix + "x"])
    (mixed,) = mixed(x[..., :2], mixing=tf.constant(arrays[prefix + "w"][None], tf.float64), training=True)
    (passed,) = partial.bypass(x, tf.ones(1), 4, stride)
    y = np.transpose(partial.place(mixed, 4) + passed, (0, 3, 1, 2))
    assert _relative(y, arrays[prefix + "y"]) < 1e-6


def test_the_shuffle_is_the_references(golden):
    arrays = golden("pcdarts_supernet.npz")
    x = _channels_last(arrays["shuffle_in"])
    (passed,) = partial.bypass(x, tf.ones(1), 4)
    np.testing.assert_array_equal(
        partial.place(x[..., :2], 4) + passed, arrays["shuffle_out"].transpose(0, 2, 3, 1).astype(float)
    )


def test_the_papers_code_finds_the_same_genotypes(golden):
    table = golden("pcdarts_parse.json")
    net = Supernet("darts", (8, 8, 1), 2, channels=4, cells=3, partial_channels=2, dtype="float64")
    search = Search(net, "pcdarts", partial_channels=2)
    assert len(table["cases"]) == 8
    for case in table["cases"]:
        _set(net, case)
        found = search.genotype()
        for cell, kind in zip(found.cells, KINDS, strict=True):
            assert [[op, source] for op, _, source in cell] == case["genotype"][kind], case["name"]
        products = [w * s[:, None] for w, s in zip(net.mixing_weights(), net.mixture.shares(), strict=True)]
        assert found == discretize(products, net.space)


@pytest.mark.parametrize(
    "shape, channels, k, stem, key",
    [
        ((32, 32, 3), 16, 4, "cifar", "pcdarts_C16_L8_c10"),
        ((32, 32, 3), 8, 4, "cifar", "pcdarts_C8_L8_c10"),
        ((224, 224, 3), 16, 2, "imagenet_wide", "pcdarts_imagenet_C16_L8_c1000"),
    ],
)
def test_parameters_are_those_of_the_papers_code(golden, shape, channels, k, stem, key):
    plan = plan_cells(8, channels, check_reductions(None, 8), halved=stem != "cifar")
    given = plan, edge_sources(4), 4, choose_stem(stem, shape), shape, int(key.rpartition("_c")[2]), channels
    found = supernet_cost(get_space("darts").candidates, *given, partial_channels=k)
    assert found.params == golden("darts_params.json")["supernets"][key]


def test_shares_of_a_node_sum_to_one():
    beta = _random(14)
    shares = partial.edge_shares(tf.constant(beta)).numpy()
    for first, last in ((0, 2), (2, 5), (5, 9), (9, 14)):
        whole = np.exp(beta[first:last])
        np.testing.assert_allclose(shares[first:last], whole / whole.sum())


@pytest.mark.parametrize("k, size", [(2, 8), (4, 7), (8, 8)])
def test_a_cell_is_its_formula(k, size):
    """Edge by edge: the first channels mixed, the others beside them, shuffled, times the share; then the sum."""
    channels = 2 * k
    cell = SearchCell(FEW.candidates, channels, 2, 2, reduction=True, partial_channels=k, dtype="float64")
    cell.build((None, None, None, 3), (None, None, None, 3))
    for index, variable in enumerate(cell.trainable_variables):
        variable.assign(_random(*variable.shape, seed=index))
    inputs = [tf.constant(_random(2, size, size, 3, seed=s)) for s in (1, 2)]
    weights, shares = tf.constant(_random(5, 4, seed=3)), tf.constant(_random(5, seed=4))
    rows = [[0, 2], [1, 3], [4]]
    found = cell(*inputs, mixing=weights, shares=shares, training=True)

    states = [stack(tf.nn.relu(s), training=True) for stack, s in zip(cell.preprocess, inputs, strict=True)]
    nodes = {2: 0.0, 3: 0.0}
    for source, edges in enumerate(rows):
        if source == 2:
            states.append(nodes[2])
        x, stride = states[source], 2 if source < 2 else 1
        mixed = cell.mixed_edges[source](x[..., :2], mixing=tf.gather(weights, edges), training=True)
        rest = x[..., 2:].numpy()
        if stride == 2:
            odd = size % 2
            rest = np.pad(rest, ((0, 0), (0, odd), (0, odd), (0, 0)), constant_values=-np.inf)
            rest = rest.reshape(2, rest.shape[1] // 2, 2, rest.shape[2] // 2, 2, -1).max((2, 4))
        for edge, part in zip(edges, mixed, strict=True):
            whole = np.concatenate([part, rest], -1)
            shuffled = whole.reshape(*whole.shape[:-1], k, 2).swapaxes(-1, -2).reshape(whole.shape)
            nodes[edge_sources(2)[edge][0]] += shares[edge] * shuffled
    np.testing.assert_allclose(found, np.concatenate([nodes[2], nodes[3]], -1), atol=1e-10)


def test_with_one_part_there_is_no_beta():
    keras.utils.set_random_seed(0)
    plain = Supernet(FEW, (8, 8, 3), 3, channels=4, cells=2)
    keras.utils.set_random_seed(0)
    net = Supernet(FEW, (8, 8, 3), 3, channels=4, cells=2, partial_channels=1)
    assert net.betas == [] and net.architecture == net.alphas and net.cost() == plain.cost()
    x = _random(2, 8, 8, 3).astype("float32")
    np.testing.assert_array_equal(net(x), plain(x))
    assert [b.shape for b in _few(sharing="individual").betas] == [(5,), (5,)]
    assert max(np.abs(b).max() for b in Supernet(FEW, (8, 8, 3), 3, 4, 2, partial_channels=2).betas) < 0.01


MIXES = [
    ("individual", "max_w", "second", {}),
    ("individual", "sigmoid", "first", {"ablation_weight": 0.5, "zero_one_weight": 7.0, "ablation_margin": -1e9}),
    ([1, 0], "softmax", "first", {"arch_clip": 1e-3}),
]


@pytest.mark.parametrize("sharing, mixing, order, choices", MIXES)
def test_mixes_of_choices_move_weights_alpha_and_beta(sharing, mixing, order, choices):
    net = _few(dtype="float32", sharing=sharing, mixing=mixing, nodes=1, multiplier=1)
    sharing = sharing if isinstance(sharing, str) else "individual"
    search = _search(net, order=order, sharing=sharing, mixing=mixing, **choices)
    before = [v.numpy() for v in net.trainable_variables]
    history = search.fit(tf.data.Dataset.from_tensors(tuple(_batches("float32"))), epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for value, variable in zip(before, net.trainable_variables, strict=True):
        assert np.isfinite(variable).all() and not np.array_equal(value, variable.numpy()), variable.path
    assert search.objective._gradients.experimental_get_tracing_count() <= 1
    assert search.genotype().operations


def _slope(variables, loss, step=1e-6):
    """The derivative of `loss()` along one direction, and the direction."""
    starts = [v.numpy() for v in variables]
    directions = [_random(*v.shape, seed=70 + i) for i, v in enumerate(variables)]
    values = []
    for side in (1, -1):
        for variable, start, direction in zip(variables, starts, directions, strict=True):
            variable.assign(start + side * step * direction)
        values.append(loss())
    for variable, start in zip(variables, starts, strict=True):
        variable.assign(start)
    return (values[0] - values[1]) / (2 * step), directions


@pytest.mark.parametrize("k", [2, 4])
def test_the_exact_gradient_is_the_numeric_derivative(k, eagerly):
    net = _few(k, channels=8)
    search, (train, valid) = _search(net, order="exact", learning_rate=0.1), _batches()
    found = search.architecture_gradients(train, valid, betas=True)
    assert [g.shape for g in search.architecture_gradients(train, valid)] == [a.shape for a in net.alphas]

    def loss():
        weights, architecture, statistics = search.objective.values()
        step = search.objective.gradients(weights, architecture, statistics, train)["by_weights"]
        unrolled = search.optimizer.virtual_step(step, weights)
        return float(search.objective.loss(unrolled, architecture, statistics, valid)["loss"])

    slope, directions = _slope(net.architecture, loss)
    assert slope == pytest.approx(sum(np.sum(g * d) for g, d in zip(found, directions, strict=True)), rel=1e-5)


@pytest.mark.parametrize("removal", ["skip", "zero"])
def test_ablation_counts_beta_as_its_cells(removal, eagerly):
    choices = {"method": "ddarts", "zero_one_weight": 0.0, "ablation_weight": 2.0, "ablation": "exact"}
    net = _few(sharing="individual", mixing="sigmoid", cells=3)
    search = _search(net, **choices, removal=removal, ablation_margin=-1e9, ablation_clip=1e9)
    _, valid = _batches()
    ablation = search.attached["ablation"]
    at = search.method.gradient(search.objective, None, valid, None)
    gradients, _ = ablation.gradients(at, valid, 0)
    for index in range(3):
        variables = [net.alphas[index], net.betas[index]]

        def loss(index=index):
            values = search.objective.values()
            now = search.objective.loss(*values, valid)
            at = Validation([], now["loss"], now["states"], values[0])
            contributions = ablation.contributions(at, valid, ablation.removed(0)).numpy()
            return -2 * (contributions[index] / contributions.mean() - 1)

        slope, directions = _slope(variables, loss)
        found = gradients[index], gradients[index + 3]
        assert slope == pytest.approx(sum(np.sum(g * d) for g, d in zip(found, directions, strict=True)), rel=1e-4)


def test_a_removed_cell_passes_nothing_where_zero_is_asked_for(eagerly):
    net = _few(sharing="individual", mixing="sigmoid")
    search = _search(net, method="ddarts", ablation="own", removal="zero")
    seen = []
    run_cell = net.run_cell
    net.run_cell = lambda *args, **kwargs: seen.append(run_cell(*args, **kwargs)) or seen[-1]
    search.architecture_gradients(*_batches())
    assert sum(not np.any(output) for output in seen) == 2


def test_recomputed_cells_give_the_same_gradients(eagerly):
    kept, again = (_search(_few(recompute=r)).architecture_gradients(*_batches(), betas=True) for r in (False, True))
    for one, other in zip(kept, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_the_clip_is_of_alpha_and_beta_together(eagerly):
    steps = []
    for clip in (0.0, 1e-9):
        net = _few()
        search = _search(net, arch_clip=clip, arch_l2=0.0)
        gradients = search.architecture_gradients(*_batches(), betas=True)
        before = [v.numpy() for v in net.architecture]
        search.arch_optimizer.apply(gradients, net.architecture)
        norm = tf.linalg.global_norm(gradients) if clip else clip
        scale = clip / norm if clip else 1
        expected = [3e-4 * scale * g / (scale * np.abs(g) + 1e-8) for g in gradients]
        steps.append([b - v.numpy() for b, v in zip(before, net.architecture, strict=True)])
        for ours, theirs in zip(steps[-1], expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert np.abs(steps[1][0]).max() < 0.5 * np.abs(steps[0][0]).max()


def test_the_configuration_and_saved_weights_keep_beta(tmp_path):
    net, other = _few(dtype="float32"), _few(dtype="float32")
    again = Supernet.from_config({**net.get_config(), "space": "darts"})
    assert again.partial_channels == 2 and len(again.betas) == 2
    net.betas[0].assign(np.arange(5))
    net.save_weights(tmp_path / "net.weights.h5")
    other.load_weights(tmp_path / "net.weights.h5")
    np.testing.assert_array_equal(other.betas[0], np.arange(5))


@pytest.mark.parametrize("k, reductions, allowed", [(3, (1,), "1, 2, 4"), (8, (0,), "1, 2, 4, 8"), (0, (1,), "1, 2")])
def test_what_does_not_divide_the_channels_is_refused(k, reductions, allowed):
    if k == 8:
        assert Supernet(FEW, (8, 8, 3), 3, 8, 2, reductions, partial_channels=8).betas
        k = 16
    with pytest.raises(KdartsError, match=f"partial_channels {k}: allowed with .* are {allowed}"):
        Supernet(FEW, (8, 8, 3), 3, channels=8, cells=2, reductions=reductions, partial_channels=k)


@pytest.mark.slow
def test_a_search_warms_up_and_notes_alpha_and_beta(tmp_path, capsys):
    flags = ["--channels=4", "--cells=3", "--nodes=1", "--partial_channels=2", f"--workdir={tmp_path}"]
    flags += [
        "--epochs=3",
        "--batch_size=8",
        "--warmup_epochs=2",
        "--train_examples=16",
        "--valid_examples=16",
        "--learning_rate=0.1",
    ]
    assert main(["search", "--method=pcdarts", *flags, "--learning_rate_warmup=2"]) == 0
    assert "warm-up lasts" not in capsys.readouterr().out
    for name, shape in (("alphas", (3, 2, 8)), ("betas", (3, 2))):
        with np.load(tmp_path / f"{name}.npz") as arrays:
            assert set(arrays.files) <= {"normal", "reduce"}
            values = arrays["normal"]
        assert values.shape == shape
        np.testing.assert_array_equal(values[0], values[1])
        assert np.all(values[1] != values[2])
    assert (tmp_path / "betas.png").exists()
    rates = [float(line.split(",")[i]) for line, i in _column(tmp_path / "history.csv", "learning_rate")]
    np.testing.assert_allclose(rates, [0.05, 0.1, 0.1 * (1 + np.cos(np.pi * 2 / 3)) / 2], rtol=1e-5)
    assert json.loads((tmp_path / "summary.json").read_text())["method"] == "pcdarts"


def _column(path, name):
    header, *lines = path.read_text().splitlines()
    return [(line, header.split(",").index(name)) for line in lines]
