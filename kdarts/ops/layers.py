"""How weights start.

The evaluation form of the operations: stock Keras layers on the functional API.

Layers carry the names that the reference code gives to their weights, so that reading those weights is a look-up.
"""

import math

import keras
from keras import layers, ops

from kdarts.ops.cost import Cost
from kdarts.ops.operations import Conv, Halve, Norm, Operation, Pool, Reduce, Relu


def uniform(fan_in: int, seed=None) -> keras.initializers.Initializer:
    """The papers' framework's default for convolutions and classifiers: uniform within `1 / sqrt(fan_in)` of zero."""
    limit = 1 / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-limit, limit, seed)


def apply_operation(operation: Operation, x, filters: int, stride: int, name: str):
    """Adds `operation` to a functional model.

    Args:
        operation: the definition.
        x: `[batch, height, width, channels]`.
        filters: output channels.
        stride: 1 or 2.
        name: prefix of the layers' names.

    Returns:
        `[batch, ceil(height / stride), ceil(width / stride), filters]`.
    """
    if operation.zero:
        return layers.Rescaling(0.0, name=name)(_every_second(x, name) if stride == 2 else x)
    for position, (step, parts) in enumerate(zip(operation.layers(stride), operation.step_names(stride), strict=True)):
        path = f"{name}.{parts[0]}"
        match step:
            case Relu():
                x = layers.ReLU(name=f"{name}.{position}.relu")(x)
            case Conv():
                strides = [stride if along else 1 for along in step.strided]
                x = _convolution(step, x, filters, strides, path)
            case Reduce():
                x = _reduce(x, filters, [f"{name}.{part}" for part in parts])
            case Pool():
                x = _pool(step, x, stride, f"{name}.pool")
            case Halve():
                x = layers.AveragePooling2D(2, 2, "same", name=path)(x)
            case Norm():
                x = layers.BatchNormalization(momentum=0.9, epsilon=step.epsilon, name=path)(x)
    return x


def _convolution(step: Conv, x, filters, strides, name):
    dilated = step.dilation > 1
    if max(strides) > 1 and (dilated or step.kernel == (1, 1)):
        # Only every second pixel is read: take those. At equal stride and dilation the two cancel.
        x, strides, dilated = _every_second(x, name), [1, 1], False
    dilation = step.dilation if dilated else 1
    margins = [dilation * (k - 1) // 2 for k in step.kernel]
    if any(margins):
        x = layers.ZeroPadding2D(margins, name=f"{name}.pad")(x)
    fan_in = step.kernel[0] * step.kernel[1] * (1 if step.depthwise else x.shape[-1])
    common = {"padding": "valid", "use_bias": False, "dilation_rate": dilation, "name": name}
    if step.depthwise:
        size, stride = step.kernel, strides[0]
        return layers.DepthwiseConv2D(size, stride, depthwise_initializer=uniform(fan_in), **common)(x)
    width = step.filters(filters)
    return layers.Conv2D(width, step.kernel, strides, kernel_initializer=uniform(fan_in), **common)(x)


def _every_second(x, name):
    # Also before a 1x1 convolution: TensorFlow's own stride 2 corrupts memory there on a CPU, at few channels.
    return layers.MaxPooling2D(1, 2, name=f"{name}.subsample")(x)


def _reduce(x, filters, names):
    # A side that is not known is even: a backbone takes no others.
    height, width, channels = (side or 0 for side in x.shape[1:])
    shifted = x
    if height % 2 or width % 2:
        shifted = layers.ZeroPadding2D(((0, height % 2), (0, width % 2)), name=f"{names[1]}.pad")(x)
    shifted = layers.Cropping2D(((1, 0), (1, 0)), name=f"{names[1]}.shift")(shifted)
    halves = (filters // 2, filters - filters // 2)
    parts = [
        layers.Conv2D(half, 1, use_bias=False, kernel_initializer=uniform(channels), name=name)(
            _every_second(pixels, name)
        )
        for half, pixels, name in zip(halves, (x, shifted), names, strict=True)
    ]
    return layers.Concatenate(name=f"{names[0]}.join")(parts)


def _pool(step: Pool, x, stride: int, name: str):
    if step.padded:
        return layers.AveragePooling2D(3, stride, name=name)(layers.ZeroPadding2D(1, name=f"{name}.pad")(x))
    layer = layers.MaxPooling2D if step.kind == "max" else layers.AveragePooling2D
    x = layer(3, 1, "same", name=name)(x)
    # "same" at stride 2 would pad only the end of an even side; at stride 1 it pads both, and every second is taken.
    return _every_second(x, name) if stride == 2 else x


def model_cost(model: keras.Layer) -> Cost:
    """Trainable parameters, and MACs for one image as `cost` counts them, of dense layers and convolutions.

    Args:
        model: a functional or sequential model, or a layer, that was called on one input.
    """
    params = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return Cost(params, sum(_macs(layer) for layer in _leaves(model)))


def _leaves(layer) -> list:
    if isinstance(layer, keras.Model):
        return [leaf for part in layer.layers for leaf in _leaves(part)]
    return [layer]


def _macs(layer) -> int:
    if not isinstance(getattr(layer, "kernel", None), keras.Variable) or not hasattr(layer, "output"):
        return 0
    depthwise = isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D)
    each = math.prod(layer.kernel.shape[: -2 if depthwise else -1])
    return each * math.prod(layer.output.shape[1:])


def make_head(hidden, num_classes: int, inputs: int, dtype) -> list[layers.Dense]:
    """The layers, built, each behind the one before; they start as in the papers' framework.

    Args:
        hidden: widths of those with a ReLU, as of `MacroConfig`.
        num_classes: of the last, without one.
        inputs: of the first.
        dtype: policy of the layers.
    """
    made, widths = [], (*hidden, num_classes)
    for position, width in enumerate(widths):
        last, start = position == len(hidden), uniform(inputs)
        name = f"classifier.{2 * position + 1}" if hidden else "classifier"  # as in the reference code
        options = {"kernel_initializer": start, "bias_initializer": start, "name": name, "dtype": dtype}
        made.append(layers.Dense(width, None if last else "relu", **options))
        made[-1].build((None, inputs))
        inputs = width
    return made


def run_head(made, x):
    """What the layers of `make_head` make of a map `[batch, height, width, channels]`.

    Hidden layers read it channel by channel, as the papers' framework lays it out.
    """
    if len(made) > 1:
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, math.prod(x.shape[1:])))
    else:
        x = ops.mean(x, axis=(1, 2))
    for layer in made:
        x = layer(x)
    return x
