import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.models import save_model
from kdarts.networks.network import build_network
from kdarts.search.replicas import make_strategy

PROGRAM = pathlib.Path(__file__).with_name("replicas_program.py")
FAST = ("first", "draws")
RUNS = ("whole", "restored")
SLOW = (
    "second",
    "first_individual",
    "second_individual",
    "exact",
    "ablation",
    "epoch",
    "recompute",
    "partial",
    "freezing",
)
STATES = ("infinity", "checkpoint")


def start(target, cases, **environment):
    """A process of the program that writes to `target`."""
    path = os.pathsep.join([str(PROGRAM.parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1", **environment}
    return subprocess.Popen([sys.executable, PROGRAM, target, *cases], env=environment)


def wait(processes, seconds):
    """Waits for all of them and sees that they end well."""
    try:
        assert [process.wait(seconds) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()


def run(folder, cases, seconds=900):
    """What the program leaves of cases, by its names."""
    wait([start(folder / "found.npz", cases)], seconds)
    return dict(np.load(folder / "found.npz"))


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return run(tmp_path_factory.mktemp("fast"), FAST)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return run(tmp_path_factory.mktemp("slow"), (*SLOW, *STATES))


def two_equal_one(found, case):
    both = [{k.split(":", 2)[2]: v for k, v in found.items() if k.startswith(f"{case}:{n}:")} for n in ("one", "two")]
    assert set(both[0]) == set(both[1]) and {"loss", "accuracy"} < set(both[0])
    for name, value in both[0].items():
        np.testing.assert_allclose(both[1][name], value, rtol=0, atol=1e-5, err_msg=f"{case} {name}")


def test_two_replicas_come_to_what_one_device_comes_to(fast):
    two_equal_one(fast, "first")


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_two_replicas_come_to_what_one_device_comes_to_in_every_step(slow, case):
    two_equal_one(slow, case)


@pytest.mark.slow
def test_an_infinity_on_one_replica_is_skipped_on_all_and_halves_the_loss_scale(slow):
    for replica in "01":
        assert not slow[f"infinity:bad:moved:{replica}"].any()
        assert (slow[f"infinity:bad:scales:{replica}"] == 2.0**14).all()
        good = slow[f"infinity:good:moved:{replica}"]
        assert good.any() and np.isfinite(good).all()
        assert (slow[f"infinity:good:scales:{replica}"] == 2.0**14).all()


def test_what_concerns_alpha_is_drawn_alike_and_dropouts_are_their_own(fast):
    np.testing.assert_array_equal(fast["draws:alpha:0"], fast["draws:alpha:1"])
    assert set(np.unique(fast["draws:alpha:0"])) == {0.0, 1.0}
    for name in ("path", "skip"):
        assert (fast[f"draws:{name}:0"] != fast[f"draws:{name}:1"]).any()


def restored_equals_whole(found):
    parts = [{k.split(":", 2)[2]: v for k, v in found.items() if k.startswith(f"checkpoint:{n}:")} for n in RUNS]
    assert set(parts[0]) == set(parts[1]) and {"loss", "accuracy", "0:0"} < set(parts[0])
    for name, value in parts[0].items():
        np.testing.assert_array_equal(parts[1][name], value, err_msg=name)


@pytest.mark.slow
def test_a_search_restored_on_two_replicas_comes_to_the_same(slow):
    restored_equals_whole(slow)
    assert "checkpoint:restored:0:1" in slow


def two_tasks():
    """`TF_CONFIG` of each of two workers on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        hosts = [f"127.0.0.1:{s.getsockname()[1]}" for s in (a, b)]
    return [
        json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}) for index in range(2)
    ]


@pytest.mark.slow
def test_two_processes_come_to_what_two_replicas_come_to(fast, slow, tmp_path):
    files = [tmp_path / f"{index}.npz" for index in range(2)]
    cases = ["first", "checkpoint"]
    wait([start(f, cases, TF_CONFIG=task) for f, task in zip(files, two_tasks(), strict=True)], 600)
    for file in files:
        restored_equals_whole(dict(np.load(file)))
        for name, value in np.load(file).items():
            np.testing.assert_array_equal({**slow, **fast}[name], value, err_msg=name)


RUN = """
import pathlib, sys
from kdarts.cli.process import start_tensorflow
start_tensorflow()
from kdarts.search.replicas import is_chief, make_strategy
from kdarts.training.distribution import run_together
from kdarts.training.workdir import Workdir

strategy = make_strategy("multi_worker")
workdir = Workdir(sys.argv[1])
for epoch in ("1", "2"):
    with run_together(strategy, workdir) as folder:
        assert (folder.path == workdir.path) == is_chief(strategy)
        state = folder / "backup" / "state"
        before = state.read_text() if state.exists() else ""
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text(before + epoch)
        assert not (folder / "events" / "file").exists() or is_chief(strategy)
    assert folder.path.exists() == is_chief(strategy)
    print(before + epoch, flush=True)
if len(sys.argv) > 2 and not is_chief(strategy):
    workdir = Workdir(sys.argv[2])
with run_together(strategy, workdir):
    pass
"""
"""Two runs of two processes in one folder."""


def two_processes(*arguments):
    """Runs `RUN` in both tasks, and returns what each prints, its errors and its exit code."""
    path = os.pathsep.join([str(PROGRAM.parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    processes = [subprocess.Popen(command, env={**environment, "TF_CONFIG": task}, **pipes) for task in two_tasks()]
    try:
        return [(*process.communicate(timeout=300), process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()


def test_the_chief_alone_writes_the_workdir_and_all_restore_the_same_state(tmp_path):
    folder = tmp_path / "run"
    (folder / "events").mkdir(parents=True)
    (folder / "events" / "file").touch()
    ended = two_processes(folder)
    assert [(out, code) for out, _, code in ended] == [("1\n12\n", 0)] * 2, ended
    assert (folder / "backup" / "state").read_text() == "12"


def test_hosts_that_do_not_see_the_workdir_are_refused(tmp_path):
    for _, error, code in two_processes(tmp_path / "run", tmp_path / "other"):
        assert code == 1 and "all hosts need to see it, on one file system" in error


@pytest.mark.slow
def test_the_same_command_on_two_hosts_leaves_one_workdir_and_goes_on_from_it(tmp_path):
    command = [sys.executable, "-m", "kdarts", "search", "--operations=none,skip_connect,max_pool_3x3", "--cells=2"]
    command += ["--channels=2", "--nodes=1", "--epochs=20", "--train_examples=64", "--valid_examples=33"]
    command += ["--batch_size=16", "--strategy=multi_worker", f"--workdir={tmp_path / 'run'}"]
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parent.parent), "CUDA_VISIBLE_DEVICES": "-1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": tmp_path}

    def begin():
        return [subprocess.Popen(command, env={**environment, "TF_CONFIG": task}, **pipes) for task in two_tasks()]

    processes, limit = begin(), time.monotonic() + 600
    while not any((tmp_path / "run" / "backup").glob("ckpt-*.index")):
        assert time.monotonic() < limit and all(process.poll() is None for process in processes)
        time.sleep(0.01)
    for process in processes:
        process.kill()
        process.communicate()
    assert not (tmp_path / "run" / "summary.json").exists()
    processes = begin()
    printed = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    assert all("going on after epoch" in text for text in printed)
    assert "Found a network" in printed[0] and "Found a network" not in printed[1]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 20
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


MIRRORED = """
import sys
from kdarts.cli.process import start_tensorflow
start_tensorflow()
import tensorflow as tf
devices = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1])
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
from kdarts.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
"""A command on a machine of so many devices."""


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_mirrored_training_killed_and_resumed_ends_in_the_figures_of_its_model(devices, tmp_path):
    command = ["train", "--genotype=DARTS_V1", "--cells=2", "--channels=4", "--epochs=20", "--train_examples=64"]
    command += ["--batch_size=16", "--strategy=mirrored", f"--workdir={tmp_path / 'run'}"]
    teacher = tmp_path / "teacher.keras"
    save_model(build_network("DARTS_V1", (8, 8, 1), 10, channels=2, cells=2), teacher, {"mean": [0.3], "std": [0.4]})
    command += ["--ema=0.9", "--mixup=0.2", "--l2=0", "--weight_decay=3e-3", "--decay=kernels", f"--teacher={teacher}"]
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parent.parent), "CUDA_VISIBLE_DEVICES": "-1"}
    options = {"env": environment, "cwd": tmp_path, "text": True}
    words, limit = [sys.executable, "-c", MIRRORED, str(devices), *command], time.monotonic() + 300
    killed = subprocess.Popen(words, stdout=subprocess.DEVNULL, **options)
    while not any((tmp_path / "run" / "backup").glob("ckpt-*.index")):
        assert time.monotonic() < limit and killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    for _ in range(2):  # The second time it is finished.
        resumed = subprocess.run(words, capture_output=True, timeout=300, **options)
        assert resumed.returncode == 0, resumed.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["epochs"] == 20
    words = [sys.executable, "-m", "kdarts", "evaluate", f"--model={tmp_path / 'run' / 'model.keras'}"]
    evaluated = subprocess.run(words, capture_output=True, timeout=300, check=True, **options)
    figures = json.loads(evaluated.stdout)
    assert figures["accuracy"] == pytest.approx(summary["test_accuracy"], abs=1e-6)
    assert figures["loss"] == pytest.approx(summary["test_loss"], rel=1e-4)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}']
)
def test_a_wrong_tf_config_is_told_in_one_line(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(KdartsError, match="on each host it needs to be such as"):
        make_strategy("multi_worker")


def test_flags_that_do_not_go_together_are_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("kdarts.training.distribution.configure_threads", lambda: None)
    common = ["search", f"--workdir={tmp_path / 'run'}", "--strategy=mirrored"]
    assert main([*common, "--jit_compile"]) == 2
    assert "--jit_compile: not with --strategy=mirrored" in capsys.readouterr().err
