"""AutoAugment: policies of image operations that were found by search (Cubuk et al., CVPR 2019, appendix).

A policy is a list of sub-policies, mostly 25. One is drawn for each picture; each of its two operations is applied with
a probability of its own. The signs of shears, translations and the colour operations are drawn too; rotations only go
counter-clockwise, as in the program that D-DARTS and others train with. The longer policies are those of sharpDARTS'
program (Hundt et al. 2019).
"""

import numpy as np
import tensorflow as tf

from kdarts.data import image_operations as pil
from kdarts.genotypes.errors import KdartsError, choice

CIFAR10_95 = (
    (0.1, "invert", 7, 0.2, "contrast", 6),
    (0.7, "rotate", 2, 0.3, "translate_x", 9),
    (0.8, "sharpness", 1, 0.9, "sharpness", 3),
    (0.5, "shear_y", 8, 0.7, "translate_y", 9),
    (0.5, "autocontrast", 8, 0.9, "equalize", 2),
    (0.4, "solarize", 5, 0.9, "autocontrast", 3),
    (0.9, "translate_y", 9, 0.7, "translate_y", 9),
    (0.9, "autocontrast", 2, 0.8, "solarize", 3),
    (0.8, "equalize", 8, 0.1, "invert", 3),
    (0.7, "translate_y", 9, 0.9, "autocontrast", 1),
    (0.4, "solarize", 5, 0.0, "autocontrast", 2),
    (0.7, "translate_y", 9, 0.7, "translate_y", 9),
    (0.9, "autocontrast", 0, 0.4, "solarize", 3),
    (0.7, "equalize", 5, 0.1, "invert", 3),
    (0.7, "translate_y", 9, 0.7, "translate_y", 9),
    (0.4, "solarize", 5, 0.9, "autocontrast", 1),
    (0.8, "translate_y", 9, 0.9, "translate_y", 9),
    (0.8, "autocontrast", 0, 0.7, "translate_y", 9),
    (0.2, "translate_y", 7, 0.9, "color", 6),
    (0.7, "equalize", 6, 0.4, "color", 9),
    (0.2, "shear_y", 7, 0.3, "posterize", 7),
    (0.4, "color", 3, 0.6, "brightness", 7),
    (0.3, "sharpness", 9, 0.7, "brightness", 9),
    (0.6, "equalize", 5, 0.5, "equalize", 1),
    (0.6, "contrast", 7, 0.6, "sharpness", 5),
    (0.3, "brightness", 7, 0.5, "autocontrast", 8),
    (0.9, "autocontrast", 4, 0.5, "autocontrast", 6),
    (0.3, "solarize", 5, 0.6, "equalize", 5),
    (0.2, "translate_y", 4, 0.3, "sharpness", 3),
    (0.0, "brightness", 8, 0.8, "color", 8),
    (0.2, "solarize", 6, 0.8, "color", 6),
    (0.2, "solarize", 6, 0.8, "autocontrast", 1),
    (0.4, "solarize", 1, 0.6, "equalize", 5),
    (0.0, "brightness", 0, 0.5, "solarize", 2),
    (0.9, "autocontrast", 5, 0.5, "brightness", 3),
    (0.7, "contrast", 5, 0.0, "brightness", 2),
    (0.2, "solarize", 8, 0.1, "solarize", 5),
    (0.5, "contrast", 1, 0.2, "translate_y", 9),
    (0.6, "autocontrast", 5, 0.0, "translate_y", 9),
    (0.9, "autocontrast", 4, 0.8, "equalize", 4),
    (0.0, "brightness", 7, 0.4, "equalize", 7),
    (0.2, "solarize", 5, 0.7, "equalize", 5),
    (0.6, "equalize", 8, 0.6, "color", 2),
    (0.3, "color", 7, 0.2, "color", 4),
    (0.5, "autocontrast", 2, 0.7, "solarize", 2),
    (0.2, "autocontrast", 0, 0.1, "equalize", 0),
    (0.6, "shear_y", 5, 0.6, "equalize", 5),
    (0.9, "brightness", 3, 0.4, "autocontrast", 1),
    (0.8, "equalize", 8, 0.7, "equalize", 7),
    (0.7, "equalize", 7, 0.5, "solarize", 0),
    (0.8, "equalize", 4, 0.8, "translate_y", 9),
    (0.8, "translate_y", 9, 0.6, "translate_y", 9),
    (0.9, "translate_y", 0, 0.5, "translate_y", 9),
    (0.5, "autocontrast", 3, 0.3, "solarize", 4),
    (0.5, "solarize", 3, 0.4, "equalize", 4),
    (0.7, "color", 7, 0.5, "translate_x", 8),
    (0.3, "equalize", 7, 0.4, "autocontrast", 8),
    (0.4, "translate_y", 3, 0.2, "sharpness", 6),
    (0.9, "brightness", 6, 0.2, "color", 8),
    (0.5, "solarize", 2, 0.0, "invert", 3),
    (0.1, "autocontrast", 5, 0.0, "brightness", 0),
    (0.2, "cutout", 4, 0.1, "equalize", 1),
    (0.7, "equalize", 7, 0.6, "autocontrast", 4),
    (0.1, "color", 8, 0.2, "shear_y", 3),
    (0.4, "shear_y", 2, 0.7, "rotate", 0),
    (0.1, "shear_y", 3, 0.9, "autocontrast", 5),
    (0.3, "translate_y", 6, 0.3, "cutout", 3),
    (0.5, "equalize", 0, 0.6, "solarize", 6),
    (0.3, "autocontrast", 5, 0.2, "rotate", 7),
    (0.8, "equalize", 2, 0.4, "invert", 0),
    (0.9, "equalize", 5, 0.7, "color", 0),
    (0.1, "equalize", 1, 0.1, "shear_y", 3),
    (0.7, "autocontrast", 3, 0.7, "equalize", 0),
    (0.5, "brightness", 1, 0.1, "contrast", 7),
    (0.1, "contrast", 4, 0.6, "solarize", 5),
    (0.2, "solarize", 3, 0.0, "shear_x", 0),
    (0.3, "translate_x", 0, 0.6, "translate_x", 0),
    (0.5, "equalize", 9, 0.6, "translate_y", 7),
    (0.1, "shear_x", 0, 0.5, "sharpness", 1),
    (0.8, "equalize", 6, 0.3, "invert", 6),
    (0.3, "autocontrast", 9, 0.5, "cutout", 3),
    (0.4, "shear_x", 4, 0.9, "autocontrast", 2),
    (0.0, "shear_x", 3, 0.0, "posterize", 3),
    (0.4, "solarize", 3, 0.2, "color", 4),
    (0.1, "equalize", 4, 0.7, "equalize", 6),
    (0.3, "equalize", 8, 0.4, "autocontrast", 3),
    (0.6, "solarize", 4, 0.7, "autocontrast", 6),
    (0.2, "autocontrast", 9, 0.4, "brightness", 8),
    (0.1, "equalize", 0, 0.0, "equalize", 6),
    (0.8, "equalize", 4, 0.0, "equalize", 4),
    (0.5, "equalize", 5, 0.1, "autocontrast", 2),
    (0.5, "solarize", 5, 0.9, "autocontrast", 5),
    (0.6, "autocontrast", 1, 0.7, "autocontrast", 8),
    (0.2, "equalize", 0, 0.1, "autocontrast", 2),
    (0.6, "equalize", 9, 0.4, "equalize", 4),
)
"""What sharpDARTS trains CIFAR-10 with: 95 sub-policies, one of them twice, and 20 of the 25 that AutoAugment's paper
prints. `cutout` does nothing there."""

SVHN = (
    (0.9, "shear_x", 4, 0.2, "invert", 3),
    (0.9, "shear_y", 8, 0.7, "invert", 5),
    (0.6, "equalize", 5, 0.6, "solarize", 6),
    (0.9, "invert", 3, 0.6, "equalize", 3),
    (0.6, "equalize", 1, 0.9, "rotate", 3),
    (0.9, "shear_x", 4, 0.8, "autocontrast", 3),
    (0.9, "shear_y", 8, 0.4, "invert", 5),
    (0.9, "shear_y", 5, 0.2, "solarize", 6),
    (0.9, "invert", 6, 0.8, "autocontrast", 1),
    (0.6, "equalize", 3, 0.9, "rotate", 3),
    (0.9, "shear_x", 4, 0.3, "solarize", 3),
    (0.8, "shear_y", 8, 0.7, "invert", 4),
    (0.9, "equalize", 5, 0.6, "translate_y", 6),
    (0.9, "invert", 4, 0.6, "equalize", 7),
    (0.3, "contrast", 3, 0.8, "rotate", 4),
    (0.8, "invert", 5, 0.0, "translate_y", 2),
    (0.7, "shear_y", 6, 0.4, "solarize", 8),
    (0.6, "invert", 4, 0.8, "rotate", 4),
    (0.3, "shear_y", 7, 0.9, "translate_x", 3),
    (0.1, "shear_x", 6, 0.6, "invert", 5),
    (0.7, "solarize", 2, 0.6, "translate_y", 7),
    (0.8, "shear_y", 4, 0.8, "invert", 8),
    (0.7, "shear_x", 9, 0.8, "translate_y", 3),
    (0.8, "shear_y", 5, 0.7, "autocontrast", 3),
    (0.7, "shear_x", 2, 0.1, "invert", 5),
)
"""The policy for SVHN."""


SubPolicy = tuple[float, str, int, float, str, int]
"""`(probability, operation, level, probability, operation, level)`; a level is an index into `MAGNITUDES`."""

CIFAR10: tuple[SubPolicy, ...] = (
    (0.1, "invert", 7, 0.2, "contrast", 6),
    (0.7, "rotate", 2, 0.3, "translate_x", 9),
    (0.8, "sharpness", 1, 0.9, "sharpness", 3),
    (0.5, "shear_y", 8, 0.7, "translate_y", 9),
    (0.5, "autocontrast", 8, 0.9, "equalize", 2),
    (0.2, "shear_y", 7, 0.3, "posterize", 7),
    (0.4, "color", 3, 0.6, "brightness", 7),
    (0.3, "sharpness", 9, 0.7, "brightness", 9),
    (0.6, "equalize", 5, 0.5, "equalize", 1),
    (0.6, "contrast", 7, 0.6, "sharpness", 5),
    (0.7, "color", 7, 0.5, "translate_x", 8),
    (0.3, "equalize", 7, 0.4, "autocontrast", 8),
    (0.4, "translate_y", 3, 0.2, "sharpness", 6),
    (0.9, "brightness", 6, 0.2, "color", 8),
    (0.5, "solarize", 2, 0.0, "invert", 3),
    (0.2, "equalize", 0, 0.6, "autocontrast", 0),
    (0.2, "equalize", 8, 0.8, "equalize", 4),
    (0.9, "color", 9, 0.6, "equalize", 6),
    (0.8, "autocontrast", 4, 0.2, "solarize", 8),
    (0.1, "brightness", 3, 0.7, "color", 0),
    (0.4, "solarize", 5, 0.9, "autocontrast", 3),
    (0.9, "translate_y", 9, 0.7, "translate_y", 9),
    (0.9, "autocontrast", 2, 0.8, "solarize", 3),
    (0.8, "equalize", 8, 0.1, "invert", 3),
    (0.7, "translate_y", 9, 0.9, "autocontrast", 1),
)

IMAGENET: tuple[SubPolicy, ...] = (
    (0.4, "posterize", 8, 0.6, "rotate", 9),
    (0.6, "solarize", 5, 0.6, "autocontrast", 5),
    (0.8, "equalize", 8, 0.6, "equalize", 3),
    (0.6, "posterize", 7, 0.6, "posterize", 6),
    (0.4, "equalize", 7, 0.2, "solarize", 4),
    (0.4, "equalize", 4, 0.8, "rotate", 8),
    (0.6, "solarize", 3, 0.6, "equalize", 7),
    (0.8, "posterize", 5, 1.0, "equalize", 2),
    (0.2, "rotate", 3, 0.6, "solarize", 8),
    (0.6, "equalize", 8, 0.4, "posterize", 6),
    (0.8, "rotate", 8, 0.4, "color", 0),
    (0.4, "rotate", 9, 0.6, "equalize", 2),
    (0.0, "equalize", 7, 0.8, "equalize", 8),
    (0.6, "invert", 4, 1.0, "equalize", 8),
    (0.6, "color", 4, 1.0, "contrast", 8),
    (0.8, "rotate", 8, 1.0, "color", 2),
    (0.8, "color", 8, 0.8, "solarize", 7),
    (0.4, "sharpness", 7, 0.6, "invert", 8),
    (0.6, "shear_x", 5, 1.0, "equalize", 9),
    (0.4, "color", 0, 0.6, "equalize", 3),
    (0.4, "equalize", 7, 0.2, "solarize", 4),
    (0.6, "solarize", 5, 0.6, "autocontrast", 5),
    (0.6, "invert", 4, 1.0, "equalize", 8),
    (0.6, "color", 4, 1.0, "contrast", 8),
    (0.8, "equalize", 8, 0.6, "equalize", 3),
)

POLICIES = {
    "none": (),
    "cifar10": CIFAR10,
    "cifar10_95": CIFAR10_95,
    "imagenet": IMAGENET,
    "imagenet_24": IMAGENET[:-1],
    "svhn": SVHN,
}
"""By the data set that a policy was searched on; CIFAR-10's serve CIFAR-100 as well. sharpDARTS trains with
`cifar10_95` and `imagenet_24`, which lacks the one sub-policy that `imagenet` has twice at the end of its list."""

_LEVELS = np.arange(10)
_NONE = 0.0 * _LEVELS

MAGNITUDES = {
    "shear_x": 0.3 * _LEVELS / 9,
    "shear_y": 0.3 * _LEVELS / 9,
    "translate_x": 150 / 331 * _LEVELS / 9,  # The paper's 150 pixels, of pictures of 331.
    "translate_y": 150 / 331 * _LEVELS / 9,
    "rotate": 30.0 * _LEVELS / 9,
    "color": 0.9 * _LEVELS / 9,
    "posterize": np.round(8 - 4 * _LEVELS / 9),
    "solarize": 256 - 256 * _LEVELS / 9,
    "contrast": 0.9 * _LEVELS / 9,
    "sharpness": 0.9 * _LEVELS / 9,
    "brightness": 0.9 * _LEVELS / 9,
    "autocontrast": _NONE,
    "equalize": _NONE,
    "invert": _NONE,
}
"""What each level, 0 to 9, means: a slope, a part of the side, degrees, bits kept, a threshold, or how far a colour
operation's factor is from 1."""

_OPERATIONS = tuple(MAGNITUDES)
SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y")
FACTORS = ("color", "contrast", "sharpness", "brightness")
"""Operations whose sign is drawn, and those whose strength is a factor, of which 1 changes nothing."""


def auto_augment(images: tf.Tensor, seed: tf.Tensor, policy: str) -> tf.Tensor:
    """Applies a sub-policy, drawn for each picture, to it.

    Args:
        images: `[n, height, width, channels]`, uint8, one or three channels.
        seed: integers `[2]`; the same seed gives the same changes.
        policy: a name of `POLICIES`; `none` leaves the pictures as they are.

    Returns:
        The same shape and type.

    Raises:
        KdartsError: no such policy, or pictures of another type or number of channels.
    """
    if not POLICIES[choice("policy of auto_augment", policy, POLICIES)]:
        return images
    check_images("auto_augment", images)
    probabilities, operations, strengths, signed = _tables(policy)
    count = tf.shape(images)[0]
    drawn = tf.random.stateless_uniform([count], tf.random.fold_in(seed, 0), 0, len(POLICIES[policy]), tf.int32)
    for half in range(2):
        key = tf.random.fold_in(seed, 1 + half)
        chance, sign = tf.unstack(tf.random.stateless_uniform([2, count], key))
        applied = chance < tf.gather(probabilities[:, half], drawn)
        operation = tf.where(applied, tf.gather(operations[:, half], drawn), len(_OPERATIONS))
        sign = tf.where((sign < 0.5) & tf.gather(signed[:, half], drawn), tf.constant(-1, tf.float64), 1)
        neutral, distance = tf.unstack(tf.gather(strengths[:, half], drawn), axis=1)
        images = pil.apply_each(
            images, operation, neutral + sign * distance, tuple(getattr(pil, name) for name in _OPERATIONS)
        )
    return images


def check_images(what: str, images: tf.Tensor) -> None:
    """Raises `KdartsError` for images that the operations are not made for; `what` is the name of the augmentation."""
    if images.dtype != tf.uint8 or images.shape[3] not in (1, 3):
        raise KdartsError(
            f"{what} of images {images.dtype.name} with {images.shape[3]} channels; allowed: uint8 with 1 or 3 channels"
        )


def _tables(policy: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """A policy as tensors `[sub-policies, 2, ...]`: probability, operation, (neutral, distance), whether signed."""
    halves = [(rule[:3], rule[3:]) for rule in POLICIES[policy]]
    each = [[_entry(*half) for half in pair] for pair in halves]
    probabilities, operations, strengths, signed = (
        [[entry[field] for entry in pair] for pair in each] for field in range(4)
    )
    return (
        tf.constant(probabilities, tf.float32),
        tf.constant(operations, tf.int32),
        tf.constant(strengths, tf.float64),
        tf.constant(signed, tf.bool),
    )


def _entry(probability: float, name: str, level: int) -> tuple[float, int, tuple[float, float], bool]:
    if name == "cutout":  # Nothing, as in the program that lists it.
        return probability, len(_OPERATIONS), (0.0, 0.0), False
    neutral = 1.0 if name in FACTORS else 0.0
    signed = name in SIGNED or name in FACTORS
    return probability, _OPERATIONS.index(name), (neutral, float(MAGNITUDES[name][level])), signed
