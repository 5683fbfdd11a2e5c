"""What the examples of detection and segmentation share: backbones, the layers behind them, options and pictures."""

import argparse
import pathlib
import sys
from collections.abc import Callable

import keras
import numpy as np
from PIL import Image

import kdarts
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_with
from kdarts.networks.backbone import Pyramid
from kdarts.ops.layers import model_cost

PALETTE = np.random.default_rng(4).integers(64, 256, (256, 3), np.uint8)
"""The colours of the classes in pictures."""


def options(text: str, data: str, side: int, epochs: int) -> argparse.ArgumentParser:
    """The options of an example whose description is `text`, which reads `data` besides generated shapes."""
    parser = argparse.ArgumentParser(description=text, allow_abbrev=False)
    parser.add_argument("--data", default="shapes", help=f"shapes, or {data}")
    parser.add_argument(
        "--backbone", default="DARTS_V2", help="a genotype's name or path, or MobileNet (of keras.applications)"
    )
    parser.add_argument("--channels", type=int, default=8, help="channels of a genotype's network")
    parser.add_argument("--cells", type=int, help="its cells; by default 3, or its own depth")
    parser.add_argument(
        "--side", type=int, help=f"pictures become squares of this many pixels; by default 64 of shapes, else {side}"
    )
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--images", type=int, default=1500, help="generated pictures to train on")
    parser.add_argument("--pictures", metavar="DIR", help="write 8 test pictures with what was found on them, as PNG")
    return parser


def checked(chosen: argparse.Namespace, side: int) -> argparse.Namespace:
    """Returns the options, with `side`; raises `KdartsError` if a number is out of its range."""
    for name in ("epochs", "images"):
        if getattr(chosen, name) < 1:
            raise KdartsError(f"--{name}={getattr(chosen, name)}: allowed is 1 and more")
    if chosen.side is None:
        chosen.side = 64 if chosen.data == "shapes" else side
    if chosen.side < 64 or chosen.side % 32:
        raise KdartsError(f"--side={chosen.side}: allowed are multiples of 32 from 64")
    return chosen


def run(main: Callable[[], None]) -> None:
    """Runs an example. A mistake of the user ends it with one line and exit code 2."""
    try:
        keras.utils.set_random_seed(0)
        kdarts.configure_threads()
        main()
    except KdartsError as error:
        print(f"{pathlib.Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)


def build(chosen: argparse.Namespace) -> keras.Model:
    """Builds the backbone, untrained, whose `pyramid_outputs` have the levels P2 to P5, and prints its size."""
    shape = (chosen.side, chosen.side, 3)
    if chosen.backbone == "MobileNet":
        network = keras.applications.MobileNet(shape, alpha=0.5, include_top=False, weights=None)
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9  # As in the genotypes' networks: 0.99 is for longer trainings.
        last = {"P2": "conv_pw_3_relu", "P3": "conv_pw_5_relu", "P4": "conv_pw_11_relu", "P5": "conv_pw_13_relu"}
        backbone = Pyramid(network.input, {level: network.get_layer(name).output for level, name in last.items()})
    else:
        genotype = kdarts.Genotype.load(chosen.backbone)
        cells = chosen.cells or (3 if genotype.sequence is None else None)  # None: the depth of its own
        backbone = kdarts.build_backbone(genotype, shape, chosen.channels, cells)
    if missing := {"P2", "P3", "P4", "P5"} - {*backbone.pyramid_outputs}:
        found = f"{chosen.backbone} at {chosen.cells or 'its own'} cells has no level {', '.join(sorted(missing))}"
        raise KdartsError(f"--backbone: {found}; allowed: two reductions or more, which 3 cells have")
    cost = model_cost(backbone)
    print(f"{chosen.backbone}: {cost.params:,} parameters, {cost.macs / 1e6:.1f} million MACs at {chosen.side} pixels")
    return backbone


def fuse(backbone: keras.Model, width: int):
    """Adds up the levels P5 to P2, as in a feature pyramid network, to one map of stride 4 and `width` channels."""
    x = None
    for level in ("P5", "P4", "P3", "P2"):
        finer = keras.layers.Conv2D(width, 1, name=f"lateral_{level}")(backbone.pyramid_outputs[level])
        if x is not None:
            finer = keras.layers.Add()([keras.layers.UpSampling2D(2, interpolation="bilinear")(x), finer])
        x = finer
    return keras.layers.Conv2D(width, 3, padding="same", activation="relu")(x)


def adam(examples: int, epochs: int, batch: int = 16) -> keras.optimizers.Adam:
    """Adam whose learning rate falls from 0.002 to 0 along a cosine."""
    decay = keras.optimizers.schedules.CosineDecay(2e-3, epochs * -(-examples // batch))
    return keras.optimizers.Adam(decay, clipnorm=1.0)


def as_picture(image) -> Image.Image:
    """The picture of an image `[side, side, 3]` with values from -1 to 1; other values are cut off."""
    return Image.fromarray(np.uint8(np.clip(image * 127.5 + 127.5, 0, 255)))


def save_picture(picture: Image.Image, folder: str, number: int) -> None:
    """Writes a picture as `FOLDER/number.png`, twice as large, atomically."""
    twice = picture.resize([2 * side for side in picture.size])
    write_with(pathlib.Path(folder) / f"{number}.png", twice.save)
