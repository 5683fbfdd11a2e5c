"""A genotype as a backbone for detection and segmentation (D-DARTS section 5.7): a model of the levels of a pyramid."""

from collections.abc import Sequence

import keras

from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype, as_genotype
from kdarts.networks.trunk import DropPath, Trunk, check_sides
from kdarts.ops.layers import layer_name
from kdarts.supernet.macro import STEMS, MacroConfig


@keras.saving.register_keras_serializable("kdarts")
class Pyramid(keras.Model):
    """A functional model from images to feature maps `{"P2": ..., "P3": ...}`, the levels of a pyramid.

    Level Pn is 2^n times smaller than the image. KerasHub's detectors and segmenters accept it as `image_encoder`.
    """

    @property
    def pyramid_outputs(self) -> dict:
        """The levels by name, finest first, as symbolic tensors (see KerasHub's `FeaturePyramidBackbone`)."""
        return dict(sorted(self.output.items()))


def build_backbone(
    genotype: Genotype | str,
    input_shape: Sequence[int | None] = (None, None, 3),
    channels: int = 16,
    cells: int | None = None,
    stem: str = "auto",
    drop_path: float = 0.0,
    seed: int | None = None,
    frame: MacroConfig | None = None,
    c_mid: int | None = None,
    weights: keras.Model | None = None,
) -> Pyramid:
    """Builds the stem and the cells of a genotype's network; its outputs are the last feature map of each stride.

    A stem for large images gives the levels P2 to P5, strides 4 to 32. With two reductions, as in DARTS' cells, that is
    "imagenet": its first part has stride 4 (P2), its second part and the first cells 8 (P3), and the reductions lead to
    16 and 32 (P4, P5). With three reductions, as in ResNet-18 and the genotypes that DARTOpti derives from it, that is
    "imagenet_quarter", whose parts have strides 2 and 4: the cells then have strides 4 to 32, and there is a level P1.
    After "cifar" or "small", two reductions give the levels P0, P1 and P2.

    Args:
        genotype: A `Genotype`, or the name or path of one.
        input_shape: The shape `(height, width, channels)` of an image. The sides are multiples of the largest stride,
            or `None` for any such multiple.
        channels, cells, drop_path, seed, c_mid: See `build_network`.
        stem: One of `STEMS`. Defaults to "auto": "imagenet_quarter" with three reductions or more, else "imagenet".
        frame: See `build_network`. Its classifier is not built.
        weights: A network of `build_network` whose weights are copied. It has the same genotype, channels, cells and
            stem (not only weights of the same shapes), for images of any size. Defaults to `None`, for random weights.

    Returns:
        A model from normalized images to a dict of feature maps `[batch, height / 2^n, width / 2^n, channels]`, which
        are also its `pyramid_outputs`.

    Raises:
        KdartsError: If the sizes do not fit, or `weights` is another network.
    """
    frame, genotype = frame or MacroConfig(), as_genotype(genotype)
    if stem == "auto":
        _, reductions = genotype.at_depth(cells)
        stem = "imagenet_quarter" if reductions is not None and len(reductions) > 2 else "imagenet"
    trunk = Trunk(genotype, channels, cells, drop_path, STEMS[choice("stem", stem, STEMS)], seed, frame, c_mid)
    image = keras.Input(check_sides(input_shape, trunk.stride), name="image")
    levels = {f"P{part.stride.bit_length() - 1}": part.x for part in trunk.grow(image)}
    backbone = Pyramid(image, levels, name="backbone")
    if weights is not None:
        _copy_weights(backbone, weights, stem)
    return backbone


def _copy_weights(backbone: keras.Model, network: keras.Model, stem: str) -> None:
    """Copies the weights between layers of the same name. Raises `KdartsError` before anything is copied."""
    ours, theirs = _described(backbone), _described(network)
    for name, (_, *needed) in ours.items():
        _, *given = theirs.get(name, (None, "no such layer"))
        # Others may have weights of the same shapes: "imagenet" and "imagenet_quarter" differ in strides alone.
        for needs, got in zip(needed, given, strict=False):
            if needs != got:
                allowed = f"a network of the same genotype, channels and cells, with stem={stem!r}"
                raise KdartsError(f"weights: layer {name!r} needs {needs}, got {got}; allowed: {allowed}")
    for name, (layer, *_) in ours.items():
        layer.set_weights(theirs[name][0].get_weights())


def _described(model: keras.Model) -> dict:
    """Returns the layers by name, each with its shapes, kind and strides, and what it reads.

    Drop-path is left out, and so are margins, which depend on the size of the images.
    """
    makers = {id(tensor): layer for layer in model.layers for tensor in keras.tree.flatten(layer.output)}

    def name(tensor):
        layer = makers[id(tensor)]
        if isinstance(layer, keras.layers.InputLayer):
            return "the image"
        return name(layer.input) if isinstance(layer, _SKIPPED) else layer_name(layer.name)

    found = {}
    for layer in model.layers:
        if not isinstance(layer, (*_SKIPPED, keras.layers.InputLayer)):
            shapes = " and ".join(str(w.shape) for w in layer.get_weights()) or "no weights"
            kind = f"{type(layer).__name__} with strides {getattr(layer, 'strides', 1)}"
            reads = "the output of " + " and ".join(map(name, keras.tree.flatten(layer.input)))
            # Networks that were saved earlier have dots in the names of their layers.
            found[layer_name(layer.name)] = (layer, shapes, kind, reads)
    return found


_SKIPPED = (DropPath, keras.layers.ZeroPadding2D)
