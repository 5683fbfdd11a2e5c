"""Learning rates and drop-path rates by epoch, against the papers' code."""

import itertools

import keras
import pytest

from kdarts.networks.trunk import DropPath, DropPathSchedule
from kdarts.search.schedules import Cosine, Linear, Step, Warmup

EXACT = {"rel": 0, "abs": 1e-12}


def _drop_path_rates(rate, epochs, at):
    """The rates that a model's drop-path layers have after `DropPathSchedule` began each epoch of `at`."""
    layer = DropPath(rate, dtype="float64")
    model = keras.Sequential([keras.Input((2,)), layer, DropPath(rate / 2, dtype="float64")])
    schedule = DropPathSchedule(epochs)
    schedule.set_model(model)
    rates = []
    for epoch in at:
        schedule.on_epoch_begin(epoch)
        rates.append(float(layer.rate.numpy()))
        assert float(model.layers[1].rate.numpy()) == pytest.approx(rates[-1] / 2, **EXACT)
    return rates


SCHEDULES = {
    "darts_search_cosine_0.025_to_0.001_T50": (Cosine(0.025, 0.001, 50), range(50)),
    "pcdarts_search_cosine_0.1_to_0_T50": (Cosine(0.1, 0.0, 50), range(50)),
    "pdarts_search_cosine_0.025_to_0_T25": (Cosine(0.025, 0.0, 25), range(25)),
    "darts_eval_cosine_0.025_to_0_T600_every50": (Cosine(0.025, 0.0, 600), range(0, 600, 50)),
    "imagenet_step_0.1_gamma0.97_every25": (Step(0.1, 0.97), range(0, 250, 25)),
    "imagenet_linear_factor_250": (Linear(1.0, 250), range(250)),
    "pcdarts_imagenet_actual_lr(base0.5,warmup5)": (Warmup(Linear(0.5, 250), 5), range(250)),
    "pdarts_imagenet_actual_lr(base0.1 default, warmup only if batch>256: cur*(e+1)/5)": (Linear(0.1, 250), range(250)),
}
DROP_PATH = "darts_eval_droppath_0.2_every50"


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_those_of_the_papers_code(golden, name):
    schedule, epochs = SCHEDULES[name]
    expected = golden("darts_schedules.json")[name]
    assert len(expected) == len(epochs)
    assert [schedule(epoch) for epoch in epochs] == pytest.approx(expected, **EXACT)


def test_drop_path_rates_are_those_of_the_papers_code(golden):
    expected = golden("darts_schedules.json")[DROP_PATH]
    assert _drop_path_rates(0.2, 600, range(0, 600, 50)) == pytest.approx(expected, **EXACT)


def test_no_schedule_of_the_papers_is_left_out(golden):
    assert set(golden("darts_schedules.json")) == {*SCHEDULES, DROP_PATH}


def test_a_cosine_starts_high_passes_the_middle_and_would_end_low():
    schedule = Cosine(0.025, 0.001, 50)
    rates = [schedule(epoch) for epoch in range(50)]
    assert rates[0] == 0.025 and schedule(25) == pytest.approx(0.013, **EXACT)
    assert schedule(50) == pytest.approx(0.001, **EXACT)
    assert all(a > b > 0.001 for a, b in itertools.pairwise(rates))
    assert [r + schedule(50 - e) for e, r in enumerate(rates)] == pytest.approx([0.026] * 50, **EXACT)


def test_steps_fall_every_few_epochs():
    assert [Step(1.0, 0.5, 2)(epoch) for epoch in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert Step(0.1)(3) == pytest.approx(0.1 * 0.97**3, **EXACT)


def test_a_line_falls_evenly_and_its_tail_is_flatter():
    rates = [Linear(2.0, 10, 2)(epoch) for epoch in range(10)]
    assert rates == pytest.approx([2 * n / 8 for n in range(8, 0, -1)] + [2 * 2 / 16, 2 * 1 / 16], **EXACT)
    assert Linear(0.5)(245) == pytest.approx(0.5 * 5 / (245 * 5), **EXACT)


def test_a_climb_scales_the_first_rate_or_the_current_one():
    line = Linear(0.5, 250)
    first, current = Warmup(line, 5), Warmup(line, 5, current=True)
    for epoch in range(5):
        assert first(epoch) == pytest.approx(0.5 * (epoch + 1) / 5, **EXACT)
        assert current(epoch) == pytest.approx(line(epoch) * (epoch + 1) / 5, **EXACT)
    assert first(3) > current(3)
    assert [first(e) for e in range(5, 250)] == [current(e) for e in range(5, 250)] == [line(e) for e in range(5, 250)]
    assert Warmup(Cosine(1.0, 0.0, 8), 0)(0) == 1


def test_drop_path_rises_from_nothing_and_never_quite_arrives():
    rates = _drop_path_rates(0.3, 10, range(10))
    assert rates == pytest.approx([0.3 * epoch / 10 for epoch in range(10)], **EXACT)


@pytest.mark.parametrize("schedule", [Cosine(0.025, 0.001, 50), Step(0.1), Linear(0.5), Warmup(Linear(0.5))])
def test_the_callback_of_keras_takes_every_schedule(schedule):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = keras.callbacks.LearningRateScheduler(schedule)
    callback.set_model(model)
    for epoch in (0, 3, 7):
        callback.on_epoch_begin(epoch)
        assert float(model.optimizer.learning_rate) == pytest.approx(schedule(epoch), rel=1e-6)
