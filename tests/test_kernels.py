"""Each kernel against a plain statement of what it computes: values, gradients, and second derivatives."""

import contextlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kdarts.ops import kernels
from kdarts.supernet.supernet import Supernet

SMALL = list(itertools.product(range(1, 8), range(1, 8)))
LARGER = [(8, 8), (9, 12), (16, 11), (13, 13), (32, 32)]


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def _graph(function, *tensors):
    """Values and gradients of a function of two tensors, built as a graph: oneDNN's grouped gradients need one."""

    @tf.function(autograph=False)
    def run(*given):
        out = []
        for a, b, dy in given:
            with tf.GradientTape() as tape:
                tape.watch((a, b))
                y = function(a, b)
            out.append((y, *tape.gradient(y, (a, b), dy)))
        return out

    return tf.nest.map_structure(np.asarray, run(*tf.nest.map_structure(tf.constant, tensors)))


def _plain_depthwise(x, kernel, stride, dilation):
    margin = dilation * (kernel.shape[0] // 2)
    x = tf.pad(x, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
    kernel = tf.transpose(kernel, (0, 1, 3, 2))
    if dilation == 1:
        return tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), "VALID")
    return tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID", dilations=(2, 2))[:, ::stride, ::stride]


def _depthwise_cases(size, stride, sizes, dtype, channels=4):
    for height, width in sizes:
        x, kernel = _random(2, height, width, channels), _random(size, size, 1, channels, seed=1)
        dy = _random(2, -(-height // stride), -(-width // stride), channels, seed=2)
        yield tuple(array.astype(dtype) for array in (x, kernel, dy))


def _check_depthwise(size, stride, dilation, sizes, dtype, tolerance):
    cases = list(_depthwise_cases(size, stride, sizes, dtype))
    given = _graph(lambda x, k: kernels.depthwise(x, k, stride, dilation), *cases)
    for shape, case, outcome in zip(sizes, cases, given, strict=True):
        x, kernel, dy = (tf.constant(array, tf.float64) for array in case)
        with tf.GradientTape() as tape:
            tape.watch((x, kernel))
            y = _plain_depthwise(x, kernel, stride, dilation)
        expected = (y, *tape.gradient(y, (x, kernel), dy))
        for what, ours, theirs in zip(("value", "input gradient", "filter gradient"), outcome, expected, strict=True):
            assert ours.dtype == dtype and ours.shape == theirs.shape
            scale = max(1, np.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale, err_msg=f"{what} at {shape}")


@pytest.mark.parametrize(
    "size, stride, dilation",
    [(3, 2, 1), (5, 1, 1), (3, 1, 2), (5, 2, 2)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in [(3, 1, 1), (5, 2, 1), (5, 1, 2)]],
)
def test_depthwise_and_both_gradients_are_right_at_every_small_size(size, stride, dilation):
    _check_depthwise(size, stride, dilation, SMALL + LARGER, "float32", 2e-6)


@pytest.mark.parametrize("size, stride, dilation", [(7, 1, 1), (7, 2, 1), (7, 1, 2), (7, 2, 2), (9, 1, 1), (3, 2, 2)])
def test_depthwise_of_other_kernels_is_right_too(size, stride, dilation):
    _check_depthwise(size, stride, dilation, [*SMALL[::2], *LARGER], "float32", 2e-6)


@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_depthwise_is_the_same_in_float64_and_inside_twice_differentiable(stride, dilation):
    sizes = [(1, 1), (2, 5), (7, 4), (9, 9)]
    _check_depthwise(5, stride, dilation, sizes, "float64", 1e-12)
    with kernels.twice_differentiable():
        _check_depthwise(5, stride, dilation, sizes, "float32", 2e-6)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("size, stride", [((1, 1), (1, 1)), ((1, 1), (2, 2)), ((3, 3), (2, 2)), ((1, 7), (1, 2))])
def test_grouped_convolution_is_one_convolution_for_each_group(dtype, tolerance, size, stride):
    groups, inner, filters = 3, 4, 2

    def separate(x, kernel):
        margins, steps = [[n // 2, n // 2] for n in size], stride
        x = tf.pad(x, [[0, 0], *margins, [0, 0]])
        if size == (1, 1):  # TensorFlow's own stride corrupts memory there.
            x, steps = x[:, :: stride[0], :: stride[1]], (1, 1)
        parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
        return tf.concat([tf.nn.conv2d(a, k, (1, *steps, 1), "VALID") for a, k in parts], -1)

    cases = []
    for height, width in [(1, 1), (2, 5), (7, 4), (8, 8), (9, 13)]:
        x, kernel = _random(2, height, width, groups * inner), _random(*size, inner, groups * filters)
        dy = _random(2, -(-height // stride[0]), -(-width // stride[1]), groups * filters, seed=3)
        cases.append(tuple(array.astype(dtype) for array in (x, kernel, dy)))
    ours = _graph(lambda x, k: kernels.convolution(x, k, groups, stride), *cases)
    theirs = _graph(separate, *cases)
    for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()))


def _slow_pool(x, stride, reduce):
    """3x3 windows around every `stride`-th pixel, cut off at the border."""
    _, height, width, _ = x.shape
    rows = [
        np.stack([reduce(x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]) for j in range(0, width, stride)], 1)
        for i in range(0, height, stride)
    ]
    return np.stack(rows, 1)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pools_leave_the_border_out_of_maximum_and_mean(kind, stride, twice):
    pool, reduce = {
        "max": (kernels.max_pool, lambda window: window.max((1, 2))),
        "average": (kernels.average_pool, lambda window: window.mean((1, 2))),
    }[kind]
    for height, width in [(1, 1), (2, 2), (3, 5), (4, 7), (8, 8), (9, 6)]:
        x = _random(2, height, width, 3) - 5  # negative: a border of zeros would win every maximum
        if twice:
            with kernels.twice_differentiable():
                y = pool(tf.constant(x), stride)
        else:
            y = pool(tf.constant(x), stride)
        np.testing.assert_allclose(y, _slow_pool(x, stride, reduce), rtol=0, atol=2e-6, err_msg=f"{height}x{width}")


@pytest.mark.parametrize("dtype, twice", [("float32", False), ("float32", True), ("float64", False)])
def test_normalize_uses_batch_statistics_and_keeps_the_unbiased_variance(dtype, twice):
    x = (3 * _random(4, 5, 3, 6) + np.arange(6)).astype(dtype)
    scale, offset, mean, variance = (_random(6, seed=s).astype(dtype) for s in range(1, 5))
    variance = np.abs(variance) + 1
    axes, count = (0, 1, 2), 4 * 5 * 3

    def run(training):
        if twice:
            with kernels.twice_differentiable():
                return kernels.normalize(tf.constant(x), scale, offset, mean, variance, training)
        return kernels.normalize(tf.constant(x), scale, offset, mean, variance, training)

    tolerance = {"rtol": 0, "atol": 5e-6 if dtype == "float32" else 1e-12}
    y, new_mean, new_variance = run(True)
    wide = x.astype("float64")
    standard = (wide - wide.mean(axes)) / np.sqrt(wide.var(axes) + 1e-5)
    np.testing.assert_allclose(y, standard * scale + offset, **tolerance)
    np.testing.assert_allclose(new_mean, 0.9 * mean + 0.1 * wide.mean(axes), **tolerance)
    unbiased = wide.var(axes) * count / (count - 1)
    np.testing.assert_allclose(new_variance, 0.9 * variance + 0.1 * unbiased, **tolerance)

    y, new_mean, new_variance = run(False)
    np.testing.assert_allclose(y, (wide - mean) / np.sqrt(variance + 1e-5) * scale + offset, **tolerance)
    np.testing.assert_array_equal(new_mean, mean)
    np.testing.assert_array_equal(new_variance, variance)


@pytest.mark.parametrize("shape", [(1, 1, 1, 5), (2, 1, 1, 5), (1, 1, 3, 5)])
def test_all_forms_of_the_normalisation_agree_for_few_values_per_channel(shape):
    """With one value the unbiased variance is 0 / 0; all forms then count it as 0, and nothing becomes NaN."""
    x, dy = 3 * _random(*shape), _random(*shape, seed=1)
    scale, offset, mean = (_random(5, seed=s) for s in (2, 3, 4))
    variance = np.abs(_random(5, seed=5)) + 1
    results = []
    for dtype, twice in (("float32", False), ("float32", True), ("float64", False)):
        given = [tf.constant(array, dtype) for array in (dy, x, scale, offset, mean, variance)]

        @tf.function(autograph=False)
        def run(dy, *given):
            with tf.GradientTape() as tape:
                tape.watch(given[:3])
                y, *statistics = kernels.normalize(*given, training=True)
            return y, *statistics, *tape.gradient(y, given[:3], dy)

        with kernels.twice_differentiable() if twice else contextlib.nullcontext():
            results.append([np.asarray(array) for array in run(*given)])
        assert all(np.isfinite(array).all() for array in results[-1])
    for result in results[:-1]:
        for ours, theirs in zip(result, results[-1], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    count = x.size // 5
    unbiased = x.astype("float64").var((0, 1, 2)) * count / max(count - 1, 1)
    np.testing.assert_allclose(results[-1][2], 0.9 * variance + 0.1 * unbiased, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_on_single_pixels_stays_finite(dtype):
    """Three reductions of an 8x8 image leave one pixel, and a batch of one image has one value per channel there."""
    sizes = {"channels": 4, "cells": 3, "reductions": (0, 1, 2), "nodes": 1, "multiplier": 1}
    net = Supernet("darts", (8, 8, 3), 3, **sizes, dtype=dtype)
    image = tf.constant(_random(1, 8, 8, 3), dtype)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(net(image, training=True) ** 2)
        weights = [variable.value for variable in net.network_variables]
        assert all(np.isfinite(gradient).all() for gradient in tape.gradient(loss, weights))
    assert all(np.isfinite(variable).all() for variable in net.variables if "float" in variable.dtype)
    assert np.isfinite(net(image)).all()


def _curvature(function, x):
    """Half the gradient of the squared slope, in a graph, and the same by central differences of the slope."""

    @tf.function(autograph=False)
    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x)

    @tf.function(autograph=False)
    def curvature(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = function(x)
            # Its upstream gradient is computed in the graph: kernels that work in place go wrong with no other.
            squared = tf.reduce_sum(inner.gradient(value, x) ** 2) / 2
        return outer.gradient(squared, x)

    direction = slope(x)
    step = 1e-6 / tf.linalg.norm(direction)
    numeric = (slope(x + step * direction) - slope(x - step * direction)) / (2 * step)
    return curvature(x).numpy(), numeric.numpy()


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (2, 5, 7, 2)])
@pytest.mark.parametrize(
    "kernel",
    [
        lambda x: kernels.max_pool(x, 1),
        lambda x: kernels.max_pool(x, 2),
        lambda x: kernels.average_pool(x, 1),
        lambda x: kernels.average_pool(x, 2),
        lambda x: kernels.normalize(x, tf.range(1, x.shape[-1] + 1.0, dtype=x.dtype), 0.5, 0.0, 1.0, True)[0],
        lambda x: kernels.depthwise(x, tf.constant(_random(5, 5, 1, x.shape[-1]), x.dtype)),
        lambda x: kernels.depthwise(x, tf.constant(_random(3, 3, 1, x.shape[-1]), x.dtype), dilation=2),
    ],
    ids=["max_pool", "max_pool_stride_2", "average_pool", "average_pool_stride_2", "normalize", "depthwise", "dilated"],
)
def test_second_derivatives_are_right_in_a_graph(kernel, shape):
    x = tf.constant(_random(*shape, seed=5), tf.float64)
    with kernels.twice_differentiable():
        found, numeric = _curvature(lambda x: tf.reduce_sum(kernel(x) ** 4), x)
    assert np.abs(numeric).max() > 0.1
    np.testing.assert_allclose(found, numeric, rtol=0, atol=3e-6 * np.abs(numeric).max())


def test_twice_differentiable_ends_with_its_block():
    x = tf.constant(_random(1, 4, 4, 2))

    def operations():
        graph = tf.function(lambda x: kernels.max_pool(x, 1)).get_concrete_function(x).graph
        return {operation.type for operation in graph.get_operations()}

    plain = operations()
    with pytest.raises(ZeroDivisionError), kernels.twice_differentiable():
        assert operations() != plain
        raise ZeroDivisionError
    assert operations() == plain


def _both(ours, theirs, *arrays):
    """Holds two functions equal, in value and in every gradient, in float32 and inside `twice_differentiable`."""
    given = [tf.constant(array) for array in arrays]
    expected = None
    for function, twice in ((theirs, False), (ours, False), (ours, True)):

        @tf.function(autograph=False)
        def run(*given, function=function):
            with tf.GradientTape() as tape:
                tape.watch(given)
                y = function(*given)
                weighed = tf.reduce_sum(y * tf.cos(tf.reshape(tf.range(tf.size(y), dtype=tf.float32), tf.shape(y))))
            return y, *tape.gradient(weighed, given)

        with kernels.twice_differentiable() if twice else contextlib.nullcontext():
            found = [np.asarray(a) for a in run(*given)]
        expected = expected or found
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=3e-5)


SIZES = [(8, 8), (7, 4), (5, 5), (2, 1)]


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("channels, copies, halves", [(1, 1, (1, 1)), (3, 2, (1, 2)), (16, 4, (8, 8))])
def test_factorized_is_two_convolutions_of_every_second_pixel(height, width, channels, copies, halves):
    x = _random(2, height, width, channels)
    weights = [_random(1, 1, channels, copies * half, seed=half + i) for i, half in enumerate(halves)]

    def plain(x, even, odd):
        padded = tf.pad(x, [[0, 0], [0, height % 2], [0, width % 2], [0, 0]])
        pixels = padded[:, ::2, ::2], padded[:, 1::2, 1::2]
        edges = [tf.split(kernel, copies, -1) for kernel in (even, odd)]
        parts = [
            tf.einsum("nhwc,cf->nhwf", pixels[i % 2], k[0, 0])
            for i, k in enumerate(itertools.chain(*zip(*edges, strict=True)))
        ]
        return tf.concat(parts, -1)

    _both(lambda x, even, odd: kernels.factorized(x, even, odd, copies), plain, x, *weights)


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("channels", [2, 16])
def test_picked_pixels_and_channels_are_slices(height, width, channels):
    x = _random(2, height, width, channels)
    _both(kernels.every_second, lambda x: x[:, ::2, ::2], x)
    _both(lambda x: kernels.first_channels(x, 2), lambda x: x[..., :2], x)


@pytest.mark.parametrize("height, width", SIZES)
def test_halves_keep_the_greatest_of_what_there_is(height, width):
    x = _random(2, height, width, 3)

    def plain(x):
        pads = [[0, 0], [0, height % 2], [0, width % 2], [0, 0]]
        x = tf.pad(x, pads, constant_values=-1e9)
        return tf.reduce_max(tf.reshape(x, [2, x.shape[1] // 2, 2, x.shape[2] // 2, 2, 3]), [2, 4])

    _both(kernels.halved_maximum, plain, x)


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("channels", [1, 4, 15])
def test_pools_of_few_channels_are_those_of_many(height, width, channels):
    x = _random(2, height, width, channels)
    _both(lambda x: kernels.max_pool(x, 1), lambda x: tf.nn.max_pool2d(x, 3, 1, "SAME"), x)
    _both(lambda x: kernels.average_pool(x, 1), lambda x: tf.nn.avg_pool2d(x, 3, 1, "SAME"), x)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [4, 16])
def test_padding_counts_in_a_padded_mean(channels, stride):
    def plain(x):
        return tf.nn.avg_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, stride, "VALID")

    _both(lambda x: kernels.average_pool(x, stride, padded=True), plain, _random(2, 5, 8, channels))


def test_without_onednn_the_kernels_are_other_ones_of_the_same_values(monkeypatch):
    monkeypatch.setattr(kernels, "has_grouped_gradients", lambda dtype: False)
    _check_depthwise(5, 2, 1, [(2, 5), (7, 4)], "float32", 2e-6)
    test_grouped_convolution_is_one_convolution_for_each_group("float32", 2e-6, (3, 3), (2, 2))
    test_grouped_convolution_is_one_convolution_for_each_group("float32", 2e-6, (1, 1), (1, 1))


def test_where_tensorflow_is_told_to_leave_onednn_out_that_is_seen():
    program = "import tensorflow as tf, kdarts.ops.kernels as o; print(o.has_grouped_gradients(tf.float32))"
    quiet = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", program], env=quiet, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
