"""Runs killed at random moments come to the same result."""

import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from kdarts.training.checkpoint import Checkpoint
from kdarts.training.workdir import write_arrays, write_json, write_table

PROGRAM = pathlib.Path(__file__).parent.parent / "tools" / "kill_runs.py"


@pytest.mark.slow
def test_killed_runs_of_every_method_come_to_the_same(tmp_path):
    # A process of its own: it forks.
    command = [sys.executable, str(PROGRAM), f"--workdir={tmp_path}", "--kills=10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("; the same") == 10


@pytest.mark.slow
def test_killed_runs_that_read_pictures_as_they_go_come_to_the_same(tmp_path):
    command = [sys.executable, str(PROGRAM), f"--workdir={tmp_path}", "--kills=10", "--runs=streamed"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| streamed | 10 |" in done.stdout
    assert "read as they are needed" in (tmp_path / "streamed.out").read_text()


def _save(folder, weight, noted=0.1, epoch=0):
    """Saves a checkpoint of a model of one weight."""
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    model.compile("sgd", "mse")
    model.set_weights([np.full((1, 1), weight)])
    checkpoint = Checkpoint(folder, model, 1)
    checkpoint.arrays["noted"] = [np.array(noted)]
    checkpoint.on_epoch_end(epoch)


def test_what_differs_is_found(tool, tmp_path):
    difference = tool("tiny_runs").difference
    one, other = tmp_path / "one", tmp_path / "other"
    alpha = np.arange(4, dtype=np.float32)
    write_table(one / "history.csv", [{"epoch": 0, "loss": 0.1}])
    write_json(one / "summary.json", {"accuracy": 0.5, "wall_seconds": 3.0})
    write_arrays(one / "alphas.npz", {"normal": alpha})
    _save(one / "backup", 1.0)
    changes = {
        "history.csv": lambda path: write_table(path, [{"epoch": 0, "loss": np.nextafter(0.1, 1)}]),
        "summary.json": lambda path: write_json(path, {"accuracy": 0.6, "wall_seconds": 3.0}),
        "alphas.npz: normal": lambda path: write_arrays(path, {"normal": np.nextafter(alpha, 9)}),
        "backup: variables/model/0/.ATTRIBUTES/VARIABLE_VALUE": lambda path: _save(
            path, np.nextafter(np.float32(1), np.float32(2))
        ),
        "backup: noted": lambda path: _save(path, 1.0, noted=0.2),
        "backup: records": lambda path: _save(path, 1.0, epoch=1),
    }
    for name, change in changes.items():
        shutil.copytree(one, other, dirs_exist_ok=True)
        write_json(other / "summary.json", {"accuracy": 0.5, "wall_seconds": 4.0})
        assert difference(one, other) is None
        change(other / name.partition(":")[0])
        assert difference(one, other) == name
    (other / "history.csv").unlink()
    assert difference(one, other) is not None
