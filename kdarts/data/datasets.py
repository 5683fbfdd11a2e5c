"""Labelled images in memory: where they come from, what they measure, and how a search divides them.

Three sources, by name: `digits` (part of the package), a name of TensorFlow Datasets, and `folder:PATH`.
"""

import dataclasses
import difflib
import importlib.resources
import json
import os
import re
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from kdarts.data import folders
from kdarts.data.folders import Progress, check_memory, check_size, fitted
from kdarts.genotypes.errors import KdartsError, choice

SPLITS = ("train", "test")
"""The splits that every data set has."""

_CHUNK = 1024  # images whose histogram is taken at a time: a chunk is widened to 64 bits


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images, held in memory.

    Args:
        images: uint8 `[n, height, width, channels]`, 0 to 255; 1 or 3 channels.
        labels: int32 `[n]`, indices of `class_names`.
        class_names: one name per class.
        name: the name that the data set was loaded by.

    Raises:
        KdartsError: shapes or types that are not these.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str

    def __post_init__(self):
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3) or not len(images):
            raise KdartsError(
                f"{self.name}: images {images.dtype} {list(images.shape)}; allowed: uint8 [n, height, width, 1 or 3]"
            )
        if labels.shape != images.shape[:1] or labels.dtype != np.int32:
            raise KdartsError(
                f"{self.name}: labels {labels.dtype} {list(labels.shape)}; allowed: int32 [{len(images)}]"
            )
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise KdartsError(
                f"{self.name}: labels {labels.min()} to {labels.max()}; allowed: 0 to {len(self.class_names) - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return self.images.shape[1:]

    @property
    def num_classes(self) -> int:
        """Number of classes, present among the labels or not."""
        return len(self.class_names)

    def take(self, indices: np.ndarray | slice) -> "ImageData":
        """The examples at `indices`, in that order."""
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices])


def load(
    name: str = "digits",
    data_dir: str | None = None,
    image_size: int | None = None,
    split: str = "train",
    limit: int | None = None,
    *,
    download: bool = False,
) -> ImageData:
    """Loads one split of a data set into memory.

    Args:
        name: `digits`, a name of TensorFlow Datasets, or `folder:PATH` with one sub-folder of pictures per class.
        data_dir: where TensorFlow Datasets finds prepared data; None for its default.
        image_size: side in pixels, 8 or more, to which images are scaled (the shorter side) and cut; needed where
            they differ in size. None leaves them as they are.
        split: "train" or "test". Where a data set has no test split, its validation split, or else a fixed fifth.
        limit: load at most this many examples, 1 or more; None for all.
        download: whether data that is not on this machine may be fetched; otherwise the network is never tried.

    Returns:
        The images and labels, in an order that is the same each time.

    Raises:
        KdartsError: an unknown name or split, data that is not there, cannot be decoded, differs in size, or takes more
            than `kdarts.data.folders.MEMORY_LIMIT` bytes decoded.
    """
    choice("split", split, SPLITS)
    check_size(image_size)
    if limit is not None and limit < 1:
        raise KdartsError(f"limit {limit}; allowed: 1 or more")
    if name == "digits":
        images, labels, class_names = _digits(split, image_size, limit)
    elif name.startswith("folder:"):
        images, labels, class_names = folders.read(name.removeprefix("folder:"), split, image_size, limit)
    else:
        images, labels, class_names = read(name, split, data_dir, image_size, limit, download)
    return ImageData(images, labels, class_names, name)


def _digits(split: str, image_size: int | None, limit: int | None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    with (
        (importlib.resources.files("kdarts.data") / "digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        images, labels = arrays[f"x_{split}"][:limit], arrays[f"y_{split}"][:limit]
    if image_size:
        check_memory(len(images), (image_size, image_size, 1), "digits")
        images = fitted(images, image_size).numpy()
    return images, labels.astype(np.int32), tuple("0123456789")


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, for the scale 0 to 1.

    Args:
        images: uint8 `[n, height, width, channels]`, 0 to 255.

    Returns:
        Mean and standard deviation, `channels` numbers each; the deviation is at least 0.001, so that it can divide.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        # 256 counts say all there is to know of 8-bit images, exactly and faster than sums of floats.
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), _CHUNK):
            counts += np.bincount(images[start : start + _CHUNK, ..., channel].ravel(), minlength=256)
        mean = counts @ values / counts.sum()
        means.append(float(mean))
        deviations.append(max(float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum())), 1e-3))
    return tuple(means), tuple(deviations)


def halves(
    data: ImageData,
    train_examples: int | None = None,
    valid_examples: int | None = None,
    seed: int = 0,
    stratified: bool = False,
) -> tuple[ImageData, ImageData]:
    """Divides data between the two levels of a search.

    With neither size given, the first half trains the weights and the second half the architecture parameters (DARTS).
    With a size given or `stratified`, that many are drawn at random without replacement, once (eDARTS): the first ones
    drawn train the weights, the others the architecture parameters.

    Args:
        data: what to divide, 2 examples or more.
        train_examples: examples for the weights. None, with the other given: as many as that, or as are left.
        valid_examples: examples for the architecture parameters; None likewise.
        seed: of the draw, 0 to 2**32 - 1.
        stratified: whether every class has its share of both, that of the whole data to within two examples: of equal
            classes, equally many where the sizes allow it.

    Returns:
        Data for the weights and data for the architecture parameters; no example is in both.

    Raises:
        KdartsError: sizes below 1, or more in all than there are.
    """
    count = len(data)
    if count < 2:
        raise KdartsError(f"{data.name}: {count} example cannot be divided; allowed: 2 or more")
    if train_examples is None and valid_examples is None and stratified:
        train_examples = count // 2
    if train_examples is None and valid_examples is None:
        return data.take(slice(count // 2)), data.take(slice(count // 2, None))
    if train_examples is None:
        train_examples = min(valid_examples, count - valid_examples)
    if valid_examples is None:
        valid_examples = min(train_examples, count - train_examples)
    if train_examples < 1 or valid_examples < 1 or train_examples + valid_examples > count:
        raise KdartsError(
            f"train_examples {train_examples} and valid_examples {valid_examples}; allowed: 1 or more each, "
            f"{count} in all for the train split of {data.name}"
        )
    order = np.random.RandomState(seed).permutation(count)
    if stratified:
        order = order[np.argsort(_places(data.labels[order]), kind="stable")]
    return data.take(order[:train_examples]), data.take(order[train_examples : train_examples + valid_examples])


def hold_back(data: ImageData, part: float) -> tuple[ImageData, ImageData]:
    """Divides data into what a run may learn from and what it is measured on, the same for every seed.

    Args:
        data: what to divide.
        part: of it that is held back, more than 0 and less than 1; every class gives its share (see `halves`).

    Returns:
        The rest, and what is held back.

    Raises:
        KdartsError: if either would have no example.
    """
    count = round(part * len(data))
    if not 0 < count < len(data):
        raise KdartsError(f"{data.name}: {part:g} of {len(data)} examples cannot be held back; allowed: 1 to all but 1")
    return halves(data, len(data) - count, count, stratified=True)


def _places(labels: np.ndarray) -> np.ndarray:
    """For each example how far it stands, 0 to 1, among those of its class; by it, any first part has all classes."""
    places = np.empty(len(labels))
    for label in np.unique(labels):
        own = labels == label
        places[own] = (np.arange(own.sum()) + 0.5) / own.sum()
    return places


_NAME = re.compile(r"[A-Za-z]\w*(/[\w.+-]+)?(:\d+(\.[\d*]+){0,2})?")  # name/config:version
_BATCH = 256


def read(
    name: str, split: str, data_dir: str | None, image_size: int | None, limit: int | None, download: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Reads one split of a data set, from disk unless `download` asks for it to be fetched and prepared.

    The test split is "test", else "validation", else a fifth of "train" chosen at random once and for all.

    Args:
        name: as TensorFlow Datasets knows it: `name`, `name/config` or `name/config:version`.
        split: "train" or "test".
        data_dir: where prepared data sets are; None for the default of TensorFlow Datasets.
        image_size: side to which pictures are resized, or None if all have one size.
        limit: at most this many pictures, or None.
        download: whether a data set that is not prepared may be fetched over the network.

    Returns:
        Images uint8 `[n, height, width, channels]`, labels `[n]`, class names.

    Raises:
        KdartsError: unknown name, not prepared, not image classification, differing sizes without `image_size`,
            more than fits in memory, or damaged.
    """
    try:
        import tensorflow_datasets as tfds  # slow, and only this kind of data set needs it
    except ImportError as error:
        raise KdartsError(f"data set {name!r} needs TensorFlow Datasets: pip install tensorflow-datasets") from error
    builder = _builder(tfds, name, data_dir, download)
    names = _class_names(builder, name)
    source, held_out = _source(builder, name, split)
    try:
        reading = tfds.ReadConfig(try_autocache=False)  # the images are kept here, once
        dataset = builder.as_dataset(split=source, as_supervised=True, shuffle_files=False, read_config=reading)
        total = int(dataset.cardinality())
        if total < 0:
            total = builder.info.splits[source].num_examples
        chosen = _chosen(total, split, held_out, builder.info.disable_shuffling)[:limit]
        if not len(chosen):
            raise KdartsError(f"too few examples in {name!r} for a {split} split: {total}; allowed: 5 or more")
        images, labels = _collect(dataset, chosen, image_size, name)
    except KdartsError:
        raise
    except (tf.errors.OpError, OSError, ValueError, AssertionError) as error:
        raise KdartsError(f"cannot read {name!r} in {builder.data_path}: {_line(error)}") from error
    if labels.size and labels.min() < 0:
        raise KdartsError(f"split {source!r} of {name!r} has no labels; allowed: labelled splits")
    return images, labels, names


def _line(error: Exception) -> str:
    """The first line of what an error says, or its kind; of TensorFlow's, without the names of operations."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(error))
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)


def _builder(tfds, name: str, data_dir: str | None, download: bool):
    """The TFDS builder of a data set that is prepared."""
    # Names with a namespace reach other catalogues over the network; keyword arguments in names are not for users.
    if not _NAME.fullmatch(name):
        raise _unknown(tfds, name)
    root = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    _check_features(Path(root) / re.split("[/:]", name)[0])
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # TFDS warns of each place where it finds nothing
    try:
        builder = tfds.builder(name, data_dir=root)
        prepared = builder.is_prepared()
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(tfds, name) from error
    except Exception as error:  # each builder has its own: bare ValueError, RuntimeError, ImportError, parse errors
        raise KdartsError(f"cannot open data set {name!r} in {root}: {_line(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
    if prepared:
        return builder
    if not download:
        raise KdartsError(
            f"data set {name!r} is not prepared in {root}; pass data_dir where it is, or --download (download=True) "
            "to fetch and prepare it there"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # network, checksum, disk, a missing manual download: whatever a builder's source does
        raise KdartsError(f"cannot download {name!r} to {root}: {_line(error)}") from error
    return builder


def _unknown(tfds, name: str) -> KdartsError:
    known = tfds.list_builders(with_community_datasets=False)
    near = difflib.get_close_matches(name, ["digits", *known], 1)
    if os.path.isdir(os.path.expanduser(name)):
        near = [f"folder:{name}"]
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return KdartsError(
        f"unknown data set {name!r}{hint}; allowed: digits, folder:PATH, or one of the {len(known)} names of "
        "TensorFlow Datasets"
    )


def _check_features(folder: Path) -> None:
    """Refuses prepared data that names Python classes from elsewhere: TFDS would import their modules."""

    def check(node: dict) -> dict:
        for key in ("pythonClassName", "python_class_name", "type"):
            value = node.get(key)
            if isinstance(value, str) and "." in value and not value.startswith("tensorflow_datasets."):
                raise KdartsError(f"{path} names the class {value!r}; allowed: classes of tensorflow_datasets")
        return node

    for path in folder.rglob("features.json"):
        try:
            json.loads(path.read_text(encoding="utf-8"), object_hook=check)
        except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise KdartsError(f"cannot read {path}: {_line(error)}") from error


def _class_names(builder, name: str) -> tuple[str, ...]:
    """Names of the classes; raises `KdartsError` unless the data set maps a picture to one class."""
    keys, features = builder.info.supervised_keys, builder.info.features
    if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) and key in features for key in keys):
        image, label = (features[key] for key in keys)
        channels = image.shape[-1] if len(image.shape) == 3 else 0
        if hasattr(label, "names") and image.np_dtype == np.uint8 and channels in (1, 3, None):
            return tuple(label.names)
    raise KdartsError(
        f"{name!r} is not a data set of image classification; allowed: 8-bit images of 1 or 3 channels and a label"
    )


def _source(builder, name: str, split: str) -> tuple[str, bool]:
    """The TFDS split that `split` is read from, and whether part of it is held out as the test split."""
    there = list(builder.info.splits)
    own = [other for other in ("test", "validation") if other in there]
    if split == "test" and own:
        return own[0], False
    if "train" not in there:
        raise KdartsError(f"{name!r} has no split 'train'; it has: {', '.join(there) or 'none'}")
    return "train", not own


def _chosen(total: int, split: str, held_out: bool, in_order: bool) -> np.ndarray:
    """Which examples of the file make up the split, in which order."""
    # TFDS shuffles as it writes, except where it was told to keep the order: there the classes may be sorted.
    order = np.random.RandomState(0).permutation(total) if held_out or in_order else np.arange(total)
    if not held_out:
        return order
    return order[: total // 5] if split == "test" else order[total // 5 :]


def _collect(dataset: tf.data.Dataset, chosen: np.ndarray, image_size: int | None, name: str):
    """The chosen examples of `dataset`, as images and labels."""
    slots = np.full(int(chosen.max()) + 1, -1)
    slots[chosen] = np.arange(len(chosen))
    dataset = dataset.take(len(slots)).map(
        lambda image, label: (fitted(image, image_size), label), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    known = dataset.element_spec[0].shape.is_fully_defined()
    images, labels, start = None, np.empty(len(chosen), np.int32), 0
    progress = Progress(name, len(slots))
    for pictures, classes in dataset.batch(_BATCH if known else 1).prefetch(2).as_numpy_iterator():
        if images is None:
            check_memory(len(chosen), pictures.shape[1:], name)
            images = np.empty((len(chosen), *pictures.shape[1:]), np.uint8)
        elif pictures.shape[1:] != images.shape[1:]:
            sizes = " and ".join("x".join(map(str, shape[1:])) for shape in (images.shape, pictures.shape))
            raise KdartsError(f"{name!r} has pictures of {sizes}; pass image_size to make them one")
        slot = slots[start : start + len(pictures)]
        images[slot[slot >= 0]] = pictures[slot >= 0]
        labels[slot[slot >= 0]] = classes[slot >= 0]
        start += len(pictures)
        progress.update(start)
    return images, labels
