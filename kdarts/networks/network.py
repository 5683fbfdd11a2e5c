"""A genotype as a functional Keras model of stock layers, with the auxiliary classifier of DARTS (section 3.2)."""

import keras
from keras import layers

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.networks.trunk import Trunk
from kdarts.ops.layers import make_head, uniform
from kdarts.supernet.macro import MacroConfig, auxiliary_position, check_input_shape, choose_stem


def auxiliary_head(x, num_classes: int, imagenet: bool = False):
    """Adds the auxiliary classifier of DARTS to the output of a cell.

    It is made for feature maps of 8x8 pixels, or of 7x7 on ImageNet, which its pooling brings to 2x2. Maps of 5x5 to
    7x7 are brought there by a smaller stride or window; smaller maps are not pooled.

    Args:
        x: A symbolic tensor `[batch, height, width, channels]`, of at least 2x2 pixels.
        num_classes: The number of classes.
        imagenet: Whether to pool at stride 2 and leave out the second normalization, as the papers do on ImageNet.

    Returns:
        The logits `[batch, num_classes]`, float32.

    Raises:
        KdartsError: If the feature map is smaller than 2x2 pixels.
    """
    if min(x.shape[1:3]) < 2:
        raise KdartsError(f"auxiliary head: needs a feature map of at least 2x2 pixels, got {x.shape[1]}x{x.shape[2]}")
    name = "auxiliary_head-features"
    x = layers.ReLU(name=f"{name}-0")(x)
    if min(x.shape[1:3]) >= 5:
        windows = [min(5, side - 1) for side in x.shape[1:3]]
        strides = [min(2 if imagenet else 3, side - window) for side, window in zip(x.shape[1:3], windows, strict=True)]
        x = layers.AveragePooling2D(windows, strides, name=f"{name}-1")(x)
    kernel = uniform(x.shape[-1])
    x = layers.Conv2D(128, 1, use_bias=False, kernel_initializer=kernel, name=f"{name}-2")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}-3")(x)
    x = layers.ReLU(name=f"{name}-4")(x)
    x = layers.Conv2D(768, 2, use_bias=False, kernel_initializer=uniform(4 * 128), name=f"{name}-5")(x)
    if not imagenet:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}-6")(x)
    x = layers.ReLU(name=f"{name}-7")(x)
    x = layers.GlobalAveragePooling2D(name=f"{name}-8")(x)
    fan_in = uniform(768)
    return layers.Dense(
        num_classes,
        kernel_initializer=fan_in,
        bias_initializer=fan_in,
        dtype="float32",
        name="auxiliary_head-classifier",
    )(x)


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

    Edges and nodes that do not contribute to the output are left out (see `Genotype.live` and `Genotype.gaps`).

    Args:
        genotype: The genotype.
        input_shape: The shape `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: The number of classes, at least 2.
        channels: The number of channels of a node before any reduction, even.
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
    input_shape = check_input_shape(input_shape)
    if num_classes < 2:
        raise KdartsError(f"num_classes {num_classes}: needs at least 2")
    chosen = choose_stem(stem, input_shape, genotype.stages)
    frame = frame or MacroConfig()
    trunk = Trunk(genotype, channels, cells, drop_path, chosen, seed, frame, c_mid)
    aux_at = auxiliary_position(input_shape[:2], chosen, trunk.plan) if auxiliary else None
    x = inputs = keras.Input(input_shape, name="image")
    aux_logits = None
    for part in trunk.grow(inputs):
        x = part.x
        if aux_at is not None and part.cell == aux_at:
            aux_logits = auxiliary_head(x, num_classes, imagenet=chosen.halved)
    logits = _classified(trunk.close(x), frame.head, num_classes)
    name = genotype.name or "network"
    if auxiliary:
        return AuxiliaryNetwork(inputs, [logits, aux_logits], name=name)
    return keras.Model(inputs, logits, name=name)


def _classified(x, head, num_classes):
    """Adds the classifier to the last cell's output, and returns the logits, float32 (`head`: see `MacroConfig`)."""
    if head:
        x = layers.Permute((3, 1, 2), name="flatten-channels_first")(x)
        x = layers.Flatten(name="flatten")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    for layer in make_head(head, num_classes, x.shape[-1], "float32"):
        x = layer(x)
    return x
