"""A run that is killed goes on with the same command, and comes to the same result."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.networks.models import load_model
from kdarts.training.checkpoint import checkpoints, notes
from kdarts.training.workdir import Workdir

ROOT = pathlib.Path(__file__).parent.parent
SEARCH = ["search", "--cells=2", "--channels=4", "--nodes=2", "--epochs=4", "--validate_every=2", "--order=second"]
DDARTS = [*SEARCH[:4], "--epochs=3", "--method=ddarts", "--removal=random", "--precision=mixed_float16"]
PDARTS = ["search", "--method=pdarts", "--stages=2:8,2:5:0.4,3:3:0.7", "--channels=4", "--nodes=2", "--epochs=3"]
EDARTS = ["search", "--method=edarts", "--cells=2", "--channels=4", "--nodes=2", "--epochs=3", "--stratified"]
CUBOID = ["search", "--method=multichannelnet", "--channels=2", "--cells=2", "--nodes=2", "--epochs=3"]
LIMITED = ["search", "--space=mobile", "--width=0.5", "--blocks=mb_k3_e3,mb_k5_e3,skip", "--max_macs=70k", "--epochs=3"]
LIMITED += ["--train_examples=128", "--valid_examples=128", "--max_params=8k", "--sampling=two_paths"]
TRAIN = ["train", "--genotype=DARTS_V1", "--cells=2", "--channels=4", "--epochs=4", "--drop_path=0.3", "--cutout=2"]
TRAIN += ["--auto_augment=cifar10", "--label_smoothing=0.1", "--ema=0.9", "--mixup=0.2", "--cutmix=1"]


def start(arguments, workdir) -> subprocess.Popen:
    """The command as a user starts it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "kdarts", *arguments, f"--workdir={workdir}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(arguments, workdir) -> str:
    """Runs the command to its end and returns what it said."""
    process = start(arguments, workdir)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def kill_after(arguments, workdir, epoch: int, step: int = 0, folder: str = "backup") -> None:
    """Starts the command and kills it as soon as there is a checkpoint of so many epochs and steps of the next."""
    kill_at(f"{folder}: {epoch}, {step}", arguments, workdir)
    assert not (workdir / "summary.json").exists()


def is_there(mark: str, workdir: pathlib.Path) -> bool:
    """Whether a workdir has the file `mark`, or for `FOLDER: EPOCH, STEP` a checkpoint of that place or a later one."""
    folder, colon, place = mark.partition(": ")
    if not colon:
        return (workdir / mark).exists()
    with contextlib.suppress(KdartsError, OSError):  # While it is being written.
        records, _ = notes(workdir / folder)
        return (len(records["history"]), records["step"]) >= tuple(map(int, place.split(", ")))
    return False


def kill_at(mark: str, arguments, workdir) -> None:
    """Starts the command and kills it as soon as `mark` is there, as of `is_there`."""
    process, limit = start(arguments, workdir), time.monotonic() + 200
    while not is_there(mark, workdir):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit, f"{mark} was not written"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def same_state(one: pathlib.Path, other: pathlib.Path) -> None:
    """Compares two files of arrays, or the variables and arrays in the newest checkpoints of two folders."""
    a, b = map(_arrays, (one, other))
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], err_msg=name)


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    if path.is_file():
        return dict(np.load(path))
    reader = tf.train.load_checkpoint(checkpoints(path)[-1])
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("variables/")]
    return {name: reader.get_tensor(name) for name in names} | notes(path)[1]


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [[1], [1, 2, 3]], ids=str)
def test_a_search_killed_in_any_epoch_comes_to_the_same_result(tmp_path, epochs):
    _killed_and_whole(SEARCH, tmp_path, epochs, ["genotype.json", "genotypes.jsonl", "history.csv", "alphas.npz"])


@pytest.mark.slow
def test_a_killed_search_of_individual_cells_in_float16_comes_to_the_same_result(tmp_path):
    _killed_and_whole(DDARTS, tmp_path, [1], ["genotype.json", "history.csv", "alphas.npz"])


@pytest.mark.slow
def test_a_killed_search_whose_alpha_moves_once_an_epoch_comes_to_the_same_result(tmp_path):
    _killed_and_whole(EDARTS, tmp_path, [1, 2], ["genotype.json", "history.csv", "alphas.npz"])


@pytest.mark.slow
def test_a_killed_search_that_freezes_operations_comes_to_the_same_result(tmp_path):
    oles = [*SEARCH[:4], "--epochs=3", "--method=oles", "--freeze_window=10", "--freeze_every=2"]
    _killed_and_whole(oles, tmp_path, [1], ["genotype.json", "history.csv", "alphas.npz"])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [CUBOID, LIMITED], ids=["states", "limits"])
def test_a_killed_search_of_a_hypercuboid_comes_to_the_same_result(tmp_path, arguments):
    _killed_and_whole(arguments, tmp_path, [1], ["genotype.json", "genotypes.jsonl", "history.csv", "alphas.npz"])


@pytest.mark.slow
def test_a_search_of_stages_killed_in_its_second_comes_to_the_same_result(tmp_path):
    arguments = [*PDARTS, "--warmup_epochs=1", "--validate_every=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(arguments, whole)
    kill_after(arguments, killed, 2, folder="stages/2/backup")
    assert "going on after epoch 2 of 3" in finish(arguments, killed)
    for name in ("genotype.json", "genotypes.jsonl", "history.csv"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    for name in ("alphas.npz", *(f"stages/{stage}/backup" for stage in (1, 2, 3))):
        same_state(whole / name, killed / name)


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path):
    Workdir(tmp_path).begin({"seed": "0"})
    for left in (".genotypes.abc.writing", "family/.genotype.xyz.writing"):
        (tmp_path / left).mkdir(parents=True)
        (tmp_path / left / "part").write_text("half")
    (tmp_path / ".notes").write_text("the user's")
    Workdir(tmp_path).begin({"seed": "0"})
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".notes", "family", "flags.flags"]


@pytest.mark.slow
def test_a_training_killed_within_an_epoch_comes_to_the_same_result(tmp_path):
    said = _killed_and_whole(TRAIN, tmp_path, [(0, 9), (3, 0)], ["history.csv"], "--checkpoint_every=3")
    assert "going on after epoch 3 of 4" in said


@pytest.mark.slow
def test_a_killed_training_that_keeps_its_best_epoch_comes_to_the_same_result(tmp_path):
    arguments = [*TRAIN, "--hold_back=0.2", "--validate_every=1", "--keep=best"]
    _killed_and_whole(arguments, tmp_path, [(1, 6), (3, 0)], ["history.csv"], "--checkpoint_every=3")
    summaries = [json.loads((tmp_path / run / "summary.json").read_text()) for run in ("whole", "killed")]
    measured = [name for name in summaries[0] if name.startswith(("test", "held_back"))]
    assert "tested_after_epochs" in measured
    assert [summaries[0][name] for name in measured] == [summaries[1][name] for name in measured]
    whole, killed = (load_model(tmp_path / run / "model.keras").get_weights() for run in ("whole", "killed"))
    assert all(map(np.array_equal, whole, killed))


def _killed_and_whole(arguments, tmp_path, epochs, files, *more) -> str:
    """Kills a run after some epochs, or after `(epochs, steps)`; `more` are flags that must not matter."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(arguments, whole)
    for epoch in epochs:
        kill_after([*arguments, *more], killed, *(epoch if isinstance(epoch, tuple) else (epoch,)))
    said = finish(arguments, killed)
    assert "going on after epoch" in said
    for name in files:
        if name.endswith(".npz"):
            same_state(whole / name, killed / name)
        else:
            assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    same_state(whole / "backup", killed / "backup")
    assert not list(killed.rglob(".*")), "a temporary file was left"
    return said
