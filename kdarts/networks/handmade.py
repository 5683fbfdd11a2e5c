"""Residual networks as they are made by hand, for comparison with networks that a search finds."""

from collections.abc import Sequence

import keras
from keras import layers

from kdarts.genotypes.errors import KdartsError
from kdarts.ops.layers import LAST
from kdarts.supernet.macro import check_input_shape

_LARGE, _LARGER = 48, 112
"""Sides in pixels from which on the first convolution has stride 2, and from which on a pooling follows it."""


def build_resnet(input_shape: Sequence[int], num_classes: int, depth: int = 8, width: int = 16) -> keras.Model:
    """Builds a residual network for small images (He et al. 2016, section 4.2), of stock layers.

    A 3x3 convolution of `width` channels is followed by three stages of `width`, 2 `width` and 4 `width` channels, at
    1, 1/2 and 1/4 of its size, the mean over all pixels and a dense layer. A block is two 3x3 convolutions beside a
    shortcut, which is a 1x1 convolution where the size changes. With depth 8 and width 16 these are the convolutions of
    the reference network of MLPerf Tiny's image classification; with depth 20 and width 16, of ResNet-20.

    Images of more than 48 pixels are halved by the first convolution, those of more than 112 by a pooling after it,
    too.

    Args:
        input_shape: The shape `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: The number of classes, at least 2.
        depth: The number of layers, 6n + 2 with n blocks a stage. Defaults to 8.
        width: The number of channels of the first stage. Defaults to 16.

    Returns:
        A model from images, channels last, float32, to logits `[batch, num_classes]`.

    Raises:
        KdartsError: If a number is out of its range.
    """
    shape = check_input_shape(input_shape)
    if num_classes < 2:
        raise KdartsError(f"num_classes {num_classes}: needs at least 2")
    if depth < 8 or (depth - 2) % 6:
        raise KdartsError(f"depth {depth}: allowed is 8, 14, 20, ..., six layers for each block of a stage, and two")
    if width < 1:
        raise KdartsError(f"width {width}: needs at least 1")
    image = keras.Input(shape, name="image")
    side = min(shape[:2])
    x = _convolution(image, width, 3, 2 if side > _LARGE else 1, "stem")
    x = layers.ReLU(name="stem-relu")(x)
    if side > _LARGER:
        x = layers.MaxPooling2D(3, 2, "same", data_format=LAST, name="stem-pool")(x)
    for stage in range(3):
        for block in range((depth - 2) // 6):
            stride = 2 if stage and not block else 1
            x = _block(x, width * 2**stage, stride, f"stage{stage + 1}-{block + 1}")
    x = layers.GlobalAveragePooling2D(LAST, name="pool")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="classifier")(x)
    return keras.Model(image, logits, name=f"resnet_{depth}")


def _convolution(x, filters: int, size: int, stride: int, name: str):
    plain = {"data_format": LAST, "use_bias": False, "kernel_initializer": "he_normal"}
    x = layers.Conv2D(filters, size, stride, "same", **plain, name=f"{name}-conv")(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}-norm")(x)


def _block(x, filters: int, stride: int, name: str):
    changed = stride > 1 or x.shape[-1] != filters
    shortcut = _convolution(x, filters, 1, stride, f"{name}-shortcut") if changed else x
    y = layers.ReLU(name=f"{name}-relu1")(_convolution(x, filters, 3, stride, f"{name}-1"))
    y = _convolution(y, filters, 3, 1, f"{name}-2")
    return layers.ReLU(name=f"{name}-relu2")(layers.Add(name=f"{name}-add")([y, shortcut]))
