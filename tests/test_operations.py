"""The operations: both of their forms against the papers' reference code, and against each other."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import copy_edge

from kdarts.genotypes.errors import KdartsError
from kdarts.ops.layers import apply_operation, reference_name
from kdarts.ops.mixed import GroupedOperation, MixedEdges, normalized_pool
from kdarts.ops.operations import (
    FACTORIZED_REDUCE,
    RELU_CONV_BN,
    Conv,
    Norm,
    Operation,
    Relu,
    get_operation,
    operation_names,
    register_operation,
)

NAMES = [
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_7x1_1x7",
    "conv_3x1_1x3",
    "simple_conv_1x1",
    "simple_conv_3x3",
    "simple_conv_5x5",
    "bottleneck_1x3x1",
]
DARTS = NAMES[:6] + NAMES[7:9]
OF_DARTS_FILE = [(name, stride) for name in NAMES[:10] for stride in (1, 2)]
BOTH = [(name, stride) for name in NAMES for stride in (1, 2)]


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def _close(ours, theirs, tolerance, what=""):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, what
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1, np.abs(theirs).max()), err_msg=what)


def _evaluated(operation, shape, filters, stride) -> keras.Model:
    x = keras.Input(shape)
    return keras.Model(x, apply_operation(operation, x, filters, stride, "edge"))


def _searched(stack: GroupedOperation, x, **kwargs):
    """A stack's output for an input that is neither rectified nor repeated yet."""
    rectified, tiled = stack.reads
    x = tf.nn.relu(x) if rectified else x
    return stack(tf.tile(x, [1, 1, 1, stack.copies]) if tiled else x, **kwargs)


def _stack(operation, channels, filters, stride, copies=1, **kwargs) -> GroupedOperation:
    stack = GroupedOperation(operation, copies, filters, stride, **kwargs)
    stack.build((None, None, None, channels * (copies if stack.reads[1] else 1)))
    return stack


def _named_filters(stack: GroupedOperation):
    """`(reference name, variable)` of each filter."""
    for weights, names in zip(stack.step_weights, stack.operation.step_names(stack.stride), strict=True):
        if len(weights) == len(names):
            yield from zip(names, weights, strict=True)


def _reference(arrays: dict, key: str):
    """The arrays of one operation: input, output, upstream and input gradient channels last, filters by name."""
    images = {k: arrays[f"{key}:{k}"].transpose(0, 2, 3, 1) for k in ("y", "upstream", "dx")}
    images["x"] = arrays["x"].transpose(0, 2, 3, 1)
    filters = {}
    for kind in ("param", "grad"):
        start = f"{key}:{kind}:"
        found = {k.removeprefix(start).removesuffix(".weight"): v for k, v in arrays.items() if k.startswith(start)}
        filters[kind] = {k: v.transpose(2, 3, 1, 0) for k, v in found.items()}
    return images, filters


def _check_against(arrays, key, apply, variables: dict, transposed=()):
    """Output and gradients of `apply` as in the reference, with its filters in `variables`."""
    images, filters = _reference(arrays, key)
    assert set(variables) == set(filters["param"])
    for name, variable in variables.items():
        value = filters["param"][name]
        variable.assign(value.swapaxes(2, 3) if name in transposed else value)

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = apply(x)
            loss = tf.reduce_sum(y * images["upstream"])
        return y, tape.gradient(loss, [x, *(v.value for v in variables.values())], unconnected_gradients="zero")

    y, (dx, *gradients) = run(tf.constant(images["x"]))
    _close(y, images["y"], 4e-6, f"{key} output")
    _close(dx, images["dx"], 2e-5, f"{key} input gradient")
    for name, gradient in zip(variables, gradients, strict=True):
        expected = filters["grad"][name]
        _close(gradient, expected.swapaxes(2, 3) if name in transposed else expected, 2e-5, f"{key} gradient of {name}")


def test_the_operations_are_those_of_the_papers():
    assert [name for name in operation_names() if name in NAMES] == NAMES
    with pytest.raises(KdartsError, match="did you mean 'sep_conv_3x3'"):
        get_operation("sep_conv_3")
    register_operation(get_operation("none"))  # the same once more
    with pytest.raises(KdartsError, match="exists already"):
        register_operation(Operation("none", get_operation("skip_connect").steps, zero=False))


@pytest.mark.parametrize(
    "name, stride", [(n, s) for n, s in OF_DARTS_FILE if n != "none" and (n, s) != ("skip_connect", 1)]
)
def test_the_search_form_equals_the_reference(golden, name, stride):
    stack = _stack(get_operation(name), 4, 4, stride)
    _check_against(
        golden("darts_ops.npz"),
        f"{name}|s{stride}",
        lambda x: _searched(stack, x, training=True),
        dict(_named_filters(stack)),
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3"])
def test_the_search_form_of_a_pool_is_normalised_as_in_the_reference(golden, name, stride):
    stack = _stack(normalized_pool(get_operation(name)), 4, 4, stride)
    _check_against(golden("darts_ops.npz"), f"{name}+bn|s{stride}", lambda x: _searched(stack, x, training=True), {})


@pytest.mark.parametrize(
    "key, operation, stride",
    [("factorized_reduce_4to6", FACTORIZED_REDUCE, 2), ("relu_conv_bn_1x1_4to6", RELU_CONV_BN, 1)],
)
def test_the_adapters_of_a_cell_equal_the_reference(golden, key, operation, stride):
    stack = _stack(operation, 4, 6, stride)
    arrays = golden("darts_ops.npz")
    _check_against(arrays, key, lambda x: _searched(stack, x, training=True), dict(_named_filters(stack)))
    model = _evaluated(operation, (8, 8, 4), 6, stride)
    _check_against(arrays, key, lambda x: model(x, training=True), _layer_filters(model)[0])


def _layer_filters(model):
    """The filters of a functional model by their reference names, and which of them are depthwise."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)]
    names = [reference_name(layer).removeprefix("edge.") for layer in layers]
    depthwise = {n for n, v in zip(names, layers, strict=True) if isinstance(v, keras.layers.DepthwiseConv2D)}
    return {n: layer.kernel for n, layer in zip(names, layers, strict=True)}, depthwise


@pytest.mark.parametrize("name, stride", OF_DARTS_FILE)
def test_the_evaluation_form_equals_the_reference(golden, name, stride):
    model = _evaluated(get_operation(name), (8, 8, 4), 4, stride)
    filters, depthwise = _layer_filters(model)
    _check_against(golden("darts_ops.npz"), f"{name}|s{stride}", lambda x: model(x, training=True), filters, depthwise)


ADAPTERS = {"factorized_reduce_4to6": (FACTORIZED_REDUCE, 2), "relu_conv1x1_bn_4to6": (RELU_CONV_BN, 1)}
NORMALIZED_POOLS = [f"supernet_{kind}_pool_3x3/s{stride}" for kind in ("max", "avg") for stride in (1, 2)]
OF_DDARTS_FILE = [f"{name}/s{stride}" for name, stride in BOTH if name != "none"]
OF_DDARTS_FILE += [f"{name}/s{stride}" for name, (_, stride) in ADAPTERS.items()]


def _channels_last(array):
    return array.transpose(0, 2, 3, 1)


def _definition(key):
    """`(operation, filters, stride)` of a key of the reference file."""
    name, stride = key.removeprefix("supernet_").split("/s")
    if name in ADAPTERS:
        return ADAPTERS[name][0], 6, ADAPTERS[name][1]
    operation = get_operation(name)
    return (normalized_pool(operation) if key.startswith("supernet_") else operation), 4, int(stride)


def _stack_by_name(stack: GroupedOperation, pooling: bool) -> dict:
    """The variables of a stack by the reference's names."""
    found = {f"{name}.weight": variable for name, variable in _named_filters(stack)}
    kinds = ("running_mean", "running_var", "weight", "bias")
    for position, (weights, parts) in enumerate(
        zip(stack.step_weights, stack.operation.step_names(stack.stride), strict=True)
    ):
        if weights and len(weights) != len(parts):
            part = position if pooling else parts[0]
            found |= {f"{part}.{kind}": variable for kind, variable in zip(kinds, weights, strict=False)}
    return found


def _layers_by_name(model) -> tuple[dict, set]:
    """The variables of a functional model by the reference's names, and which of them are depthwise filters."""
    filters, depthwise = _layer_filters(model)
    found = {f"{name}.weight": variable for name, variable in filters.items()}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
            names = ("running_mean", "running_var", "weight", "bias")
            name = reference_name(layer).removeprefix("edge.")
            found |= {f"{name}.{n}": v for n, v in zip(names, values, strict=True)}
    return found, {f"{name}.weight" for name in depthwise}


def _check_one_training_step(arrays, key, apply, variables: dict, transposed=(), unbiased=True):
    """Outputs in training and evaluation, statistics and every gradient of `apply` as in the reference."""
    given = {k.split("/", 2)[2]: value for k, value in arrays.items() if k.startswith(f"{key}/")}

    def theirs(name):
        value = given[name]
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        return value.swapaxes(2, 3) if name.split(":")[1] in transposed else value

    trained = {name: v for name, v in variables.items() if ".running" not in name}
    assert {f"param:{name}" for name in trained} == {name for name in given if name.startswith("param:")}
    for name, variable in trained.items():
        variable.assign(theirs(f"param:{name}"))

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = apply(x, training=True)
            loss = tf.reduce_sum(y * _channels_last(given["cotangent"]))
        return y, tape.gradient(loss, [x, *(v.value for v in trained.values())])

    x = tf.constant(_channels_last(arrays["x"]))
    y, (dx, *gradients) = run(x)
    _close(y, _channels_last(given["train_out"]), 4e-6, f"{key} output")
    _close(dx, _channels_last(given["grad_x"]), 2e-5, f"{key} input gradient")
    for name, gradient in zip(trained, gradients, strict=True):
        _close(gradient, theirs(f"grad:{name}"), 2e-5, f"{key} gradient of {name}")
    statistics = {name: v for name, v in variables.items() if ".running" in name}
    assert {f"bufafter:{name}" for name in statistics} == {name for name in given if name.startswith("bufafter:")}
    for name, variable in statistics.items():
        expected = given[f"bufafter:{name}"]
        if unbiased or name.endswith("mean"):
            _close(variable, expected, 2e-6, name)
        else:
            # Keras keeps the variance of the batch, the reference that which the batch (of 2 images) lets expect.
            pixels = [2 * n * n for n in (4, 8)]
            biased = [0.9 + (expected - 0.9) * (count - 1) / count for count in pixels]
            assert min(np.abs(variable.numpy() - value).max() for value in biased) < 2e-6, name
        variable.assign(expected)
    _close(apply(x, training=False), _channels_last(given["eval_out"]), 4e-6, f"{key} in evaluation")


@pytest.mark.parametrize("key", [k for k in OF_DDARTS_FILE + NORMALIZED_POOLS if k != "skip_connect/s1"])
def test_the_search_form_takes_the_references_training_step(golden, key):
    operation, filters, stride = _definition(key)
    pooling = key in NORMALIZED_POOLS
    stack = _stack(operation, 4, filters, stride, affine=not pooling)
    variables = _stack_by_name(stack, pooling)
    _check_one_training_step(
        golden("ddarts_ops.npz"), key, lambda x, training: _searched(stack, x, training=training), variables
    )


@pytest.mark.parametrize("key", OF_DDARTS_FILE)
def test_the_evaluation_form_takes_the_references_training_step(golden, key):
    operation, filters, stride = _definition(key)
    model = _evaluated(operation, (8, 8, 4), filters, stride)
    variables, depthwise = _layers_by_name(model)
    _check_one_training_step(golden("ddarts_ops.npz"), key, model, variables, depthwise, unbiased=False)


def test_every_operation_of_the_file_is_compared(golden):
    keys = {"/".join(key.split("/")[:2]) for key in golden("ddarts_ops.npz") if "/" in key}
    assert keys == {*OF_DDARTS_FILE, *NORMALIZED_POOLS}


def _randomize(stack: GroupedOperation, seed=0):
    for index, variable in enumerate(stack.variables):
        value = _random(*variable.shape, seed=seed + index)
        variable.assign(np.abs(value) + 1 if variable.name.endswith("var") else value)


@pytest.mark.parametrize("name, stride", [(n, s) for n, s in BOTH if get_operation(n).parametric(s)])
@pytest.mark.parametrize("size", [(8, 8), (7, 10), (5, 9)])
def test_stacked_edges_equal_single_evaluated_ones(name, stride, size):
    operation, copies, filters = get_operation(name), 3, 4
    stack = _stack(operation, filters, filters, stride, copies, affine=True)
    _randomize(stack)
    model = _evaluated(operation, (*size, filters), filters, stride)
    before = [v.numpy() for v in stack.variables]
    x = tf.constant(_random(2, *size, filters, seed=9))
    for training in (False, True):
        together = tf.function(_searched, autograph=False)(stack, x, training=training)
        after = [v.numpy() for v in stack.variables]
        for variable, value in zip(stack.variables, before, strict=True):
            variable.assign(value)
        for edge, alone in enumerate(tf.split(together, copies, -1)):
            copy_edge(stack, edge, model, "edge")
            _close(alone, model(x, training=training), 1e-5, f"edge {edge}, training {training}")
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True)), "no statistics were kept"


def test_scale_multiplies_the_output_of_a_stack():
    scale = tf.constant([2.0, -1.0, 0.5, 3.0, 0.0, 1.0])
    x = tf.constant(_random(2, 6, 6, 3))
    plain = Operation("plain", (Relu(), Conv((3, 3))))
    for operation, affine in ((RELU_CONV_BN, False), (RELU_CONV_BN, True), (plain, False)):
        stack = _stack(operation, 3, 3, 1, copies=2, affine=affine)
        _randomize(stack)
        _close(_searched(stack, x, scale=scale, training=True), _searched(stack, x, training=True) * scale, 1e-5)


DEPTHWISE_FIRST = Operation("depthwise_first", (Conv((3, 3), (True, True), depthwise=True), Conv(), Norm()))
FULL = Operation("full", (Conv((3, 3), (True, True)), Norm(), Relu(), Conv((1, 3))))


@pytest.mark.parametrize("stride, size", [(1, (7, 5)), pytest.param(2, (8, 8), marks=pytest.mark.slow), (2, (7, 5))])
@pytest.mark.parametrize("names", [DARTS, ["max_pool_3x3", "dil_conv_3x3", DEPTHWISE_FIRST, FULL]])
def test_a_fan_out_is_the_weighted_sum_of_single_operations_on_each_edge(names, stride, size):
    operations = tuple(get_operation(n) if isinstance(n, str) else n for n in names)
    copies, filters = 3, 4
    mixed = MixedEdges(operations, copies, filters, stride)
    mixed.build((None, None, None, filters))
    models = {}
    for column, operation in enumerate(operations):
        stack = mixed.stacks.get(column) or mixed.free.get(column)
        if stack:
            _randomize(stack, seed=column)
        for edge in range(copies):
            models[edge, column] = _evaluated(normalized_pool(operation), (*size, filters), filters, stride)
            if stack:
                copy_edge(stack, edge if stack.copies > 1 else 0, models[edge, column], "edge")

    def apart(x, mixing, training):
        return [
            tf.add_n([mixing[e, c] * models[e, c](x, training=training) for c in range(len(operations))])
            for e in range(copies)
        ]

    @tf.function(autograph=False)
    def run(x, mixing, upstream):
        outcomes = []
        for form in (mixed, apart):
            with tf.GradientTape() as tape:
                tape.watch((x, mixing))
                edges = form(x, mixing, training=True)
                loss = tf.reduce_sum(tf.concat(edges, -1) * upstream)
            outcomes.append((edges, *tape.gradient(loss, (x, mixing))))
        return outcomes

    x, mixing = _random(2, *size, filters, seed=4), _random(copies, len(operations), seed=5)
    upstream = _random(2, *(-(-n // stride) for n in size), copies * filters, seed=6)
    in_evaluation = [form(tf.constant(x), tf.constant(mixing), training=False) for form in (mixed, apart)]
    ours, theirs = run(tf.constant(x), tf.constant(mixing), tf.constant(upstream))
    for edge in range(copies):
        _close(ours[0][edge], theirs[0][edge], 2e-5, f"edge {edge}")
        _close(in_evaluation[0][edge], in_evaluation[1][edge], 2e-5, f"edge {edge}, not training")
    _close(ours[1], theirs[1], 1e-4, "input gradient")
    _close(ours[2], theirs[2], 1e-4, "mixing gradient")


@pytest.mark.parametrize("stride", [1, 2])
def test_none_gives_zeros_of_the_right_size(stride):
    x = tf.constant(_random(2, 7, 8, 4))
    half = (2, -(-7 // stride), 8 // stride, 4)
    y = _evaluated(get_operation("none"), (7, 8, 4), 4, stride)(x)
    assert y.shape == half and not np.any(y)
    mixed = MixedEdges((get_operation("none"), get_operation("max_pool_3x3")), 2, 4, stride)
    none, pooled = mixed(x, tf.constant([[1.0, 0.0], [0.0, 1.0]]))
    assert none.shape == half and not np.any(none) and np.any(pooled)
