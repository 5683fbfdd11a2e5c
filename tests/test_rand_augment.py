"""RandAugment: which operations come, how strong they are, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli.main import main
from kdarts.data import image_operations as pil
from kdarts.data.augmentation import Augmentation
from kdarts.data.rand_augment import rand_augment
from kdarts.genotypes.errors import KdartsError

STRENGTHS = {
    "shear_x": (-0.15, 0.15),
    "shear_y": (-0.15, 0.15),
    "translate_x": (-75 / 331, 75 / 331),
    "translate_y": (-75 / 331, 75 / 331),
    "rotate": (-15, 15),
    "color": (0.55, 1.45),
    "contrast": (0.55, 1.45),
    "sharpness": (0.55, 1.45),
    "brightness": (0.55, 1.45),
    "posterize": (6,),
    "solarize": (128,),
    "autocontrast": (0,),
    "equalize": (0,),
}
"""What magnitude 5 is, half of AutoAugment's strongest."""


def _images(count):
    images = np.random.default_rng(0).integers(30, 200, (1, 24, 20, 3), np.uint8)
    return tf.constant(np.repeat(images, count, 0))


def test_each_operation_of_the_magnitude_comes_about_as_often():
    images = _images(500)
    made = {("identity",): images[0].numpy()}
    for name, strengths in STRENGTHS.items():
        for strength in strengths:
            made[name, strength] = getattr(pil, name)(images[:1], tf.constant([strength], tf.float64))[0].numpy()
    found = rand_augment(images, tf.constant([3, 4]), 1, 5.0).numpy()
    kinds = np.array([[np.array_equal(one, image) for one in made.values()] for image in found])
    assert kinds.any(1).all()
    signed = {name for name, *strength in made if len(STRENGTHS.get(name, ())) == 2}
    for (name, *_), share in zip(made, kinds.mean(0), strict=True):
        assert share == pytest.approx(1 / 28 if name in signed else 1 / 14, abs=0.03), name


def test_more_operations_change_more_and_the_seed_decides():
    images, seed = _images(40), tf.constant([1, 2])
    once, again, other = (rand_augment(images, s, 3, 9.0) for s in (seed, seed, tf.constant([1, 3])))
    np.testing.assert_array_equal(once, again)
    assert (once.numpy() != other.numpy()).any()
    augmentation = Augmentation(pad=0, flip=False, rand_augment=(3, 9.0))
    plain = Augmentation(pad=0, flip=False)(images, seed, [0.5] * 3, [0.2] * 3)
    changed = (augmentation(images, seed, [0.5] * 3, [0.2] * 3).numpy() != plain.numpy()).any((1, 2, 3))
    assert changed.mean() > 0.9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--rand_augment=2", "--rand_augment=2: needs a number of operations and their magnitude, such as 2,5"),
        ("--rand_augment=2,high", "--rand_augment=2,high: needs a number of operations and their magnitude, such as"),
        ("--rand_augment=2,11", "--rand_augment=2,11: allowed is 1 to 20 operations of a magnitude from 0 to 10"),
        ("--rand_augment=0,5", "--rand_augment=0,5: allowed is 1 to 20 operations"),
        ("--rand_augment=2,nan", "--rand_augment=2,nan: allowed is 1 to 20 operations"),
        ("--rand_augment=2,5 --auto_augment=cifar10", "--auto_augment=cifar10: not with rand_augment, allowed"),
    ],
)
def test_a_wrong_one_is_refused_in_one_line(tmp_path, capfd, words, said):
    assert main(["train", "--genotype=DARTS_V1", *words.split(), f"--workdir={tmp_path / 'run'}"]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"kdarts: {said}") and err.count("\n") == 1, err


def test_other_pictures_are_refused():
    with pytest.raises(KdartsError, match="rand_augment of images float32 with 3 channels; allowed: uint8"):
        rand_augment(tf.zeros([1, 4, 4, 3]), tf.constant([0, 0]), 1, 1.0)
