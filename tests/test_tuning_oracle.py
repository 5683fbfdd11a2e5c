"""Trials of a tuning: which come next, after a kill too, and which worker has them."""

import json
import threading
import time

import keras_tuner
import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.tuning.oracle import make_oracle, values_of, work_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner")  # It asks for its thread as of old.


def _oracle(folder, tuner="random", trials=8, epochs=9, seed=3, patience=60.0, notify=lambda *event: None, few=False):
    parameters = keras_tuner.HyperParameters()
    parameters.Choice("method", ["darts", "ddarts"])
    if not few:
        parameters.Float("arch_learning_rate", 1e-4, 1e-2, sampling="log")
        parameters.Int("channels", 4, 16)
    oracle = make_oracle(tuner, parameters, trials=trials, epochs=epochs, seed=seed, notify=notify, patience=patience)
    oracle._set_project_dir(str(folder.parent), folder.name)
    oracle.reload()
    return oracle


def _accuracy(trial):
    values = values_of(trial)
    return round(values["channels"] / 32 + values["arch_learning_rate"] * 10 + work_of(trial) / 100, 9)


def _end(oracle, trial):
    oracle.update_trial(trial.trial_id, {"accuracy": _accuracy(trial)})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def _run(oracle, most=1000, worker="one"):
    for _ in range(most):
        trial = oracle.create_trial(worker)
        if trial.status != "RUNNING":
            return trial.status
        _end(oracle, trial)
    return None


def _all(oracle):
    return [(name, trial.hyperparameters.values, trial.score) for name, trial in sorted(oracle.trials.items())]


@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband"])
def test_a_killed_tuning_comes_to_the_same_trials(tmp_path, tuner):
    if tuner == "bayesian":
        pytest.importorskip("sklearn")
    trials, kills = (4, (3,)) if tuner == "bayesian" else (8, (1, 2, 4))  # Its Gaussian process takes seconds a trial.
    whole = _oracle(tmp_path / "whole", tuner, trials)
    assert _run(whole) == "STOPPED" and whole.finished()
    assert len(whole.trials) == whole.total == len(whole.end_order)
    assert sum(work_of(trial) for trial in whole.trials.values()) == whole.work
    for count in kills:  # Killed in the next trial, after so many more.
        killed = _oracle(tmp_path / "killed", tuner, trials)
        _run(killed, count)
        begun = killed.create_trial("one")
    again = _oracle(tmp_path / "killed", tuner, trials)
    assert again.create_trial("two").trial_id == begun.trial_id
    again = _oracle(tmp_path / "killed", tuner, trials)
    assert _run(again) == "STOPPED"
    assert _all(again) == _all(whole)
    assert _oracle(tmp_path / "killed", tuner, trials).finished()
    other = _oracle(tmp_path / "other", tuner, trials, seed=4)
    _run(other, 2)
    assert _all(other)[:2] != _all(whole)[:2]


def test_hyperband_repeats_the_better_part_longer(tmp_path):
    oracle = _oracle(tmp_path / "a", "hyperband")
    _run(oracle)
    rounds = {}
    for trial in oracle.trials.values():
        values = trial.hyperparameters.values
        rounds.setdefault((values["tuner/bracket"], values["tuner/round"]), []).append(trial)
    assert {place: (len(trials), work_of(trials[0])) for place, trials in rounds.items()} == {
        (2, 0): (9, 1),
        (2, 1): (3, 3),
        (2, 2): (1, 9),
        (1, 0): (5, 3),
        (1, 1): (2, 9),
        (0, 0): (3, 9),
    }
    best = sorted(rounds[2, 0], key=_accuracy)[-3:]
    assert {t.trial_id for t in best} == {t.hyperparameters.values["tuner/trial_id"] for t in rounds[2, 1]}
    with pytest.raises(KdartsError, match=r"17 different trials, and the choices have 2"):
        _oracle(tmp_path / "b", "hyperband", few=True)


def test_a_chief_whose_disk_is_full_says_so(tmp_path, monkeypatch):
    oracle, told, over = _oracle(tmp_path / "a", patience=0.2), [], threading.Event()

    def full(*_):
        raise KdartsError("no space left")

    monkeypatch.setattr("kdarts.training.trials.write_json", full)
    with pytest.raises(KdartsError, match="no space left"):
        oracle.create_trial("one")
    oracle.watch(over, lambda error: told.append(str(error)))  # It does not wait for the lock that is held.
    assert told == ["no space left"]


def test_choices_may_be_exhausted_and_are_never_tried_twice(tmp_path):
    oracle = _oracle(tmp_path / "a", few=True)
    seen = []
    while (trial := oracle.create_trial("one")).status == "RUNNING":
        seen.append(trial.hyperparameters.values["method"])
        oracle.update_trial(trial.trial_id, {"accuracy": 0.5})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert sorted(seen) == ["darts", "ddarts"]


def test_a_silent_workers_trial_goes_to_another_and_none_leaves_before(tmp_path):
    events = []
    oracle = _oracle(tmp_path / "a", trials=3, patience=0.3, notify=lambda *event: events.append(event))
    lost = oracle.create_trial("dead")
    assert _run(oracle, worker="alive") == "IDLE"  # Two are done, the third may come back.
    oracle.update_trial(lost.trial_id, {})
    time.sleep(0.2)
    oracle.update_trial(lost.trial_id, {})  # It says that it lives.
    time.sleep(0.2)
    assert oracle.create_trial("alive").status == "IDLE"
    time.sleep(0.4)
    again = oracle.create_trial("alive")
    assert (again.trial_id, again.hyperparameters.values) == (lost.trial_id, lost.hyperparameters.values)
    assert ("silent", "dead") in [(event, name) for event, _, name in events]
    _end(oracle, again)
    ended = _all(oracle)
    lost.status = "COMPLETED"
    oracle.end_trial(lost)  # It was not dead after all.
    assert _all(oracle) == ended
    assert oracle.create_trial("alive").status == "STOPPED" and not oracle.tuner_ids


def test_a_worker_outlives_its_chief(tmp_path):
    first = _oracle(tmp_path / "a", trials=2)
    trial = first.create_trial("one")
    second = _oracle(tmp_path / "a", trials=2)  # The chief, killed and started anew.
    second.update_trial(trial.trial_id, {})
    other = second.create_trial("two")
    assert other.trial_id != trial.trial_id  # That one is in good hands.
    for ended in (trial, other):
        _end(second, ended)
    assert second.finished() and not second.ongoing_trials


def test_a_damaged_trial_is_measured_again_and_a_foreign_one_is_told(tmp_path, capsys):
    whole, file = _oracle(tmp_path / "whole"), tmp_path / "a" / "trial_1" / "trial.json"
    _run(whole)
    _run(_oracle(tmp_path / "a"), 3)
    data = json.loads(file.read_text())
    file.write_text(file.read_text()[:100])
    again = _oracle(tmp_path / "a")
    assert list(again.trials) == ["0"] and "cannot be read as JSON" in capsys.readouterr().out
    _run(again)
    assert _all(again) == _all(whole)
    for change in ({"score": "high"}, {"hyperparameters": {"values": {"method": "x"}}}, {"hyperparameters": []}):
        file.write_text(json.dumps({**data, **change}))
        with pytest.raises(KdartsError, match=r"trial\.json"):
            _oracle(tmp_path / "a")
