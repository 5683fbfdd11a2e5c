"""A genotype as a plain functional Keras model."""

import keras
from keras import layers

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.nets.auxiliary import AuxiliaryNetwork, auxiliary_head
from kdarts.nets.head import make_head
from kdarts.nets.plan import Frame, auxiliary_position, check_input_shape, choose_stem
from kdarts.nets.trunk import Trunk


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
    frame: Frame | None = None,
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
    frame = frame or Frame()
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
    """The logits, float32, from the last cell's output; `head` as of `Frame`."""
    if head:
        x = layers.Permute((3, 1, 2), name="flatten.channels_first")(x)
        x = layers.Flatten(name="flatten")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    for layer in make_head(head, num_classes, x.shape[-1], "float32"):
        x = layer(x)
    return x
