"""Random-resized crop and colour jitter against slow statements of what they do."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdarts.cli import options
from kdarts.cli.train import TRAIN
from kdarts.data import image_operations as pil
from kdarts.data.augmentation import AREA, RATIO, Augmentation, color_jitter, random_boxes, random_resized_crop
from kdarts.genotypes.errors import KdartsError


def _pictures(count=60, height=24, width=31, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_is_pil_s_bilinear_scaling_of_the_box(channels):
    """Within one level: PIL has 8-bit weights and rounds between the two directions."""
    pictures = _pictures(channels=channels)
    found = random_resized_crop(tf.constant(pictures), [1, 2])
    assert found.dtype == tf.uint8
    boxes = np.stack(random_boxes(len(pictures), 24, 31, [1, 2]), 1)
    for picture, after, (top, left, down, across) in zip(pictures, found.numpy(), boxes, strict=True):
        part = Image.fromarray(picture[top : top + down, left : left + across].squeeze())
        expected = np.asarray(part.resize((31, 24), Image.Resampling.BILINEAR)).reshape(picture.shape)
        assert np.abs(expected.astype(int) - after).max() <= 1


def test_boxes_are_inside_and_of_the_right_sizes():
    top, left, down, across = (x.numpy() for x in random_boxes(20000, 224, 224, [3, 4]))
    assert top.min() == left.min() == 0
    assert ((top + down <= 224) & (left + across <= 224) & (down > 0) & (across > 0)).all()
    ratio, area = across / down, across * down / 224**2
    assert RATIO[0] - 0.02 < ratio.min() < RATIO[0] + 0.02
    assert RATIO[1] - 0.02 < ratio.max() < RATIO[1] + 0.02
    assert abs(np.log(ratio).mean()) < 0.01
    assert AREA[0] - 0.01 < area.min() < AREA[0] + 0.01
    small = area[area < 0.5]  # No box of half the area can fail, so these are uniform.
    assert small.mean() == pytest.approx((0.08 + 0.5) / 2, abs=0.01)


def test_a_picture_that_no_box_fits_gives_its_middle():
    """Of a strip, only the fallback has an allowed ratio: a box of 8 % of its area is too high."""
    top, left, down, across = (x.numpy() for x in random_boxes(50, 10, 1000, [5, 6]))
    assert set(zip(top, left, down, across, strict=True)) == {(0, 493, 10, 13)}


def test_jitter_is_the_four_operations_in_some_order():
    pictures = _pictures(8)
    seed, amount = [7, 8], 0.4
    found = color_jitter(tf.constant(pictures), seed, amount).numpy()
    size = tf.random.stateless_uniform([8, 4], tf.random.fold_in(seed, 1), -1, 1).numpy()
    operations = (pil.brightness, pil.contrast, pil.color, pil.hue)
    factors = [1 + amount * size[:, 0], 1 + amount * size[:, 1], 1 + amount * size[:, 2], amount / 2 * size[:, 3]]
    orders = set()
    for k in range(8):
        for order in itertools.permutations(range(4)):
            image = tf.constant(pictures[k : k + 1])
            for which in order:
                image = operations[which](image, tf.constant(factors[which][k : k + 1]))
            if np.abs(image.numpy().astype(int) - found[k]).max() <= 1:
                orders.add(order)
                break
        else:
            pytest.fail(f"picture {k} comes of no order")
    assert len(orders) > 3


def test_jitter_of_grey_pictures_and_of_nothing():
    pictures = _pictures(channels=1)
    assert not np.array_equal(color_jitter(tf.constant(pictures), [1, 2], 0.4), pictures)
    assert np.array_equal(Augmentation(pad=0, flip=False)(pictures, [1, 2], (0.0,), (1 / 255,)), pictures)


def test_the_seed_decides_alone():
    augment = Augmentation(pad=0, random_resized_crop=True, color_jitter=0.4)
    mean, std = (0.5,) * 3, (0.2,) * 3
    traced = tf.function(lambda x, s: augment(x, s, mean, std), autograph=False)  # As in the pipeline.
    first = traced(_pictures(), tf.constant([1, 2]))
    assert np.array_equal(first, traced(_pictures(), tf.constant([1, 2])))
    assert not np.array_equal(first, traced(_pictures(), tf.constant([1, 3])))
    # A graph may round the hue otherwise in the last bit of a float, which shows as a level after the cut to uint8.
    plain = augment(_pictures(), [1, 2], mean, std)
    assert np.mean(np.abs(plain - first) > 1e-5) < 0.01


def test_flags_and_refusals():
    values = TRAIN.parse(["train", "--random_resized_crop", "--color_jitter=0.4", "--flip"])
    expected = Augmentation(pad=0, flip=True, random_resized_crop=True, color_jitter=0.4)
    assert options.augmentation(values, (224, 224, 3)) == expected
    values = TRAIN.parse(["train", "--random_resized_crop", "--pad=4"])
    with pytest.raises(KdartsError, match="pad 4 with random_resized_crop"):
        options.augmentation(values, (224, 224, 3))
    with pytest.raises(KdartsError, match=r"color_jitter 1\.5"):
        Augmentation(color_jitter=1.5)
