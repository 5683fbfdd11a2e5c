"""The training of shared paths, their evolution and the family, each on its own; test_resume.py runs them all."""

import csv
import errno
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_resume import finish, kill_at, same_state

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.path_space import PathSpace
from kdarts.networks.trunk import DropPathSchedule
from kdarts.paths.fair import FairPaths, FairTraining, training_length
from kdarts.paths.network import PathNetwork
from kdarts.paths.prune import Evolution, family_of, new_generation
from kdarts.search.method import get_method
from kdarts.supernet.cost import network_cost
from kdarts.training.checkpoint import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner")  # It asks for its thread as of old.

CELL = ((2, 0, ("sep_conv_3x3", "skip_connect")), (2, 1, ("max_pool_3x3", "dil_conv_3x3")))
SPACE = PathSpace((CELL, CELL), ((2,), (2,)))
WIDE = PathSpace((tuple((to, at, CELL[0][2]) for to in (2, 3, 4, 5) for at in (0, 1)),) * 2, ((2, 3, 4, 5),) * 2)


def _training(**overrides) -> FairTraining:
    keras.utils.set_random_seed(1)
    network = PathNetwork(SPACE, (8, 8, 1), 3, channels=2, cells=1, drop_path=0.3, seed=0)
    training = FairTraining(network, "darts", **overrides)
    training.compile()
    return training


def _images(count=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 8, 8, 1)).astype("float32"), np.arange(count) % 3


def _data(first, last):
    batch = tf.data.Dataset.from_tensors(_images()).repeat()
    return tf.data.Dataset.zip(batch, tf.data.Dataset.from_tensor_slices(FairPaths(4, 2).groups(first, last)))


def test_training_moves_every_weight_in_one_graph_and_goes_on_where_it_was_left(tmp_path):
    whole, resumed = _training(), _training()
    before = [v.numpy() for v in whole.trainable_variables]
    traces = []
    step = whole.train_step
    whole.train_step = lambda data: (traces.append(1), step(data))[1]
    callbacks = [DropPathSchedule(3), Checkpoint(tmp_path, whole, 3)]
    whole.fit(_data(0, 9), steps_per_epoch=3, epochs=3, verbose=0, callbacks=callbacks)
    assert len(traces) == 1 and whole.network.drop_path.rate.numpy() == pytest.approx(0.2)
    for variable, value in zip(whole.trainable_variables, before, strict=True):
        assert not np.array_equal(variable, value), variable.path
    for file in tmp_path.glob("ckpt-9.*"):
        file.unlink()
    assert Checkpoint(tmp_path, resumed, 3).restore() == 6
    resumed.fit(_data(6, 9), steps_per_epoch=3, initial_epoch=2, epochs=3, verbose=0, callbacks=[DropPathSchedule(3)])
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    path = [1, 0, 0, 1]
    calibration, valid = [_images()[0]], [_images(7, 1), _images(3, 2)]
    first, loss = whole.measure(path, calibration, valid)
    whole.measure([0, 1, 1, 1], calibration, valid)
    assert whole.measure(path, calibration, valid) == (first, loss) == resumed.measure(path, calibration, valid)
    logits = [whole(x, training=False).numpy() for x, _ in valid]
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
        np.concatenate([y for _, y in valid]), np.concatenate(logits)
    )
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert first * 10 == pytest.approx(round(first * 10))


def test_the_optimizer_of_shared_paths_is_the_methods():
    optimizer, method = _training().optimizer, get_method("darts")
    assert float(optimizer.learning_rate) == pytest.approx(method.path_learning_rate)
    ours = optimizer.momentum, optimizer.l2, optimizer.global_clipnorm, optimizer.nesterov
    assert ours == (method.momentum, method.l2, method.clip, False) == (0.9, 3e-4, 5.0, False)
    assert _training(path_l2=4e-5).optimizer.l2 == 4e-5
    assert _training(path_l2=0.0).optimizer.l2 == 0


def test_a_family_has_the_sizes_of_its_own_stem():
    network, path = PathNetwork(SPACE, (16, 16, 3), 3, channels=2, cells=1, stem="imagenet_wide"), (0, 0, 0, 0)
    own, genotype = network.cost_of(path, 4, 2, "imagenet"), SPACE.genotype(path)
    assert own == network_cost(genotype, (16, 16, 3), 3, 4, 2, "imagenet") != network.cost_of(path, 4, 2)
    assert get_method("dartspd").override(family_stem="imagenet").family_stem == "imagenet"
    with pytest.raises(KdartsError, match="family_stem"):
        get_method("dartspd").override(family_stem="cifar10")


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_a_step_takes_the_clipped_sum_of_the_gradients_of_a_groups_paths(clip, eagerly):
    training = _training(path_learning_rate=0.25, momentum=0.0, l2=0.0, clip=clip)
    network, (x, y), group = training.network, _images(), FairPaths(4, 2).group(0)
    network.drop_path.rate.assign(0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    weights = [variable.value for variable in network.trainable_variables]
    totals = [np.zeros(variable.shape) for variable in weights]
    for path in group:
        network.chosen.assign(path)
        with tf.GradientTape() as tape:
            value = loss(y, network(tf.constant(x), training=True))
        gradients = tape.gradient(value, weights, unconnected_gradients="zero")
        totals = [total + gradient.numpy() for total, gradient in zip(totals, gradients, strict=True)]
    norm = np.sqrt(sum((total**2).sum() for total in totals))
    assert norm > 0.5
    before = [variable.numpy() for variable in network.trainable_variables]
    training.fit(tf.data.Dataset.from_tensors(((x, y), group)), epochs=1, verbose=0)
    for variable, start, total in zip(network.trainable_variables, before, totals, strict=True):
        expected = start - 0.25 * total * min(1.0, clip / norm)
        np.testing.assert_allclose(variable, expected, rtol=0, atol=2e-5, err_msg=variable.path)


def test_a_training_in_cycles_ends_with_a_cycle():
    method = get_method("darts").override(path_epochs=7)
    assert training_length(method, WIDE, 195) == (195, 7)
    assert training_length(method.override(path_cycles=2), WIDE, 195) == (128, 512)
    assert training_length(method.override(path_cycles=2), SPACE, 195) == (8, 2)


def contents(folder) -> dict:
    """The bytes of every file in a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _accuracy(path):
    return round(float(np.mean(np.array(path) * np.arange(1, 17))), 6)


def _oracle(folder, seed=3, allowed=lambda path: True, space=WIDE, population=6, generations=3):
    from kdarts.training.trials import PathOracle

    oracle = PathOracle(Evolution(space, population, generations, seed, allowed))
    oracle._set_project_dir(str(folder.parent), folder.name)
    oracle.reload()
    return oracle


SECONDS = 1.5
"""What a trial takes."""


def _step(oracle, worker):
    """One request of a worker and, if it is given a trial, how to end that."""
    trial = oracle.create_trial(worker)
    if trial.status != "RUNNING":
        return trial.status, None
    path = oracle.candidate(trial.hyperparameters.values)

    def end():
        oracle.update_trial(trial.trial_id, {"accuracy": _accuracy(path), "seconds": SECONDS})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)

    return path, end


def _run(oracle, most=1000):
    for _ in range(most):
        found, end = _step(oracle, "one")
        if end is None:
            return found
        end()
    return None


def test_the_evolution_improves_on_its_first_generation(tmp_path):
    oracle = _oracle(tmp_path / "a", population=10, generations=7)
    assert _run(oracle) == "STOPPED"
    measured = oracle.measured()
    assert len({path for path, _ in measured}) == 70
    accuracies = [accuracy for _, accuracy in measured]
    assert max(accuracies) > max(accuracies[:10]) and np.mean(accuracies[-10:]) > np.mean(accuracies[:10]) + 1
    other = _oracle(tmp_path / "c", seed=4)
    _run(other, 6)
    assert other.measured()[:6] != measured[:6]


def test_a_killed_evolution_and_one_of_several_workers_come_to_the_same_candidates(tmp_path):
    whole = _oracle(tmp_path / "whole")
    _run(whole)
    first = _oracle(tmp_path / "killed")
    _run(first, 7)
    first.create_trial("one")  # Begun, and never ended.
    again = _oracle(tmp_path / "killed")
    assert len(again.measured()) == 7 and again.seconds() == 7 * SECONDS
    assert _run(again) == "STOPPED"
    assert again.measured() == whole.measured()
    assert again.seconds() == whole.seconds() == _oracle(tmp_path / "killed").seconds() == 18 * SECONDS
    shared, open_ends, idle = _oracle(tmp_path / "shared"), [], 0
    while len(shared.measured()) < 18:
        for worker in ("one", "two", "three", "four"):
            if worker in shared.ongoing_trials:
                continue
            found, end = _step(shared, worker)
            idle += found == "IDLE"
            if end:
                open_ends.append(end)
        open_ends.pop()()  # The last to begin ends first.
    assert shared.measured() == whole.measured() and idle


def test_a_damaged_trial_is_told_and_measured_again(tmp_path, capsys):
    whole = _oracle(tmp_path / "a")
    _run(whole)
    file = tmp_path / "a" / "trial_01" / "trial.json"
    data = json.loads(file.read_text())
    file.write_text(file.read_text()[:100])
    again = _oracle(tmp_path / "a")
    assert f"{file}: cannot be read as JSON" in capsys.readouterr().out
    assert len(again.measured()) == 1
    _run(again)
    assert again.measured() == whole.measured()
    for change in ({"score": "high"}, {"hyperparameters": {"values": {}}}):
        file.write_text(json.dumps({**data, **change}))
        with pytest.raises(KdartsError, match=r"trial\.json"):
            _oracle(tmp_path / "a")


def test_on_a_full_disk_measuring_ends_and_goes_on_later(tmp_path, monkeypatch):
    from keras_tuner.errors import FatalError

    whole = _oracle(tmp_path / "whole")
    _run(whole)
    oracle = _oracle(tmp_path / "full")
    _run(oracle, 3)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        # Of any other error keras-tuner would make a failed trial, and go on without it.
        with pytest.raises(FatalError, match=r"trial\.json: cannot be written \(No space") as caught:
            _run(oracle)
    assert isinstance(caught.value, KdartsError)
    again = _oracle(tmp_path / "full")
    _run(again)
    assert again.measured() == whole.measured()


def test_generations_keep_to_the_budget_and_end_with_the_space(tmp_path):
    few = _oracle(tmp_path / "few", space=SPACE, population=10, generations=9, allowed=lambda path: path[0] == 0)
    few_paths = set()
    while True:
        path, end = _step(few, "one")
        if end is None:
            break
        assert path[0] == 0 and path not in few_paths
        few_paths.add(path)
        few.update_trial(few.ongoing_trials["one"].trial_id, {"accuracy": 0.5})
        trial = few.ongoing_trials["one"]
        trial.status = "COMPLETED"
        few.end_trial(trial)
    assert path == "STOPPED" and 4 <= len(few_paths) <= 8


def test_a_generation_is_half_mutants_and_half_crossings():
    random, seen = np.random.RandomState(0), set()
    zeros, ones = (0,) * 16, (1,) * 16
    new = new_generation(WIDE, [zeros], 20, seen, lambda path: True, random)
    assert len(new) == len(set(new)) == 20 and seen == set(new)
    changed = [sum(path) for path in new[:10]]
    assert 0 < np.mean(changed) < 4  # One gene in ten is drawn anew, and half of those come out the same.
    crossed = new_generation(WIDE, [zeros, ones], 20, set(new), lambda path: True, random)[10:]
    assert 4 < np.mean([sum(path) for path in crossed]) < 12


def test_the_family_is_the_best_of_every_bin():
    sizes = [150_000, 190_000, 199_999, 200_000, 450_000, 460_000]
    rows = [
        {"candidate": i, "accuracy": accuracy, "params": params}
        for i, (params, accuracy) in enumerate(zip(sizes, [0.7, 0.9, 0.9, 0.5, 0.6, 0.6], strict=True))
    ]
    family = family_of(rows, 0.2, 2)
    assert [row["candidate"] for row in family] == [1, 2, 3, 4, 5]
    assert [row["name"] for row in family] == ["size000-1", "size000-2", "size001-1", "size002-1", "size002-2"]
    assert all(row["from"] <= row["params"] < row["to"] for row in family)


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--paths=9"], "--paths=9: --space=darts allows 1 to 7 operations"),
        (["--paths=2", "--sharing=individual"], "--paths=2: needs --sharing=shared, got 'individual'"),
        (["--paths=2", "--path_drop_path=1"], "allowed is a number from 0 to 0.999"),
        (["--paths=2", "--size_bin=0"], "--size_bin=0.0: allowed is above 0"),
    ],
)
def test_what_paths_cannot_follow_is_told_before_the_search(flags, fault, tmp_path, capsys):
    assert main(["search", *flags, f"--workdir={tmp_path / 'run'}"]) == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_search_with_paths_ends_in_a_family(tmp_path, capsys):
    arguments = ["search", "--method=dartspd", "--nodes=1", "--cells=1", "--channels=2", "--epochs=1"]
    arguments += ["--batch_size=32", "--partial_channels=2"]
    arguments += ["--train_examples=64", "--valid_examples=64", "--path_batch_size=32", "--path_epochs=1"]
    arguments += ["--population=4", "--generations=2", "--calibration_batches=1", "--size_bin=0.001", "--per_bin=2"]
    assert main([*arguments, "--size_limit=0.2", f"--workdir={tmp_path / 'run'}"]) == 0
    out, run = capsys.readouterr().out, tmp_path / "run"
    assert "16 paths" in out and "of 8 candidates: best" in out and "Found a family" in out
    family = list(csv.DictReader((run / "family" / "family.csv").open()))
    candidates = list(csv.DictReader((run / "candidates.csv").open()))
    assert 0 < len(family) <= len(candidates) <= 8
    space, summary = PathSpace.load(run / "paths.json"), json.loads((run / "summary.json").read_text())
    for row in family:
        genotype = Genotype.load(run / "family" / f"{row['name']}.json")
        cost = network_cost(genotype, (8, 8, 1), 10, 16, 5)
        assert (cost.params, cost.macs) == (int(row["params"]), int(row["macs"]))
        assert genotype.named("") == space.genotype(list(map(int, row["path"].split())))
    best = max(float(row["accuracy"]) for row in candidates)
    assert summary["path_accuracy"] == best and summary["family"] == len(family)
    found = Genotype.load(run / "genotype.json")
    assert found in [
        space.genotype(list(map(int, r["path"].split()))) for r in candidates if float(r["accuracy"]) == best
    ]
    assert (run / "family" / "family.png").read_bytes().startswith(b"\x89PNG")
    before = contents(run)
    assert main([*arguments, "--size_limit=0.2", f"--workdir={run}"]) == 0
    assert "finished before" in capsys.readouterr().out and contents(run) == before


@pytest.mark.slow
def test_a_run_killed_in_any_stage_comes_to_the_same_family(tmp_path):
    arguments = ["search", "--cells=3", "--channels=4", "--nodes=2", "--epochs=2", "--paths=2", "--path_epochs=3"]
    arguments += ["--path_drop_path=0.2", "--path_cutout=2", "--population=6", "--generations=3"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(arguments, whole)
    marks = ["backup: 1, 0", "path_backup: 1, 0", "path_backup: 3, 0"]
    for mark in [*marks, "evolution/trial_02/trial.json", "evolution/trial_13/trial.json"]:
        kill_at(mark, arguments, killed)
        assert not (killed / "candidates.csv").exists()
    assert "going on after candidate" in finish(arguments, killed)
    again = finish(arguments, killed)
    assert "Found a family" in again and "going on" not in again
    families = [sorted(path.name for path in (run / "family").iterdir()) for run in (whole, killed)]
    assert families[0] == families[1]
    files = ["genotype.json", "paths.json", "path_history.csv", "candidates.csv", "cells.svg"]
    for name in [*files, *(f"family/{name}" for name in families[0])]:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    same_state(whole / "path_backup", killed / "path_backup")
    assert not list(killed.rglob(".*")), "a temporary file was left"
