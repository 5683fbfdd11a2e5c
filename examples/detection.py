"""Find objects with a genotype's backbone: a small detector of plain Keras layers, trained from nothing.

Each cell of a map of stride 4 says of each class whether an object's centre is there (CenterNet, Zhou et al. 2019), and
how far the object's four sides are (UnitBox, Yu et al. 2016). `python examples/detection.py --data=voc:FOLDER` reads
boxes in the form of Pascal VOC, `--data=coco:FOLDER` in that of COCO; without it shapes are generated.
"""

import contextlib
import importlib.util
import io

import keras
import numpy as np
import shapes
import tensorflow as tf
import transfer
from keras import ops
from labelled import Boxes, read_boxes
from PIL import ImageDraw

STRIDE, MOST, SHOWN, SIDE = 4, 100, 0.3, 160
"""Pixels a cell, most boxes a picture (as in COCO), least confidence of a box that is drawn, side of real pictures."""
THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The overlaps of COCO's mAP."""


def targets(boxes, labels, classes: int, side: int) -> np.ndarray:
    """What the detector should say, `[n, side / 4, side / 4, classes + 5]`.

    First a bump for each object, of height 1 in the cell of its centre; then the distances in pixels of the left, top,
    right and bottom side from the cell's middle, and the weight of these.
    """
    middle = (np.arange(side // STRIDE) + 0.5) * STRIDE
    wanted = np.zeros((len(boxes), len(middle), len(middle), classes + 5), "float32")
    for i, k in np.argwhere(labels >= 0):
        left, top, right, bottom = boxes[i, k]
        bumps = []
        for low, high in ((top, bottom), (left, right)):
            centre = middle[min(int((low + high) / 2 / STRIDE), len(middle) - 1)]
            bumps.append(np.exp(-0.5 * ((middle - centre) / max((high - low) / 6, STRIDE / 3)) ** 2))
        bump = np.outer(*bumps)
        heat, rest = wanted[i, ..., labels[i, k]], wanted[i, ..., classes:]
        np.maximum(heat, bump, out=heat)
        ours = (bump > rest[..., 4]) & (bump > 0.3)
        sides = [middle - left, middle[:, None] - top, right - middle, bottom - middle[:, None]]
        for position, distance in enumerate(sides):
            rest[..., position][ours] = np.broadcast_to(np.maximum(distance, 0.1), bump.shape)[ours]
        rest[..., 4][ours] = bump[ours]
    return wanted


def loss(wanted, found):
    """The focal loss of the centres, and minus the logarithm of the boxes' overlap."""
    heat, logits = wanted[..., :-5], found[..., :-4]
    chance = ops.sigmoid(logits)
    centre = ops.cast(heat == 1, "float32")
    focal = centre * (1 - chance) ** 2 * ops.log_sigmoid(logits)
    focal += (1 - centre) * (1 - heat) ** 4 * chance**2 * ops.log_sigmoid(-logits)
    mine, true, weight = found[..., -4:], wanted[..., -5:-1], wanted[..., -1]

    def area(sides):
        return (sides[..., 0] + sides[..., 2]) * (sides[..., 1] + sides[..., 3])

    shared = area(ops.minimum(mine, true))
    overlap = (shared + 1) / (area(mine) + area(true) - shared + 1)
    boxes = ops.sum(weight * ops.log(overlap)) / ops.maximum(ops.sum(weight), 1)
    return -ops.sum(focal) / ops.maximum(ops.sum(centre), 1) - boxes


def build_detector(backbone, classes: int) -> keras.Model:
    """The detector: images to `[n, side / 4, side / 4, classes + 4]`, logits of the classes and distances in pixels."""
    x = transfer.fuse(backbone, 64)
    rare = keras.initializers.Constant(-4.0)  # At first no cell is a centre.
    heat = keras.layers.Conv2D(classes, 1, bias_initializer=rare, name="centres")(x)
    sides = keras.layers.Conv2D(4, 1, activation="softplus", name="sides")(x)
    sides = keras.layers.Rescaling(4.0 * STRIDE)(sides)
    return keras.Model(backbone.input, keras.layers.Concatenate()([heat, sides]))


def detect(detector, images) -> dict:
    """The boxes on images: `boxes` `[n, 100, 4]`, `labels` and `confidence` `[n, 100]`; label -1: none."""
    found = detector.predict(images, batch_size=16, verbose=0)
    x, y = np.meshgrid(*2 * [(np.arange(found.shape[2]) + 0.5) * STRIDE])
    left, top, right, bottom = np.moveaxis(found[..., -4:], -1, 0)
    boxes = np.stack([x - left, y - top, x + right, y + bottom], -1).reshape(len(images), -1, 1, 4)
    chances = tf.sigmoid(found[..., :-4].reshape(len(images), boxes.shape[1], -1))
    kept = tf.image.combined_non_max_suppression(boxes, chances, MOST, MOST, 0.5, 0.01, clip_boxes=False)
    places = np.arange(MOST) < kept.valid_detections.numpy()[:, None]
    labels = np.where(places, kept.nmsed_classes.numpy(), -1).astype("int32")
    return {"boxes": kept.nmsed_boxes.numpy(), "labels": labels, "confidence": kept.nmsed_scores.numpy()}


def most_frequent(training: Boxes, count: int) -> dict:
    """The answer without a look at the pictures: the mean box of each class, the most frequent class first."""
    present = [training.labels == label for label in range(len(training.classes))]
    boxes = np.stack([training.boxes[at].mean(0) if at.any() else np.zeros(4) for at in present])
    share = np.array([at.sum() for at in present]) / np.sum(training.labels >= 0)
    return {
        "boxes": np.tile(boxes, (count, 1, 1)),
        "labels": np.tile(np.arange(len(share)), (count, 1)),
        "confidence": np.tile(share, (count, 1)),
    }


def coco_map(found: dict, truth: Boxes) -> float:
    """COCO's mAP: the mean of the average precisions at overlaps of 0.5, 0.55 to 0.95; by pycocotools where it is."""
    if importlib.util.find_spec("pycocotools") is None:
        return shapes.mean_average_precision(found, truth.boxes, truth.labels, THRESHOLDS)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(boxes, labels, scores=None):
        for i, k in np.argwhere(labels >= 0):
            left, top, right, bottom = map(float, boxes[i, k])
            box, size = [left, top, right - left, bottom - top], (right - left) * (bottom - top)
            row = {"image_id": int(i), "category_id": int(labels[i, k]), "bbox": box, "area": size, "iscrowd": 0}
            yield row if scores is None else {**row, "score": float(scores[i, k])}

    with contextlib.redirect_stdout(io.StringIO()):
        table = COCO()
        annotations = [{**row, "id": n + 1} for n, row in enumerate(rows(truth.boxes, truth.labels))]
        categories = [{"id": n, "name": name} for n, name in enumerate(truth.classes)]
        images = [{"id": n} for n in range(len(truth.images))]
        table.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        table.createIndex()
        answers = list(rows(found["boxes"], found["labels"], found["confidence"]))
        if not answers:
            return 0.0
        evaluation = COCOeval(table, table.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def draw_found(test: Boxes, found: dict, folder: str) -> None:
    """Writes test pictures with the boxes that were found, in the colour of their class, and the true ones in white."""
    for i in range(min(8, len(test.images))):
        picture = transfer.as_picture(test.images[i])
        pencil = ImageDraw.Draw(picture)
        for k in np.flatnonzero(test.labels[i] >= 0):
            pencil.rectangle([float(v) for v in test.boxes[i, k]], outline=(255, 255, 255))
        for k in np.flatnonzero((found["labels"][i] >= 0) & (found["confidence"][i] >= SHOWN)):
            colour = tuple(int(v) for v in transfer.PALETTE[found["labels"][i, k]])
            pencil.rectangle([float(v) for v in found["boxes"][i, k]], outline=colour)
        transfer.save_picture(picture, folder, i)


def main() -> None:
    """Trains a detector and prints what it finds on pictures that it was not trained on."""
    parser = transfer.options(__doc__.split("\n")[0], "voc:FOLDER or coco:FOLDER", side=SIDE, epochs=5)
    parser.add_argument("--train", default="train", metavar="SPLIT", help="the split to train on")
    parser.add_argument("--test", default="test", metavar="SPLIT", help="the split to count on")
    chosen = transfer.checked(parser.parse_args(), SIDE)
    if chosen.data == "shapes":
        sets = [shapes.draw(count, side=chosen.side, seed=seed)[:3] for count, seed in ((chosen.images, 1), (100, 2))]
        training, test = (Boxes(*arrays, shapes.CLASSES) for arrays in sets)
    else:
        training, test = read_boxes(chosen.data, (chosen.train, chosen.test), chosen.side)
    objects = np.sum(test.labels >= 0)
    print(f"{len(training.images)} pictures to train on; test: {len(test.images)} with {objects} objects")
    backbone = transfer.build(chosen)
    detector = build_detector(backbone, len(training.classes))
    wanted = targets(training.boxes, training.labels, len(training.classes), chosen.side)
    # A mirrored picture has its boxes mirrored, for which the left and the right distance change places.
    order = [*range(len(training.classes)), *(len(training.classes) + k for k in (2, 1, 0, 3, 4))]
    images = np.concatenate([training.images, training.images[:, :, ::-1]])
    wanted = np.concatenate([wanted, wanted[:, :, ::-1][..., order]])
    counted = "pycocotools" if importlib.util.find_spec("pycocotools") else "this example: pycocotools is not installed"
    print(f"mAP is the mean over overlaps of 0.5 to 0.95, by {counted}", flush=True)
    print(f"mAP of the mean box of each class {coco_map(most_frequent(training, len(test.images)), test):.3f}")
    detector.compile(transfer.adam(len(images), chosen.epochs), loss)
    detector.fit(images, wanted, batch_size=16, epochs=chosen.epochs, verbose=2)
    found = detect(detector, test.images)
    print(f"mAP at an overlap of 0.5 {shapes.mean_average_precision(found, test.boxes, test.labels):.3f}")
    print(f"mAP after {chosen.epochs} epochs {coco_map(found, test):.3f}")
    if chosen.pictures:
        draw_found(test, found, chosen.pictures)


if __name__ == "__main__":
    transfer.run(main)
