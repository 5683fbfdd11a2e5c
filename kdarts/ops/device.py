"""What a network takes on a device, computed before it is there: the memory of its activations, and its file.

Both are those of an int8 network, of one byte a value or a weight. The memory is the peak of the values that a runtime
holds at once when it computes one layer after another: the inputs and outputs of the layer, and whatever a later one
still reads. A normalisation, an activation or a dropout has no values of its own, and an addition writes into that of
its inputs which nothing else reads. For an inverted residual block, with x values before it, m1 and m2 before and
behind the depthwise convolution, y behind it, and r = x if the input is added, that is MCUNet's rule (Lin et al. 2020)

    max(x + m1, m1 + m2 + r, m2 + y + r)

A runtime that plans otherwise, or computes a depthwise convolution in place, needs up to a third more or less.
"""

import math

import keras

from kdarts.ops.cost import Cost
from kdarts.ops.layers import model_cost
from kdarts.ops.operations import Conv, Gate, Halve, Operation, Pool, Reduce

CHANNEL, LAYER, FILE = 28, 700, 3500
"""Bytes of an int8 `.tflite` file besides the weights: for an output channel of a layer, a layer, and the file.

A channel has a bias of 4 bytes, and a scale and a zero point for it and for its weights. With these numbers the
estimates of ten mobile networks of 42 kB to 1 MB are 1 to 7 % above their files."""

_MERGED = (
    *(keras.layers.BatchNormalization, keras.layers.ReLU, keras.layers.Activation, keras.layers.Dropout),
    *(keras.layers.Rescaling, keras.layers.Identity, keras.layers.Flatten, keras.layers.Reshape),
)
"""Layers that write where they read, or are merged with the one before."""


def operation_ram(
    operation: Operation, channels: int, filters: int, stride: int, size: tuple[int, int], residual: bool = False
) -> int:
    """The peak of the activations of one operation in bytes.

    Args:
        operation: the definition.
        channels, size: channels, and height and width in pixels, of its input.
        filters, stride: of its output.
        residual: whether its input is added to its output.
    """
    given = now = channels * math.prod(size)
    peak, held = 0, 0
    for step in operation.layers(stride):
        before = now
        match step:
            case Conv():
                margins = [0 if step.same else step.dilation * (k - 1) for k in step.kernel]
                if any(margins):  # This padding is a layer of its own.
                    padded = channels * math.prod(side + more for side, more in zip(size, margins, strict=True))
                    peak, before, held = max(peak, held + before + padded), padded, residual * given
                size = tuple(-(-n // (stride if along else 1)) for n, along in zip(size, step.strided, strict=True))
                channels = channels if step.depthwise else step.filters(filters)
            case Gate():
                before += channels
            case Pool() | Halve() | Reduce():
                size = tuple(-(-n // (stride if isinstance(step, Pool) else 2)) for n in size)
                channels = filters if isinstance(step, Reduce) else channels
            case _:
                continue
        now = channels * math.prod(size)
        peak, held = max(peak, held + before + now), residual * given
    return peak


def operation_flash(operation: Operation, channels: int, filters: int, stride: int, residual: bool = False) -> int:
    """The bytes of one operation in an int8 file, estimated; arguments as of `operation_ram`."""
    total = LAYER * residual
    for step in operation.layers(stride):
        match step:
            case Conv():
                width = channels if step.depthwise else step.filters(filters)
                weights = math.prod(step.kernel) * width * (1 if step.depthwise else channels)
                total, channels = total + weights + CHANNEL * width + LAYER, width
            case Gate(width):
                total += 2 * channels * width + CHANNEL * (width + channels) + 4 * LAYER
            case Reduce():
                total, channels = total + channels * filters + CHANNEL * filters + 4 * LAYER, filters
            case Pool() | Halve():
                total += LAYER
    return total


def layer_flash(layer: keras.Layer) -> int:
    """The bytes of a built Keras layer in an int8 file, estimated."""
    if isinstance(layer, (*_MERGED, keras.layers.InputLayer)):
        return 0
    kernel = getattr(layer, "kernel", None)
    if not isinstance(kernel, keras.Variable):
        return LAYER
    depthwise = isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D)
    outputs = math.prod(kernel.shape[-2:]) if depthwise else kernel.shape[-1]
    return math.prod(kernel.shape) + CHANNEL * outputs + LAYER


def device_cost(model: keras.Model) -> Cost | None:
    """All that a functional model costs but time; None if it has free sides, models inside, or a layer twice."""
    inside = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if inside or any(None in tensor.shape[1:] for tensor in keras.tree.flatten(model.inputs)):
        return None
    try:
        return model_cost(model) + Cost(flash=model_flash(model), ram=model_ram(model))
    except (AttributeError, ValueError):  # What Keras raises for the output of a layer that has several.
        return None


def model_flash(model: keras.Model) -> int:
    """The bytes of the int8 file of a functional model, estimated."""
    return FILE + sum(layer_flash(layer) for layer in model.layers)


def model_ram(model: keras.Model) -> int:
    """The peak of the activations of a functional model for one example, in bytes, its layers in their order."""
    flat = keras.tree.flatten
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    last = {id(tensor): len(layers) for tensor in flat(model.outputs)}
    """The position of the layer that reads a tensor last."""
    for position, layer in enumerate(layers):
        last |= {id(tensor): max(position, last.get(id(tensor), 0)) for tensor in flat(layer.input)}
    buffers, sizes, until = {}, {}, {}
    for tensor in flat(model.inputs):
        buffers[id(tensor)], sizes[id(tensor)], until[id(tensor)] = id(tensor), _values(tensor), last[id(tensor)]
    peak = 0
    for position, layer in enumerate(layers):
        free = [buffers[id(t)] for t in flat(layer.input) if until[buffers[id(t)]] == position]
        shared = free[:1] if isinstance(layer, (*_MERGED, keras.layers.Add)) else []
        for tensor in flat(layer.output):
            own = shared[0] if shared else id(tensor)
            buffers[id(tensor)], until[own] = own, last.get(id(tensor), position)
            sizes[own] = max(sizes.get(own, 0), _values(tensor))
        peak = max(peak, sum(sizes[own] for own, end in until.items() if end >= position))
    return peak


def _values(tensor) -> int:
    return math.prod(side or 1 for side in tensor.shape[1:])
