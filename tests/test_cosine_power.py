"""Cosine power annealing against the authors' program and the paper's equation, and as Keras uses schedules."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdarts
from kdarts.genotypes.errors import KdartsError
from kdarts.search.schedules import Cosine, CosinePower, get_schedule


def _arguments(case):
    return case["max_lr"], case["min_lr"], case["T"], case["p"], case["warmup_epochs"]


def test_all_rates_are_the_programs_and_the_equations(golden):
    tables = golden("cosine_power.json")
    assert len(tables["cases"]) == 31
    for case in tables["cases"]:
        released = CosinePower(*_arguments(case))
        rates = [released.at(epoch - 1) for epoch in case["epochs"]]
        np.testing.assert_allclose(rates, case["lr"], rtol=0, atol=1e-12)
        equation = CosinePower(*_arguments(case)[:4], form="equation")
        rates = [equation.at(t) for t in case["eq2_t"]]
        np.testing.assert_allclose(rates, case["eq2_lr"], rtol=0, atol=1e-12)
    for check in tables["training_log_checks"]:
        if isinstance(check["schedule"], str):  # A plain cosine.
            continue
        rate = CosinePower(*_arguments(check["schedule"])).at(check["epoch"] - 1)
        assert rate == pytest.approx(check["logged"], rel=1e-5)


def test_keras_sees_the_same_rates_in_single_precision():
    schedule = CosinePower(
        0.025, 1e-8, 12, 10.0, warmup=3, steps_per_epoch=7, restarts=[(5, 0.01, 1e-3), (4, 1.0, 0.5)]
    )
    traced = tf.function(schedule)
    for step in range(0, 30 * 7, 5):
        rate = traced(tf.constant(step))
        assert rate.dtype == "float32"
        np.testing.assert_allclose(rate, schedule.at(step // 7), rtol=1e-6)
    assert schedule.at(3) == 0.025 and schedule.at(11) == 1e-8 and schedule.at(12) == pytest.approx(0.01)
    assert schedule.at(16) == 1e-3 and schedule.at(17) == 1.0 and schedule.at(20) == schedule.at(99) == 0.5


def test_power_one_is_the_cosine_and_powers_meet_there():
    cosine, plain = Cosine(0.1, 0.01, 20), CosinePower(0.1, 0.01, 20, 1, form="equation")
    nearly = CosinePower(0.1, 0.01, 20, 1 + 1e-9, form="equation")
    for epoch in range(20):
        assert plain.at(epoch) == pytest.approx(cosine(epoch), abs=1e-15)
        assert nearly.at(epoch) == pytest.approx(cosine(epoch), abs=1e-9)
    assert CosinePower(0.1, 0.01, 1).at(0) == 0.1
    assert [CosinePower(0.4, 0.0, 2, warmup=3).at(e) for e in range(2)] == pytest.approx([0.1, 0.2])


def test_the_flags_choose_it():
    rate = get_schedule("cosine_power", 0.1, 0.01, 10, 4, 2, 10.0)
    schedule = CosinePower(0.1, 0.01, 10, 10.0, 2)
    assert [rate(e) for e in range(14)] == [schedule.at(max(0, e - 4)) for e in range(14)]
    assert [get_schedule("cosine", 0.1, 0.01, 10)(e) for e in range(10)] == [
        Cosine(0.1, 0.01, 10)(e) for e in range(10)
    ]
    with pytest.raises(KdartsError, match=r"unknown schedule 'cosine_powr' .did you mean 'cosine_power'"):
        get_schedule("cosine_powr", 0.1, 0.01, 10)


def test_any_keras_model_trains_by_it_and_keeps_it(tmp_path):
    schedule = kdarts.CosinePower(0.1, 1e-3, 6, 10.0, steps_per_epoch=2, restarts=[(2, 0.05, 0.01)])
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(schedule), "mse")
    model.fit(np.ones((8, 1)), np.ones((8, 1)), batch_size=2, epochs=1, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(schedule.at(2), rel=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").optimizer._learning_rate
    assert isinstance(again, CosinePower) and json.dumps(again.get_config()) == json.dumps(schedule.get_config())
    callback = keras.callbacks.LearningRateScheduler(schedule.at)
    model.compile("sgd", "mse")
    callback.set_model(model)
    callback.on_epoch_begin(3)
    assert float(model.optimizer.learning_rate) == pytest.approx(schedule.at(3), rel=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"power": 0.5},
        {"epochs": 0},
        {"warmup": -1},
        {"initial": float("nan")},
        {"restarts": [(1, 2)]},
        {"form": "paper"},
    ],
)
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(KdartsError):
        CosinePower(**{"initial": 0.1, "final": 0.0, "epochs": 5, **wrong})
