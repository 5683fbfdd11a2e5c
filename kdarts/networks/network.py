"""A genotype as a functional Keras model of stock layers, with the auxiliary classifier of DARTS (section 3.2)."""

import os
from collections.abc import Sequence

import keras
from keras import layers

from kdarts.genotypes.cuboid import HyperPath, load_architecture
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, as_genotype
from kdarts.networks.trunk import Trunk, check_sides
from kdarts.ops.layers import LAST, make_head, uniform
from kdarts.supernet.macro import MacroConfig, auxiliary_position, check_input_shape, choose_stem


def auxiliary_head(x, num_classes: int, imagenet: bool = False):
    """Adds the auxiliary classifier of DARTS to the output of a cell, and returns the logits, float32.

    It is made for feature maps of 8x8 pixels, or of 7x7 on ImageNet, which its pooling brings to 2x2. Maps of 5x5 to
    7x7 are brought there by a smaller stride or window; smaller maps are not pooled. The smallest are of 2x2 pixels.
    With `imagenet` it pools at stride 2 and leaves out the second normalization, as the papers do there.
    """
    if min(x.shape[1:3]) < 2:
        raise KdartsError(f"auxiliary head: needs a feature map of at least 2x2 pixels, got {x.shape[1]}x{x.shape[2]}")
    name = "auxiliary_head-features"
    x = layers.ReLU(name=f"{name}-0")(x)
    if min(x.shape[1:3]) >= 5:
        windows = [min(5, side - 1) for side in x.shape[1:3]]
        strides = [min(2 if imagenet else 3, side - window) for side, window in zip(x.shape[1:3], windows, strict=True)]
        x = layers.AveragePooling2D(windows, strides, data_format=LAST, name=f"{name}-1")(x)
    plain = {"data_format": LAST, "use_bias": False}
    kernel = uniform(x.shape[-1])
    x = layers.Conv2D(128, 1, **plain, kernel_initializer=kernel, name=f"{name}-2")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}-3")(x)
    x = layers.ReLU(name=f"{name}-4")(x)
    x = layers.Conv2D(768, 2, **plain, kernel_initializer=uniform(4 * 128), name=f"{name}-5")(x)
    if not imagenet:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}-6")(x)
    x = layers.ReLU(name=f"{name}-7")(x)
    x = layers.GlobalAveragePooling2D(LAST, name=f"{name}-8")(x)
    initial = uniform(768)
    start = {"kernel_initializer": initial, "bias_initializer": initial}
    return layers.Dense(num_classes, **start, dtype="float32", name="auxiliary_head-classifier")(x)


@keras.saving.register_keras_serializable("kdarts")
class AuxiliaryNetwork(keras.Model):
    """A functional model with an auxiliary classifier: it has two outputs during training and one otherwise.

    `compile` takes one loss, and `fit` one set of labels. The training loss is the loss of the main logits, plus
    `auxiliary_weight` (0.4, as in the papers) times that of the auxiliary logits. Metrics are those of the main logits.
    """

    auxiliary_weight = 0.4

    def call(self, inputs, training=None, mask=None):
        logits, auxiliary = super().call(inputs, training=training, mask=mask)
        return (logits, auxiliary) if training else logits

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not isinstance(y_pred, tuple | list):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        main = super().compute_loss(x, y, y_pred[0], sample_weight, training)
        return main + self.auxiliary_weight * self._compile_loss(y, y_pred[1], sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred[0] if isinstance(y_pred, tuple | list) else y_pred, sample_weight)


def build_network(
    genotype: Genotype | HyperPath | str,
    input_shape: Sequence[int | None],
    num_classes: int,
    channels: int | None = None,
    cells: int | None = None,
    auxiliary: bool = False,
    drop_path: float = 0.0,
    stem: str = "auto",
    seed: int | None = None,
    frame: MacroConfig | None = None,
    c_mid: int | None = None,
) -> keras.Model:
    """Builds the network of a genotype (DARTS section 3.2, D-DARTS sections 4.1 and 4.3) or a path, of stock layers.

    Edges and nodes that do not contribute to the output are left out (see `Genotype.live` and `Genotype.gaps`).

    Args:
        genotype: A `Genotype` or a `HyperPath`, or the name or file of one. A path has sizes of its own: it takes
            `input_shape` and `num_classes` alone.
        input_shape: The shape `(height, width, channels)` of an image, at least `(8, 8, 1)`. A side is `None` for any
            multiple of the network's stride; this needs a `stem` other than "auto", and neither `auxiliary` nor a
            `frame` with hidden layers.
        num_classes: The number of classes, at least 2.
        channels: The number of channels of a node before any reduction, even. Every genotype needs it.
        cells: The number of cells, or of the cells of each stage if the genotype has stages. Defaults to `None`: the
            depth of the genotype, which must then have one of its own.
        auxiliary: Whether to add the auxiliary classifier. The model then returns `(logits, auxiliary logits)` during
            training (see `AuxiliaryNetwork`). Defaults to `False`.
        drop_path: The final drop-path rate, a float in [0, 1) (see `DropPathSchedule`). Drop-path follows every
            operation but the identity, as in DARTS, or every node if the genotype has a sequence, as in D-DARTS' code.
            Defaults to 0.
        stem: "auto" or one of `STEMS`: "none", "cifar", "small", "imagenet", "imagenet_wide", "imagenet_quarter".
            Defaults to "auto", which chooses by the size of the images, or "small" if the genotype has stages.
        seed: The seed of the drop-path masks. Defaults to `None`, for random ones.
        frame: The `MacroConfig` around the cells. Defaults to `None`: that of DARTS.
        c_mid: The number of channels in the middle of choke convolutions, at least 1. Defaults to `None`: 32, as in the
            search. (sharpDARTS has 96 for ImageNet.)

    Returns:
        A model from images, channels last, float32, to logits `[batch, num_classes]`.

    Raises:
        KdartsError: If the genotype names an unknown operation, or the sizes do not fit, such as images too small for
            the auxiliary classifier.
    """
    found = load_architecture(genotype) if isinstance(genotype, str | os.PathLike) else genotype
    if isinstance(found, HyperPath):
        given = {"channels": channels, "cells": cells, "auxiliary": auxiliary, "drop_path": drop_path, "frame": frame}
        given |= {"c_mid": c_mid, "stem": "" if stem == "auto" else stem}
        for name in [name for name, value in given.items() if value]:
            raise KdartsError(f"{name} {given[name]}: the sizes of a path are fixed, and it has no cells")
        from kdarts.supernet.cuboids import build_path_network

        return build_path_network(found, input_shape, num_classes)
    if channels is None:
        raise KdartsError("channels: a genotype needs them, such as 36")
    genotype = as_genotype(found)
    frame, known = frame or MacroConfig(), None not in tuple(input_shape)
    if known:
        input_shape = check_input_shape(input_shape)
    else:
        asked = {"stem='auto'": stem == "auto", "auxiliary=True": auxiliary, f"head={frame.head}": bool(frame.head)}
        for name in (name for name, needs_sides in asked.items() if needs_sides):
            raise KdartsError(f"input shape {tuple(input_shape)}: {name} needs the sides of the images")
    if num_classes < 2:
        raise KdartsError(f"num_classes {num_classes}: needs at least 2")
    chosen = choose_stem(stem, input_shape, genotype.stages)
    trunk = Trunk(genotype, channels, cells, drop_path, chosen, seed, frame, c_mid)
    input_shape = input_shape if known else check_sides(input_shape, trunk.stride)
    aux_at = auxiliary_position(input_shape[:2], chosen, trunk.plan) if auxiliary else None
    x = inputs = keras.Input(input_shape, name="image")
    aux_logits = None
    for part in trunk.grow(inputs):
        x = part.x
        if aux_at is not None and part.cell == aux_at:
            aux_logits = auxiliary_head(x, num_classes, imagenet=chosen.halved)
    logits = classified(trunk.close(x), frame.head, num_classes)
    name = genotype.name or "network"
    if auxiliary:
        return AuxiliaryNetwork(inputs, [logits, aux_logits], name=name)
    return keras.Model(inputs, logits, name=name)


def classified(x, head, num_classes):
    """Adds the classifier to the last cell's output, and returns the logits, float32 (`head`: see `MacroConfig`)."""
    if head:
        x = layers.Permute((3, 1, 2), name="flatten-channels_first")(x)
        x = layers.Flatten(LAST, name="flatten")(x)
    else:
        x = layers.GlobalAveragePooling2D(LAST, name="pool")(x)
    for layer in make_head(head, num_classes, x.shape[-1], "float32"):
        x = layer(x)
    return x
