"""A workdir belongs to one run, and to one process at a time."""

import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from kdarts.cli.command import IN_USE, exit_code
from kdarts.genotypes.errors import KdartsError
from kdarts.training import workdir
from kdarts.training.workdir import InUse, Workdir, lock, shares

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


def test_a_folder_in_use_is_refused_until_its_process_dies(other, tmp_path, monkeypatch, capsys):
    for refused in (Workdir(tmp_path).check, Workdir(tmp_path).begin):
        with pytest.raises(InUse, match=f"in use by (process {other.pid}|another process); wait"):
            refused({"seed": "0"})
    assert not list(tmp_path.iterdir())
    assert exit_code("kdarts", lambda: Workdir(tmp_path).begin({"seed": "0"})) == IN_USE
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-1")
    Workdir(tmp_path).check({"seed": "0"})
    monkeypatch.delenv("KERASTUNER_ORACLE_IP")
    other.kill()
    other.wait()
    Workdir(tmp_path).begin({"seed": "0"})
    Workdir(tmp_path).begin({"seed": "0"})  # Its own process is no other.


def test_a_folder_made_anew_is_locked_anew(tmp_path):
    for _ in range(2):
        (tmp_path / "run").mkdir()
        lock(tmp_path / "run")
        shutil.rmtree(tmp_path / "run")


def test_a_file_system_without_locks_is_told_once(tmp_path, monkeypatch, capsys):
    def flock(descriptor, operation):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(workdir.fcntl, "flock", flock)
    monkeypatch.setattr(workdir, "_without_locks", [])
    for name in ("one", "two"):
        Workdir(tmp_path / name).begin({"seed": "0"})
        Workdir(tmp_path / name).check({"seed": "0"})
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert f"{tmp_path / 'one'} cannot be locked (Operation not supported)" in told.err


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


DEFAULTS = {"epochs": "50", "seed": "0", "new": "false"}


@pytest.mark.parametrize(
    ("recorded", "given"),
    [
        ({"epochs": "3"}, {"epochs": "3"}),
        ({"epochs": "50", "seed": "0"}, {}),  # As earlier releases recorded: every flag there was.
        ({"epochs": "50", "seed": "0"}, DEFAULTS),
        ({"epochs": "3"}, {"epochs": "3", "new": "false"}),
        ({}, {"seed": "0"}),
    ],
)
def test_a_flag_that_is_missing_has_its_default(tmp_path, recorded, given):
    Workdir(tmp_path).begin(recorded)
    Workdir(tmp_path).check(given, DEFAULTS)
    assert Workdir(tmp_path).flags() == recorded
    Workdir(tmp_path).begin(given, DEFAULTS)
    assert Workdir(tmp_path).flags() == given


@pytest.mark.parametrize(
    ("recorded", "given", "told"),
    [
        ({"epochs": "3"}, {}, "there --epochs=3, here --epochs=50"),
        ({}, {"new": "true"}, "there --new=false, here --new=true"),
        ({"epochs": "50"}, {"image_size": "16"}, "there --image_size=unset, here --image_size=16"),
        ({"dropped": "1"}, {}, "there --dropped=1, here --dropped=unset"),
    ],
)
def test_another_run_is_refused(tmp_path, recorded, given, told):
    Workdir(tmp_path).begin(recorded)
    for refused in (Workdir(tmp_path).check, Workdir(tmp_path).begin):
        with pytest.raises(KdartsError, match=rf"belongs to another run: {told} \(its flags\.flags\)"):
            refused(given, DEFAULTS)


def test_the_record_with_the_checksum_of_earlier_releases_is_read(tmp_path):
    (tmp_path / "flags.flags").write_text(f"--epochs=3\n--seed=0\n# sha256 {'0' * 64}\n")
    assert Workdir(tmp_path).flags() == {"epochs": "3", "seed": "0"}
    Workdir(tmp_path).begin({"epochs": "3"}, DEFAULTS)


def test_a_folder_is_released_unless_its_run_has_saved_something(tmp_path):
    for saved in (False, True):
        Workdir(tmp_path).begin({"seed": "0"})
        if saved:
            (tmp_path / "backup").mkdir()
            (tmp_path / "backup" / "ckpt-1.index").touch()
        Workdir(tmp_path).release()
        assert (tmp_path / "flags.flags").exists() is saved
    (tmp_path / "flags.flags").unlink()
    with pytest.raises(KdartsError, match=r"holds other files and no flags\.flags"):
        Workdir(tmp_path).check({"seed": "0"})
