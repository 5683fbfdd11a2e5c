"""Random changes of brightness, contrast, saturation and hue, in a random order: as in ImageNet trainings."""

import tensorflow as tf

from kdarts.run import image_operations as pil

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
