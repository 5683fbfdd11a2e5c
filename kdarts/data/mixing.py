"""Training images that are mixed in pairs, with their labels: mixup and CutMix.

`keras.layers.MixUp` and `keras.layers.CutMix` do the same, but draw from a generator whose state counts the batches
that were prepared, of which some are not used yet when a run is interrupted. Here a batch is a function of its seed.
"""

import dataclasses

import tensorflow as tf

from kdarts.genotypes.errors import KdartsError


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixes each image of a batch with the one before it, and their labels in the same proportion λ.

    The order of a batch was drawn, so its pairs are random. λ is drawn once for a batch, from a beta distribution of
    both parameters α. With both kinds, each batch has one of them, either with probability one half.

    Args:
        mixup: α of mixup (Zhang et al., ICLR 2018): `λ x + (1 - λ) x'`. The paper has 0.1 to 0.4 for ImageNet and 1 for
            CIFAR-10. 0 for none.
        cutmix: α of CutMix (Yun et al., ICCV 2019, Equations 1 and 2): a box of the other image is put in, of the share
            `1 - λ` of the area. Its middle is any pixel, and what is beyond the image is cut off; λ of the labels is
            the share that is left. The paper has 1. 0 for none.

    Raises:
        KdartsError: If an α is below 0 or not finite.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < float("inf"):
                raise KdartsError(f"{field.name} {value}: allowed is a finite number from 0")

    def __bool__(self) -> bool:
        return bool(self.mixup or self.cutmix)

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, num_classes: int, seed: tf.Tensor):
        """Mixes a batch.

        Args:
            images: float32 `[n, height, width, channels]`.
            labels: Integers `[n]`.
            num_classes: The number of classes.
            seed: Integers `[2]`; the same seed gives the same mixture.

        Returns:
            Images of the same shape, and the share of each class in them, float32 `[n, num_classes]`.
        """
        labels = tf.one_hot(labels, num_classes)
        kinds = [(mixup, self.mixup), (cutmix, self.cutmix)]
        kinds = [(mix, share(tf.random.fold_in(seed, k), alpha)) for k, (mix, alpha) in enumerate(kinds) if alpha]
        place = tf.random.fold_in(seed, 2)
        mixed = [lambda mix=mix, part=part: mix(images, labels, part, place) for mix, part in kinds]
        if len(mixed) == 1:
            return mixed[0]()
        return tf.cond(tf.random.stateless_uniform([], tf.random.fold_in(seed, 3)) < 0.5, *mixed)


def share(seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draws λ from the beta distribution of both parameters `alpha`: a scalar from 0 to 1.

    It is `a / (a + b)` for two gamma variables, each drawn as one of `alpha + 1` times `u ** (1 / alpha)` for a uniform
    `u`. The logarithms of these are computed, because at a small `alpha` both are too small for float32.
    """
    gammas = tf.random.stateless_gamma([2], tf.random.fold_in(seed, 0), alpha + 1.0)
    uniform = tf.random.stateless_uniform([2], tf.random.fold_in(seed, 1), minval=1e-7)
    logs = tf.math.log(gammas) + tf.math.log(uniform) / alpha
    return tf.sigmoid(logs[0] - logs[1])


def mixup(images: tf.Tensor, labels: tf.Tensor, part: tf.Tensor, _=None) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `part` of each image and `1 - part` of the one before it, and the same of the labels `[n, classes]`."""
    return tuple(part * each + (1 - part) * tf.roll(each, 1, 0) for each in (images, labels))


def cutmix(images: tf.Tensor, labels: tf.Tensor, part: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts a box of the image before it into each image; `part` and the result are as of `mixup`, `seed` has its place.

    As in the paper's program the sides of the box are `sqrt(1 - part)` of the image's, cut off below the point, and it
    is the same box for all images of a batch.
    """
    height, width = images.shape[1:3]
    inside = []
    for axis, side in enumerate((height, width)):
        half = tf.cast(tf.sqrt(1 - part) * side, tf.int32) // 2
        middle = tf.random.stateless_uniform([], tf.random.fold_in(seed, axis), 0, side, tf.int32)
        inside.append((tf.range(side) >= middle - half) & (tf.range(side) < middle + half))
    box = inside[0][:, tf.newaxis] & inside[1]
    left = 1 - tf.reduce_mean(tf.cast(box, tf.float32))
    mixed = tf.where(box[:, :, tf.newaxis], tf.roll(images, 1, 0), images)
    return mixed, left * labels + (1 - left) * tf.roll(labels, 1, 0)
