"""A random part of each picture, scaled to the whole: the crop of ImageNet trainings (Szegedy et al., CVPR 2015)."""

import math

import tensorflow as tf

AREA = (0.08, 1.0)
"""Least and greatest part of a picture's area."""

RATIO = (3 / 4, 4 / 3)
"""Least and greatest width by height, in pixels; the logarithm is uniform between them."""

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
