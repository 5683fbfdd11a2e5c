"""The evaluation form of the operations: stock Keras layers on the functional API.

Layers carry the names that the reference code gives to their weights, so that reading those weights is a look-up.
"""

from keras import layers

from kdarts.nets.initializers import uniform
from kdarts.nets.operations import Conv, Halve, Norm, Operation, Pool, Reduce, Relu


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
