"""The input pipeline: every batch is a function of (seed, step), and an epoch is one fair pass."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kdarts.data import datasets
from kdarts.data.augmentation import Augmentation
from kdarts.data.datasets import ImageData
from kdarts.data.pipeline import eval_dataset, search_dataset, search_dataset_from, steps_per_epoch, train_dataset
from kdarts.genotypes.errors import KdartsError

PLAIN = Augmentation(pad=0, flip=False)
MEAN, STD = (0.0,), (1 / 255,)  # leaves raw pixels


def _numbered(count, first=0):
    """Images that carry their own number, which is their label too."""
    numbers = np.arange(first, first + count)
    images = np.tile((numbers % 251).astype(np.uint8)[:, None, None, None], (1, 8, 8, 1))
    return ImageData(images, numbers.astype(np.int32), tuple(str(i) for i in range(first + count)), "numbered")


def _labels(dataset, batches=None):
    return [y.numpy() for _, y in itertools.islice(dataset, batches)]


def _same(a, b):
    a, b = tf.nest.flatten(list(a)), tf.nest.flatten(list(b))
    return len(a) == len(b) > 0 and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_an_epoch_visits_no_example_twice_and_images_keep_their_labels():
    dataset = train_dataset(_numbered(70), 16, 3, PLAIN, MEAN, STD)
    assert dataset.cardinality() == 4
    assert dataset.element_spec == (tf.TensorSpec((16, 8, 8, 1), tf.float32), tf.TensorSpec((16,), tf.int32))
    labels = np.concatenate(_labels(dataset))
    assert len(labels) == len(set(labels)) == 64
    for x, y in dataset:
        np.testing.assert_allclose(x[:, 3, 3, 0], y, atol=1e-4)


def test_iterations_differ_and_runs_agree():
    def run(seed):
        dataset = train_dataset(_numbered(40), 8, seed, Augmentation(pad=2), MEAN, STD)
        return [list(dataset) for _ in range(3)]

    one, two, other = run(0), run(0), run(1)
    assert all(_same(a, b) for a, b in zip(one, two, strict=True))
    assert not _same(one[0], one[1]) and not _same(one[1], one[2])
    assert not _same(one[0], other[0])


def test_start_step_continues_exactly():
    data, steps = _numbered(50), 6  # 50 // 8
    augment = Augmentation(pad=2, cutout=4)
    whole = list(itertools.islice(train_dataset(data, 8, 5, augment, MEAN, STD, start_step=0), 3 * steps + 2))
    for start in (1, steps - 1, steps, 2 * steps + 3):
        part = train_dataset(data, 8, 5, augment, MEAN, STD, start_step=start)
        assert part.cardinality() == tf.data.INFINITE_CARDINALITY
        assert _same(itertools.islice(part, len(whole) - start), whole[start:]), start
    epochs = [np.concatenate([y for _, y in whole[i * steps : (i + 1) * steps]]) for i in range(3)]
    assert all(len(set(epoch)) == 48 for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


def test_search_pairs_continue_exactly_with_halves_of_unequal_size():
    train, valid = _numbered(40), _numbered(24, first=40)  # 5 and 3 steps an epoch

    def pairs(start, seed=2):
        return search_dataset_from(train, valid, 8, seed, Augmentation(pad=1), MEAN, STD, start_step=start)

    whole = list(itertools.islice(pairs(0), 13))
    for start in (2, 3, 5, 7):
        assert _same(itertools.islice(pairs(start), 13 - start), whole[start:]), start
    for part, steps, allowed in ((0, 5, range(40)), (1, 3, range(40, 64))):
        labels = [pair[part][1].numpy() for pair in whole]
        for first in range(0, 13 - steps, steps):
            epoch = np.concatenate(labels[first : first + steps])
            assert sorted(epoch) == list(allowed)


def test_search_epochs_are_as_long_as_the_train_half():
    for n, m, steps in ((40, 24, 5), (24, 40, 3), (24, 24, 3)):
        dataset = search_dataset_from(_numbered(n), _numbered(m, 40), 8, 0, PLAIN, MEAN, STD)
        assert dataset.cardinality() == steps
        first, second = list(dataset), list(dataset)
        assert len(first) == len(second) == steps
        for part in (0, 1):
            assert not _same([pair[part] for pair in first], [pair[part] for pair in second])
    longer = search_dataset_from(_numbered(8), _numbered(40, 8), 8, 0, PLAIN, MEAN, STD)
    seen = {int(label) for _ in range(8) for _, (_, y) in longer for label in y}
    assert len(seen) > 20, "a longer second half is not cut to its first examples"


def test_the_two_halves_are_shuffled_and_augmented_independently():
    """The same examples in both places come in different orders and with different crops."""
    data = _numbered(32)
    ((x, y), (x_valid, y_valid)), *_ = search_dataset_from(data, data, 32, 0, Augmentation(pad=3), MEAN, STD)
    assert not np.array_equal(y, y_valid)
    assert not np.array_equal(x.numpy()[np.argsort(y)], x_valid.numpy()[np.argsort(y_valid)])


def test_shuffling_is_fair():
    """Neighbours share a batch as often as any two examples do, and every example is as often in the first batch."""
    count, size, epochs = 1000, 100, 200
    dataset = train_dataset(_numbered(count), size, 1, PLAIN, MEAN, STD, start_step=0)
    order = np.concatenate(_labels(dataset, epochs * count // size)).reshape(epochs, count)
    batch_of = np.argsort(order, axis=1) // size
    together = np.mean(batch_of[:, 1:] == batch_of[:, :-1])
    assert abs(together - (size - 1) / (count - 1)) < 0.004
    first = (batch_of == 0).sum(0)
    assert abs(first.std() / np.sqrt(epochs * 0.1 * 0.9) - 1) < 0.1


def test_augmentation_changes_with_the_step_and_the_epoch():
    image = np.zeros((4, 8, 8, 1), np.uint8)
    image[:, 3, 4] = 255
    data = ImageData(image, np.zeros(4, np.int32), ("a", "b"), "marks")
    batches = [
        x.numpy().tobytes()
        for x, _ in itertools.islice(train_dataset(data, 2, 0, Augmentation(pad=3), MEAN, STD, 0), 20)
    ]
    assert len(set(batches)) == 20


def test_eval_keeps_order_and_remainder():
    data = _numbered(19)
    dataset = eval_dataset(data, 8, MEAN, STD)
    assert dataset.cardinality() == 3
    batches = list(dataset)
    assert [len(y) for _, y in batches] == [8, 8, 3]
    assert np.array_equal(np.concatenate([y for _, y in batches]), data.labels)
    np.testing.assert_allclose(np.concatenate([x for x, _ in batches]), data.images, atol=1e-4)


def test_digits_search_dataset_is_what_fit_takes():
    dataset = search_dataset(batch_size=64)
    image, label = tf.TensorSpec((64, 8, 8, 1), tf.float32), tf.TensorSpec((64,), tf.int32)
    assert dataset.element_spec == ((image, label), (image, label))
    assert dataset.cardinality() == 11
    pixels = np.concatenate([x for (x, _), _ in dataset])
    assert abs(pixels.mean()) < 0.1 and abs(pixels.std() - 1) < 0.1
    few = search_dataset(
        batch_size=16, train_examples=50, valid_examples=20, image_size=12, augmentation=PLAIN, start_step=4
    )
    (x, _), (x_valid, _) = next(iter(few))
    assert x.shape == x_valid.shape == (16, 12, 12, 1)


def test_evaluation_and_training_see_the_same_scale():
    data = datasets.load("digits", limit=64)
    mean, std = datasets.statistics(data.images)
    (x, y), *_ = train_dataset(data, 64, 0, PLAIN, mean, std)
    (x_eval, y_eval), *_ = eval_dataset(data, 64, mean, std)
    key = np.lexsort(x.numpy().reshape(64, -1).T), np.lexsort(x_eval.numpy().reshape(64, -1).T)
    assert np.array_equal(x.numpy()[key[0]], x_eval.numpy()[key[1]])
    assert np.array_equal(y.numpy()[key[0]], y_eval.numpy()[key[1]])


def test_sizes_out_of_range_are_refused():
    data = _numbered(20)
    assert steps_per_epoch(data, 8) == 2
    for size in (0, -1, 21):
        with pytest.raises(KdartsError, match=f"batch_size {size}; allowed: 1 to 20"):
            train_dataset(data, size, 0, PLAIN, MEAN, STD)
    with pytest.raises(KdartsError, match="allowed: 1 to 4"):
        search_dataset_from(data, _numbered(4), 8, 0, PLAIN, MEAN, STD)
    with pytest.raises(KdartsError, match="allowed: 1 to 718"):
        search_dataset(batch_size=719)
    with pytest.raises(KdartsError, match="batch_size 0"):
        eval_dataset(data, 0, MEAN, STD)
    with pytest.raises(KdartsError, match="start_step -1"):
        train_dataset(data, 8, 0, PLAIN, MEAN, STD, start_step=-1)
    with pytest.raises(KdartsError, match="seed -1"):
        train_dataset(data, 8, -1, PLAIN, MEAN, STD)
    with pytest.raises(KdartsError, match="one per channel"):
        train_dataset(data, 8, 0, PLAIN, (0.5,) * 3, (0.2,) * 3)
