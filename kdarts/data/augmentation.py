"""Random changes of training images, as pure functions of a seed: crop, flip, colours, normalisation, cutout.

Among them are the random resized crop (Szegedy et al., CVPR 2015) and the colour jitter of ImageNet trainings.

Each works on a whole batch at once. Pixels are picked with `tf.gather`, which is several times faster on a CPU than
selecting between shifted copies.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kdarts.data import image_operations as pil
from kdarts.data import rand_augment as random_policy
from kdarts.data.auto_augment import POLICIES, auto_augment
from kdarts.genotypes.errors import KdartsError, choice

AREA = (0.08, 1.0)
"""Least and greatest part of a picture's area."""

RATIO = (3 / 4, 4 / 3)
"""Least and greatest width by height, in pixels; the logarithm is uniform between them."""

PAD_WITH = ("black", "mean")
"""Colours of the border that a padded crop shifts into view."""

_TRIES = 10


def random_resized_crop(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Cuts a random box out of each picture and scales it to the picture's size, by bilinear interpolation.

    Args:
        images: `[n, height, width, channels]`, uint8. A box is never larger than its picture, so it is only enlarged.
        seed: integers `[2]`.

    Returns:
        The same shape and type.
    """
    height, width = images.shape[1:3]
    top, left, down, across = random_boxes(tf.shape(images)[0], height, width, seed)
    pixels = _scaled(tf.cast(images, tf.float32), top, down, 1)
    pixels = _scaled(pixels, left, across, 2)
    return tf.ensure_shape(tf.cast(tf.round(pixels), tf.uint8), images.shape)


def random_boxes(count: tf.Tensor, height: int, width: int, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Draws boxes: an area and a ratio, anew up to ten times while the box is not inside; then a place.

    Args:
        count: how many.
        height, width: of the pictures, in pixels.
        seed: integers `[2]`.

    Returns:
        Top, left, height and width of each box, int32 `[count]`. Where all tries fail it is the largest middle part of
        an allowed ratio, as in torchvision.
    """
    area, ratio, place = (tf.random.fold_in(seed, k) for k in range(3))
    areas = height * width * tf.random.stateless_uniform([count, _TRIES], area, *AREA)
    ratios = tf.exp(tf.random.stateless_uniform([count, _TRIES], ratio, *(math.log(r) for r in RATIO)))
    across = tf.cast(tf.round(tf.sqrt(areas * ratios)), tf.int32)
    down = tf.cast(tf.round(tf.sqrt(areas / ratios)), tf.int32)
    fits = (across > 0) & (across <= width) & (down > 0) & (down <= height)
    first = tf.argmax(fits, axis=1)
    found = tf.reduce_any(fits, axis=1)
    largest = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    down = tf.where(found, tf.gather(down, first, batch_dims=1), largest[0])
    across = tf.where(found, tf.gather(across, first, batch_dims=1), largest[1])
    where = tf.random.stateless_uniform([count, 2], place)
    room = tf.stack([height - down, width - across], 1)
    corner = tf.minimum(tf.cast(where * tf.cast(room + 1, tf.float32), tf.int32), room)
    corner = tf.where(found[:, tf.newaxis], corner, room // 2)
    return corner[:, 0], corner[:, 1], down, across


def _scaled(pixels: tf.Tensor, start: tf.Tensor, length: tf.Tensor, axis: int) -> tf.Tensor:
    """Each picture's interval `[start, start + length)` of an axis, scaled to the whole axis."""
    size = pixels.shape[axis]
    part = tf.cast(length, tf.float32)[:, tf.newaxis]
    # Middles of pixels, as PIL and torch have them; beyond the interval's own ends nothing is read.
    place = tf.clip_by_value((tf.range(size, dtype=tf.float32) + 0.5) * part / size - 0.5, 0, part - 1)
    low = tf.cast(place, tf.int32)
    high = tf.minimum(low + 1, length[:, tf.newaxis] - 1)
    share = tf.reshape(place - tf.cast(low, tf.float32), [-1, size, 1, 1] if axis == 1 else [-1, 1, size, 1])
    before, after = (tf.gather(pixels, start[:, tf.newaxis] + k, axis=axis, batch_dims=1) for k in (low, high))
    return before + share * (after - before)


_OPERATIONS = (pil.brightness, pil.contrast, pil.color, pil.hue)


def color_jitter(images: tf.Tensor, seed: tf.Tensor, amount: float) -> tf.Tensor:
    """Changes the colours of each picture.

    Args:
        images: `[n, height, width, channels]`, uint8, one or three channels.
        seed: integers `[2]`.
        amount: 0 to 1. The factors of brightness, contrast and saturation are uniform in `1 - amount` to `1 + amount`,
            the turn of the hue is in plus and minus `amount / 2` of the circle: the papers' 0.4, 0.4, 0.4 and 0.2.

    Returns:
        The same shape and type.
    """
    count, parts = tf.shape(images)[0], len(_OPERATIONS)
    order, size = (tf.random.stateless_uniform([count, parts], tf.random.fold_in(seed, k), -1, 1) for k in range(2))
    strengths = size * (amount, amount, amount, amount / 2) + (1, 1, 1, 0)
    order = tf.argsort(order, axis=1)
    for place in range(parts):
        chosen = order[:, place]
        images = pil.apply_each(images, chosen, tf.gather(strengths, chosen, batch_dims=1), _OPERATIONS)
    return images


def pad_and_crop(images: tf.Tensor, seed: tf.Tensor, pad: int, color=0) -> tf.Tensor:
    """Shifts each image by up to `pad` pixels each way; what comes into view has one colour.

    Args:
        images: `[n, height, width, channels]`, raw pixels of any type.
        seed: integers `[2]`, as for `tf.random.stateless_uniform`.
        pad: 0 or more; every shift from `-pad` to `pad` is as likely, down and across.
        color: of what comes into view: a number, or one per channel; 0 is black in raw pixels.

    Returns:
        The same shape and type.
    """
    return _moved(images, pad, crop_seed=seed, color=color)


def flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors each image left to right with probability one half.

    Args:
        images: `[n, height, width, channels]` of any type.
        seed: integers `[2]`.

    Returns:
        The same shape and type.
    """
    return _moved(images, flip_seed=seed)


def _moved(
    images: tf.Tensor, pad: int = 0, crop_seed: tf.Tensor | None = None, flip_seed: tf.Tensor | None = None, color=0
) -> tf.Tensor:
    """Crop, then flip, each if it has a seed. Both choose columns: choosing once saves a fifth of a batch's time."""
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    columns = tf.tile(tf.range(width)[tf.newaxis], [count, 1])
    if pad and crop_seed is not None:
        shifts = tf.random.stateless_uniform([count, 2], crop_seed, 0, 2 * pad + 1, tf.int32)
        images = _padded(images, pad, color)
        images = tf.gather(images, shifts[:, :1] + tf.range(height), axis=1, batch_dims=1)
        columns += shifts[:, 1:]
    if flip_seed is not None:
        mirrored = tf.random.stateless_uniform([count, 1], flip_seed) < 0.5
        columns = tf.where(mirrored, columns[:, ::-1], columns)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _padded(images: tf.Tensor, pad: int, color) -> tf.Tensor:
    """The images with a border of `pad` pixels on each side."""
    if np.ndim(color) == 0:
        return tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]], constant_values=tf.cast(color, images.dtype))
    count, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    color = tf.cast(color, images.dtype)
    rows = tf.broadcast_to(color, [count, pad, width, channels])
    columns = tf.broadcast_to(color, [count, height + 2 * pad, pad, channels])
    return tf.concat([columns, tf.concat([rows, images, rows], 1), columns], 2)


def normalize(images: tf.Tensor, mean: Sequence[float], std: Sequence[float]) -> tf.Tensor:
    """Raw pixels as numbers of mean 0 and deviation 1: `(images / 255 - mean) / std`.

    Args:
        images: `[n, height, width, channels]`, 0 to 255, of any type.
        mean: of each channel, for the scale 0 to 1.
        std: of each channel, likewise.

    Returns:
        float32 of the same shape.

    Raises:
        KdartsError: `mean` or `std` is not one number per channel.
    """
    width, channels = images.shape[2:]
    if len(mean) != channels or len(std) != channels:
        raise KdartsError(f"mean of {len(mean)} and std of {len(std)} numbers; allowed: {channels}, one per channel")
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    # Rows of width * channels: broadcasting over three numbers at a time takes twice as long.
    scale = tf.constant(np.tile(1 / (255 * std), width), tf.float32)
    shift = tf.constant(np.tile(mean / std, width), tf.float32)
    rows = tf.reshape(tf.cast(images, tf.float32), [-1, width * channels])
    return tf.ensure_shape(tf.reshape(rows * scale - shift, tf.shape(images)), images.shape)


def cutout(images: tf.Tensor, seed: tf.Tensor, length: int, holes: int = 1) -> tf.Tensor:
    """Sets squares of each image to 0, the mean of normalised images (DeVries and Taylor, 2017).

    Args:
        images: `[n, height, width, channels]`, normalised, of a float type.
        seed: integers `[2]`.
        length: side of the square in pixels. Its centre `c` is any pixel, each as likely; the square is
            `[c - length // 2, c + length // 2)` down and across, cut off at the borders.
        holes: number of squares, 1 or more; they may overlap.

    Returns:
        The same shape and type.
    """
    half = length // 2
    if not half:
        return images
    height, width, channels = images.shape[1:]

    def inside(draw, size, positions):
        """For each image, whether each of `positions` is in a random interval along an axis of `size` pixels."""
        key = tf.random.fold_in(seed, draw)
        centre = tf.random.stateless_uniform([tf.shape(images)[0], 1], key, 0, size, tf.int32)
        return tf.cast((positions >= centre - half) & (positions < centre + half), images.dtype)

    for hole in range(holes):
        rows = inside(2 * hole, height, tf.range(height))
        columns = inside(2 * hole + 1, width, tf.repeat(tf.range(width), channels))
        kept = 1 - rows[:, :, tf.newaxis] * columns[:, tf.newaxis, :]
        images *= tf.reshape(kept, tf.shape(images))
    return images


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What training images go through: crop, flip, colours, Auto- or RandAugment, normalise, cutout, in this order.

    Args:
        pad: largest shift of the crop in pixels; 0 for none.
        flip: whether to mirror half of the images.
        cutout: side of the square that is cut out in pixels; 0 for none.
        cutout_holes: how many squares, 1 or more (sharpDARTS: 2 on ImageNet).
        pad_with: colour of the border that the crop shifts into view: "black", as in the papers, or "mean", that of the
            training images, which is 0 after normalisation.
        auto_augment: name of a policy of `kdarts.data.auto_augment`.
        random_resized_crop: whether to scale a random part of each image to the whole; `pad` must then be 0.
        color_jitter: how far colours are changed, 0 to 1 (`kdarts.data.augmentation`); 0 for not at all.
        rand_augment: number and magnitude of the operations of `kdarts.data.rand_augment`; None for none.

    Raises:
        KdartsError: a negative `pad` or `cutout`, no `cutout_holes`, an unknown policy, `color_jitter` or
            `rand_augment` out of range, two kinds of crop, two policies.
    """

    pad: int = 4
    flip: bool = True
    cutout: int = 0
    auto_augment: str = "none"
    random_resized_crop: bool = False
    color_jitter: float = 0.0
    cutout_holes: int = 1
    pad_with: str = "black"
    rand_augment: tuple[int, float] | None = None

    def __post_init__(self):
        choice("policy of auto_augment", self.auto_augment, POLICIES)
        choice("pad_with", self.pad_with, PAD_WITH)
        for name in ("pad", "cutout"):
            if getattr(self, name) < 0:
                raise KdartsError(f"{name} {getattr(self, name)} of an augmentation; allowed: 0 or more pixels")
        if self.cutout_holes < 1:
            raise KdartsError(f"cutout_holes {self.cutout_holes} of an augmentation; allowed: 1 or more")
        if not 0 <= self.color_jitter <= 1:
            raise KdartsError(f"color_jitter {self.color_jitter} of an augmentation; allowed: 0 to 1")
        if self.rand_augment:
            random_policy.check(*self.rand_augment)
            if self.auto_augment != "none":
                raise KdartsError(f"auto_augment {self.auto_augment}: not with rand_augment, allowed is one of them")
        if self.random_resized_crop and self.pad:
            raise KdartsError(f"pad {self.pad} with random_resized_crop; allowed: 0, there is one crop")

    def check(self, image_shape) -> None:
        """Raises `KdartsError` for a shift or a square that leaves nothing of an image.

        Args:
            image_shape: `(height, width, channels)`.
        """
        side = min(image_shape[:2])
        if self.pad >= side:
            raise KdartsError(f"pad {self.pad}: allowed is 0 to {side - 1}; more shifts a side of {side} pixels away")
        if self.cutout > side:
            raise KdartsError(f"cutout {self.cutout}: allowed is 0 to {side}, the smaller side of the images")

    def __call__(self, images: tf.Tensor, seed: tf.Tensor, mean: Sequence[float], std: Sequence[float]) -> tf.Tensor:
        """Augments a batch.

        Args:
            images: `[n, height, width, channels]`, raw pixels, 0 to 255; uint8 is fastest.
            seed: integers `[2]`; the same seed gives the same changes.
            mean: of each channel, for the scale 0 to 1.
            std: of each channel, likewise.

        Returns:
            float32 of the same shape, normalised.

        Raises:
            KdartsError: as of `check`.
        """
        self.check(images.shape[1:])
        if self.random_resized_crop:
            images = random_resized_crop(tf.cast(images, tf.uint8), tf.random.fold_in(seed, 0))
        if self.pad or self.flip:
            mirror = tf.random.fold_in(seed, 1) if self.flip else None
            color = np.rint(255 * np.asarray(mean)) if self.pad_with == "mean" else 0
            images = _moved(images, self.pad, tf.random.fold_in(seed, 0), mirror, color)
        if self.color_jitter:
            images = color_jitter(tf.cast(images, tf.uint8), tf.random.fold_in(seed, 4), self.color_jitter)
        if self.auto_augment != "none":
            images = auto_augment(tf.cast(images, tf.uint8), tf.random.fold_in(seed, 3), self.auto_augment)
        if self.rand_augment:
            key = tf.random.fold_in(seed, 5)
            images = random_policy.rand_augment(tf.cast(images, tf.uint8), key, *self.rand_augment)
        return cutout(normalize(images, mean, std), tf.random.fold_in(seed, 2), self.cutout, self.cutout_holes)


def default_augmentation(name: str, image_shape: tuple[int, int, int]) -> Augmentation:
    """The augmentation of a data set for which none was asked.

    Args:
        name: of the data set.
        image_shape: height, width and channels of its images.

    Returns:
        For `digits` shifts alone, by an eighth of the side: a mirrored digit is another sign or none. For others also
        flips; at 32x32 that is the papers' CIFAR augmentation.
    """
    return Augmentation(pad=max(1, min(image_shape[:2]) // 8), flip=name != "digits")
