"""Pictures in folders: one sub-folder for each class, with or without folders for train and test above them.

What every source of pictures shares is here too: one size for all, a limit on memory, and progress while reading.
"""

import contextlib
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from kdarts.genotypes.errors import KdartsError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
"""File names of pictures, in either case."""

TEST_FOLDERS = ("test", "val", "validation")
"""Names of the folder beside `train` that holds the test split; the first that is there counts."""

_NAMED = 5  # broken files listed by name in one error
_THREADS = 4

Labelled = list[tuple[Path, int]]


def read(
    path: str, split: str, image_size: int | None, limit: int | None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Reads one split of a folder of pictures.

    `path/train/CLASS/*` and `path/test/CLASS/*` (or `val`, `validation`) are the splits where both are there. Otherwise
    `path/CLASS/*` is divided: a fixed fifth of each class, chosen at random once and for all, is the test split.

    Args:
        path: the folder; classes are its sub-folders in sorted order.
        split: "train" or "test".
        image_size: side to which pictures are resized, or None if all have one size.
        limit: at most this many pictures, or None.

    Returns:
        Images uint8 `[n, height, width, channels]` in a fixed random order, labels `[n]`, class names. One channel if
        every picture of both splits is greyscale, otherwise three.

    Raises:
        KdartsError: nothing there, fewer than two classes, a class without pictures, pictures that cannot be decoded
            (named), differing sizes without `image_size`, more than fits in memory.
    """
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise KdartsError(f"no folder {path!r}; allowed: a folder with one sub-folder of pictures per class")
    names, splits = _splits(root)
    chosen = splits[split]
    if not chosen:
        raise KdartsError(f"too few pictures in {path!r} to hold out a {split} split; allowed: 3 or more in a class")
    chosen = [chosen[i] for i in np.random.RandomState(0).permutation(len(chosen))[:limit]]
    # Train and test must agree on the channels, so the headers of both decide.
    channels = 3 if any(_coloured(file) for part in splits.values() for file, _ in part) else 1
    images = _images([file for file, _ in chosen], channels, image_size, f"folder {path!r}")
    return images, np.array([label for _, label in chosen], np.int32), names


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _splits(root: Path) -> tuple[tuple[str, ...], dict[str, Labelled]]:
    """The class names, and the labelled files of "train" and "test"."""
    tests = [root / name for name in TEST_FOLDERS if (root / name).is_dir() and _folders(root / name)]
    if tests and (root / "train").is_dir() and _folders(root / "train"):
        names, train = _classes(root / "train")
        test_names, test = _classes(tests[0])
        if names != test_names:
            differ = ", ".join(sorted(set(names) ^ set(test_names)))
            raise KdartsError(
                f"classes of {root / 'train'} and {tests[0]} differ in: {differ}; allowed: the same in both"
            )
        return names, {"train": _labelled(train), "test": _labelled(test)}
    names, files = _classes(root)
    draw = np.random.RandomState(0)
    train, test = [], []
    for of_class in files:
        order = draw.permutation(len(of_class))
        fifth = round(len(of_class) / 5)
        test.append([of_class[i] for i in order[:fifth]])
        train.append([of_class[i] for i in order[fifth:]])
    return names, {"train": _labelled(train), "test": _labelled(test)}


def _labelled(files: list[list[Path]]) -> Labelled:
    return [(file, label) for label, of_class in enumerate(files) for file in of_class]


def _classes(root: Path) -> tuple[tuple[str, ...], list[list[Path]]]:
    """Class names, and the pictures of each."""
    folders = _folders(root)
    if len(folders) < 2:
        found = ", ".join(folder.name for folder in folders) or "none"
        raise KdartsError(f"classes in {str(root)!r}: {found}; allowed: two or more sub-folders, one per class")
    files, ignored = [], 0
    for folder in folders:
        entries = [entry for entry in sorted(folder.iterdir()) if entry.is_file() and not entry.name.startswith(".")]
        files.append([entry for entry in entries if entry.suffix.lower() in SUFFIXES])
        ignored += len(entries) - len(files[-1])
        if not files[-1]:
            raise KdartsError(
                f"no pictures in class folder {str(folder)!r}; allowed: files named {', '.join(SUFFIXES)}"
            )
    if ignored:
        logging.warning("%s: %d files ignored that are not named %s", root, ignored, ", ".join(SUFFIXES))
    return tuple(folder.name for folder in folders), files


def _coloured(file: Path) -> bool:
    """Whether a picture has colour, by its header alone: this looks at every file of the data set."""
    with file.open("rb") as stream:
        head = stream.read(32)
        if head.startswith(b"\x89PNG"):
            return head[25:26] not in (b"\x00", b"\x04")  # colour types: grey, grey with alpha
        if head.startswith(b"BM"):
            return head[28:29] != b"\x08"  # bits per pixel
        if head.startswith(b"\xff\xd8"):
            try:
                return int(tf.io.extract_jpeg_shape(head + stream.read())[2]) != 1
            except tf.errors.InvalidArgumentError:
                return False  # broken: named when it is decoded, and no say in what the others are
    return bool(head)


def _decoded(file: Path, channels: int, image_size: int | None) -> np.ndarray | None:
    """One picture `[height, width, channels]`, or None if it cannot be decoded."""
    with tf.device("CPU:0"):
        try:
            image = tf.io.decode_image(file.read_bytes(), channels=0, expand_animations=False)
        except (tf.errors.OpError, OSError):
            return None
        if image.shape[-1] < 3:  # grey, with or without alpha
            image = tf.repeat(image[..., :1], channels, axis=-1)
        return fitted(image[..., :channels], image_size).numpy()


def _images(files: Sequence[Path], channels: int, image_size: int | None, name: str) -> np.ndarray:
    """The pictures of `files` as one array."""
    if image_size:
        check_memory(len(files), (image_size, image_size, channels), name)
    images, broken, sizes = None, [], set()
    progress = Progress(name, len(files))
    pool = ThreadPoolExecutor(_THREADS)
    try:
        decoded = pool.map(lambda file: _decoded(file, channels, image_size), files)
        for i, (file, image) in enumerate(zip(files, decoded, strict=True)):
            progress.update(i + 1)
            if image is None:
                broken.append(file)
                continue
            sizes.add(image.shape[:2])
            if images is None:
                check_memory(len(files), image.shape, name)
                images = np.empty((len(files), *image.shape), np.uint8)
            if len(sizes) == 1:
                images[i] = image
    finally:
        pool.shutdown(cancel_futures=True)
    if broken:
        named = ", ".join(str(file) for file in sorted(broken)[:_NAMED])
        more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        raise KdartsError(f"cannot decode {named}{more}; allowed: PNG, JPEG, BMP, GIF and WebP pictures")
    if len(sizes) > 1:
        seen = sorted(sizes)
        listed = ", ".join(f"{height}x{width}" for height, width in (seen if len(seen) < 4 else [seen[0], seen[-1]]))
        raise KdartsError(f"{name}: pictures of {len(seen)} sizes ({listed}); pass image_size to make them one")
    return images


MEMORY_LIMIT = 8 * 2**30
"""Most bytes of decoded pictures that a data set may take; the input pipeline holds one more copy of what it serves."""

SMALLEST = 8
"""Smallest side that pictures may be resized to."""

PATIENCE = 2.0
"""Seconds of reading after which progress is shown."""


def fitted(images: tf.Tensor, size: int | None) -> tf.Tensor:
    """Pictures as squares: the shorter side scaled to `size`, then the middle cut out.

    Args:
        images: uint8 `[..., height, width, channels]`, one picture or a batch.
        size: side in pixels; None leaves the pictures as they are.

    Returns:
        uint8 `[..., size, size, channels]`; pixels of pictures that already fit are unchanged.
    """
    if size is None:
        return images
    sides = tf.shape(images)[-3:-1]
    scaled = tf.cast(tf.round(sides * size / tf.reduce_min(sides)), tf.int32)
    first = (scaled - size) // 2
    images = tf.image.resize(images, scaled, antialias=True)
    images = images[..., first[0] : first[0] + size, first[1] : first[1] + size, :]
    images = tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)
    return tf.ensure_shape(images, [*images.shape[:-3], size, size, images.shape[-1]])


def check_size(size: int | None) -> None:
    """Raises `KdartsError` unless `size` is None or a side that pictures can be resized to."""
    if size is not None and not (isinstance(size, int) and size >= SMALLEST):
        raise KdartsError(f"image_size {size!r}; allowed: an integer of {SMALLEST} pixels or more")


def check_memory(count: int, shape: tuple[int, ...], name: str) -> None:
    """Raises `KdartsError` if `count` pictures of `shape` [height, width, channels] pass `MEMORY_LIMIT`."""
    needed = count
    for side in shape:
        needed *= int(side)
    if needed > MEMORY_LIMIT:
        size = "x".join(str(side) for side in shape)
        raise KdartsError(
            f"{name}: {count} pictures of {size} take {needed / 2**30:.1f} GiB decoded, allowed: "
            f"{MEMORY_LIMIT / 2**30:.1f} GiB; pass a smaller image_size or fewer examples"
        )


class Progress:
    """How far reading has come, on standard error, once it has taken `PATIENCE` seconds.

    Args:
        name: what is read.
        total: how many pictures that is.
    """

    def __init__(self, name: str, total: int):
        self._name = name
        self._total = total
        self._start = time.monotonic()
        self._bar = None
        self._announced = False

    def update(self, done: int) -> None:
        """Shows that `done` of the pictures are read: a bar on a terminal, otherwise one line and no more."""
        if not self._announced:
            if time.monotonic() - self._start < PATIENCE or done >= self._total:
                return
            print(f"reading {self._name}: {self._total} pictures", file=sys.stderr)
            self._announced = True
            if sys.stderr.isatty():
                self._bar = keras.utils.Progbar(self._total, unit_name="picture")
        if self._bar is not None:
            # Keras' bar knows standard output only, which is kept for results.
            with contextlib.redirect_stdout(sys.stderr):
                self._bar.update(done)
