"""What a search measures by: running statistics without the values that they start from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts import Placed, Search, get_operation
from kdarts.ops.layers import running_statistics, unbiased_statistics
from kdarts.ops.mixed import GroupedOperation
from kdarts.search.loop import SearchData
from kdarts.search.replicas import calibrated
from kdarts.supernet.hypercuboid import HyperCuboid


def _rows(count=3, seed=0):
    return [0.07 * np.random.default_rng(seed + k).normal(1, 1, (6, 8, 8, 4)).astype(np.float32) for k in range(count)]


@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_after_a_few_steps_they_are_the_weighted_means_of_the_batches(momentum):
    """The means of the batches themselves, the later ones weighing more; the start at 0 and 1 has no part in them."""
    stock, rows = keras.layers.BatchNormalization(momentum=momentum), _rows()
    for number in range(4):
        weights = momentum ** np.arange(number)[::-1]
        expected = [
            np.average([f(x, (0, 1, 2)) for x in rows[:number]], 0, weights) for f in (np.mean, np.var) if number
        ]
        for (_, found), value in zip(unbiased_statistics(stock, number) if number else [], expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-6)
        stock(rows[number % 3], training=True)
    assert len(running_statistics(stock)) == 2 and stock.moving_variance.numpy().min() > momentum**4


def test_no_update_changes_nothing_and_many_leave_nothing_to_correct():
    operation = GroupedOperation(get_operation("sep_conv_3x3"), 2, 4)
    operation.build((None, 8, 8, 8))
    operation(tf.tile(_rows()[0], [1, 1, 1, 2]), training=True)
    assert len(running_statistics(operation)) == 4
    for updates in (0, 400):
        for variable, value in unbiased_statistics(operation, updates):
            np.testing.assert_array_equal(variable, value)
    after_one = [value.numpy() for _, value in unbiased_statistics(operation, 1)]
    assert after_one[1].max() < 0.05 < 0.9 < operation.running_statistics[1][0].numpy().min()


def _search(**choices):
    return Search("darts", (8, 8, 3), 3, channels=4, cells=1, nodes=1, **choices)


def test_a_search_counts_its_updates_and_measures_without_changing_anything():
    """After one step the statistics are those of its batch, so that measuring it gives what training saw."""
    search = _search()
    net, x = search.supernet, np.random.default_rng(1).normal(size=(16, 8, 8, 3)).astype(np.float32)
    seen = net(x, training=True).numpy()
    assert net.updates == 1
    before = [v.numpy().copy() for v in net.variables]
    found, raw = search(x).numpy(), net(x).numpy()
    for value, variable in zip(before, net.variables, strict=True):
        np.testing.assert_array_equal(value, variable)
    np.testing.assert_allclose(found, seen, atol=0.02 * np.abs(seen).max())
    assert np.abs(raw - seen).max() > 10 * np.abs(found - seen).max()
    with keras.StatelessScope([(v, tf.zeros_like(v.value)) for v in net.network_variables]):
        np.testing.assert_array_equal(search(x), 0)  # The values of a scope around it count.


def test_a_grid_counts_too():
    grid = HyperCuboid(
        (8, 8, 2),
        {"layer": (0, 1)},
        build=lambda step: Placed(get_operation("sep_conv_3x3"), 4, 1),
        head=lambda state: [keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D()],
    )
    grid(np.ones((2, 8, 8, 2), np.float32), training=True)
    grid(np.ones((2, 8, 8, 2), np.float32))
    assert grid.updates == 1 and {momentum for *_, momentum in running_statistics(grid)} == {0.9, 0.99}


def test_a_measurement_has_the_statistics_of_the_present_weights(eagerly):
    """After a leap of the weights the running statistics are those of others; a measurement has its own."""
    search, x = _search(), np.random.default_rng(1).normal(size=(16, 8, 8, 3)).astype(np.float32)
    search.compile()
    net, y = search.supernet, np.arange(16) % 3
    net(x, training=True)
    for variable in net.network_variables:
        variable.assign(3 * variable.value)
    data = SearchData(tf.data.Dataset.from_tensors(((x, y), (x, y))).repeat(8))
    before = [v.numpy().copy() for v in search.variables]
    stale = search(x).numpy()
    with calibrated(search, data):
        found = search(x).numpy()
    for value, variable in zip(before, search.variables, strict=True):
        np.testing.assert_array_equal(value, variable)
    np.testing.assert_array_equal(search(x), stale)
    seen = net(x, training=True).numpy()
    assert np.abs(stale - seen).max() > 5 * np.abs(found - seen).max()


@pytest.mark.parametrize(
    "name, more", [("multichannelnet", {"cells": 2}), ("darts", {"cells": 1, "space": "nasbench201"})]
)
def test_every_running_statistic_is_measured(name, more, eagerly):
    search = Search(name, (8, 8, 3), 3, channels=4, nodes=1, **more)
    search.compile()
    x, y = np.random.default_rng(1).normal(size=(8, 8, 8, 3)).astype(np.float32), np.arange(8) % 3
    with calibrated(search, SearchData(tf.data.Dataset.from_tensors(((x, y), (x, y))).repeat(8))):
        for variable, start, _ in running_statistics(search.supernet):
            assert np.abs(variable.numpy() - start).max() > 0
    assert all(np.all(v.numpy() == start) for v, start, _ in running_statistics(search.supernet))


def test_a_measurement_of_drawn_passes_needs_no_statistics():
    search = _search(sampling="gumbel")
    with calibrated(search, None):
        assert search(np.zeros((2, 8, 8, 3), np.float32)).shape == (2, 3)


@pytest.mark.slow
def test_validation_follows_training_from_the_first_epoch():
    """Four steps, after which two thirds of a running variance are its start."""
    search = _search(batch_size=24, learning_rate=0.1)
    y = np.arange(96) % 3
    x = np.random.default_rng(1).normal(scale=0.3, size=(96, 8, 8, 3)).astype(np.float32)
    x[np.arange(96), :, :, y] += 1
    pairs = tf.data.Dataset.from_tensor_slices(((x, y), (x, y))).map(lambda *p: (p[0], p[1])).batch(24)
    history = search.fit(pairs, epochs=1, validation_data=(x, y), verbose=0).history
    assert search.supernet.updates == search.optimizer.iterations == 4
    net = search.supernet
    trained = tf.argmax(net.classify(net.states(x, training=True)[-1]), 1)
    assert history["val_accuracy"][0] == pytest.approx(np.mean(trained == y), abs=0.1)
    raw = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, net(x))
    assert history["val_loss"][0] < raw
