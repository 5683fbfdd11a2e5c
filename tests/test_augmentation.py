"""Augmentation against slow statements of what it does, and its independence from everything but the seed."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.data.augmentation import Augmentation, cutout, default_augmentation, flip, normalize, pad_and_crop
from kdarts.genotypes.errors import KdartsError

SHAPES = [(8, 8, 1), (32, 32, 3), (9, 14, 3)]


def _pictures(shape, count=200, low=1):
    return np.random.default_rng(0).integers(low, 256, (count, *shape), dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_crop_is_one_of_all_shifts_with_black_around(shape, dtype):
    images, pad = _pictures(shape), 2
    cropped = pad_and_crop(tf.cast(images, dtype), [1, 2], pad)
    assert cropped.dtype == dtype
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    seen = set()
    for i, image in enumerate(cropped.numpy()):
        shifts = [
            (top, left)
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            if np.array_equal(image, padded[i, top : top + shape[0], left : left + shape[1]])
        ]
        assert len(shifts) == 1, f"image {i} is no crop of its padded self"
        seen.update(shifts)
    assert len(seen) == (2 * pad + 1) ** 2


def test_shifts_are_uniform_down_and_across():
    mark = np.zeros((9000, 9, 9, 1), np.uint8)
    mark[:, 4, 4] = 1
    counts = pad_and_crop(mark, [3, 4], 1).numpy().sum((0, 3))
    np.testing.assert_allclose(counts[3:6, 3:6], 1000, atol=150)
    assert counts.sum() == 9000


@pytest.mark.parametrize("shape", SHAPES)
def test_flip_mirrors_about_half_left_to_right(shape):
    images = _pictures(shape, count=1000)
    flipped = flip(images, [5, 6]).numpy()
    mirrored = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, images, strict=True)])
    assert np.array_equal(flipped[~mirrored], images[~mirrored])
    assert 420 < mirrored.sum() < 580


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("length", [2, 5, 16])
def test_cutout_is_a_square_about_a_pixel_cut_off_at_the_borders(shape, length):
    height, width, _ = shape
    images = _pictures(shape, count=3000).astype(np.float32)
    erased = cutout(images, [7, 8], length).numpy()
    half = length // 2
    squares = {}
    for row in range(height):
        for column in range(width):
            square = np.zeros((height, width), bool)
            square[max(0, row - half) : row + half, max(0, column - half) : column + half] = True
            squares.setdefault(square.tobytes(), 0)
    for before, after in zip(images, erased, strict=True):
        gone = after == 0
        assert np.array_equal(after[~gone], before[~gone])
        assert (gone == gone[..., :1]).all(), "a square goes through all channels"
        squares[np.ascontiguousarray(gone[..., 0]).tobytes()] += 1  # a KeyError is a shape that no centre gives
    if height * width <= 126:
        assert min(squares.values()) > 0, "each pixel is a centre"


def test_holes_are_cut_one_after_another_and_the_first_is_where_one_alone_is():
    images = np.ones((500, 12, 9, 2), np.float32)
    one, two, three = (cutout(images, [7, 8], 4, holes).numpy() for holes in (1, 2, 3))
    second, third = (two == 0) & (one != 0), (three == 0) & (two != 0)
    assert not (two[one == 0]).any() and not three[two == 0].any()
    assert second.any((1, 2, 3)).mean() > 0.9 and third.any((1, 2, 3)).mean() > 0.8
    assert max((hole.sum((1, 2, 3))).max() for hole in (second, third)) <= 4 * 4 * 2


def test_normalize_is_the_textbook_formula():
    images, mean, std = _pictures((9, 14, 3), low=0), (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    expected = (images / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(normalize(images, mean, std), expected, atol=2e-6)
    with pytest.raises(KdartsError, match="3, one per channel"):
        normalize(images, (0.5,), (0.2,))


def test_order_is_crop_flip_normalise_cutout():
    """The frame of the crop is black in raw pixels, hence `-mean / std`; the hole of the cutout is exactly 0."""
    mean, std = (0.5,), (0.25,)
    images = np.full((500, 8, 8, 1), 255, np.uint8)
    batch = Augmentation(pad=3, flip=True, cutout=2)(images, [1, 2], mean, std).numpy()
    assert set(np.round(np.unique(batch), 5)) == {-2.0, 0.0, 2.0}
    hole = (batch == 0).sum((1, 2, 3))
    assert set(hole) == {1, 2, 4}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_border_of_a_crop_may_have_the_mean_colour(dtype):
    """Then what comes into view is 0 after normalisation, up to the rounding of a pixel; all else is as with black."""
    mean, std = (0.2, 0.4, 0.6), (0.25,) * 3
    images = np.full((60, 8, 8, 3), 255, dtype)
    black, gray = (Augmentation(pad=3, pad_with=name)(images, [1, 2], mean, std).numpy() for name in ("black", "mean"))
    border = (black < 0).any(-1)
    assert 0.1 < border.mean() < 0.6
    np.testing.assert_array_equal(black[~border], gray[~border])
    np.testing.assert_allclose(gray[border], 0, atol=0.5 / 255 / 0.25)
    with pytest.raises(KdartsError, match="unknown pad_with 'white'"):
        Augmentation(pad_with="white")


def test_each_part_draws_on_its_own():
    """With one seed, where an image is cut does not tell whether it is mirrored."""
    images = np.zeros((2000, 8, 8, 1), np.uint8)
    images[:, 2, 2] = 255
    batch = Augmentation(pad=1, flip=True)(images, [1, 2], (0.0,), (1.0,)).numpy()
    counts = batch.sum((0, 3))[1:4]
    np.testing.assert_allclose(counts[:, [1, 2, 3, 4, 5, 6]], 2000 / 18, atol=45)


def test_same_seed_same_batch_and_nothing_without_parts():
    images = _pictures((8, 8, 3), count=16)
    mean, std = (0.5,) * 3, (0.2,) * 3
    augment = Augmentation(pad=2, cutout=4)
    first = augment(images, [1, 2], mean, std)
    assert np.array_equal(first, augment(images, [1, 2], mean, std))
    assert np.array_equal(first, tf.function(lambda x: augment(x, [1, 2], mean, std))(images))
    assert not np.array_equal(first, augment(images, [1, 3], mean, std))
    assert np.array_equal(Augmentation(0, False, 0)(images, [1, 2], mean, std), normalize(images, mean, std))
    assert np.array_equal(augment(images.astype(np.float32), [1, 2], mean, std), first)


def test_defaults_and_refusals():
    assert default_augmentation("digits", (8, 8, 1)) == Augmentation(pad=1, flip=False)
    assert default_augmentation("cifar10", (32, 32, 3)) == Augmentation(pad=4, flip=True)
    assert default_augmentation("folder:x", (224, 200, 3)) == Augmentation(pad=25, flip=True)
    for part, message in (({"pad": 8}, "pad 8: allowed is 0 to 7"), ({"cutout": 9}, "cutout 9: allowed is 0 to 8")):
        with pytest.raises(KdartsError, match=message):
            Augmentation(**part)(np.zeros((1, 8, 9, 1), np.uint8), [1, 2], (0.5,), (0.5,))
    with pytest.raises(KdartsError, match="pad -1"):
        Augmentation(pad=-1)
    with pytest.raises(KdartsError, match="cutout -2"):
        Augmentation(cutout=-2)
    with pytest.raises(KdartsError, match="cutout_holes 0"):
        Augmentation(cutout_holes=0)
