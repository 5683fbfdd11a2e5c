"""The auxiliary classifier that helps to train deep networks (DARTS section 3.2).

A genotype as a plain functional Keras model.
"""

import keras
from keras import layers

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.networks.trunk import Trunk
from kdarts.ops.layers import make_head, uniform
from kdarts.supernet.macro import MacroConfig, auxiliary_position, check_input_shape, choose_stem


def auxiliary_head(x, num_classes: int, imagenet: bool = False):
    """Adds the head to the output of a cell, of at least 2x2 pixels; it is made for 8x8, or 7x7 on ImageNet.

    Args:
        x: `[batch, height, width, channels]`.
        num_classes: number of classes.
        imagenet: whether to pool at stride 2 and leave out the second normalisation, as the papers do there.

    Returns:
        Logits `[batch, num_classes]`, float32.
    """
    if min(x.shape[1:3]) < 2:
        raise KdartsError(f"auxiliary head: needs a feature map of at least 2x2 pixels, got {x.shape[1]}x{x.shape[2]}")
    name = "auxiliary_head.features"
    x = layers.ReLU(name=f"{name}.0")(x)
    if min(x.shape[1:3]) >= 5:
        x = layers.AveragePooling2D(5, 2 if imagenet else 3, name=f"{name}.1")(x)
    kernel = uniform(x.shape[-1])
    x = layers.Conv2D(128, 1, use_bias=False, kernel_initializer=kernel, name=f"{name}.2")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}.3")(x)
    x = layers.ReLU(name=f"{name}.4")(x)
    x = layers.Conv2D(768, 2, use_bias=False, kernel_initializer=uniform(4 * 128), name=f"{name}.5")(x)
    if not imagenet:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}.6")(x)
    x = layers.ReLU(name=f"{name}.7")(x)
    x = layers.GlobalAveragePooling2D(name=f"{name}.8")(x)
    fan_in = uniform(768)
    return layers.Dense(
        num_classes,
        kernel_initializer=fan_in,
        bias_initializer=fan_in,
        dtype="float32",
        name="auxiliary_head.classifier",
    )(x)


@keras.saving.register_keras_serializable("kdarts")
class AuxiliaryNetwork(keras.Model):
    """A functional model with an auxiliary classifier: two outputs when training, one otherwise.

    `fit` takes one loss and one set of labels: the loss of the auxiliary logits is added, times `auxiliary_weight`
    (0.4, the papers'); metrics see the main logits.
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
    genotype: Genotype,
    input_shape,
    num_classes: int,
    channels: int,
    cells: int | None = None,
    auxiliary: bool = False,
    drop_path: float = 0.0,
    stem: str = "auto",
    seed: int | None = None,
    frame: MacroConfig | None = None,
    c_mid: int | None = None,
) -> keras.Model:
    """Builds the network of a genotype (DARTS section 3.2, D-DARTS section 4) from stock Keras layers.

    What the genotype found is built as `Genotype.live` says; `Genotype.gaps` tells what is left out.

    Args:
        genotype: what was found.
        input_shape: `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: number of classes, at least 2.
        channels: channels of a node before any reduction, even.
        cells: number of cells, with stages of each; None: as many as the genotype has, if it has a depth of its own.
        auxiliary: whether to add the auxiliary classifier; the model then returns `(logits, auxiliary logits)` when
            training, and its loss counts the second by 0.4.
        drop_path: final drop-path rate, 0 to below 1 (see `DropPathSchedule`): of every operation but the identity
            (DARTS), or, where the genotype has a sequence, of every node's sum (D-DARTS' code).
        stem: "auto" (by image size; "small" with stages) or one of `STEMS`: "none", "cifar", "small", "imagenet",
            "imagenet_quarter".
        seed: of the drop-path masks.
        frame: what holds the cells; None: DARTS' frame.
        c_mid: channels in the middle of choke convolutions, at least 1; None: the 32 of the search (sharpDARTS takes 96
            for ImageNet).

    Returns:
        A model from images, channels last, float32, to logits `[batch, num_classes]`.

    Raises:
        KdartsError: if the genotype names an unknown operation or the sizes do not fit.
    """
    input_shape = check_input_shape(input_shape)
    if num_classes < 2:
        raise KdartsError(f"num_classes {num_classes}: needs at least 2")
    chosen = choose_stem(stem, input_shape, genotype.stages)
    frame = frame or MacroConfig()
    trunk = Trunk(genotype, channels, cells, drop_path, chosen, seed, frame, c_mid)
    aux_at = auxiliary_position(trunk.plan)
    x = inputs = keras.Input(input_shape, name="image")
    aux_logits = None
    for part in trunk.grow(inputs):
        x = part.x
        if auxiliary and part.cell == aux_at:
            aux_logits = auxiliary_head(x, num_classes, imagenet=chosen.halved)
    logits = _classified(trunk.close(x), frame.head, num_classes)
    name = genotype.name or "network"
    if auxiliary:
        return AuxiliaryNetwork(inputs, [logits, aux_logits], name=name)
    return keras.Model(inputs, logits, name=name)


def _classified(x, head, num_classes):
    """The logits, float32, from the last cell's output; `head` as of `MacroConfig`."""
    if head:
        x = layers.Permute((3, 1, 2), name="flatten.channels_first")(x)
        x = layers.Flatten(name="flatten")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    for layer in make_head(head, num_classes, x.shape[-1], "float32"):
        x = layer(x)
    return x
