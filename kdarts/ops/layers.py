"""The evaluation form of the operations: stock Keras layers, added to a functional model.

Each layer is named after its weights in the papers' code, so that `kdarts.networks.reference` can look them up. A dash
replaces each dot: the weights `cells.0.preprocess0.op.1.weight` belong to the layer `cells-0-preprocess0-op-1`. Keras'
PyTorch backend registers variables under their layer's name, and PyTorch does not allow a dot there.

Convolutions and dense layers are initialized as in the papers' code.
"""

import math
import zlib

import keras
from keras import layers, ops

from kdarts.ops.cost import Cost
from kdarts.ops.operations import Conv, Gate, Halve, Noise, Norm, Operation, Pool, Reduce, Relu, Relu6

LAST = "channels_last"
"""The order of the axes of all images, whatever Keras' default is."""


def layer_name(name: str) -> str:
    """Returns the layer name for a name in the papers' code: `cells-0-preprocess0` for `cells.0.preprocess0`.

    No name in the papers' networks contains a dash, so `reference_name` inverts it.
    """
    return name.replace(".", "-")


def reference_name(layer: keras.Layer) -> str:
    """Returns a layer's name in the papers' code. Networks that were saved with dots in these names keep them."""
    return layer.name.replace("-", ".")


def all_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Returns `layer` and all layers inside it, at any depth, each once.

    Those of a model are its `layers`; those inside any other layer are found among its attributes.
    """
    found, waiting = {}, [layer]
    while waiting:
        one = waiting.pop()
        if id(one) not in found:
            found[id(one)] = one
            parts = keras.tree.flatten(one.layers if isinstance(one, keras.Model) else vars(one))
            waiting += [part for part in reversed(parts) if isinstance(part, keras.Layer)]
    return list(found.values())


def running_statistics(model: keras.Layer) -> list[tuple[keras.Variable, float, float]]:
    """Returns the running means and variances in a model, each with the value that it starts from and its momentum."""
    found = []
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and not layer.renorm:
            found += [(layer.moving_mean, 0.0, layer.momentum), (layer.moving_variance, 1.0, layer.momentum)]
        found += getattr(layer, "running_statistics", [])
    return found


def unbiased_statistics(model: keras.Layer, updates) -> list[tuple]:
    """Computes the running statistics of a model without the share of the values that they start from.

    After 12 steps 28 % of a running variance of momentum 0.9 are still the 1 that it starts from, where the variance of
    the activations may be 0.005. As in Adam, that share is subtracted, and the rest divided by its own.

    Args:
        model: Its statistics are not changed.
        updates: How often they were updated: an integer or a scalar tensor. At 0 they stay as they are.

    Returns:
        `(variable, value)` for each running mean and variance.
    """
    found = []
    for variable, start, momentum in running_statistics(model):
        count = ops.cast(updates, variable.dtype)
        share = ops.where(count > 0, ops.power(ops.cast(momentum, variable.dtype), count), 0)
        found.append((variable, (ops.convert_to_tensor(variable) - start * share) / (1 - share)))
    return found


def uniform(fan_in: int, seed=None) -> keras.initializers.Initializer:
    """Returns PyTorch's default initializer of convolutions and dense layers: uniform within `±1 / sqrt(fan_in)`."""
    limit = 1 / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-limit, limit, seed)


@keras.saving.register_keras_serializable("kdarts")
class NoiseOf(keras.layers.Layer):
    """Standard normal noise in the shape of the input: in training drawn anew in each pass, else always the same.

    Args:
        seed: The seed of the noise.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.seed, self.seed_generator = seed, keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        return keras.random.normal(ops.shape(x), dtype=x.dtype, seed=self.seed_generator if training else self.seed)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


def apply_operation(operation: Operation, x, filters: int, stride: int, name: str):
    """Adds the layers of an operation to a functional model.

    Args:
        operation: The definition of the operation.
        x: A symbolic tensor `[batch, height, width, channels]`.
        filters: The number of output channels.
        stride: 1 or 2; the sides of the output are those of `x` divided by it, rounded up.
        name: The prefix of the layers' names.
    """
    if operation.zero:
        return layers.Rescaling(0.0, name=name)(_every_second(x, name) if stride == 2 else x)
    for position, (step, parts) in enumerate(zip(operation.layers(stride), operation.step_names(stride), strict=True)):
        path = f"{name}-{layer_name(parts[0])}"
        match step:
            case Relu():
                x = layers.ReLU(name=f"{name}-{position}-relu")(x)
            case Relu6():
                x = layers.ReLU(6.0, name=f"{name}-{position}-relu6")(x)
            case Gate():
                x = _gate(step, x, path)
            case Conv():
                strides = [stride if along else 1 for along in step.strided]
                x = _convolution(step, x, filters, strides, path)
            case Reduce():
                x = _reduce(x, filters, [f"{name}-{layer_name(part)}" for part in parts])
            case Pool():
                x = _pool(step, x, stride, f"{name}-pool")
            case Halve():
                x = layers.AveragePooling2D(2, 2, "same", LAST, name=path)(x)
            case Noise():
                x = NoiseOf(zlib.crc32(path.encode()), name=path)(_every_second(x, name) if stride == 2 else x)
            case Norm():
                x = layers.BatchNormalization(momentum=0.9, epsilon=step.epsilon, name=path)(x)
    return x


def _convolution(step: Conv, x, filters, strides, name):
    dilated = step.dilation > 1
    if max(strides) > 1 and (dilated or step.kernel == (1, 1)):
        # A 1x1 kernel, or one dilated by 2, reads every second pixel only: subsampled first, the kernel is dense.
        x, strides, dilated = _every_second(x, name), [1, 1], False
    dilation = step.dilation if dilated else 1
    margins = [dilation * (k - 1) // 2 for k in step.kernel]
    padding = "same" if step.same else "valid"
    if any(margins) and not step.same:
        x = layers.ZeroPadding2D(margins, LAST, name=f"{name}-pad")(x)
    fan_in = step.kernel[0] * step.kernel[1] * (1 if step.depthwise else x.shape[-1])
    common = {"padding": padding, "use_bias": False, "dilation_rate": dilation, "data_format": LAST, "name": name}
    if step.depthwise:
        size, stride = step.kernel, strides[0]
        return layers.DepthwiseConv2D(size, stride, depthwise_initializer=uniform(fan_in), **common)(x)
    width = step.filters(filters)
    return layers.Conv2D(width, step.kernel, strides, kernel_initializer=uniform(fan_in), **common)(x)


def _gate(step: Gate, x, name):
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(LAST, keepdims=True, name=f"{name}-mean")(x)
    for part, width, inputs in (("squeeze", step.width, channels), ("excite", channels, step.width)):
        how = {"kernel_initializer": uniform(inputs), "data_format": LAST, "name": f"{name}-{part}"}
        y = layers.Conv2D(width, 1, activation="relu" if part == "squeeze" else "hard_sigmoid", **how)(y)
    return layers.Multiply(name=f"{name}-scale")([x, y])


def _every_second(x, name):
    # In place of a 1x1 convolution at stride 2, with which TensorFlow corrupts memory on a CPU at few channels.
    return layers.MaxPooling2D(1, 2, data_format=LAST, name=f"{name}-subsample")(x)


def _reduce(x, filters, names):
    # A backbone may have unknown sides, and requires even ones.
    height, width, channels = (side or 0 for side in x.shape[1:])
    shifted = x
    if height % 2 or width % 2:
        shifted = layers.ZeroPadding2D(((0, height % 2), (0, width % 2)), LAST, name=f"{names[1]}-pad")(x)
    shifted = layers.Cropping2D(((1, 0), (1, 0)), LAST, name=f"{names[1]}-shift")(shifted)
    halves = (filters // 2, filters - filters // 2)
    parts = [
        layers.Conv2D(half, 1, data_format=LAST, use_bias=False, kernel_initializer=uniform(channels), name=name)(
            _every_second(pixels, name)
        )
        for half, pixels, name in zip(halves, (x, shifted), names, strict=True)
    ]
    return layers.Concatenate(name=f"{names[0]}-join")(parts)


def _pool(step: Pool, x, stride: int, name: str):
    if step.padded:
        x = layers.ZeroPadding2D(1, LAST, name=f"{name}-pad")(x)
        return layers.AveragePooling2D(3, stride, data_format=LAST, name=name)(x)
    layer = layers.MaxPooling2D if step.kind == "max" else layers.AveragePooling2D
    x = layer(3, 1, "same", LAST, name=name)(x)
    # At stride 2, "same" pads an even side only at its end. At stride 1 it pads both ends, as PyTorch does.
    return _every_second(x, name) if stride == 2 else x


def model_cost(model: keras.Layer) -> Cost:
    """Counts the trainable parameters, and the MACs of convolutions and dense layers for one image.

    The model, or layer, must have been called on one input.
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
    """Makes the dense layers of a classifier for `inputs` channels, built, in order.

    Each of the `hidden` widths has a ReLU (see `MacroConfig`); the last layer, of `num_classes`, has no activation.
    """
    made, widths = [], (*hidden, num_classes)
    for position, width in enumerate(widths):
        last, start = position == len(hidden), uniform(inputs)
        name = f"classifier-{2 * position + 1}" if hidden else "classifier"  # Numbered as in the papers' code.
        options = {"kernel_initializer": start, "bias_initializer": start, "name": name, "dtype": dtype}
        made.append(layers.Dense(width, None if last else "relu", **options))
        made[-1].build((None, inputs))
        inputs = width
    return made


def run_head(made, x):
    """Calls the layers of `make_head` on a feature map `[batch, height, width, channels]` and returns the logits.

    With hidden layers the map is flattened channel by channel, as in PyTorch; otherwise it is averaged over its pixels.
    """
    if len(made) > 1:
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, math.prod(x.shape[1:])))
    else:
        x = ops.mean(x, axis=(1, 2))
    for layer in made:
        x = layer(x)
    return x
