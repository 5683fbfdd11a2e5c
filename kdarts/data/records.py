"""Encoded pictures of a prepared data set of TensorFlow Datasets, read at any place.

Files of the format ArrayRecord are made for that. In those of TFRecord an index says where each picture lies. It is
made by going from record to record (https://www.tensorflow.org/tutorials/load_data/tfrecord) and, within one, past all
but the label (https://protobuf.dev/programming-guides/encoding), so that no picture is read for it.
"""

import dataclasses
import difflib
import hashlib
import json
import mmap
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from kdarts.data import pictures
from kdarts.data.sources import Pictures, Progress, measured, opened, stats
from kdarts.data.splits import no_split
from kdarts.genotypes.errors import KdartsError

_NAME = re.compile(r"[A-Za-z]\w*(/[\w.+-]+)?(:\d+(\.[\d*]+){0,2})?")  # name/config:version


def read(
    name: str,
    split: str,
    data_dir: str | None,
    image_size: int | None,
    limit: int | None,
    download: bool,
    background: tuple[int, int, int] = pictures.WHITE,
    cache_dir: str | os.PathLike | None = None,
    valid_split: str | None = None,
    resize: int | None = None,
) -> tuple:
    """Reads one split of a data set, from disk unless `download` asks for it to be fetched and prepared.

    The test split is "test", else "validation", else a fifth of "train" chosen at random once and for all.

    Args:
        name: as TensorFlow Datasets knows it: `name`, `name/config` or `name/config:version`.
        split: "train" or "test", or "valid": the split `valid_split`.
        data_dir: where prepared data sets are; None for the default of TensorFlow Datasets.
        image_size: side to which pictures are resized; None: as they are, or one for all where they differ in size.
        limit: at most this many pictures, or None.
        download: whether a data set that is not prepared may be fetched over the network.
        background: colour behind transparent pixels.
        cache_dir: as of `sources.opened`.
        valid_split: name of another split than those of train and test, or None.
        resize: as of `pictures.decode`.

    Returns:
        Images uint8 `[n, height, width, channels]` as of `sources.opened`, labels int32 `[n]`, class names.

    Raises:
        KdartsError: unknown name, not prepared, not image classification, or damaged.
    """
    try:
        import tensorflow_datasets as tfds  # slow, and only this kind of data set needs it
    except ImportError as error:
        raise KdartsError(f"data set {name!r} needs TensorFlow Datasets: pip install tensorflow-datasets") from error
    builder = _builder(tfds, name, data_dir, download)
    classes = _class_names(tfds, builder, name)
    source, held_out = _source(builder, name, split, valid_split)
    total = builder.info.splits[source].num_examples
    chosen = _chosen(total, split, held_out, builder.info.disable_shuffling)[:limit]
    if not len(chosen):
        raise KdartsError(f"too few examples in {name!r} for a {split} split: {total}; allowed: 5 or more")
    try:
        (height, width, channels), peak = builder.info.features[builder.info.supervised_keys[0]].shape, 65535
        if channels is None or (image_size is None and None in (height, width)):
            both = "train" if "train" in builder.info.splits else source  # Train and test are read alike.
            survey, first = measured(_encoded(tfds, builder, name, both), name, image_size)
            channels, peak, image_size = survey.channels, survey.peak, survey.image_size
            height, width = first.height, first.width
        shape = (image_size, image_size, channels) if image_size else (height, width, channels)
        encoded = _encoded(tfds, builder, name, source, chosen)
        images = Pictures(shape, chosen, encoded, image_size, background, peak, resize)
        labels = encoded.labels[chosen]
        if labels.min() < 0:
            raise KdartsError(f"split {source!r} of {name!r} has no labels; allowed: labelled splits")
        return opened(images, name, cache_dir), labels, classes
    except KdartsError:
        raise
    except (tf.errors.OpError, OSError, ValueError, AssertionError) as error:
        raise KdartsError(f"cannot read {name!r} in {builder.data_path}: {_line(error)}") from error


def _encoded(tfds, builder, name: str, split: str, chosen: np.ndarray | None = None):
    """The pictures of a split of the builder; those at `chosen` are needed, None: all."""
    image, label = builder.info.supervised_keys
    about = builder.info.splits[split]
    if tfds.core.FileFormat.ARRAY_RECORD in builder.info.available_file_formats():
        skip = {image: tfds.decode.SkipDecoding()}
        source = builder.as_data_source(split, decoders=skip, file_format="array_record")
        return Examples(source, image, label, name, [Path(file) for file in about.filepaths])
    needed = np.arange(about.num_examples) if chosen is None else chosen
    return index([Path(file) for file in about.filepaths], about.shard_lengths, (image, label), needed, name)


class Examples:
    """Encoded pictures of a random-access reader of TensorFlow Datasets.

    Args:
        source: the reader, with pictures left encoded.
        image, label: names of these features.
        name: of the data set.
        files: that it reads.
    """

    def __init__(self, source, image: str, label: str, name: str, files: list[Path]):
        self._source, self._image, self._files = source, image, files
        progress, self.labels = Progress(name, len(source), "reading the labels of"), np.empty(len(source), np.int32)
        for place in range(len(source)):
            self.labels[place] = source[place][label]
            progress.update(place + 1)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, place: int) -> bytes:
        return self._source[int(place)][self._image]

    def name(self, place: int) -> str:
        """By its number."""
        return f"example {place} of {self._files[0].parent}"

    def verify(self) -> None:
        """The reader compares checksums itself."""

    @property
    def size(self) -> float:
        """Bytes of a picture, on average."""
        return sum(file.stat().st_size for file in self._files) / max(1, len(self))

    def stamp(self) -> bytes:
        """Changes when a file is written."""
        return _stamp(self._files)


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Encoded pictures in TFRecord files.

    Args:
        files: in the order of their examples.
        lengths: how many examples each has.
        file: for each picture, which file it is in; offset, length: where there, in bytes.
        labels: int32, of each.
    """

    files: list[Path]
    lengths: list[int]
    file: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> bytes:
        with self.files[self.file[place]].open("rb", buffering=0) as file:
            return os.pread(file.fileno(), int(self.length[place]), int(self.offset[place]))

    def name(self, place: int) -> str:
        """By the place of its first byte."""
        return f"the picture at {self.offset[place]} in {self.files[self.file[place]]}"

    @property
    def size(self) -> float:
        """Bytes of a picture, on average."""
        return float(self.length.mean())

    def stamp(self) -> bytes:
        """Changes when a file is written."""
        return _stamp(self.files)

    def verify(self) -> None:
        """Compares the files that are in use with their checksums; raises an error of TensorFlow's if they differ."""
        used = [str(self.files[number]) for number in np.unique(self.file[self.length > 0])]
        for _ in tf.data.TFRecordDataset(used).batch(_CHECKED):
            pass


_CHECKED = 256  # records whose checksums are compared at a time


def _stamp(files: list[Path]) -> bytes:
    return hashlib.sha256(repr(stats(files)).encode()).digest()


def index(files: list[Path], lengths: list[int], keys: tuple[str, str], needed: np.ndarray, name: str) -> Records:
    """Finds the pictures and labels in TFRecord files.

    Args:
        files: in the order of their examples.
        lengths: how many examples each has.
        keys: the features that hold the picture and the label.
        needed: places of the examples that are needed; files without any are not read.
        name: of the data set.

    Raises:
        KdartsError: a file that is damaged, or has another number of examples.
    """
    total = sum(lengths)
    found = Records(
        files,
        list(lengths),
        np.repeat(np.arange(len(files), dtype=np.int32), lengths),
        np.zeros(total, np.int64),
        np.zeros(total, np.int64),
        np.zeros(total, np.int32),
    )
    progress, names = Progress(name, total, "indexing"), [key.encode() for key in keys]
    for number in np.unique(found.file[needed]):
        first, count = sum(lengths[:number]), 0
        for count, (offset, length, label) in enumerate(_examples(files[number], *names), 1):
            if count > lengths[number]:
                break
            place = first + count - 1
            found.offset[place], found.length[place], found.labels[place] = offset, length, label
            progress.update(place + 1)
        if count != lengths[number]:
            raise KdartsError(
                f"cannot read {name!r}: {files[number]} has {count if count < lengths[number] else 'more'} examples "
                f"of the {lengths[number]} that dataset_info.json tells"
            )
    return found


def _examples(path: Path, image: bytes, label: bytes) -> Iterator[tuple[int, int, int]]:
    """Of each example in a TFRecord file: where its picture begins, how many bytes it has, and its label."""
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = 0
        while at < len(data):
            # A record: its length in 8 bytes, their checksum in 4, the example, its checksum in 4.
            try:
                (size,) = struct.unpack_from("<Q", data, at)
                start, end = at + 12, at + 12 + size
                if end + 4 > len(data):
                    raise ValueError
                yield _example(data, start, end, image, label)
            except (ValueError, IndexError, KeyError, struct.error):
                raise KdartsError(f"cannot read {path}: corrupted record at {at}") from None
            at = end + 4


def _example(data, start: int, end: int, image: bytes, label: bytes) -> tuple[int, int, int]:
    """The same of one example: a map from names to lists of bytes or numbers, each list of one value here."""
    values = {}
    for _, first, last in _fields(data, start, end):
        for _, entry, entry_end in _fields(data, first, last):
            parts = {number: place for number, *place in _fields(data, entry, entry_end)}
            key = data[slice(*parts[1])]
            if key in (image, label):
                [(_, listed, listed_end)] = _fields(data, *parts[2])
                [(_, *values[key])] = _fields(data, listed, listed_end)
    offset, after = values[image]
    number, last = values[label]
    number = number if last is None else _varint(data, number)[0]
    return offset, after - offset, number - 2**64 if number >= 2**63 else number


def _fields(data, at: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """The fields of a protocol buffer: the number of each, and where it begins and ends; of an integer, its value."""
    while at < end:
        tag, size, at = data[at], data[at + 1], at + 2
        if size > 127:
            size, at = _varint(data, at - 1)
        if tag & 7 == 2:
            at += size
            if at > end:
                raise ValueError
            yield tag >> 3, at - size, at
        elif tag & 7 == 0:
            yield tag >> 3, size, None
        else:
            raise ValueError


def _varint(data, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


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


def _class_names(tfds, builder, name: str) -> tuple[str, ...]:
    """Names of the classes; raises `KdartsError` unless the data set maps a picture to one class."""
    keys, features = builder.info.supervised_keys, builder.info.features
    if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) and key in features for key in keys):
        image, label = (features[key] for key in keys)
        channels = image.shape[-1] if len(image.shape) == 3 else 0
        encoded = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8
        if hasattr(label, "names") and encoded and channels in (1, 3, None):
            return tuple(label.names)
    raise KdartsError(
        f"{name!r} is not a data set of image classification; allowed: 8-bit images of 1 or 3 channels and a label"
    )


def _source(builder, name: str, split: str, valid_split: str | None = None) -> tuple[str, bool]:
    """The TFDS split that `split` is read from, and whether part of it is held out as the test split."""
    there = list(builder.info.splits)
    own = [other for other in ("test", "validation") if other in there]
    others = [other for other in there if other not in ("train", *own[:1])]
    if valid_split is not None and valid_split not in others:
        raise no_split(valid_split, name, others)
    if split == "valid":
        return valid_split, False
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
