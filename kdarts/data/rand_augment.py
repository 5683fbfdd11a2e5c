"""RandAugment: a number of operations, drawn for each picture, all of one magnitude (Cubuk et al., NeurIPS 2020)."""

import numpy as np
import tensorflow as tf

from kdarts.data import image_operations as pil
from kdarts.data.auto_augment import FACTORS, MAGNITUDES, SIGNED, check_images
from kdarts.genotypes.errors import KdartsError

STRONGEST = 10.0
"""The greatest magnitude, at which each operation is as strong as AutoAugment's at its last level."""

MOST = 20
"""The greatest number of operations on a picture."""

_OPERATIONS = tuple(name for name in MAGNITUDES if name != "invert")


def check(number: int, magnitude: float) -> None:
    """Raises `KdartsError` for a number of operations or a magnitude out of range."""
    if not 1 <= number <= MOST or not 0 <= magnitude <= STRONGEST:
        text = f"1 to {MOST} operations of a magnitude from 0 to {STRONGEST:g}"
        raise KdartsError(f"rand_augment {number},{magnitude:g}: allowed is {text}")


def rand_augment(images: tf.Tensor, seed: tf.Tensor, number: int, magnitude: float) -> tf.Tensor:
    """Applies operations to each picture, each drawn from the paper's 14, of which one leaves it as it is.

    The ranges are those of AutoAugment. The signs of rotations, shears and translations are drawn, and whether a colour
    operation weakens or strengthens; in the authors' program the magnitude decides the latter.

    Args:
        images: `[n, height, width, channels]`, uint8, one or three channels.
        seed: Integers `[2]`; the same seed gives the same changes.
        number: N of the paper, how many operations, 1 to 20.
        magnitude: M of the paper, 0 to 10.

    Returns:
        The same shape and type.

    Raises:
        KdartsError: For numbers out of range, or pictures of another type or number of channels.
    """
    check(number, magnitude)
    check_images("rand_augment", images)
    neutral = tf.constant([float(name in FACTORS) for name in (*_OPERATIONS, "")], tf.float64)
    strength = tf.constant([*(_strength(name, magnitude) for name in _OPERATIONS), 0.0], tf.float64)
    signed = tf.constant([name in (*SIGNED, *FACTORS, "rotate") for name in (*_OPERATIONS, "")])
    count, operations = tf.shape(images)[0], tuple(getattr(pil, name) for name in _OPERATIONS)
    for turn in range(number):
        key = tf.random.fold_in(seed, turn)
        chosen = tf.random.stateless_uniform([count], tf.random.fold_in(key, 0), 0, len(_OPERATIONS) + 1, tf.int32)
        minus = tf.random.stateless_uniform([count], tf.random.fold_in(key, 1)) < 0.5
        sign = tf.where(minus & tf.gather(signed, chosen), tf.constant(-1, tf.float64), 1)
        amounts = tf.gather(neutral, chosen) + sign * tf.gather(strength, chosen)
        images = pil.apply_each(images, chosen, amounts, operations)
    return images


def _strength(name: str, magnitude: float) -> float:
    levels = MAGNITUDES[name]
    found = float(np.interp(magnitude / STRONGEST * (len(levels) - 1), range(len(levels)), levels))
    return round(found) if name == "posterize" else found
