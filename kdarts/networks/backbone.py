"""A model whose outputs are the levels of a feature pyramid.

A genotype as a feature extractor for detection and segmentation (D-DARTS section 5.7).
"""

import keras

from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype
from kdarts.networks.trunk import DropPath, Trunk
from kdarts.supernet.macro import STEMS, MacroConfig


@keras.saving.register_keras_serializable("kdarts")
class Pyramid(keras.Model):
    """A functional model from images to `{"P2": ..., "P3": ...}`; level Pn is 2^n times smaller than the image.

    KerasHub's detectors and segmenters take it as their `image_encoder`.
    """

    @property
    def pyramid_outputs(self) -> dict:
        """The levels by name, finest first, as symbolic tensors (KerasHub's `FeaturePyramidBackbone`)."""
        return dict(sorted(self.output.items()))


def build_backbone(
    genotype: Genotype,
    input_shape=(None, None, 3),
    channels: int = 16,
    cells: int | None = None,
    stem: str = "auto",
    drop_path: float = 0.0,
    seed: int | None = None,
    frame: MacroConfig | None = None,
    c_mid: int | None = None,
    weights: keras.Model | None = None,
) -> Pyramid:
    """Builds stem and cells of a genotype's network, with the last map of each stride as a level of a pyramid.

    Strides 4 to 32, the levels P2 to P5, come of a stem for large images. With two reductions, as in DARTS' cells, that
    is "imagenet": its first part gives stride 4 (P2), its second 8, at which the first cells stay (P3), and the
    reductions lead to 16 and 32 (P4, P5). With three, as in ResNet-18 and what DARTOpti makes of it, it is
    "imagenet_quarter", whose parts give 2 and 4: the cells then have 4 to 32 to themselves, and there is a P1, too.
    After "cifar" or "small", two reductions give strides 1, 2 and 4: P0, P1, P2.

    Args:
        genotype: what was found.
        input_shape: `(height, width, channels)` of an image; sides that are multiples of the greatest stride, or None
            for any such.
        channels, cells, drop_path, seed, c_mid: as of `build_network`.
        stem: one of `STEMS`, or "auto": "imagenet_quarter" with three reductions or more, else "imagenet".
        frame: as of `build_network`, whose head has no part in it.
        weights: a network that `build_network` made of the same genotype at the same sizes with the same stem, for
            images of any size; the backbone begins with a copy of its weights. None: at random.

    Returns:
        A model from normalised images to a dict of maps `[batch, height / 2^n, width / 2^n, channels of the level]`;
        its `pyramid_outputs` are what KerasHub's detectors look for.

    Raises:
        KdartsError: if the sizes do not fit, or the weights are of another network.
    """
    frame = frame or MacroConfig()
    if stem == "auto":
        _, reductions = genotype.at_depth(cells)
        stem = "imagenet_quarter" if reductions is not None and len(reductions) > 2 else "imagenet"
    trunk = Trunk(genotype, channels, cells, drop_path, STEMS[choice("stem", stem, STEMS)], seed, frame, c_mid)
    image = keras.Input(_checked(input_shape, trunk.stride), name="image")
    levels = {f"P{part.stride.bit_length() - 1}": part.x for part in trunk.grow(image)}
    backbone = Pyramid(image, levels, name="backbone")
    if weights is not None:
        _take_weights(backbone, weights)
    return backbone


def _checked(input_shape, stride: int) -> tuple:
    """`(height, width, channels)`, where a side may be None; `stride` divides the others."""
    shape = tuple(None if n is None else int(n) for n in input_shape)
    sides = [side for side in shape[:2] if side is not None]
    if len(shape) != 3 or not shape[2] or min([shape[2], *sides]) < 1 or any(n < 8 or n % stride for n in sides):
        raise KdartsError(
            f"input shape {tuple(input_shape)}: needs (height, width, channels), sides from 8 that are multiples of "
            f"{stride}, or None"
        )
    return shape


def _take_weights(backbone: keras.Model, network: keras.Model) -> None:
    """Copies the weights of the layers that both call the same; raises `KdartsError` before anything is copied."""
    theirs = {layer.name: layer.get_weights() for layer in network.layers}
    pairs = []
    for layer in backbone.layers:
        if isinstance(layer, DropPath):  # Its weights are its rate and its draws.
            continue
        ours = layer.get_weights()
        given = theirs.get(layer.name, [])
        if [w.shape for w in ours] != [w.shape for w in given]:
            found = " and ".join(str(w.shape) for w in given) or "no such layer"
            wanted = " and ".join(str(w.shape) for w in ours)
            raise KdartsError(
                f"weights: layer {layer.name!r} needs {wanted}, got {found}; allowed: a network of the same genotype, "
                "channels, cells and stem"
            )
        pairs.append((layer, given))
    for layer, given in pairs:
        layer.set_weights(given)
