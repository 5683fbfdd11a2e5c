"""Networks whose cells are all their own: against D-DARTS' code, and what is built where something is missing."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import numbered_by_reference, state_dict

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.networks.network import build_network
from kdarts.networks.reference import load_reference_state
from kdarts.networks.trunk import DropPath, DropPathSchedule
from kdarts.ops.cost import operation_cost
from kdarts.ops.layers import reference_name
from kdarts.ops.operations import get_operation
from kdarts.supernet.cost import auxiliary_cost, network_cost

GAPPED = Genotype(
    (
        (("sep_conv_3x3", 2, 0), ("skip_connect", 2, 1), ("conv_3x1_1x3", 2, 0), ("bottleneck_1x3x1", 4, 2)),
        (
            ("simple_conv_3x3", 5, 4),
            ("max_pool_3x3", 2, 0),
            ("avg_pool_3x3", 2, 1),
            ("dil_conv_3x3", 4, 3),
            ("skip_connect", 5, 2),
        ),
        (),
        (("sep_conv_3x3", 2, 0), ("dil_conv_3x3", 4, 3)),
    ),
    ((2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5), (3, 4, 5)),
    (1, 2),
    (0, 1, 2, 0, 3, 2),
)
"""Whole but for nodes 3 and 5; dead edges; an empty cell, as a reduction and as none; a cell with a dead output."""


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def _close(ours, theirs, tolerance=5e-6):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def _of_the_file(arrays) -> Genotype:
    found = json.loads(str(arrays["genotype_json"]))
    cells = found["cells"]
    return Genotype(cells, [found["concat"]] * len(cells), found["reductions"], range(len(cells)))


@pytest.fixture
def reference(golden):
    """The arrays, and the network of their genotype with their weights."""
    arrays = golden("ddarts_final.npz")
    net = build_network(_of_the_file(arrays), (32, 32, 3), 10, channels=4, auxiliary=True)
    load_reference_state(net, state_dict(arrays))
    return arrays, net


def test_a_training_step_has_the_references_logits_losses_and_gradients(reference):
    arrays, net = reference
    named = numbered_by_reference(net, state_dict(arrays))
    load_reference_state(net, state_dict(arrays))
    x, y = tf.constant(arrays["x"].transpose(0, 2, 3, 1)), arrays["y"]

    def entropy(logits):
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))

    with tf.GradientTape() as tape:
        logits, auxiliary = net(x, training=True)
        loss = entropy(logits) + net.auxiliary_weight * entropy(auxiliary)
    _close(logits, arrays["train_logits"])
    _close(auxiliary, arrays["train_aux_logits"], 2e-5)
    np.testing.assert_allclose(entropy(logits), arrays["ce"], rtol=1e-5)
    np.testing.assert_allclose(entropy(auxiliary), arrays["ce_aux"], rtol=1e-5)
    np.testing.assert_allclose(loss, arrays["loss"], rtol=1e-5)
    smoothed = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    np.testing.assert_allclose(smoothed(tf.one_hot(y, 10), logits), arrays["ce_label_smooth"], rtol=1e-5)

    variables = net.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    np.testing.assert_allclose(tf.linalg.global_norm(gradients), arrays["grad_norm_total"], rtol=1e-4)
    ours = named(variables, gradients)
    theirs = {key.removeprefix("grad:"): arrays[key] for key in arrays if key.startswith("grad:")}
    assert len(theirs) == 135
    for name, gradient in theirs.items():
        tolerance = 1e-3 * np.abs(gradient).max() + 1e-6
        np.testing.assert_allclose(ours[name], gradient, rtol=0, atol=tolerance, err_msg=name)
    dead = {name.split(".op.")[0] for name in state_dict(arrays) if np.isnan(ours[name]).any()}
    assert dead == {"cells.2._ops.4.3.0"}


def test_the_logits_evaluated_after_one_training_step_are_the_references(reference):
    arrays, net = reference
    x = arrays["x"].transpose(0, 2, 3, 1)
    net(x, training=True)
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Keras keeps the variance of the batch, the reference that which the batch lets expect.
            count = np.prod((len(x), *layer.output.shape[1:3]))
            layer.moving_variance.assign(0.9 + (layer.moving_variance - 0.9) * count / (count - 1))
    _close(net(x, training=False), arrays["eval_logits"])


def test_parameters_are_those_of_the_reference_without_its_dead_operation(golden):
    arrays = golden("ddarts_final.npz")
    genotype = _of_the_file(arrays)
    size = (genotype, (32, 32, 3), 10, 4)
    dead, _ = operation_cost(get_operation("sep_conv_3x3"), 8, 8, 1, (16, 16))
    found = network_cost(*size).params + dead.params
    assert found == int(arrays["n_params_no_aux"])
    assert found + auxiliary_cost(*size).params == int(arrays["n_params"])
    built = build_network(*size, auxiliary=True).trainable_variables
    assert sum(math.prod(v.shape) for v in built) == int(arrays["n_params"]) - dead.params
    assert genotype.gaps()[-1] == "cell 2: nothing leads to node 3, left out with 1 edge that starts there"


def test_weights_of_dead_operations_are_ignored_and_other_strangers_are_not(golden):
    arrays = golden("ddarts_final.npz")
    state = state_dict(arrays)
    net = build_network(_of_the_file(arrays), (32, 32, 3), 10, channels=4, auxiliary=True)
    load_reference_state(net, {**state, "cells.2._ops.4.3.0.op.3.running_mean": np.zeros(8)})
    without = {name: value for name, value in state.items() if "_ops.4.3.0" not in name or "cells.2" not in name}
    assert len(without) == len(state) - 8
    load_reference_state(net, without)
    stranger = np.zeros((4, 4, 1, 1))
    for name in ("cells.0._ops.2.1.7.op.1.weight", "cells.0._ops.7.op.1.weight", "cells.9.preprocess0.op.1.weight"):
        with pytest.raises(KdartsError, match="1 arrays fit nothing in the model, the first"):
            load_reference_state(net, {**without, name: stranger})
    missing = "cells.0._ops.3.2.1.op.1.weight"
    with pytest.raises(KdartsError, match=f"{missing!r} is missing"):
        load_reference_state(net, {name: value for name, value in state.items() if name != missing})


def test_weights_that_nothing_reads_are_ignored_too():
    cells = ((("simple_conv_3x3", 2, 0), ("simple_conv_1x1", 3, 1)), (("simple_conv_1x1", 2, 0),))
    unread = Genotype(cells, ((2, 3), (2,)), (), (0, 0, 1))  # the last cell reads nothing of the one before it
    net = build_network(unread, (8, 8, 3), 3, channels=2)
    reading = Genotype((cells[0], cells[1] + (("simple_conv_1x1", 3, 1),)), ((2, 3), (2, 3)), (), (0, 0, 1))
    whole = build_network(reading, (8, 8, 3), 3, channels=2)
    names = {reference_name(layer) for layer in net.layers}
    assert not any(name.startswith(("cells.1.", "cells.2.preprocess1")) for name in names)
    state = {}
    for layer in whole.layers:
        if isinstance(layer, keras.layers.Conv2D):
            state[f"{reference_name(layer)}.weight"] = layer.kernel.numpy().transpose(3, 2, 0, 1)
        elif isinstance(layer, keras.layers.BatchNormalization):
            name = reference_name(layer)
            state |= {f"{name}.weight": layer.gamma.numpy(), f"{name}.bias": layer.beta.numpy()}
    state |= {"classifier.weight": _random(3, 2), "classifier.bias": _random(3)}
    assert any(name.startswith("cells.1.") for name in state) and "cells.2._ops.3.1.0.op.1.weight" in state
    load_reference_state(net, state)
    with pytest.raises(KdartsError, match=r"cells\.3\.preprocess0"):
        load_reference_state(net, {**state, "cells.3.preprocess0.op.1.weight": np.zeros((2, 2, 1, 1))})


def _outputs(net, names, x, **kwargs):
    return keras.Model(net.input, [net.get_layer(name).output for name in names])(x, **kwargs)


def test_what_is_missing_is_left_out_of_the_network():
    net = build_network(GAPPED, (16, 16, 3), 3, channels=4)
    x = _random(2, 16, 16, 3)
    names = {layer.name for layer in net.layers}
    assert {f"cells-0-node{n}" for n in (2, 4)} <= names and not {"cells-0-node3", "cells-0-node5"} & names
    joined = net.get_layer("cells-1-output").output
    assert joined.shape == (None, 8, 8, 16)  # nodes 2 and 5, after a reduction
    assert not any(name.startswith(("cells-1-_ops-5-4", "cells-1-_ops-4", "cells-4-_ops")) for name in names)
    adapted, passed = _outputs(net, ["cells-5-preprocess1-op-2", "cells-5-node2"], x)
    np.testing.assert_array_equal(adapted, passed)
    halved = net.get_layer("cells-2-node2").output
    assert halved.shape == (None, 4, 4, 16) and "cells-2-_ops-2-1-0-bn" in names
    assert net(x).shape == (2, 3) and np.isfinite(net(x)).all()


@pytest.mark.parametrize("shape, stem", [((16, 16, 3), "auto"), ((37, 30, 1), "cifar"), ((65, 64, 3), "imagenet")])
def test_what_is_missing_is_not_counted_but_inputs_that_nothing_reads_are(shape, stem):
    # The first inputs of cells 2, 4 and 5, adapted from 8 to 16, 16 to 16 and 32 to 16 channels, as the papers count.
    unread = sum(16 * width + 2 * 16 for width in (8, 16, 32))
    for auxiliary in (False, True):
        net = build_network(GAPPED, shape, 3, channels=4, auxiliary=auxiliary, stem=stem)
        cost = network_cost(GAPPED, shape, 3, 4, stem=stem)
        cost += auxiliary_cost(GAPPED, shape, 3, 4, stem=stem) if auxiliary else cost * 0
        assert sum(math.prod(v.shape) for v in net.trainable_variables) == cost.params - unread


def test_two_empty_cells_make_a_network_of_skips():
    nothing = Genotype(((), ()), ((2, 3), (2, 3)))
    net = build_network(nothing, (8, 8, 3), 3, channels=2, cells=4)
    assert net(_random(2, 8, 8, 3)).shape == (2, 3)
    assert {layer.name.split("-")[1] for layer in net.layers if layer.name.startswith("cells-")} == set("0123")


def _drop_paths(net) -> list[DropPath]:
    return [layer for layer in net.layers if isinstance(layer, DropPath)]


def test_drop_path_takes_each_nodes_sum_whole_identities_included(monkeypatch):
    net = build_network(GAPPED, (16, 16, 3), 3, channels=4, drop_path=0.25, seed=3)
    dropped = {layer.name for layer in _drop_paths(net)}
    nodes = {0: (2, 4), 1: (2, 5), 2: (2,), 3: (2, 4), 4: (2,), 5: (2,)}
    assert dropped == {f"cells-{cell}-node{node}-drop" for cell in nodes for node in nodes[cell]}
    x, kept = _random(4, 16, 16, 3), np.array([1, 0, 1, 0], "float32")
    monkeypatch.setattr(DropPath, "mask", lambda self, batch_size: keras.ops.convert_to_tensor(kept))
    total, after = _outputs(net, ["cells-0-node2", "cells-0-node2-drop"], x, training=True)
    _close(after, total * kept[:, None, None, None] / 0.75)
    identity, after = _outputs(net, ["cells-5-node2", "cells-5-node2-drop"], x, training=True)
    assert np.any(identity[1]) and not np.any(after[1]) and not np.any(after[3])
    np.testing.assert_array_equal(*_outputs(net, ["cells-5-node2", "cells-5-node2-drop"], x, training=False))


def test_drop_path_masks_follow_the_seed_and_differ_between_nodes():
    def masks(seed):
        layers = _drop_paths(build_network(GAPPED, (8, 8, 3), 3, channels=2, drop_path=0.5, seed=seed))
        return np.array([layer.mask(64) for layer in layers])

    one = masks(5)
    assert len(one) == len(np.unique(one, axis=0)) == 9
    np.testing.assert_array_equal(one, masks(5))
    assert not np.array_equal(one, masks(6))


def test_a_saved_network_answers_the_same_and_its_drop_path_still_climbs(tmp_path):
    net = build_network(GAPPED, (16, 16, 3), 3, channels=4, drop_path=0.2)
    x = _random(2, 16, 16, 3)
    net.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    _close(again(x), net(x), 1e-6)
    schedule = DropPathSchedule(10)
    schedule.set_model(again)
    schedule.on_epoch_begin(5)
    _close([layer.rate.numpy() for layer in _drop_paths(again)], [0.1] * 9, 1e-7)
