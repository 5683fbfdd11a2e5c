"""The average of the weights: its formula, that it is what is measured and saved, and that it changes no training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_validation import _same_weights, _train

from kdarts.data.mixing import Mixing
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.distillation import Teacher
from kdarts.search.optimizers import SGD
from kdarts.training.averages import WeightAverage


def _network():
    network = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    network.compile(SGD(0.1))
    network.optimizer.build(network.trainable_variables)
    return network


@pytest.mark.parametrize("ema", [0.25, 0.999])
def test_it_is_the_formula(ema):
    network, random, expected = _network(), np.random.default_rng(0), None
    average = WeightAverage(network, ema)
    for step in range(6):
        for weight in network.trainable_variables:
            weight.assign(random.normal(size=weight.shape))
        network.optimizer.iterations.assign_add(1)
        average.update()
        now, m = [weight.numpy() for weight in network.trainable_variables], min(ema, step / (9 + step))
        expected = now if expected is None else [m * e + (1 - m) * n for e, n in zip(expected, now, strict=True)]
        for (_, found), value in zip(average.values(), expected, strict=False):
            np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)


def test_its_statistics_are_those_of_its_weights_and_the_model_stays():
    x = np.random.default_rng(0).normal(2, 0.5, (32, 4)).astype("float32")
    layers = [keras.layers.Dense(3), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=1)]
    network = keras.Sequential([keras.Input((4,)), *layers])
    network.compile(SGD(0.1))
    average = WeightAverage(network, 0.9, tf.data.Dataset.from_tensors((x, x)).repeat(3))
    network.optimizer.build(network.trainable_variables)
    network.optimizer.iterations.assign_add(1)
    average.update()
    kernel = network.layers[0].kernel
    kernel.assign(5 * kernel)
    before = [variable.numpy() for variable in network.variables]
    average.calibrate()
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    found = {variable.path: value.numpy() for variable, value in average.values()}
    hidden, norm = x @ (before[0] / 5), network.layers[1]
    np.testing.assert_allclose(found[norm.moving_mean.path], hidden.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found[norm.moving_variance.path], hidden.var(0), rtol=1e-3)


@pytest.mark.parametrize("wrong", [-0.1, 1.0, float("nan")])
def test_a_momentum_out_of_range_is_refused(wrong):
    with pytest.raises(KdartsError, match="allowed is above 0 and below 1"):
        WeightAverage(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), wrong)


def _run(folder, rate=lambda epoch: 0.1, **how):
    """Two epochs with mixed images and a teacher, of which the better one is kept."""
    keras.utils.set_random_seed(1)
    teacher = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    folder.mkdir(exist_ok=True)
    return _train(folder, 2, rate, keep="best", mixing=Mixing(0.2, 1.0), teacher=Teacher(teacher), **how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("whole"), ema=0.9)


def test_the_average_is_measured_and_saved_and_changes_no_training(tmp_path, whole):
    (_, plain, last), (summary, rows, saved) = _run(tmp_path), whole
    trained, same = ([[row[name] for name in ("accuracy", "loss")] for row in each] for each in (rows, plain))
    assert trained == same and [row["val_loss"] for row in rows] != [row["val_loss"] for row in plain]
    assert summary["held_back_accuracy"] == pytest.approx(max(float(row["val_accuracy"]) for row in rows))
    assert all(np.abs(a - b).max() > 0 for a, b in zip(last.get_weights(), saved.get_weights(), strict=True))


def test_all_of_a_recipe_interrupted_comes_to_the_same_result(tmp_path, whole):
    def interrupted(epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        return 0.1

    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, interrupted, ema=0.9)
    summary, rows, model = _run(tmp_path, ema=0.9)
    assert rows == whole[1] and summary["test_loss"] == whole[0]["test_loss"]
    _same_weights(model, whole[2])
