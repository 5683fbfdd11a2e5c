"""Networks of published genotypes against the reference code, saving, drop-path and the auxiliary classifier."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import numbered_by_reference, state_dict

import kdarts
from kdarts.genotypes.cuboid import load_architecture
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.networks.network import AuxiliaryNetwork, auxiliary_head, build_network
from kdarts.networks.reference import load_reference_state
from kdarts.networks.trunk import DropPath, DropPathSchedule
from kdarts.ops.layers import layer_name, reference_name
from kdarts.supernet.cost import auxiliary_cost
from kdarts.supernet.macro import MacroConfig

TINY = Genotype(
    (
        (("sep_conv_3x3", 2, 0), ("skip_connect", 2, 1), ("max_pool_3x3", 3, 2), ("avg_pool_3x3", 3, 0)),
        (("max_pool_3x3", 2, 0), ("skip_connect", 2, 1), ("dil_conv_3x3", 3, 2), ("skip_connect", 3, 2)),
    ),
    ((2, 3), (2, 3)),
)


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def _images(arrays: dict):
    return np.asarray(arrays["x"] if "x" in arrays else arrays["x_f16"], "float32").transpose(0, 2, 3, 1)


def _close(ours, theirs, tolerance=5e-6):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "file, name, cells",
    [
        ("darts_eval", "DARTS_V2", 8),
        ("darts_eval_nasnet", "NASNet", 5),
        ("darts_eval_amoebanet", "AmoebaNet", 5),
        ("darts_eval_imagenet", "DARTS_V2", 5),
    ],
)
def test_logits_equal_the_reference(golden, file, name, cells):
    arrays = golden(f"{file}.npz")
    x = _images(arrays)
    net = build_network(Genotype.load(name), x.shape[1:], 10, channels=4, cells=cells)
    load_reference_state(net, state_dict(arrays))
    _close(net(x, training=False), arrays["logits_eval"])
    _close(net(x, training=True), arrays["logits_train"])


def test_a_training_step_has_the_references_gradients_and_statistics(golden):
    arrays = golden("darts_eval.npz")
    x, state = tf.constant(_images(arrays)), state_dict(arrays)
    net = build_network(Genotype.load("DARTS_V2"), x.shape[1:], 10, channels=4, cells=8)
    named = numbered_by_reference(net, state)
    load_reference_state(net, state)
    with tf.GradientTape() as tape:
        logits = net(x, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(arrays["y"], logits))
    np.testing.assert_allclose(loss, arrays["loss_train"], rtol=1e-5)
    variables = net.trainable_variables
    gradients = named(variables, tape.gradient(loss, [variable.value for variable in variables]))
    norms = {key.removeprefix("gnorm:"): float(arrays[key]) for key in arrays if key.startswith("gnorm:")}
    assert len(norms) == sum(key.startswith("param:") for key in arrays)
    ours = [np.linalg.norm(gradients[name]) for name in norms]
    np.testing.assert_allclose(ours, list(norms.values()), rtol=1e-2, atol=1e-5)

    moved = {key.removeprefix("buf_after:") for key in arrays if key.startswith("buf_after:")}
    assert moved
    for name in moved:
        path, kind = name.rsplit(".", 1)
        layer, before, after = net.get_layer(layer_name(path)), arrays[f"buf:{name}"], arrays[f"buf_after:{name}"]
        if kind == "running_mean":
            _close(layer.moving_mean.numpy(), after, 1e-6)
        else:
            # Keras keeps the variance of the batch, the reference that which the batch lets expect.
            count = np.prod((len(x), *layer.output.shape[1:3]))
            expected = 0.9 * before + (after - 0.9 * before) * (count - 1) / count
            _close(layer.moving_variance.numpy(), expected, 1e-6)


def _drop_paths(net) -> list[DropPath]:
    """In the order in which the reference code applies them: by cell, then by edge."""
    layers = [layer for layer in net.layers if isinstance(layer, DropPath)]
    return sorted(layers, key=lambda layer: [int(part) for part in layer.name.split("-") if part.isdigit()])


def test_drop_path_equals_the_reference_under_its_masks(golden, monkeypatch):
    arrays = golden("darts_eval.npz")
    x, rate, masks = _images(arrays), float(arrays["dp_prob"]), arrays["dp_masks"]
    net = build_network(Genotype.load("DARTS_V2"), x.shape[1:], 10, channels=4, cells=8, drop_path=rate)
    load_reference_state(net, state_dict(arrays))
    layers = _drop_paths(net)
    recorded = {layer.name: mask for layer, mask in zip(layers, masks, strict=True)}
    monkeypatch.setattr(DropPath, "mask", lambda self, batch_size: keras.ops.convert_to_tensor(recorded[self.name]))
    _close(net(x, training=False), arrays["logits_eval"])
    _close(net(x, training=True), arrays["dp_logits_train"])


def test_drop_path_drops_whole_examples_and_scales_the_others():
    layer = DropPath(0.25, seed=1)
    x = 1 + np.abs(_random(4000, 2, 2, 1))
    y = layer(x, training=True).numpy()
    kept = y[:, 0, 0, 0] != 0
    _close(y, x * kept[:, None, None, None] / 0.75, 1e-6)
    assert 0.72 < kept.mean() < 0.78
    np.testing.assert_array_equal(layer(x, training=False), x)
    with pytest.raises(ValueError, match="drop-path rate 1"):
        DropPath(1.0)


def test_drop_path_masks_follow_the_seed_and_differ_between_edges_and_cells():
    def masks(seed):
        layers = _drop_paths(build_network(TINY, (8, 8, 3), 3, channels=2, cells=4, drop_path=0.5, seed=seed))
        return np.array([layer.mask(64) for layer in layers])

    one = masks(5)
    # Identities keep: of four edges a normal cell drops three, a reduction cell, whose skip at stride 2 convolves, too.
    assert len(one) == len(np.unique(one, axis=0)) == 12
    np.testing.assert_array_equal(one, masks(5))
    assert not np.array_equal(one, masks(6))


def test_the_drop_path_schedule_climbs_linearly_and_never_quite_ends():
    net = build_network(TINY, (8, 8, 3), 3, channels=2, cells=3, drop_path=0.2)
    schedule = DropPathSchedule(600)
    schedule.set_model(net)
    layers = _drop_paths(net)
    for epoch, rate in {0: 0.0, 1: 0.2 / 600, 300: 0.1, 599: 0.2 * 599 / 600}.items():
        schedule.on_epoch_begin(epoch)
        _close([layer.rate.numpy() for layer in layers], [rate] * len(layers), 1e-7)


def test_the_drop_path_schedule_reaches_layers_inside_of_models_and_of_other_layers():
    class Frames(keras.layers.Layer):
        """Holds layers in a dict, and one of them twice."""

        def __init__(self):
            super().__init__()
            self.parts = {"each": keras.layers.TimeDistributed(net), "again": [net]}

    schedule = DropPathSchedule(2)
    net = build_network(TINY, (8, 8, 3), 3, channels=2, cells=2, drop_path=0.2)
    schedule.set_model(keras.Sequential([Frames()]))
    schedule.on_epoch_begin(1)
    _close([layer.rate.numpy() for layer in _drop_paths(net)], [0.1] * 6, 1e-7)


def test_fitting_raises_drop_path_and_saving_keeps_its_final_rate(tmp_path):
    net = build_network(TINY, (8, 8, 3), 3, channels=2, cells=3, drop_path=0.3, auxiliary=True)
    net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    net.fit(_random(8, 8, 8, 3), np.arange(8) % 3, epochs=2, verbose=0, callbacks=[DropPathSchedule(3)])
    net.save(tmp_path / "net.keras")
    for layer in _drop_paths(keras.models.load_model(tmp_path / "net.keras")):
        assert layer.final_rate == 0.3
        _close(layer.rate.numpy(), 0.1, 1e-7)


def _head(size, imagenet) -> keras.Model:
    x = keras.Input((size, size, 8))
    return keras.Model(x, auxiliary_head(x, 10, imagenet))


def _head_state(arrays: dict) -> dict:
    return {f"auxiliary_head.{k}": v for k, v in state_dict(arrays, ("cifar_param:", "cifar_buf:")).items()}


def test_the_auxiliary_head_equals_the_reference(golden):
    arrays = golden("darts_aux.npz")
    head, x = _head(8, False), arrays["cifar_x"].transpose(0, 2, 3, 1)
    load_reference_state(head, _head_state(arrays))
    _close(head(x, training=False), arrays["cifar_eval"])
    _close(head(x, training=True), arrays["cifar_train"])


def test_the_auxiliary_head_for_imagenet_has_no_second_normalisation(golden):
    arrays = golden("darts_aux.npz")
    head = _head(7, True)
    state = {k: v for k, v in _head_state(arrays).items() if ".features.6." not in k}
    load_reference_state(head, state)
    _close(head(arrays["imagenet_x7"].transpose(0, 2, 3, 1), training=True), arrays["imagenet_train7"])


def test_the_auxiliary_head_needs_two_by_two_pixels():
    assert _head(2, False).output_shape == _head(4, True).output_shape == (None, 10)
    with pytest.raises(KdartsError, match="at least 2x2"):
        _head(1, False)


def test_an_auxiliary_network_trains_with_two_outputs_and_answers_with_one(tmp_path):
    def compiled(net, **kwargs):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        net.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"], **kwargs)
        return net

    def check(net):
        assert isinstance(net, AuxiliaryNetwork)
        logits, auxiliary = net(x, training=True)
        assert logits.shape == auxiliary.shape == (30, 3)
        assert net(x).shape == net(x, training=False).shape == net.predict(x, verbose=0).shape == (30, 3)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        expected = loss(y, logits) + 0.4 * loss(y, auxiliary)
        found = net.evaluate(x, y, verbose=0, return_dict=True)
        np.testing.assert_allclose(found["loss"], loss(y, net(x)), rtol=1e-4)
        np.testing.assert_allclose(found["accuracy"], np.mean(np.argmax(net(x), 1) == y), rtol=1e-5)
        trained = net.train_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(trained["loss"], expected, rtol=1e-4)

    keras.utils.set_random_seed(0)
    y = np.arange(30) % 3
    x = _random(30, 8, 8, 3) + y[:, None, None, None]
    net = compiled(build_network(TINY, (8, 8, 3), 3, channels=4, cells=2, auxiliary=True))
    history = net.fit(x, y, batch_size=30, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0] and set(history) == {"loss", "accuracy"}
    check(net)
    net.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_allclose(again(x), net(x), atol=1e-6)
    check(compiled(again, run_eagerly=True))


def test_the_auxiliary_classifier_sits_on_the_last_reduction():
    def size(**kwargs):
        net = build_network(TINY, (32, 32, 3), 3, channels=2, auxiliary=True, **kwargs)
        return net.get_layer("auxiliary_head-features-0").input.shape[1:]

    assert size(cells=5) == (8, 8, 16)
    individual = Genotype(TINY.cells, TINY.concats, reductions=(1,), sequence=(0, 1, 0))
    net = build_network(individual, (32, 32, 3), 3, channels=2, auxiliary=True)
    assert net.get_layer("auxiliary_head-features-0").input is net.get_layer("cells-1-output").output
    imagenet = build_network(TINY, (96, 96, 3), 3, channels=2, cells=3, auxiliary=True)
    assert "auxiliary_head-features-6" not in [layer.name for layer in imagenet.layers]


@pytest.mark.parametrize("name", ["NASNet", "AmoebaNet", "SNAS_aggressive", "PC_DARTS_cifar"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 13, 3)])
def test_published_networks_take_images_of_any_size(name, shape):
    genotype = Genotype.load(name)
    net = build_network(genotype, shape, 3, channels=2, cells=3)
    assert net.input_shape == (None, *shape) and net.name == name
    for training in (False, True):
        logits = net(_random(4, *shape), training=training)
        assert logits.shape == (4, 3) and np.isfinite(logits).all()
    for cell, index in enumerate((0, 1, 1)):
        width = len(genotype.concats[index]) * (2, 4, 8)[cell]
        assert net.get_layer(f"cells-{cell}-output").output.shape[-1] == width


def test_a_node_that_only_none_leads_to_is_zero():
    net = build_network(Genotype.load("SNAS_aggressive"), (8, 8, 3), 3, channels=2, cells=3)
    nodes = [net.get_layer(f"cells-1-node{node}").output for node in (3, 4, 5)]
    three, four, five = keras.Model(net.input, nodes)(_random(2, 8, 8, 3))
    assert np.any(three) and not np.any(four) and not np.any(five)
    assert four.shape == (2, 4, 4, 4)


def test_a_cell_sums_its_edges_and_joins_the_nodes_of_its_concat():
    genotype = Genotype(
        (
            (("skip_connect", 2, 0), ("skip_connect", 2, 0), ("skip_connect", 3, 1), ("max_pool_3x3", 4, 2)),
            TINY.cells[1],
        ),
        ((4, 0, 3), (2, 3)),
    )
    net = build_network(genotype, (8, 8, 3), 3, channels=2, cells=3)
    names = ["preprocess0-op-2", "preprocess1-op-2", "output"]
    first, second, output = keras.Model(net.input, [net.get_layer(f"cells-0-{n}").output for n in names])(
        _random(2, 8, 8, 3)
    )
    pooled = keras.layers.MaxPooling2D(3, 1, "same")(2 * first)
    _close(output, np.concatenate([pooled, first, second], -1))


@pytest.mark.parametrize("name, shape", [("AmoebaNet", (9, 8, 3)), ("DARTS_V2", (96, 96, 1))])
def test_a_saved_network_answers_the_same(tmp_path, name, shape):
    net = build_network(Genotype.load(name), shape, 3, channels=2, cells=3, drop_path=0.2)
    x = _random(4, *shape)
    net(x, training=True)
    net.save(tmp_path / "net.keras")
    _close(keras.models.load_model(tmp_path / "net.keras")(x), net(x), 1e-6)


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"input_shape": (7, 7, 3)}, "input shape"),
        ({"num_classes": 1}, "num_classes 1"),
        ({"channels": 3}, "channels 3"),
        ({"cells": None}, "how many cells"),
        ({"cells": 0}, "cells 0"),
        ({"drop_path": 1.0}, "drop_path 1.0"),
        ({"drop_path": -0.1}, "drop_path"),
        ({"stem": "cifar10"}, "unknown stem 'cifar10'"),
        ({"input_shape": (8, 8, 3), "auxiliary": True, "stem": "imagenet"}, "33x33 or more"),
    ],
)
def test_what_does_not_fit_is_refused(choices, message):
    given = {"genotype": "DARTS_V2", "input_shape": (32, 32, 3), "num_classes": 10, "channels": 4, "cells": 3} | choices
    with pytest.raises(KdartsError, match=message):
        build_network(**{**given, "genotype": Genotype.load(given["genotype"])})


def test_no_1x1_convolution_strides():
    """TensorFlow's kernel for it writes outside of its memory on a CPU, at few channels and large images."""
    network = build_network(Genotype.load("DARTS_V1"), (64, 64, 3), 4, channels=4, cells=4, stem="imagenet")
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert any(layer.kernel_size == (1, 1) and "preprocess0" in layer.name for layer in convolutions)
    assert not [layer.name for layer in convolutions if layer.kernel_size == (1, 1) and max(layer.strides) > 1]


NASBENCH201 = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


def _networks():
    shape = (32, 32, 3)
    all_of_it = {"auxiliary": True, "drop_path": 0.2, "stem": "imagenet"}
    yield build_network(Genotype.load("DARTS_V2"), (64, 64, 3), 3, channels=2, cells=3, **all_of_it)
    yield build_network(Genotype.load("resnet18"), shape, 3, channels=2, drop_path=0.2)
    yield build_network(Genotype.load(NASBENCH201), shape, 3, channels=2, cells=1)
    frame = kdarts.MacroConfig(head=(8,))
    yield build_network(Genotype.load("AmoebaNet"), shape, 3, channels=2, cells=3, frame=frame)
    yield kdarts.build_backbone(Genotype.load("DARTS_V2"), shape, channels=2, cells=3, drop_path=0.2)
    yield kdarts.build_path_network(load_architecture("MULTI_CHANNEL_MAX_W_PATH"), shape, 3)


def test_no_layer_or_variable_of_a_network_has_a_dot_in_its_name():
    """PyTorch, as a backend of Keras, does not accept one."""
    for net in _networks():
        names = [*(layer.name for layer in net.layers), *(variable.path for variable in net.variables)]
        assert len(names) > 20 and not [name for name in names if "." in name]
        assert {layer_name(reference_name(layer)) for layer in net.layers} == {layer.name for layer in net.layers}


def test_a_network_saved_with_dots_in_its_names_is_loaded_and_takes_weights_of_the_papers_code(golden, tmp_path):
    arrays = golden("darts_eval.npz")
    x = _images(arrays)
    net = build_network(Genotype.load("DARTS_V2"), x.shape[1:], 10, channels=4, cells=8)
    text = net.to_json()
    for layer in net.layers:
        text = text.replace(f'"{layer.name}"', f'"{reference_name(layer)}"')
    keras.models.model_from_json(text).save(tmp_path / "net.keras")
    old = kdarts.load_model(tmp_path / "net.keras")
    assert old.get_layer("cells.0.preprocess0.op.1").name not in {layer.name for layer in net.layers}
    load_reference_state(old, state_dict(arrays))
    _close(old(x, training=False), arrays["logits_eval"])
    backbone = kdarts.build_backbone(Genotype.load("DARTS_V2"), x.shape[1:], 4, 8, stem="cifar", weights=old)
    kernel = backbone.get_layer("cells-7-_ops-0-op-1").kernel
    np.testing.assert_array_equal(kernel, old.get_layer("cells.7._ops.0.op.1").kernel)


def test_the_auxiliary_head_takes_every_map_from_2x2_on():
    for side, pooled in ((2, 2), (4, 4), (5, 2), (6, 2), (7, 2), (8, 2), (11, 3)):
        assert _head(side, False).get_layer("auxiliary_head-features-2").output.shape[1:3] == (pooled, pooled), side
    x = keras.Input((5, 9, 8))
    assert keras.Model(x, auxiliary_head(x, 10, True)).get_layer("auxiliary_head-features-2").output.shape[1:3] == (
        2,
        3,
    )


def test_images_too_small_for_the_auxiliary_classifier_are_refused():
    size = TINY, (24, 24, 3), 3, 2, 3
    assert len(build_network(*size, auxiliary=True).outputs) == 2
    for call in (
        lambda: build_network(*size, auxiliary=True, stem="imagenet"),
        lambda: auxiliary_cost(*size, "imagenet"),
    ):
        with pytest.raises(KdartsError, match=r"auxiliary=True: .* 24x24; allowed: image_size=33 or more"):
            call()
    assert len(build_network(TINY, (33, 33, 3), *size[2:], auxiliary=True, stem="imagenet").outputs) == 2


def test_a_genotype_by_name_and_images_of_any_size():
    size = {"num_classes": 3, "channels": 4, "cells": 3, "stem": "cifar"}
    fixed = build_network("DARTS_V2", (16, 16, 3), **size)
    network = build_network("DARTS_V2", (None, None, 3), **size)
    network.set_weights(fixed.get_weights())
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(network(images), fixed(images), rtol=1e-5, atol=1e-6)
    assert network(np.zeros((1, 20, 12, 3), "float32")).shape == (1, 3)
    for more, told in (
        ({"stem": "auto"}, "stem='auto' needs the sides"),
        ({"auxiliary": True}, "auxiliary=True needs the sides"),
        ({"frame": MacroConfig(head=(8,))}, "needs the sides"),
    ):
        with pytest.raises(KdartsError, match=told):
            build_network("DARTS_V2", (None, None, 3), **{**size, **more})
    with pytest.raises(KdartsError, match="multiples of 4, or None"):
        build_network("DARTS_V2", (None, 18, 3), **size)
    with pytest.raises(KdartsError, match="DARTS_V2"):
        build_network("DARTS_V3", (16, 16, 3), **size)
