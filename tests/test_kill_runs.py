"""Runs killed at random moments come to the same result."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from kdarts.training.files import write_arrays, write_json, write_table

PROGRAM = pathlib.Path(__file__).parent.parent / "tools" / "kill_runs.py"


@pytest.mark.slow
def test_killed_runs_of_every_method_come_to_the_same(tmp_path):
    # A process of its own: it forks.
    command = [sys.executable, str(PROGRAM), f"--workdir={tmp_path}", "--kills=10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| 2 |") >= 5


def test_what_differs_is_found(tool, tmp_path):
    difference = tool("tiny_runs").difference
    one, other = tmp_path / "one", tmp_path / "other"
    alpha = np.arange(4, dtype=np.float32)
    write_table(one / "history.csv", [{"epoch": 0, "loss": 0.1}])
    write_json(one / "summary.json", {"accuracy": 0.5, "wall_seconds": 3.0})
    write_arrays(one / "backup" / "epoch-000001.npz", {"v0": alpha, "records": '{"seconds": 1.0, "history": [1]}'})
    changes = {
        "history.csv": lambda path: write_table(path, [{"epoch": 0, "loss": np.nextafter(0.1, 1)}]),
        "summary.json": lambda path: write_json(path, {"accuracy": 0.6, "wall_seconds": 3.0}),
        "backup/epoch-000001.npz: v0": lambda path: write_arrays(
            path, {"v0": np.nextafter(alpha, 9), "records": '{"seconds": 1.0, "history": [1]}'}
        ),
        "backup/epoch-000001.npz: records": lambda path: write_arrays(
            path, {"v0": alpha, "records": '{"seconds": 1.0, "history": [2]}'}
        ),
    }
    for name, change in changes.items():
        shutil.copytree(one, other, dirs_exist_ok=True)
        write_json(other / "summary.json", {"accuracy": 0.5, "wall_seconds": 4.0})
        assert difference(one, other) is None
        change(other / name.partition(":")[0])
        assert difference(one, other) == name
    (other / "history.csv").unlink()
    assert difference(one, other) is not None
