"""Mixup and CutMix: their equations, the distribution of λ, batches that are functions of the step, the loss."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.data import datasets
from kdarts.data.augmentation import Augmentation
from kdarts.data.mixing import Mixing, cutmix, mixup, share
from kdarts.data.pipeline import train_dataset
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.models import training_loss
from kdarts.search.replicas import build_rest
from kdarts.search.step import Step

LABELS = np.array([2, 0, 1, 1])


def _batch(side=(6, 8)):
    images = np.random.default_rng(0).normal(size=(4, *side, 3)).astype("float32")
    return images, np.eye(3, dtype="float32")[LABELS]


def _before(array):
    """The example before each; before the first one is the last."""
    return array[[3, 0, 1, 2]]


def test_mixup_is_its_equation():
    images, labels = _batch()
    mixed, shares = mixup(images, labels, tf.constant(0.7))
    np.testing.assert_allclose(mixed, 0.7 * images + 0.3 * _before(images), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(shares, 0.7 * labels + 0.3 * _before(labels), rtol=1e-6)
    np.testing.assert_allclose(shares[3], [0, 1, 0], rtol=1e-6)  # Both of its images are of one class.


@pytest.mark.parametrize("part", [0.0, 0.4, 0.95, 1.0])
def test_cutmix_is_its_equation(part):
    images, labels = _batch()
    sides, corners = [], set()
    for number in range(40):
        mixed, shares = (each.numpy() for each in cutmix(images, labels, tf.constant(part), tf.constant([0, number])))
        inside = (mixed != images).any((0, 3))
        rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
        box = np.zeros_like(inside)
        box[np.ix_(rows, columns)] = True
        np.testing.assert_array_equal(inside, box)
        np.testing.assert_array_equal(mixed, np.where(box[..., None], _before(images), images))
        left = 1 - box.mean()
        np.testing.assert_allclose(shares, left * labels + (1 - left) * _before(labels), rtol=1e-5, atol=1e-6)
        sides.append((len(rows), len(columns)))
        corners.add((*rows[:1], *columns[:1]))
    whole = tuple(int(side * np.sqrt(1 - part)) // 2 * 2 for side in images.shape[1:3])
    assert np.max(sides, 0).tolist() == list(whole) and len(corners) > 5 * (min(whole) > 0)


@pytest.mark.parametrize("alpha", [0.001, 0.2, 1.0, 5.0])
def test_lambda_has_the_moments_of_its_distribution(alpha):
    draw = tf.function(lambda: tf.map_fn(lambda k: share(tf.stack([7, k]), alpha), tf.range(4000), tf.float32))
    found = draw().numpy()
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    assert found.mean() == pytest.approx(0.5, abs=0.03)
    assert found.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.01)


def test_with_both_each_batch_has_one_of_them():
    images, mixing = _batch()[0], tf.function(lambda seed: Mixing(1.0, 1.0)(images, LABELS, 3, seed))
    kinds = []
    for number in range(40):
        mixed, shares = mixing(tf.constant([1, number]))
        own = np.isin(mixed, images).all()  # CutMix makes no new pixel.
        kinds.append(own)
        np.testing.assert_allclose(np.sum(shares, 1), 1, rtol=1e-5)
    assert 10 <= sum(kinds) <= 30


@pytest.mark.parametrize("wrong", [{"mixup": -1.0}, {"cutmix": float("nan")}, {"mixup": float("inf")}])
def test_a_wrong_alpha_is_refused(wrong):
    with pytest.raises(KdartsError, match="allowed is a finite number from 0"):
        Mixing(**wrong)


def test_batches_are_functions_of_the_step():
    random = np.random.default_rng(0)
    labels = np.arange(20, dtype=np.int32) % 3
    data = datasets.ImageData(random.integers(0, 256, (20, 8, 8, 1), np.uint8), labels, ("a", "b", "c"), "x")
    how = data, 6, 5, Augmentation(pad=1), [0.5], [0.2]
    whole = list(itertools.islice(train_dataset(*how, 0, Mixing(0.2, 1.0)), 7))
    for one, other in zip(whole[4:], train_dataset(*how, 4, Mixing(0.2, 1.0)), strict=False):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    (x, y), (plain, labels) = whole[0], next(iter(train_dataset(*how, 0)))
    assert y.shape == (6, 3) and y.dtype == x.dtype == tf.float32 and labels.dtype.is_integer
    # The augmentation is the same as without.
    pair = [plain.numpy().reshape(6, -1), np.roll(plain, 1, 0).reshape(6, -1)]
    low, high = np.minimum(*pair), np.maximum(*pair)
    assert ((x.numpy().reshape(6, -1) >= low - 1e-5) & (x.numpy().reshape(6, -1) <= high + 1e-5)).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_shares_is_the_mean_of_the_losses(smoothing):
    random = np.random.default_rng(0)
    logits, a, b = random.normal(size=(5, 3)).astype("float32"), np.array([0, 1, 2, 0, 1]), np.array([2, 1, 0, 1, 1])
    shares = 0.7 * np.eye(3)[a] + 0.3 * np.eye(3)[b]
    loss = training_loss(smoothing, shares=True)
    expected = 0.7 * training_loss(smoothing)(a, logits) + 0.3 * training_loss(smoothing)(b, logits)
    np.testing.assert_allclose(loss(shares.astype("float32"), logits), expected, rtol=1e-5)
    np.testing.assert_allclose(loss(a, logits), training_loss(smoothing)(a, logits), rtol=1e-5)


def test_the_accuracy_of_mixed_images_is_that_of_the_greater_part(eagerly):
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False)])
    network.layers[0].kernel.assign(np.eye(3))
    network.compile(keras.optimizers.SGD(0.0), training_loss(shares=True), metrics=["accuracy"])
    build_rest(network, 3)
    x = np.eye(3, dtype="float32")[[0, 1, 2, 2]]
    y = np.array([[0.6, 0.4, 0], [0.6, 0.4, 0], [0, 0.1, 0.9], [1, 0, 0]], "float32")
    logs = Step(network)((tf.constant(x), tf.constant(y)))
    assert float(logs["accuracy"]) == 0.5
