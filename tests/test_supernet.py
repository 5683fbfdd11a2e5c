"""The supernet against the reference code, against the networks it contains, and under every setting it takes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import copy_edge, numbered_by_reference, state_dict

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.networks.network import build_network
from kdarts.networks.reference import load_reference_state
from kdarts.supernet.cell import edge_sources
from kdarts.supernet.relaxation import RELAXATIONS, get_relaxation
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

FEW = SearchSpace("few", ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3"), nodes=2, multiplier=2)


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def _few(shape=(8, 8, 3), classes=4, **kwargs) -> Supernet:
    return Supernet(FEW, shape, classes, **{"channels": 4, "cells": 3, **kwargs})


def _set_alphas(net, seed=0):
    for index, alpha in enumerate(net.alphas):
        alpha.assign(_random(*alpha.shape, seed=seed + index))


def _relative(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def _check_against_the_reference(arrays, dtype, in_a_graph, logits_error, gradient_error):
    """Logits, loss, every gradient and the running statistics after one training step of the reference's supernet."""
    net = Supernet("darts", (32, 32, 3), 10, channels=4, cells=8, dtype=dtype)
    named = numbered_by_reference(net, state_dict(arrays))
    load_reference_state(net, state_dict(arrays))
    for alpha, kind in zip(net.alphas, ("normal", "reduce"), strict=True):
        alpha.assign(arrays[f"alphas_{kind}"])

    def run(x, y):
        with tf.GradientTape() as tape:
            logits = net(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        variables = net.network_variables, net.alphas
        return logits, loss, *tape.gradient(loss, tf.nest.map_structure(lambda v: v.value, variables))

    x = tf.constant(arrays["x"].transpose(0, 2, 3, 1), dtype)
    run = tf.function(run, autograph=False) if in_a_graph else run
    logits, loss, by_weights, by_alphas = run(x, arrays["y"])
    assert _relative(logits, arrays["logits_f64"]) < logits_error
    assert _relative(loss, arrays["loss_f64"]) < logits_error
    for gradient, kind in zip(by_alphas, ("normal", "reduce"), strict=True):
        assert _relative(gradient, arrays[f"dalpha_{kind}_f64"]) < gradient_error

    # These are float32 in the file: rounding turns a few ReLUs on or off, and moves them by one part in a thousand.
    gradients = named(net.network_variables, by_weights)
    norms = {key.removeprefix("gnorm:"): value for key, value in arrays.items() if key.startswith("gnorm:")}
    assert gradients.keys() == norms.keys()
    ours = np.array([np.linalg.norm(gradients[name]) for name in norms])
    np.testing.assert_allclose(ours, np.array(list(norms.values())), rtol=5e-3)
    whole = {key.removeprefix("grad:"): value for key, value in arrays.items() if key.startswith("grad:")}
    assert len(whole) > 20
    for name, expected in whole.items():
        assert _relative(gradients[name], expected) < 5e-3, name
    np.testing.assert_allclose(net(x, training=False), arrays["logits_eval_after1"], rtol=0, atol=1e-6)


def test_a_float64_supernet_equals_the_reference_to_ten_digits(golden):
    _check_against_the_reference(golden("darts_supernet.npz"), "float64", False, 1e-10, 1e-10)


@pytest.mark.slow
def test_a_float32_supernet_equals_the_reference_to_rounding(golden):
    _check_against_the_reference(golden("darts_supernet.npz"), "float32", True, 1e-4, 5e-3)


def _genotype(nodes_of_cells, operations, concats=((2, 3), (2, 3))):
    choice = np.random.default_rng(3)
    cells = [
        [(str(choice.choice(operations)), to, source) for to, sources in nodes.items() for source in sources]
        for nodes in nodes_of_cells
    ]
    return Genotype(cells, concats)


@pytest.mark.parametrize("stem, size", [("small", 8), ("cifar", 11), ("imagenet", 64)])
def test_a_supernet_that_passes_one_operation_on_each_chosen_edge_is_that_network(stem, size):
    keras.utils.set_random_seed(0)
    operations = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7")
    space = SearchSpace("without_pools", operations, nodes=3, multiplier=3)
    genotype = _genotype(
        [{2: (0, 1), 3: (1, 2), 4: (0, 3)}, {2: (1, 0), 3: (2, 0), 4: (3, 2)}], operations[1:], [(2, 3, 4)] * 2
    )
    shape = (size, size, 3)
    net = Supernet(space, shape, 5, channels=4, cells=4, reductions=(1, 3), mixing="sigmoid", stem=stem)
    network = build_network(
        Genotype(genotype.cells, genotype.concats, (1, 3), (0, 1, 0, 1)), shape, 5, channels=4, stem=stem
    )
    for alpha, edges in zip(net.alphas, genotype.cells, strict=True):
        value = np.full(alpha.shape, -1e4)  # weight 0; 1e4 is weight 1
        for operation, to, source in edges:
            value[edge_sources(3).index((to, source)), operations.index(operation)] = 1e4
        alpha.assign(value)
    for part in net.stems:
        copy_edge(part, 0, network, part.name)
    for index, cell in enumerate(net.cells):
        for stack in cell.preprocess:
            copy_edge(stack, 0, network, f"cells.{index}.{stack.name}")
        for operation, to, source in genotype.cells[index % 2]:
            stack = cell.mixed_edges[source].stacks.get(operations.index(operation))
            if stack:
                copy_edge(stack, to - max(2, source + 1), network, f"cells.{index}._ops.{to}.{source}.0")
    for ours, theirs in zip(net.classifier.weights, network.get_layer("classifier").weights, strict=True):
        theirs.assign(ours)
    x = tf.constant(_random(3, *shape))
    for training in (False, True):
        expected = network(x, training=training).numpy()
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(net(x, training=training), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "shape, stems",
    [
        ((8, 8, 1), [("stem", 4)]),
        ((9, 13, 2), [("stem", 4)]),
        ((28, 28, 1), [("stem", 12)]),
        ((17, 40, 3), [("stem", 12)]),
        ((96, 96, 3), [("stem0", 4), ("stem1", 4)]),
    ],
)
def test_images_of_any_size_go_through(shape, stems):
    net = Supernet("darts", shape, 3, channels=4, cells=3)
    assert [(stem.name, stem.filters) for stem in net.stems] == stems
    for training in (False, True):
        logits = net(tf.constant(_random(2, *shape)), training=training)
        assert logits.shape == (2, 3) and logits.dtype == "float32" and np.isfinite(logits).all()


def test_every_weight_has_a_gradient_on_odd_sizes():
    net = Supernet("darts", (9, 13, 2), 3, channels=4, cells=2, nodes=2, reductions=(1,))

    @tf.function(autograph=False)
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(net(x, training=True) ** 2)
        return tape.gradient(loss, [v.value for v in net.trainable_variables])

    for variable, gradient in zip(net.trainable_variables, gradients(_random(3, 9, 13, 2)), strict=True):
        assert gradient is not None and np.isfinite(gradient).all(), variable.path
        assert np.any(gradient), variable.path


@pytest.mark.parametrize("nodes, multiplier", [(1, 1), (2, None), (3, 2), (5, 3)])
def test_cells_have_as_many_nodes_as_asked_for(nodes, multiplier):
    net = _few(nodes=nodes, multiplier=multiplier, classes=7)
    edges = nodes * (nodes + 3) // 2
    assert [alpha.shape for alpha in net.alphas] == [(edges, 4)] * 2
    assert net.classifier.kernel.shape[0] == (multiplier or 2) * net.plan[-1].filters
    assert net(_random(2, 8, 8, 3)).shape == (2, 7)


def test_widths_double_at_each_reduction():
    net = _few(cells=5, reductions=(0, 3))
    assert [cell.filters for cell in net.plan] == [8, 8, 8, 16, 16]
    assert [cell.after_reduction for cell in net.plan] == [False, True, False, False, True]
    assert [cell.reduction for cell in _few(cells=5).plan] == [False, True, False, True, False]
    assert not any(cell.reduction for cell in _few(cells=2, reductions=()).plan)


@pytest.mark.parametrize(
    "sharing, sequence",
    [("shared", [0, 1, 0, 1]), ("individual", [0, 1, 2, 3]), ([0, 1, 1, 2], [0, 1, 1, 2]), ((0, 0, 0, 0), [0] * 4)],
)
def test_cells_share_alphas_as_asked_for(sharing, sequence):
    net = _few(cells=4, reductions=(1, 3), sharing=sharing)
    assert net.sequence == sequence and len(net.alphas) == max(sequence) + 1
    seen = []
    for index, cell in enumerate(net.cells):
        cell.call = lambda s0, s1, mixing, call=cell.call, **rest: (
            seen.append(mixing.numpy()) or call(s0, s1, mixing, **rest)
        )
        assert cell.reduction == (index in (1, 3))
    _set_alphas(net)
    net(_random(1, 8, 8, 3))
    assert len(seen) == 4
    for index, weights in zip(sequence, seen, strict=True):
        np.testing.assert_allclose(weights, net.mixing_weights()[index].numpy(), rtol=1e-6)


def test_individual_alphas_that_agree_equal_shared_ones():
    shared, individual = _few(reductions=(1,)), _few(reductions=(1,), sharing="individual")
    for ours, theirs in zip(individual.network_variables, shared.network_variables, strict=True):
        ours.assign(theirs)
    _set_alphas(shared)
    for alpha, index in zip(individual.alphas, shared.sequence, strict=True):
        alpha.assign(shared.alphas[index])
    x = _random(2, 8, 8, 3)
    np.testing.assert_array_equal(individual(x), shared(x))
    individual.alphas[2].assign(-individual.alphas[2])
    assert not np.allclose(individual(x), shared(x))


def test_mixings_are_the_papers_formulas():
    alpha = 2 * _random(5, 4)
    exponentials = np.exp(alpha)
    softmax = exponentials / exponentials.sum(1, keepdims=True)
    expected = {
        "softmax": softmax,
        "sigmoid": 1 / (1 + np.exp(-alpha)),
        "max_w": 1 - softmax.max(1, keepdims=True) + softmax,
        "max_w_stopped": 1 - softmax.max(1, keepdims=True) + softmax,
        "node_softmax": np.concatenate([part / part.sum() for part in (exponentials[:2], exponentials[2:])]),
    }
    assert set(RELAXATIONS.names()) >= set(expected)
    for name, weights in expected.items():
        np.testing.assert_allclose(get_relaxation(name).weights(alpha), weights, rtol=1e-6)
        net = _few(mixing=name)
        assert len(net.mixing_weights()) == 2
        for own in net.alphas:
            assert np.abs(own).max() < 0.01 and np.any(own) != (name == "sigmoid")
        _set_alphas(net)
        for own, mixed in zip(net.alphas, net.mixing_weights(), strict=True):
            np.testing.assert_allclose(mixed, get_relaxation(name).weights(own.numpy()), rtol=1e-6)
        assert np.isfinite(net(_random(2, 8, 8, 3))).all()


def test_only_the_weights_after_mixing_count():
    softmax, sigmoid = _few(), _few(mixing="sigmoid")
    for ours, theirs in zip(sigmoid.network_variables, softmax.network_variables, strict=True):
        ours.assign(theirs)
    _set_alphas(softmax)
    for ours, weights in zip(sigmoid.alphas, softmax.mixing_weights(), strict=True):
        ours.assign(np.log(weights / (1 - weights)))
    x = _random(2, 8, 8, 3)
    np.testing.assert_allclose(sigmoid(x), softmax(x), rtol=0, atol=1e-5)


def test_alphas_are_trainable_variables_apart_from_the_weights():
    net = _few()
    trainable = {id(variable) for variable in net.trainable_variables}
    alphas = {id(alpha) for alpha in net.alphas}
    weights = {id(weight) for weight in net.network_variables}
    assert alphas <= trainable and not alphas & weights and alphas | weights == trainable
    assert [alpha.path.rsplit("/", 1)[1] for alpha in net.alphas] == ["alpha_0", "alpha_1"]
    count = sum(np.prod(weight.shape) for weight in net.network_variables)
    assert net.cost().params == count
    statistics = {v.path.rsplit("_", 1)[-1] for v in net.non_trainable_variables if v is not net.updates}
    assert statistics == {"mean", "var", "mixture/progress", "mixture/draws"}


def test_weights_start_as_in_the_papers_framework():
    keras.utils.set_random_seed(0)
    net = Supernet("darts", (32, 32, 3), 10, channels=16, cells=1, reductions=())
    for weight in net.network_variables:
        name = weight.path.rsplit("/", 1)[1]
        if name.endswith("gamma") or name.endswith("beta"):
            assert np.all(weight.numpy() == name.endswith("gamma"))
            continue
        fan_in = net.classifier.kernel.shape[0] if "classifier" in weight.path else np.prod(weight.shape[:3])
        limit = 1 / np.sqrt(fan_in)
        assert np.abs(weight).max() <= limit, weight.path
        if np.prod(weight.shape) > 500:
            np.testing.assert_allclose(np.std(weight), limit / np.sqrt(3), rtol=0.1, err_msg=weight.path)


def test_saved_weights_bring_back_weights_alphas_and_statistics(tmp_path):
    net, other = _few(), _few()
    _set_alphas(net)
    x = _random(4, 8, 8, 3)
    net(x, training=True)
    assert not np.allclose(net(x), other(x))
    net.save_weights(tmp_path / "net.weights.h5")
    other.load_weights(tmp_path / "net.weights.h5")
    np.testing.assert_array_equal(net(x), other(x))
    for ours, theirs in zip(net.alphas, other.alphas, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"sharing": [0, 1, 0], "mixing": "max_w", "nodes": 2, "multiplier": 1, "reductions": [1]},
        {"sharing": "individual", "stem": "cifar", "dtype": "float64", "name": "other"},
    ],
)
def test_the_configuration_makes_the_same_supernet(choices):
    net = Supernet("ddarts", (9, 8, 2), 3, **{"channels": 4, "cells": 3, **choices})
    config = net.get_config()
    again = Supernet.from_config(config)
    assert again.get_config() == config and again.name == net.name
    assert [(v.shape, v.dtype) for v in again.variables] == [(v.shape, v.dtype) for v in net.variables]
    again.set_weights(net.get_weights())
    x = _random(2, 9, 8, 2)
    np.testing.assert_array_equal(again(x), net(x))


def test_a_saved_supernet_loads_whole(tmp_path):
    net = Supernet("ddarts", (8, 8, 1), 3, channels=2, cells=1, nodes=1)
    _set_alphas(net)
    net.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    x = _random(2, 8, 8, 1)
    np.testing.assert_array_equal(again(x), net(x))


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32():
    net = _few(dtype="mixed_bfloat16")
    exact = _few()
    exact.set_weights(net.get_weights())
    x = _random(4, 8, 8, 3)
    logits = tf.function(net, autograph=False)(x, training=True)
    assert logits.dtype == "float32" and {a.dtype for a in net.alphas} == {"float32"}
    difference = np.abs(logits - exact(x, training=True)).max()
    assert 1e-6 < difference < 0.1


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"space": "dart"}, "unknown space 'dart' .did you mean 'darts'"),
        ({"input_shape": (7, 8, 3)}, "input shape"),
        ({"input_shape": (8, 8)}, "input shape"),
        ({"num_classes": 1}, "num_classes 1"),
        ({"channels": 5}, "channels 5"),
        ({"channels": 0}, "channels 0"),
        ({"cells": 0}, "cells 0"),
        ({"reductions": (3,)}, "reductions"),
        ({"reductions": (-1,)}, "reductions"),
        ({"sharing": "all"}, "sharing 'all'"),
        ({"sharing": [0, 1]}, "sharing"),
        ({"sharing": [0, 2, 0]}, "sharing"),
        ({"sharing": [1, 1, 1]}, "sharing"),
        ({"mixing": "tanh"}, "unknown mixing 'tanh'"),
        ({"nodes": 2, "multiplier": 3}, "multiplier 3"),
        ({"stem": "large"}, "unknown stem 'large'"),
    ],
)
def test_what_does_not_fit_is_refused(choices, message):
    with pytest.raises(KdartsError, match=message):
        Supernet(**{"space": "darts", "input_shape": (8, 8, 3), "num_classes": 2, "channels": 2, "cells": 3} | choices)


def test_reference_weights_that_do_not_fit_are_refused_and_change_nothing(golden):
    state = state_dict(golden("darts_supernet.npz"))
    net = Supernet("darts", (32, 32, 3), 10, channels=4, cells=8)
    before = [v.numpy() for v in net.variables]
    name = "cells.7._ops.13._ops.7.op.2.weight"
    faults = {
        "missing": {k: v for k, v in state.items() if k != name},
        "fit nothing": {**state, "cells.8._ops.0._ops.4.op.1.weight": state[name]},
        "shape": {**state, name: state[name][:-1]},
    }
    for message, fault in faults.items():
        with pytest.raises(KdartsError, match=message):
            load_reference_state(net, fault)
    assert all(np.array_equal(a, v) for a, v in zip(before, net.variables, strict=True))
