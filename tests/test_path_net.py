"""The network of shared paths: a path equals the stand-alone network of its genotype, in a group and alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import copy_edge

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.path_space import PathSpace
from kdarts.networks.network import build_network
from kdarts.ops.layers import reference_name
from kdarts.paths.fair import FairPaths
from kdarts.paths.network import PathNetwork
from kdarts.supernet.cost import network_cost

TWO = PathSpace(
    (
        (
            (2, 1, ("sep_conv_3x3", "skip_connect")),
            (2, 0, ("max_pool_3x3", "dil_conv_3x3")),
            (3, 2, ("avg_pool_3x3", "dil_conv_5x5")),
        ),
        (
            (2, 0, ("skip_connect", "max_pool_3x3")),
            (3, 2, ("skip_connect", "none")),
            (3, 1, ("max_pool_3x3", "sep_conv_3x3")),
        ),
    ),
    ((2, 3), (2, 3)),
)
THREE = PathSpace(
    (
        ((2, 0, ("sep_conv_3x3", "skip_connect", "avg_pool_3x3")),),
        (
            (2, 1, ("skip_connect", "dil_conv_3x3", "max_pool_3x3")),
            (2, 0, ("dil_conv_3x3", "avg_pool_3x3", "skip_connect")),
        ),
    ),
    ((1, 2), (2,)),
    (1,),
)


@pytest.fixture
def doubly(dtype_policy):
    """In float64, so that rounding hides nothing."""
    keras.config.set_dtype_policy("float64")


def _network(space=TWO, cells=3, **options) -> PathNetwork:
    net = PathNetwork(space, (8, 8, 3), 4, channels=4, cells=cells, **options)
    for index, variable in enumerate(net.trainable_variables):
        random = np.random.default_rng(index).normal(size=variable.shape)
        variable.assign(random)
    return net


def _batch(size=6):
    # As float32 has them: that is what a stand-alone network's input is cast to.
    return np.random.default_rng(0).normal(size=(size, 8, 8, 3)).astype("float32"), np.arange(size) % 4


def _loss(y, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))


def _pieces(net, path):
    """Stacks of the weights that a path has, by the names that its stand-alone network gives their layers."""
    yield from ((stem, stem.name) for stem in net.stems)
    normal = len(net.space.cells[0])
    halves = path[:normal], path[normal:]
    for index, (cell, plan) in enumerate(zip(net.cells, net.plan, strict=True)):
        yield from ((stack, f"cells.{index}.{stack.name}") for stack in cell.preprocess)
        for number, (stacks, choice) in enumerate(zip(cell.edges, halves[plan.reduction], strict=True)):
            yield stacks[choice], f"cells.{index}._ops.{number}"


def _alone(net, path):
    """The features of the stand-alone network of a path, with its share of the weights."""
    genotype = net.space.genotype(path)
    network = build_network(genotype, net.image_shape, net.num_classes, net.channels, len(net.plan))
    for stack, name in _pieces(net, path):
        copy_edge(stack, 0, network, name)
    return keras.Model(network.input, network.get_layer("pool").output)


def _variables(net, path, network):
    """Pairs of a shared variable and that of the stand-alone network, and whether its axes 2 and 3 are swapped."""
    names = {reference_name(layer): layer for layer in network.layers}
    for stack, name in _pieces(net, path):
        for weights, parts in zip(stack.step_weights, stack.operation.step_names(stack.stride), strict=True):
            if len(weights) == len(parts):
                for variable, part in zip(weights, parts, strict=True):
                    layer = names[f"{name}.{part}"]
                    yield variable, layer.kernel, isinstance(layer, keras.layers.DepthwiseConv2D)
            elif weights:
                layer = names[f"{name}.{parts[0]}"]
                yield from ((v, t, False) for v, t in zip(weights[2:], (layer.gamma, layer.beta), strict=True))


@pytest.mark.parametrize(("space", "cells"), [(TWO, 3), (THREE, 2)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_group_equals_its_paths_alone(space, cells, dtype, eagerly, doubly):
    if dtype == "float32":
        keras.config.set_dtype_policy("float32")
    net, (x, y) = _network(space, cells), _batch()
    x = tf.constant(x, dtype)
    paths = FairPaths(space.edges, space.kept, seed=1).group(7)
    with tf.GradientTape() as tape:
        logits = net.group(x, paths)
        loss = tf.add_n([_loss(y, each) for each in tf.unstack(logits)])
    variables = net.trainable_variables
    ours = dict(zip(map(id, variables), tape.gradient(loss, variables), strict=True))
    expected = {key: np.zeros(gradient.shape) for key, gradient in ours.items()}
    bound = {"float64": 1e-9, "float32": 1e-5}[dtype]
    for path, group_logits in zip(paths, logits, strict=True):
        alone, dense = _alone(net, path), net.classifier
        pairs = list(_variables(net, path, alone))
        with tf.GradientTape() as tape:
            its_logits = alone(x, training=True) @ dense.kernel + dense.bias
            loss = _loss(y, its_logits)
        np.testing.assert_allclose(group_logits, its_logits, rtol=bound, atol=bound)
        sources = [theirs.value for _, theirs, _ in pairs] + [dense.kernel.value, dense.bias.value]
        gradients = tape.gradient(loss, sources)
        shared = [(v, swapped) for v, _, swapped in pairs] + [(dense.kernel, False), (dense.bias, False)]
        for (variable, swapped), gradient in zip(shared, gradients, strict=True):
            gradient = np.asarray(gradient)
            expected[id(variable)] += gradient.swapaxes(2, 3) if swapped else gradient
    assert len(expected) == len(variables)
    scale = max(np.abs(value).max() for value in expected.values())
    for variable in variables:
        assert np.abs(expected[id(variable)]).max() > 0, f"{variable.path}: no path has it"
        np.testing.assert_allclose(ours[id(variable)], expected[id(variable)], rtol=0, atol=bound * scale)


def test_one_graph_serves_every_path_alone(doubly):
    net, (x, _) = _network(), _batch()
    traces = []

    @tf.function(autograph=False)
    def forward(x, training):
        traces.append(training)
        return net(x, training=training)

    for path in FairPaths(TWO.edges, TWO.kept).groups(0, 2).reshape(-1, TWO.edges):
        net.chosen.assign(path)
        alone = _alone(net, path)
        for training in (True, False):
            features = alone(x, training=training)
            logits = forward(x, training)
            if training:
                np.testing.assert_allclose(logits, features @ net.classifier.kernel + net.classifier.bias, rtol=1e-9)
    assert traces == [True, False]


def test_recalibrated_statistics_are_those_of_the_path_whatever_was_before(eagerly):
    net, (x, _) = _network(drop_path=0.5), _batch()
    other = x[::-1] * 2 + 1

    def forward(x):
        return net(x, training=True)

    def recalibrated(path):
        net.chosen.assign(path)
        net.recalibrate(forward, [x, other])
        return np.asarray(net(x))

    first = recalibrated([0, 1, 0, 1, 0, 1])
    assert np.isfinite(first).all()
    assert not np.allclose(recalibrated([1, 0, 1, 0, 1, 0]), first)
    np.testing.assert_array_equal(recalibrated([0, 1, 0, 1, 0, 1]), first)
    assert net.drop_path.rate == 0.5
    mean = net.statistics[0].numpy()
    net.recalibrate(forward, [x])
    np.testing.assert_allclose(net(x), _alone_after(net, x), rtol=1e-4, atol=1e-4)
    assert not np.allclose(net.statistics[0].numpy(), mean)


def _alone_after(net, x):
    """The stand-alone network's logits with the path's weights and running statistics."""
    features = _alone(net, net.chosen.numpy())(x, training=False)
    return features @ net.classifier.kernel + net.classifier.bias


def test_the_weights_are_those_that_the_paths_cost():
    net = _network()
    costs = [network_cost(TWO.genotype([choice] * 6), (8, 8, 3), 4, 4, 3).params for choice in (0, 1)]
    empty = network_cost(_empty(TWO).genotype([0] * 6), (8, 8, 3), 4, 4, 3).params
    assert sum(np.prod(v.shape) for v in net.trainable_variables) == sum(costs) - empty
    assert len(net.trainable_variables) == len({v.path for v in net.trainable_variables})
    bare = PathNetwork(TWO, (8, 8, 3), 4, channels=4, cells=3, affine=False)
    stems = len(net.stems[0].trainable_variables)
    assert sum("gamma" in v.name for v in bare.trainable_variables) == 1 and stems == 3


def _empty(space):
    return PathSpace(tuple(tuple((to, at, ("none",)) for to, at, _ in c) for c in space.cells), space.concats)


def test_drop_path_drops_whole_examples_of_each_path_but_no_identity(eagerly):
    net, (x, _) = _network(drop_path=0.5, seed=1), _batch(8)
    x, paths = x.astype("float32"), FairPaths(6, 2).group(0)
    assert not np.allclose(net.group(x, paths), net.group(x, paths))
    net.drop_path.rate.assign(0.0)
    np.testing.assert_allclose(net.group(x, paths), _network().group(x, paths), rtol=1e-6)
    skips = PathSpace((((2, 0, ("skip_connect",)),),) * 2, ((2,), (2,)), ())
    skipping = PathNetwork(skips, (8, 8, 3), 4, channels=4, cells=1, drop_path=0.5)
    np.testing.assert_array_equal(skipping.group(x, [[0, 0]]), skipping.group(x, [[0, 0]]))


def test_wrong_sizes_are_told():
    for wrong in ({"num_classes": 1}, {"drop_path": 1.0}, {"channels": 3}, {"stem": "large"}):
        with pytest.raises(KdartsError):
            PathNetwork(
                **{"space": TWO, "input_shape": (8, 8, 3), "num_classes": 4, "channels": 4, "cells": 3, **wrong}
            )
