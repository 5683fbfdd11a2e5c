"""Say of every pixel which class it belongs to: a genotype's pyramid under a small head of plain Keras layers.

The masks are semantic: one class a pixel, touching objects of a class are one region.
`python examples/segmentation.py --data=camvid:FOLDER` reads pictures and masks in the form of CamVid; without it shapes
are generated, about a minute on 2 CPU cores.
"""

import keras
import numpy as np
import shapes
import transfer
from labelled import read_masks
from PIL import Image

from kdarts.genotypes.errors import KdartsError

SIDE = 128
"""Height and width of real pictures, in pixels."""


def mean_iou(found, truth, classes: int) -> float:
    """Mean of intersection over union, over the classes that occur; pixels of value `classes` are not counted."""
    counted = truth < classes
    table = np.bincount(truth[counted] * classes + found[counted], minlength=classes**2).reshape(classes, classes)
    either = table.sum(0) + table.sum(1) - np.diag(table)
    return float(np.mean(np.diag(table)[either > 0] / either[either > 0]))


def main() -> None:
    """Trains a segmenter and prints its score on pictures that it was not trained on."""
    parser = transfer.options(__doc__.split("\n")[0], "camvid:FOLDER", side=SIDE, epochs=12)
    parser.add_argument("--classes", type=int, default=11, help="labels of the masks; greater values: none")
    chosen = transfer.checked(parser.parse_args(), SIDE)
    form, _, folder = chosen.data.partition(":")
    if chosen.data == "shapes":
        classes = len(shapes.CLASSES) + 1
        images, _, _, masks = shapes.draw(chosen.images, side=chosen.side, seed=1)
        tests, _, _, test_masks = shapes.draw(100, side=chosen.side, seed=2)
    elif form == "camvid" and folder:
        classes = chosen.classes
        if not 2 <= classes <= 255:
            raise KdartsError(f"--classes={classes}: allowed is 2 to 255")
        images, masks = read_masks(folder, "train", chosen.side, classes)
        tests, test_masks = read_masks(folder, "test", chosen.side, classes)
    else:
        raise KdartsError(f"--data={chosen.data}: allowed: shapes, camvid:FOLDER")
    print(f"{len(images)} pictures to train on, {len(tests)} to test")
    frequent = np.bincount(masks.ravel(), minlength=classes)[:classes].argmax()
    print(
        f"mean IoU of the most frequent class {mean_iou(np.full_like(test_masks, frequent), test_masks, classes):.3f}"
    )

    backbone = transfer.build(chosen)
    x = keras.layers.Conv2D(classes, 1)(transfer.fuse(backbone, 32))
    segmenter = keras.Model(backbone.input, keras.layers.UpSampling2D(4, interpolation="bilinear", name="logits")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=classes)
    segmenter.compile(transfer.adam(len(images), chosen.epochs), loss)
    segmenter.fit(images, masks, batch_size=16, epochs=chosen.epochs, verbose=2)
    found = segmenter.predict(tests, batch_size=16, verbose=0).argmax(-1)
    print(f"mean IoU after {chosen.epochs} epochs {mean_iou(found, test_masks, classes):.3f}")
    if chosen.pictures:
        for i in range(min(8, len(tests))):  # the picture, what was found, the truth
            parts = [
                transfer.as_picture(tests[i]),
                *(Image.fromarray(transfer.PALETTE[m[i]]) for m in (found, test_masks)),
            ]
            transfer.save_picture(
                Image.fromarray(np.concatenate([np.asarray(p) for p in parts], 1)), chosen.pictures, i
            )


if __name__ == "__main__":
    transfer.run(main)
