"""Learning rates and drop-path rates by epoch, against the papers' code."""

import itertools
import math
import pathlib

import keras
import pytest

from kdarts.cli.main import main
from kdarts.genotypes import settings
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.trunk import DropPath, DropPathSchedule
from kdarts.search.axes import WeightTraining
from kdarts.search.method import get_method
from kdarts.search.schedules import Cosine, Linear, Step, Warmup, get_schedule

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


def rates(name: str, epochs: int, **how) -> list[float]:
    rate = get_schedule(name, 0.5, 0.1, epochs, **how)
    return [rate(epoch) for epoch in range(epochs)]


def test_a_training_falls_in_steps_and_in_a_line_as_on_imagenet():
    assert rates("step", 3) == pytest.approx([0.5, 0.5 * 0.97, 0.5 * 0.97**2], **EXACT)
    assert rates("linear", 250, warmup=5) == [Warmup(Linear(0.5, 250, 5), 5)(epoch) for epoch in range(250)]
    assert rates("linear", 4) == pytest.approx([0.5, 0.375, 0.25, 0.125], **EXACT)
    assert rates("linear", 1) == [0.5]
    assert rates("step", 4, begin=2)[:3] == [0.5, 0.5, 0.5]


def test_the_printed_equation_starts_at_the_first_rate_and_is_due_to_end_behind_the_last_epoch():
    bent = [0.1 + 0.4 * (10 ** ((1 + math.cos(math.pi * t / 8)) / 2 + 1) - 10) / 90 for t in range(8)]
    assert rates("cosine_power_equation", 8, power=10.0) == pytest.approx(bent, **EXACT)


def test_warm_restarts_begin_again_at_their_rates():
    cosine = [Cosine(0.5, 0.1, 3)(t) for t in range(3)], [Cosine(0.3, 0.1, 2)(t) for t in range(2)]
    assert rates("cosine_restarts", 8, restarts="3:0.3,5") == pytest.approx(
        [*cosine[0], *cosine[1], *cosine[0]], **EXACT
    )
    released = rates("cosine_power", 8, restarts="4")
    assert released[:4] == released[4:] == rates("cosine_power", 4)


@pytest.mark.parametrize("text", ["0", "8", "5,3", "3,3", "x", "3:x", "3:nan", "3,"])
def test_restarts_that_do_not_fit_are_refused(text):
    with pytest.raises(KdartsError, match=f"restarts {text}: needs rising epochs from 1 to 7, such as 100,300"):
        get_schedule("cosine_restarts", 0.5, 0.1, 8, restarts=text)


@pytest.mark.parametrize("name", settings.SCHEDULES)
def test_a_search_takes_every_schedule_of_a_training(name):
    restarts = "4,7:0.01" if name == "cosine_restarts" else ""
    weights = WeightTraining(schedule=name, restarts=restarts, learning_rate_warmup=2)
    found, same = weights.rate(10, 3), get_schedule(name, 0.025, 0.001, 10, 3, 2, 2.0, restarts)
    rates = [found(epoch) for epoch in range(13)]
    assert rates == [same(epoch) for epoch in range(13)] and max(rates) <= 0.025
    assert get_method("darts").override(schedule=name).schedule == name


def test_restarts_of_a_search_that_do_not_fit_are_refused_before_it(tmp_path, capsys):
    words = ["search", "--epochs=5", "--cells=1", "--channels=2", "--nodes=1", f"--workdir={tmp_path / 'run'}"]
    assert main([*words, "--schedule=cosine_restarts", "--restarts=9"]) == 2
    assert "--restarts=9: needs rising epochs from 1 to 4" in capsys.readouterr().err
    assert main([*words, "--schedule=cosine_restarts"]) == 2
    assert "--schedule=cosine_restarts: needs restarts, such as --restarts=" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_restarts_need_a_schedule_that_has_them_and_that_one_needs_them():
    with pytest.raises(KdartsError, match="restarts 3: has no effect with schedule 'step'; it is for cosine_restarts"):
        get_schedule("step", 0.5, 0.1, 8, restarts="3")
    with pytest.raises(KdartsError, match="schedule 'cosine_restarts': needs restarts, such as restarts=100,300"):
        get_schedule("cosine_restarts", 0.5, 0.1, 8)


def test_the_picture_of_the_page_is_that_of_the_program(tool, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["schedule_figure", f"--to={tmp_path / 'schedules.svg'}"])
    tool("schedule_figure").run()
    page = pathlib.Path(__file__).parent.parent / "docs" / "schedules.svg"
    assert (tmp_path / "schedules.svg").read_text("utf-8") == page.read_text("utf-8")
