"""A workdir belongs to one process at a time."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.training.workdir import Workdir, lock, shares

ROOT = pathlib.Path(__file__).parent.parent
HOLD = """
import pathlib, sys
from kdarts.training.workdir import lock
lock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that has locked a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], env=environment, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_in_use_is_refused_until_its_process_dies(other, tmp_path, monkeypatch):
    for refused in (Workdir(tmp_path).check, Workdir(tmp_path).claim):
        with pytest.raises(KdartsError, match=f"in use by (process {other.pid}|another process); wait"):
            refused({"seed": "0"})
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-1")
    Workdir(tmp_path).check({"seed": "0"})
    monkeypatch.delenv("KERASTUNER_ORACLE_IP")
    other.kill()
    other.wait()
    Workdir(tmp_path).claim({"seed": "0"})
    Workdir(tmp_path).claim({"seed": "0"})  # Its own process is no other.


def test_a_folder_made_anew_is_locked_anew(tmp_path):
    for _ in range(2):
        (tmp_path / "run").mkdir()
        lock(tmp_path / "run")
        shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("task", "shared"),
    [
        ({"type": "worker", "index": 0}, False),
        ({"type": "worker", "index": 1}, True),
        ({"type": "chief", "index": 0}, False),
    ],
)
def test_workers_beside_the_first_share_its_folder(monkeypatch, task, shared):
    assert not shares()
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {}, "task": task}))
    assert shares() is shared


def test_flags_are_written_twice(tmp_path, capsys):
    Workdir(tmp_path).claim({"seed": "0"})
    copy = tmp_path / "backup" / "flags.flags"
    for record in (tmp_path / "flags.flags", copy):
        record.write_text(record.read_text().replace("seed=0", "seed=1"))
        Workdir(tmp_path).claim({"seed": "0"})
        assert capsys.readouterr().out == f"{record}: damaged (checksum); made again from its copy\n"
        assert "--seed=0\n" in record.read_text()
    for record in (tmp_path / "flags.flags", copy):
        record.write_text("")
    with pytest.raises(KdartsError, match=r"flags\.flags and .*flags\.flags: damaged"):
        Workdir(tmp_path).check({"seed": "0"})
