"""Handcrafted networks as genotypes: the faithful ones have the real wiring, the published ones their faults."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kdarts.genotypes.genotype import get_genotype
from kdarts.genotypes.text import describe
from kdarts.networks.network import build_network
from kdarts.supernet.cost import network_cost

FAITHFUL = ["resnet18", "resnet50", "xception"]


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def _moved(net):
    """What one training step of plain gradient descent moves: the variables' names."""
    x, y = _random(8, 32, 32, 3), np.arange(8) % 4
    before = [v.numpy() for v in net.trainable_variables]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)  # one step: tracing would take longer
    net.train_on_batch(x, y)
    after = net.trainable_variables
    return {v.path for v, old in zip(after, before, strict=True) if np.any(v.numpy() != old)}


@pytest.mark.parametrize("name", FAITHFUL)
def test_every_cell_of_a_faithful_network_learns(name):
    genotype = get_genotype(name)
    net = build_network(genotype, (32, 32, 3), 4, channels=4)
    assert _moved(net) == {v.path for v in net.trainable_variables}
    for position, index in enumerate(genotype.sequence):
        nodes = {layer.name for layer in net.layers if layer.name.startswith(f"cells-{position}-node")}
        assert nodes == {f"cells-{position}-node{to}" for _, to, _ in genotype.cells[index]}
    assert not genotype.gaps() and net(_random(1, 32, 32, 3)).shape == (1, 4)


@pytest.mark.parametrize("name", FAITHFUL)
def test_the_cells_of_a_faithful_network_form_one_chain(name):
    genotype = get_genotype(name)
    for cell, concat in zip(genotype.cells, genotype.concats, strict=True):
        assert {source for _, _, source in cell if source < 2} == {1}
        assert concat == (max(to for _, to, _ in cell),)
        read = {source for _, _, source in cell} | set(concat)
        assert read == {1, *(to for _, to, _ in cell)}  # nothing is made that nothing reads


def test_faithful_networks_have_the_depth_of_the_real_ones():
    def layers_of(name, *operations):
        genotype = get_genotype(name)
        return sum(op in operations for index in genotype.sequence for op, _, _ in genotype.cells[index])

    assert layers_of("resnet18", "simple_conv_3x3") == 16 == 18 - 2  # beside the stem and the classifier
    assert layers_of("resnet50", "bottleneck_1x3x1") == 3 + 4 + 6 + 3 == (50 - 2) / 3
    separable = 2 * layers_of("xception", "sep_conv_3x3") + layers_of("xception", "dil_conv_3x3")
    assert separable == 3 * 2 + 8 * 3 + 2 + 2 and layers_of("xception", "simple_conv_1x1") == 4
    net = build_network(get_genotype("xception"), (96, 96, 3), 10, channels=4, stem="small")
    assert net.get_layer("cells-12-node3").output.shape[1:] == (6, 6, 64)


@pytest.mark.parametrize(
    "name, live",
    [
        ("ResNet18", {1, 3}),
        ("ResNet50", {1, 3}),
        ("Xception", {0, 2, 4, 6, 8, 10, 12}),
        ("InceptionV4", set(range(1, 16, 2))),
    ],
)
def test_half_of_a_published_encoding_is_dead(name, live):
    genotype = get_genotype(name)
    net = build_network(genotype, (32, 32, 3), 4, channels=4)
    assert {int(layer.name.split("-")[1]) for layer in net.layers if layer.name.startswith("cells-")} == live
    built = sum(int(np.prod(v.shape)) for v in net.trainable_variables)
    assert built < network_cost(genotype, (32, 32, 3), 4, 4).params
    dead = sorted(set(range(len(genotype.sequence))) - live)
    told = {
        "ResNet18": "cells 0 and 2 of 4",
        "ResNet50": "cells 0 and 2 of 4",
        "Xception": "cells 1, 3, 5, 7, 9 and 11 of 13",
        "InceptionV4": "the 8 even ones of 16 cells",
    }
    assert told[name] in describe(name) and len(dead) == len(genotype.sequence) // 2
    assert (f"{name.lower()} is faithful" in describe(name)) == (name.lower() in FAITHFUL)


def _unit(x, filters, size, stride, name):
    """ReLU, convolution, normalisation; one pixel of padding on each side for 3x3."""
    x = layers.ReLU()(x)
    x = layers.ZeroPadding2D(size // 2)(x)
    x = layers.Conv2D(filters, size, stride, use_bias=False, name=f"{name}-op-1")(x)
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{name}-op-2")(x)


def _halved(x, filters, name):
    """Two 1x1 convolutions of stride 2, the second a pixel further down and right."""
    x = layers.ReLU()(x)
    even = layers.Conv2D(filters // 2, 1, 2, use_bias=False, name=f"{name}-conv_1")(x)
    odd = layers.Conv2D(filters // 2, 1, 2, use_bias=False, name=f"{name}-conv_2")(
        layers.Cropping2D(((1, 0), (1, 0)))(x)
    )
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{name}-bn")(layers.Concatenate()([even, odd]))


def _resnet18(shape, classes, channels):
    """Four stages of two basic blocks, each `x + conv(conv(x))`, from stock layers alone."""
    image = x = keras.Input(shape)
    x = layers.Conv2D(3 * channels, 3, padding="same", use_bias=False, name="stem-0")(x)
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="stem-1")(x)
    for stage in range(4):
        filters, stride, edge = channels * 2**stage, 2 if stage else 1, f"cells-{stage}-_ops"
        x = _unit(x, filters, 1, 1, f"cells-{stage}-preprocess1")
        shortcut = _halved(x, filters, f"{edge}-3-1-0") if stage else x
        x = _unit(x, filters, 3, stride, f"{edge}-2-1-0")
        x = layers.Add()([_unit(x, filters, 3, 1, f"{edge}-3-2-0"), shortcut])
        shortcut = x
        x = _unit(x, filters, 3, 1, f"{edge}-4-3-0")
        x = layers.Add()([_unit(x, filters, 3, 1, f"{edge}-5-4-0"), shortcut])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(classes, name="classifier")(x))


def test_resnet18_is_the_network_that_a_keras_user_would_write():
    shape = (32, 32, 3)
    net, written = build_network(get_genotype("resnet18"), shape, 10, channels=8), _resnet18(shape, 10, 8)
    with_weights = {layer.name: layer for layer in net.layers if layer.weights}
    assert set(with_weights) == {layer.name for layer in written.layers if layer.weights}
    for number, (name, layer) in enumerate(with_weights.items()):
        values = [_random(*w.shape, seed=number) * 0.2 for w in layer.weights]
        if isinstance(layer, layers.BatchNormalization):
            values = [1 + values[0], values[1], values[2], 1 + np.abs(values[3])]
        layer.set_weights(values)
        written.get_layer(name).set_weights(values)
    x = _random(4, *shape)
    for training in (False, True):
        ours, theirs = net(x, training=training).numpy(), written(x, training=training).numpy()
        assert np.ptp(theirs) > 0.1
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    assert net.count_params() == written.count_params()


def test_a_faithful_network_is_saved_and_read_like_any_other(tmp_path):
    net = build_network(get_genotype("resnet18"), (16, 16, 3), 4, channels=2)
    net.save(tmp_path / "net.keras")
    x = tf.constant(_random(2, 16, 16, 3))
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "net.keras")(x), net(x), atol=1e-6)
