"""Pictures with boxes, in the form of Pascal VOC or COCO, and pictures with masks, in the form of CamVid.

All pictures of a set become squares of one side, stretched, and the boxes and masks with them.
"""

import json
import pathlib
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from kdarts.data.pictures import decode
from kdarts.genotypes.errors import KdartsError


class Boxes(NamedTuple):
    """Pictures and what is on them.

    `images` is float32 `[n, side, side, 3]` from -1 to 1; `boxes` float32 `[n, most, 4]` (left, top, right, bottom in
    pixels, -1 where there is none); `labels` int32 `[n, most]`, -1 likewise; `classes` are the names of the labels.
    """

    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def read_boxes(data: str, splits: tuple[str, ...], side: int) -> list[Boxes]:
    """Reads the splits of `voc:FOLDER` or `coco:FOLDER`; all have the same classes, in the order of the alphabet.

    Boxes are cut at the edge of their picture. Those of which nothing is left, and crowds of COCO, are left out.

    Args:
        data: `voc:FOLDER`, with `ImageSets/Main/SPLIT.txt`, `Annotations/*.xml` and `JPEGImages/*.jpg`; or
            `coco:FOLDER`, with `annotations/instances_SPLIT.json` and the pictures in `SPLIT/`.
        splits: Names of splits, such as "train".
        side: Height and width of the pictures in pixels, at least 1.

    Raises:
        KdartsError: If the form is unknown, or a file is missing, damaged or of another form.
    """
    form, _, folder = data.partition(":")
    readers = {"voc": _voc, "coco": _coco}
    if form not in readers or not folder:
        raise KdartsError(f"--data={data}: allowed: shapes, voc:FOLDER, coco:FOLDER")
    listed = [list(readers[form](pathlib.Path(folder), split)) for split in splits]
    classes = tuple(sorted({name for split in listed for _, objects in split for name, _ in objects}))
    if not classes or not all(listed):
        raise KdartsError(f"{folder}: a split without pictures, or no box in any; needs both in {', '.join(splits)}")
    return [_scaled(split, classes, side) for split in listed]


def read_masks(folder, split: str, side: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads pictures of `FOLDER/SPLIT/` and, of the same names, their masks, `FOLDER/SPLITannot/*.png`.

    Returns:
        Images float32 `[n, side, side, 3]` from -1 to 1, and masks int32 `[n, side, side]`: 0 to `classes` - 1, and
        `classes` for pixels of any greater value, which have no label.

    Raises:
        KdartsError: If a file is missing, damaged or of another form.
    """
    folder = pathlib.Path(folder)
    files = sorted(file for file in (folder / split).glob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise KdartsError(f"{folder / split}: no pictures; needs .jpg or .png, and their masks in {split}annot/")
    masks = []
    for file in files:
        path = folder / f"{split}annot" / f"{file.stem}.png"
        try:
            with Image.open(path, formats=("PNG",)) as mask:
                if mask.mode not in ("L", "P"):
                    raise KdartsError(f"{path}: pixels of mode {mask.mode}; allowed: a PNG of 8-bit labels")
                masks.append(np.asarray(mask.resize((side, side), Image.Resampling.NEAREST)))
        except (OSError, SyntaxError, Image.DecompressionBombError):
            raise KdartsError(f"{path}: no mask that can be read; needs a PNG of 8-bit labels") from None
    images = np.stack([_square(decode(file, 3), side) for file in files])
    return images, np.minimum(np.stack(masks).astype("int32"), classes)


def _square(pixels, side: int) -> np.ndarray:
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, "float32") / 127.5 - 1


def _scaled(pictures, classes, side: int) -> Boxes:
    """Decodes the pictures of a split; `pictures` is a list of `(file, [(class, (left, top, right, bottom)), ...])`."""
    most = max(1, max(len(objects) for _, objects in pictures))
    images = np.empty((len(pictures), side, side, 3), "float32")
    boxes = np.full((len(pictures), most, 4), -1, "float32")
    labels = np.full((len(pictures), most), -1, "int32")
    for i, (file, objects) in enumerate(pictures):
        pixels = decode(file, 3)
        height, width = pixels.shape[:2]
        images[i] = _square(pixels, side)
        kept = 0
        for name, box in objects:
            box = np.clip(np.array(box) * side / (width, height, width, height), 0, side)
            if (box[2:] > box[:2]).all():
                boxes[i, kept], labels[i, kept] = box, classes.index(name)
                kept += 1
    return Boxes(images, boxes, labels, classes)


class _Plain(ElementTree.TreeBuilder):
    """Builds the tree of a file without a document type, which could define entities."""

    def doctype(self, name, pubid, system):
        raise ValueError("a DOCTYPE")


def _voc(folder, split):
    listing = folder / "ImageSets" / "Main" / f"{split}.txt"
    try:
        names = [line.split()[0] for line in listing.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise KdartsError(f"{listing}: cannot be read; needs a text file with the name of a picture a line") from None
    for name in names:
        if pathlib.PurePath(name).name != name:
            raise KdartsError(f"{listing}: {name!r}; allowed: names of pictures without folders")
        path = folder / "Annotations" / f"{name}.xml"
        try:
            root = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_Plain()))
            objects = []
            for found in root.iter("object"):
                box = found.find("bndbox")
                corners = [float(box.findtext(corner)) for corner in ("xmin", "ymin", "xmax", "ymax")]
                objects.append((found.findtext("name").strip(), _finite(corners)))
        except (OSError, ElementTree.ParseError, ValueError, LookupError, TypeError, AttributeError):
            needed = "XML without DOCTYPE; each object has a name and a bndbox of xmin, ymin, xmax and ymax"
            raise KdartsError(f"{path}: no annotation of Pascal VOC; needs {needed}") from None
        yield folder / "JPEGImages" / f"{name}.jpg", objects


def _coco(folder, split):
    path = folder / "annotations" / f"instances_{split}.json"
    try:
        table = json.loads(path.read_bytes())
        names = {category["id"]: str(category["name"]) for category in table["categories"]}
        objects = {image["id"]: [] for image in table["images"]}
        for found in table["annotations"]:
            if not found.get("iscrowd"):
                left, top, width, height = _finite([float(number) for number in found["bbox"]])
                box = (left, top, left + width, top + height)
                objects[found["image_id"]].append((names[found["category_id"]], box))
        files = {image["id"]: pathlib.PurePath(image["file_name"]) for image in table["images"]}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        needed = "images (id, file_name), annotations (image_id, category_id, bbox of 4) and categories (id, name)"
        raise KdartsError(f"{path}: no annotations of COCO; needs JSON with {needed}") from None
    for key, file in files.items():
        if file.is_absolute() or ".." in file.parts:
            raise KdartsError(f"{path}: file_name {str(file)!r}; allowed: paths inside {split}/")
        yield folder / split / file, objects[key]


def _finite(numbers):
    if not np.isfinite(numbers).all():
        raise ValueError("a box that is not finite")
    return numbers
