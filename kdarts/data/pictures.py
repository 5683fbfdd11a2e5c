"""What every source of pictures shares: one size for all, a limit on memory, and a sign of life while reading."""

import contextlib
import sys
import time

import keras
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError

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
