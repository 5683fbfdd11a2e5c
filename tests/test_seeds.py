"""`kdarts train --seeds`: each seed on its own, what they come to together, and a kill in between."""

import csv
import json

import keras
import pytest
from test_resume import finish, kill_at, same_state

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.training.checkpoint import Checkpoint
from kdarts.training.repeats import combined, of_seeds, run_seeds
from kdarts.training.workdir import Workdir, read_arrays, write_arrays, write_json

TINY = ["train", "--genotype=DARTS_V1", "--cells=2", "--channels=2", "--epochs=1", "--train_examples=64"]


def _summary(seed, accuracy):
    figures = {"test_loss": 1.0 + seed, "wall_seconds": 10.0, "peak_memory_mb": 100.0 + seed, "mean": [0.5]}
    return {"genotype": "DARTS_V1", "seed": seed, "test_accuracy": accuracy, **figures}


def test_mean_and_median_with_their_spreads():
    found = combined([_summary(seed, accuracy) for seed, accuracy in enumerate((0.90, 0.92, 0.97))])
    assert found["test_accuracy"] == pytest.approx(0.93)
    assert found["test_accuracy_sd"] == pytest.approx(0.0360555, abs=1e-6)
    assert (found["test_accuracy_median"], found["test_accuracy_half_range"]) == (0.92, pytest.approx(0.035))
    assert (found["test_loss"], found["wall_seconds"], found["peak_memory_mb"]) == (2.0, 30.0, 102.0)
    assert [(part["seed"], part["test_accuracy"]) for part in found["seeds"]] == [(0, 0.90), (1, 0.92), (2, 0.97)]
    assert found["mean"] == [0.5]
    one = combined([_summary(0, 0.9)])
    assert one["test_accuracy_sd"] is one["test_accuracy_half_range"] is None and one["test_accuracy_median"] == 0.9
    rows = [{"accuracy": value} for value in (0.90, 0.92, 0.97)]
    assert of_seeds(rows) == "mean 0.9300 ± 0.0361 (sd), median 0.9200 ± 0.0350 (half range)"
    assert of_seeds(rows[:1]) == "0.9000"


def test_every_figure_of_several_seeds_is_their_mean():
    more = [{"held_back_accuracy": 0.5 + 0.2 * n, "test_top_5_accuracy": 0.8 + 0.1 * n} for n in range(2)]
    found = combined([_summary(n, 0.9) | more[n] | {"tested_after_epochs": 3 + n} for n in range(2)])
    assert found["held_back_accuracy"] == pytest.approx(0.6) and found["test_top_5_accuracy"] == pytest.approx(0.85)
    assert "tested_after_epochs" not in found
    assert [(row["tested_after_epochs"], row["held_back_accuracy"]) for row in found["seeds"]] == [(3, 0.5), (4, 0.7)]


def _model():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    return model


def test_only_unfinished_seeds_are_trained(tmp_path):
    trained, accuracies = [], {5: 0.5, 6: 0.9}

    def train(seed, folder):
        trained.append(seed)
        checkpoint = Checkpoint(folder / "backup", _model(), 1)
        checkpoint.on_epoch_end(0, {"accuracy": 0.1 * seed})
        write_arrays(folder / "model.keras", {"seed": seed})
        if seed == 6 and trained.count(6) == 1:
            raise KeyboardInterrupt
        write_json(folder / "summary.json", _summary(seed, accuracies[seed]))

    with pytest.raises(KeyboardInterrupt):
        run_seeds(train, Workdir(tmp_path), [5, 6])
    assert not (tmp_path / "summary.json").exists()
    assert run_seeds(train, Workdir(tmp_path), [5, 6])["test_accuracy"] == pytest.approx(0.7)
    assert trained == [5, 6, 6]
    assert read_arrays(tmp_path / "model.keras")["seed"] == 5  # not the best one's
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [(row["seed"], row["epoch"]) for row in rows] == [("5", "0"), ("6", "0")]
    for number, name in enumerate(("summary.json", "model.keras", "backup/ckpt-1.index")):
        (tmp_path / "seeds" / "1" / name).write_bytes(b"damaged")
        (tmp_path / "seeds" / "0" / "history.csv").write_bytes(b"damaged")
        run_seeds(train, Workdir(tmp_path), [5, 6])
        assert trained[3:] == [6] * (number + 1)
        assert list(csv.DictReader((tmp_path / "history.csv").open())) == rows
    with pytest.raises(KdartsError, match="at least 1"):
        run_seeds(train, Workdir(tmp_path), [])


@pytest.mark.slow
def test_each_seed_is_what_it_would_be_alone(tmp_path, capsys, eagerly):
    assert main([*TINY, "--seed=1", f"--workdir={tmp_path / 'alone'}"]) == 0
    capsys.readouterr()
    arguments = [*TINY, "--seeds=2", f"--workdir={tmp_path / 'both'}"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "test accuracy of 2 seeds: mean 0." in said
    one, other = tmp_path / "alone", tmp_path / "both" / "seeds" / "1"
    same_state(one / "backup", other / "backup")
    alone = json.loads((one / "summary.json").read_text())
    both = json.loads((tmp_path / "both" / "summary.json").read_text())
    assert both["seeds"][1]["test_accuracy"] == alone["test_accuracy"]
    first = both["seeds"][0]["test_accuracy"]
    assert both["test_accuracy"] == pytest.approx((first + alone["test_accuracy"]) / 2)
    assert both["test_accuracy_sd"] == pytest.approx(abs(first - alone["test_accuracy"]) / 2**0.5)
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("finished before") == 2
    assert main([*TINY, "--seeds=3", f"--workdir={tmp_path / 'both'}"]) == 2


@pytest.mark.slow
def test_a_run_of_several_seeds_killed_in_the_second_comes_to_the_same_result(tmp_path):
    arguments = [*TINY[:4], "--epochs=3", "--drop_path=0.3", "--train_examples=128", "--seeds=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(arguments, whole)
    for mark in ("seeds/0/backup: 2, 0", "seeds/1/backup: 1, 0"):
        kill_at(mark, arguments, killed)
        assert not (killed / "summary.json").exists()
    assert "going on after epoch" in finish(arguments, killed)
    assert (whole / "history.csv").read_bytes() == (killed / "history.csv").read_bytes()
    for seed in (0, 1):
        same_state(whole / f"seeds/{seed}/backup", killed / f"seeds/{seed}/backup")
    accuracies = [json.loads((run / "summary.json").read_text())["test_accuracy"] for run in (whole, killed)]
    assert accuracies[0] == accuracies[1]
    assert not list(killed.rglob(".*")), "a temporary file was left"
