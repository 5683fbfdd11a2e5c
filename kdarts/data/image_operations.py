"""What the Python Imaging Library (PIL, now Pillow) does to a picture, for batches, each picture with its own strength.

AutoAugment and colour jitter are defined by PIL's operations, so these keep its arithmetic, integer where it has
integers: uint8 goes in, and PIL's uint8 comes out. All take images `[n, height, width, channels]` of one or three
channels and of 3x3 pixels or more, and strengths `[n]` of a float type, float64 for PIL's own results; n may be 0.
Where a picture is moved, what comes into view is `GREY`.
"""

import math
from collections.abc import Callable

import tensorflow as tf

GREY = 128
"""What comes into view when a picture is moved, in each channel; AutoAugment's choice."""

Operation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""From images and the strength of each to images of the same shape and type."""


def shear_x(images: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Shifts row `y` by `amount * y` pixels to the left, by bicubic interpolation (PIL's: the cubic with a = -1)."""
    height, width = images.shape[1:3]
    rows = tf.range(height, dtype=tf.float64) + 0.5
    columns = tf.range(width, dtype=tf.float64) + 0.5
    source = columns + tf.cast(amount, tf.float64)[:, tf.newaxis, tf.newaxis] * rows[:, tf.newaxis]
    first = tf.floor(source - 0.5)
    d = (source - 0.5 - first)[..., tf.newaxis]
    first = tf.cast(first, tf.int32)

    def pixel(offset):
        place = tf.clip_by_value(first + offset, 0, width - 1)
        return tf.cast(tf.gather(images, place, axis=2, batch_dims=2), tf.float64)

    v1, v2, v3, v4 = (pixel(offset) for offset in (-1, 0, 1, 2))
    cubic = v2 + d * ((v3 - v1) + d * ((2 * (v1 - v2) + v3 - v4) + d * (-v1 + v2 - v3 + v4)))
    inside = ((source >= 0) & (source < width))[..., tf.newaxis]
    return tf.where(inside, _clipped(cubic), _grey(images))


def shear_y(images: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Shifts column `x` by `amount * x` pixels up, by bicubic interpolation."""
    return _transposed(shear_x(_transposed(images), amount))


def translate_x(images: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Shifts to the left by `amount * width` pixels, rounded."""
    width = images.shape[2]
    shift = tf.cast(amount, tf.float64)[:, tf.newaxis] * width
    source = tf.cast(tf.floor(tf.range(width, dtype=tf.float64) + 0.5 + shift), tf.int32)
    inside = (source >= 0) & (source < width)
    moved = tf.gather(images, tf.clip_by_value(source, 0, width - 1), axis=2, batch_dims=1)
    return tf.where(inside[:, tf.newaxis, :, tf.newaxis], moved, _grey(images))


def translate_y(images: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Shifts up by `amount * height` pixels, rounded."""
    return _transposed(translate_x(_transposed(images), amount))


def rotate(images: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Turns counter-clockwise about the middle; each pixel is the nearest one, in PIL's 16.16 fixed-point numbers."""
    height, width = images.shape[1:3]
    angle = -tf.cast(degrees, tf.float64) * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # Where the middle of the first pixel comes from, and how far each pixel to the right or down goes on from there.
    x = cos * (0.5 - width / 2) + sin * (0.5 - height / 2) + width / 2
    y = -sin * (0.5 - width / 2) + cos * (0.5 - height / 2) + height / 2

    def source(start, right, down):
        start, right, down = (
            tf.cast(tf.floor(v * 65536 + 0.5), tf.int32)[:, tf.newaxis, tf.newaxis] for v in (start, right, down)
        )
        rows, columns = tf.range(height)[:, tf.newaxis], tf.range(width)
        return tf.bitwise.right_shift(start + columns * right + rows * down, 16)

    column, row = source(x, cos, sin), source(y, -sin, cos)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = tf.clip_by_value(row, 0, height - 1) * width + tf.clip_by_value(column, 0, width - 1)
    pixels = tf.reshape(images, [-1, height * width, images.shape[3]])
    return tf.where(inside[..., tf.newaxis], tf.gather(pixels, place, axis=1, batch_dims=1), _grey(images))


def invert(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """`255 - value`."""
    return 255 - images


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts the values from `threshold` on, 0 to 256."""
    bright = tf.cast(images, tf.float32) >= _each(threshold)
    return tf.where(bright, 255 - images, images)


def posterize(images: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the `bits` highest bits of each value, 1 to 8."""
    step = tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(images, tf.cast(_each(256 - step, tf.int32), tf.uint8))


def autocontrast(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to 0 to 255; a channel of a single value stays."""
    values = tf.cast(images, tf.int32)
    low, high = (reduce(values, [1, 2]) for reduce in (tf.reduce_min, tf.reduce_max))
    scale = 255 / tf.cast(tf.maximum(high - low, 1), tf.float64)
    # The order of the roundings is PIL's: the product and the offset apart, then cut off below the point.
    table = (
        tf.range(256, dtype=tf.float64) * scale[..., tf.newaxis] - (tf.cast(low, tf.float64) * scale)[..., tf.newaxis]
    )
    table = tf.where((high > low)[..., tf.newaxis], _clipped(table), tf.cast(tf.range(256), tf.uint8))
    return _looked_up(images, table)


def equalize(images: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Spreads the values of each channel so that all are about as frequent."""
    height, width, channels = images.shape[1:]
    values = tf.reshape(tf.transpose(tf.cast(images, tf.int32), [0, 3, 1, 2]), [-1, height * width])
    counts = tf.math.bincount(values, minlength=256, maxlength=256, axis=-1)
    counts = tf.ensure_shape(tf.reshape(counts, [-1, channels, 256]), [None, channels, 256])
    last = tf.gather(counts, tf.reduce_max(tf.cast(images, tf.int32), [1, 2]), axis=2, batch_dims=2)
    step = ((height * width - last) // 255)[..., tf.newaxis]
    before = tf.cumsum(counts, axis=-1, exclusive=True)
    table = tf.minimum((step // 2 + before) // tf.maximum(step, 1), 255)
    return _looked_up(images, tf.cast(tf.where(step > 0, table, tf.range(256)), tf.uint8))


def color(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Saturation: 0 makes the picture grey, 1 leaves it, above 1 exaggerates it."""
    return _blended(_luminance(images), images, factor)


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0 makes the picture its mean grey, 1 leaves it, above 1 exaggerates it."""
    pixels = images.shape[1] * images.shape[2]
    total = tf.reduce_sum(_luminance(images), [1, 2, 3], keepdims=True)
    return _blended((2 * total + pixels) // (2 * pixels), images, factor)


def brightness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0 makes the picture black, 1 leaves it, above 1 exaggerates it."""
    return _blended(tf.zeros([1, 1, 1, 1], tf.int32), images, factor)


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """0 smooths the picture by a 3x3 filter (its border stays), 1 leaves it, above 1 exaggerates it."""
    values = tf.cast(images, tf.int32)
    height, width = images.shape[1:3]
    sides = range(3)
    around = sum(values[:, i : height - 2 + i, j : width - 2 + j] for i in sides for j in sides)
    inner = (2 * (around + 4 * values[:, 1:-1, 1:-1]) + 13) // 26
    border = tf.pad(tf.zeros_like(inner, tf.bool), [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=True)
    smooth = tf.where(border, values, tf.pad(inner, [[0, 0], [1, 1], [1, 1], [0, 0]]))
    return _blended(smooth, images, factor)


def hue(images: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Turns the hue of each pixel by a part of the circle, -0.5 to 0.5; grey pictures have none."""
    if images.shape[3] == 1:
        return images
    hsv = tf.image.rgb_to_hsv(tf.cast(images, tf.float32) / 255)
    turned = tf.math.floormod(hsv[..., :1] + _each(turn), 1.0)
    return _clipped(tf.round(tf.image.hsv_to_rgb(tf.concat([turned, hsv[..., 1:]], -1)) * 255))


def apply_each(
    images: tf.Tensor, chosen: tf.Tensor, strengths: tf.Tensor, operations: tuple[Operation, ...]
) -> tf.Tensor:
    """Applies to each picture the operation that was chosen for it: one call of each operation for all its pictures.

    Args:
        images: `[n, height, width, channels]`, uint8.
        chosen: int32 `[n]`, indices into `operations`; `len(operations)` leaves a picture as it is.
        strengths: `[n]`, of a float type.
        operations: the choice.

    Returns:
        The same shape and type.
    """
    count = len(operations) + 1
    places = tf.dynamic_partition(tf.range(tf.shape(images)[0]), chosen, count)
    parts = tf.dynamic_partition(images, chosen, count)
    amounts = tf.dynamic_partition(strengths, chosen, count)
    changed = [operation(*pair) for operation, *pair in zip(operations, parts, amounts, strict=False)]
    return tf.ensure_shape(tf.dynamic_stitch(places, [*changed, parts[-1]]), images.shape)


def _each(strengths: tf.Tensor, dtype=tf.float32) -> tf.Tensor:
    """Strengths `[n]` as `[n, 1, 1, 1]`."""
    return tf.cast(strengths, dtype)[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _grey(images: tf.Tensor) -> tf.Tensor:
    return tf.constant(GREY, images.dtype)


def _transposed(images: tf.Tensor) -> tf.Tensor:
    return tf.transpose(images, [0, 2, 1, 3])


def _clipped(values: tf.Tensor) -> tf.Tensor:
    """Numbers as uint8: what is beyond 0 to 255 comes to the end of the range, the rest is cut off below the point."""
    return tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)


def _luminance(images: tf.Tensor) -> tf.Tensor:
    """Grey values, int32 `[n, height, width, 1]`, by PIL's weights (ITU-R 601-2) in 65536ths."""
    values = tf.cast(images, tf.int32)
    if images.shape[3] == 1:
        return values
    red, green, blue = tf.split(values, 3, -1)
    return tf.bitwise.right_shift(19595 * red + 38470 * green + 7471 * blue + 32768, 16)


def _blended(zero: tf.Tensor, one: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`zero + factor * (one - zero)` in float32, cut off below the point, as uint8."""
    zero, one = tf.cast(zero, tf.float32), tf.cast(one, tf.float32)
    return _clipped(zero + _each(factor) * (one - zero))


def _looked_up(images: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Each value replaced by its entry in the table of its channel, `[n, channels, 256]`."""
    height, width, channels = images.shape[1:]
    values = tf.reshape(tf.transpose(tf.cast(images, tf.int32), [0, 3, 1, 2]), [-1, channels, height * width])
    found = tf.reshape(tf.gather(table, values, axis=2, batch_dims=2), [-1, channels, height, width])
    return tf.transpose(found, [0, 2, 3, 1])
