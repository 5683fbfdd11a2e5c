"""The image operations against the Python Imaging Library itself, and AutoAugment's draws against its tables.

Every operation of AutoAugment equals PIL in every pixel; only the hue, which PIL rounds on its way through 8-bit HSV,
has a tolerance.
"""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from kdarts.cli import options
from kdarts.cli.train import TRAIN
from kdarts.data import image_operations
from kdarts.data.augmentation import Augmentation
from kdarts.data.auto_augment import MAGNITUDES, POLICIES, auto_augment
from kdarts.genotypes.errors import KdartsError

SIZES = [(32, 32), (23, 40), (8, 8)]


def _pictures(size, channels):
    """Noise, smooth waves with noise as in a photograph, a dark one of few values, and a plain one."""
    draw, (height, width) = np.random.default_rng(3), size
    noise = draw.integers(0, 256, (3, height, width, channels))
    y, x = np.mgrid[:height, :width][..., np.newaxis]
    waves = np.stack([128 + 90 * np.sin(x / k + np.arange(channels)) * np.cos(y / 7) for k in (4.0, 9.0, 15.0)])
    natural = waves + draw.normal(0, 6, waves.shape)
    dark = draw.integers(20, 60, (2, height, width, channels))
    plain = np.full((1, height, width, channels), 77)
    everything = np.concatenate([noise, natural, dark, plain, plain * 0, plain * 0 + 255])
    return np.clip(everything, 0, 255).astype(np.uint8)


def _affine(picture, matrix, resample):
    fill = (128,) * len(picture.getbands()) if picture.mode == "RGB" else 128
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fill)


def _rotated(picture, degrees):
    """As the program does it that the policies are used with: on a transparent ground, then on grey."""
    turned = picture.convert("RGBA").rotate(degrees)
    return Image.composite(turned, Image.new("RGBA", turned.size, (128,) * 4), turned).convert(picture.mode)


BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
PIL = {
    "shear_x": lambda p, m: _affine(p, (1, m, 0, 0, 1, 0), BICUBIC),
    "shear_y": lambda p, m: _affine(p, (1, 0, 0, m, 1, 0), BICUBIC),
    "translate_x": lambda p, m: _affine(p, (1, 0, m * p.size[0], 0, 1, 0), NEAREST),
    "translate_y": lambda p, m: _affine(p, (1, 0, 0, 0, 1, m * p.size[1]), NEAREST),
    "rotate": _rotated,
    "invert": lambda p, m: ImageOps.invert(p),
    "solarize": ImageOps.solarize,
    "posterize": lambda p, m: ImageOps.posterize(p, int(m)),
    "autocontrast": lambda p, m: ImageOps.autocontrast(p),
    "equalize": lambda p, m: ImageOps.equalize(p),
    "color": lambda p, m: ImageEnhance.Color(p).enhance(m),
    "contrast": lambda p, m: ImageEnhance.Contrast(p).enhance(m),
    "brightness": lambda p, m: ImageEnhance.Brightness(p).enhance(m),
    "sharpness": lambda p, m: ImageEnhance.Sharpness(p).enhance(m),
}
FACTORS = ("color", "contrast", "brightness", "sharpness")
SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y")


def _strengths(name):
    """All that AutoAugment can ask of an operation."""
    levels = MAGNITUDES[name]
    if name in FACTORS:
        return np.concatenate([1 + levels, 1 - levels])
    return np.concatenate([levels, -levels]) if name in SIGNED else levels


def _by_pil(name, pictures, strength):
    def one(picture):
        image = Image.fromarray(picture if picture.shape[2] == 3 else picture[..., 0])
        return np.asarray(PIL[name](image, float(strength))).reshape(picture.shape)

    return np.stack([one(picture) for picture in pictures])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PIL)
def test_operation_equals_pil_in_every_pixel(name, channels):
    operation = tf.function(getattr(image_operations, name), autograph=False)  # As the pipeline runs it.
    for size in SIZES:
        pictures = _pictures(size, channels)
        for strength in _strengths(name):
            strengths = tf.fill([len(pictures)], tf.constant(strength, tf.float64))
            found = operation(tf.constant(pictures), strengths)
            assert found.dtype == tf.uint8
            np.testing.assert_array_equal(found, _by_pil(name, pictures, strength), err_msg=f"{size} {strength}")


def test_each_picture_has_its_own_strength():
    pictures = _pictures((16, 16), 3)
    for name in PIL:
        strengths = np.resize(_strengths(name), len(pictures))
        found = getattr(image_operations, name)(tf.constant(pictures), tf.constant(strengths))
        for k, strength in enumerate(strengths):
            np.testing.assert_array_equal(found[k : k + 1], _by_pil(name, pictures[k : k + 1], strength), err_msg=name)


def test_hue_is_pil_s_within_its_rounding():
    pictures = _pictures((32, 32), 3)
    for turn in (-0.2, -0.05, 0.0, 0.13, 0.2):
        found = image_operations.hue(tf.constant(pictures), tf.fill([len(pictures)], turn)).numpy()
        for picture, after in zip(pictures, found, strict=True):
            hue, saturation, value = Image.fromarray(picture).convert("HSV").split()
            turned = (np.asarray(hue).astype(int) + round(turn * 255)) % 256
            hsv = Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value))
            difference = np.abs(np.asarray(hsv.convert("RGB")).astype(int) - after)
            assert difference.max() <= 12
            assert difference.mean() < 2


def test_the_tables_are_the_published_ones(golden):
    reference = golden("ddarts_autoaugment.json")

    def named(name):
        return name.replace("X", "_x").replace("Y", "_y")

    for policy, theirs in {"cifar10": "CIFAR10Policy", "imagenet": "ImageNetPolicy"}.items():
        rules = [(p, named(a), i, q, named(b), j) for p, a, i, q, b, j in reference["policies"][theirs]]
        assert list(POLICIES[policy]) == rules
    reference_of_sharp = golden("sharp_autoaugment.json")["policies"]
    sharp = {"cifar10_95": "CIFAR10Policy", "imagenet_24": "ImageNetPolicy", "svhn": "SVHNPolicy"}
    for policy, theirs in sharp.items():
        rules = [(p, named(a), i, q, named(b), j) for p, a, i, q, b, j in reference_of_sharp[theirs]]
        assert list(POLICIES[policy]) == rules
    levels = {named(name): values for name, values in reference["magnitudes"].items()}
    assert set(levels) == set(MAGNITUDES)
    for name, values in levels.items():
        np.testing.assert_allclose(MAGNITUDES[name], values, rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet", "cifar10_95"])
def test_every_picture_comes_of_a_sub_policy_as_often_as_it_should(policy):
    """Each of many copies of a picture is what some sub-policy makes of it in PIL, in the right proportion."""
    picture, count = _pictures((12, 12), 3)[3:4], 6000
    expected = {}
    for rule in POLICIES[policy]:
        for image, chance in _outcomes(picture, rule):
            expected[image.tobytes()] = expected.get(image.tobytes(), 0) + chance / len(POLICIES[policy])
    found = auto_augment(tf.constant(np.repeat(picture, count, 0)), tf.constant([1, 2]), policy).numpy()
    counts = dict.fromkeys(expected, 0)
    for image in found:
        counts[image.tobytes()] += 1  # A KeyError is a picture that no sub-policy makes.
    assert sum(expected.values()) == pytest.approx(1)
    for key, chance in expected.items():
        assert abs(counts[key] - count * chance) <= 5 * (count * chance * (1 - chance)) ** 0.5 + 1


def _outcomes(picture, rule):
    """What a sub-policy can make of a picture, each with its chance."""
    outcomes = [(picture, 1.0)]
    for probability, name, level in (rule[:3], rule[3:]):
        if name == "cutout":
            continue
        strength = MAGNITUDES[name][level]
        if name in FACTORS:
            strengths = [1 + strength, 1 - strength]
        else:
            strengths = [strength, -strength] if name in SIGNED else [strength]
        after = []
        for image, chance in outcomes:
            after.append((image, chance * (1 - probability)))
            after += [(_by_pil(name, image, s), chance * probability / len(strengths)) for s in strengths]
        outcomes = after
    return outcomes


def test_the_seed_decides_alone():
    pictures = tf.constant(np.tile(_pictures((16, 16), 3), (8, 1, 1, 1)))
    first = auto_augment(pictures, [1, 2], "cifar10")
    traced = tf.function(lambda x, s: auto_augment(x, s, "cifar10"), autograph=False)  # As in the pipeline.
    assert np.array_equal(first, auto_augment(pictures, [1, 2], "cifar10"))
    assert np.array_equal(first, traced(pictures, tf.constant([1, 2])))
    assert not np.array_equal(first, auto_augment(pictures, [1, 3], "cifar10"))
    assert auto_augment(pictures, [1, 2], "none") is pictures


def test_it_comes_after_crop_and_flip_and_before_the_normalisation():
    pictures, mean, std = _pictures((16, 16), 3), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    plain = Augmentation(pad=2)(pictures, [5, 6], (0.0,) * 3, (1 / 255,) * 3)
    expected = auto_augment(tf.cast(plain, tf.uint8), tf.random.fold_in([5, 6], 3), "imagenet")
    found = Augmentation(pad=2, auto_augment="imagenet")(pictures, [5, 6], mean, std)
    np.testing.assert_allclose(found, (expected.numpy() / 255 - mean) / std, atol=2e-6)
    holes = Augmentation(pad=2, auto_augment="imagenet", cutout=6)(pictures, [5, 6], mean, std).numpy()
    assert np.array_equal(holes[holes != 0], found.numpy()[holes != 0])
    assert (holes == 0).mean() > 0.04


def test_refusals():
    with pytest.raises(KdartsError, match=r"unknown policy of auto_augment 'cifar' .did you mean 'cifar10'"):
        Augmentation(auto_augment="cifar")
    with pytest.raises(KdartsError, match="uint8 with 1 or 3 channels"):
        auto_augment(tf.zeros([1, 8, 8, 2], tf.uint8), [1, 2], "cifar10")
    with pytest.raises(KdartsError, match="float32"):
        auto_augment(tf.zeros([1, 8, 8, 3]), [1, 2], "cifar10")


def test_the_flag_has_every_policy_and_reaches_the_augmentation():
    values = TRAIN.parse(["train", "--auto_augment=cifar10", "--pad=2"])
    assert set(values["auto_augment"].parser.enum_values) == set(POLICIES)
    assert options.augmentation(values, (8, 8, 1)) == Augmentation(2, False, 0, auto_augment="cifar10")
    assert options.remembered(values)["auto_augment"] == "cifar10"
