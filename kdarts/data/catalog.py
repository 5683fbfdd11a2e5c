"""Image classification sets of TensorFlow Datasets, read whole into memory."""

import difflib
import json
import os
import re
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from kdarts.data.pictures import Progress, check_memory, fitted
from kdarts.genotypes.errors import KdartsError

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
    said = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(error))
    return next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)


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
