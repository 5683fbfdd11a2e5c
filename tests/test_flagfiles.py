"""Every published experiment takes two steps, on few pictures; test_recipes.py has its real size."""

import json
import pathlib
import re

import numpy as np
import pytest
from conftest import prepared

from kdarts.cli.main import main
from kdarts.genotypes.cuboid import HyperPath, load_architecture

FLAGFILES = sorted((pathlib.Path(__file__).parent.parent / "flags").glob("*.flags"))
QUICK = {"quickstart", "ddarts_cifar10", "pcdarts_cifar10", "train_cifar10"}
TRACED = {"quickstart", "train_cifar10"}
SMALL = {"search": ["--channels=4", "--cells=2", "--nodes=2"], "train": ["--channels=4"]}
SMALL_CHAIN = ["--width=0.25"]
SMALL_PATHS = ["--path_batch_size=32", "--calibration_batches=1"]
SMALL_FAMILY = ["--population=2", "--generations=1"]
SMALL_START = ["--channels=4", "--pretrain_epochs=1"]  # its cells are those of the start
SMALL_STAGES = ["--channels=4", "--nodes=2", "--stages=2:8,2:5:0.4", "--warmup_epochs=0"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Prepared data sets under the names of the real ones, of a few pictures."""
    root = tmp_path_factory.mktemp("tfds")
    size = {"shape": (32, 32, 3), "size": lambda i: (32, 32), "count": 400}
    prepared(root, "cifar10", ("train", "test"), **size, version="3.0.2", words=("id",))
    prepared(root, "cifar100", ("train", "test"), **size, version="3.0.2", words=("id",), labels=("coarse_label",))
    prepared(root, "imagenet2012", ("train", "validation"), **size, version="5.1.0", words=("file_name",))
    return root


def _speed(path):
    """One of each kind is tried by default, the rest in the long run."""
    return [] if path.stem in QUICK else [pytest.mark.slow]


@pytest.mark.parametrize("path", [pytest.param(path, marks=_speed(path), id=path.stem) for path in FLAGFILES])
def test_flagfile_opens_with_its_command_and_takes_two_steps(path, data_dir, tmp_path, monkeypatch, capsys, request):
    if path.stem not in TRACED:  # Tracing every one would take half an hour, and memory that is not given back.
        request.getfixturevalue("eagerly")
    lines = path.read_text("utf-8").splitlines()
    command = re.fullmatch(rf"# kdarts (\w+) --flagfile=flags/{path.name}(.*)", lines[0])
    assert command, "the first line is to be the command"
    verb = command[1]
    given = [word for word in command[2].split() if not word.startswith("--data_dir")]
    start = any(line.startswith("--start=") for line in lines)
    staged = any(line.startswith("--stages=") for line in lines)
    small = SMALL_START if start else SMALL_STAGES if staged else SMALL[verb]
    small = SMALL_CHAIN if "--space=mobile" in lines else small
    if any(line.startswith("--alignment_weight=") for line in lines):  # It compares normal cells.
        small = [*small, "--cells=4"]
    batch = int(re.search(r"^--batch_size=(\d+)$", "\n".join(lines), re.MULTILINE)[1])
    if batch > 32:  # Faster, and there are not more pictures.
        batch, small = 32, [*small, "--batch_size=32"]
    examples = [f"--train_examples={2 * batch}", *([f"--valid_examples={batch}"] if verb == "search" else [])]
    arguments = [verb, f"--flagfile={path}", *given, f"--data_dir={data_dir}", *small, *examples]
    named = [word.partition("=")[2] for word in given if word.startswith("--genotype=")]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flags").symlink_to(path.parent)
    for first in re.findall("^# First: kdarts (.*)$", "\n".join(lines), re.MULTILINE):
        assert main(first.split()) == 0
    found = load_architecture(named[0]) if verb == "train" else None
    if isinstance(found, HyperPath):
        arguments.remove("--channels=4")  # It has sizes of its own.
    elif verb == "train" and found.sequence is None:  # Others have a depth of their own.
        arguments.append("--cells=2")
    arguments += ["--samples=2"] if any(line.startswith("--samples=") for line in lines) else []
    if any(line.startswith("--paths=") for line in lines):
        arguments += [*SMALL_PATHS, *([] if "--path_choice=skips" in lines else SMALL_FAMILY)]
        arguments += [] if "--path_choice=evolution" in lines else ["--path_epochs=1"]
    arguments += ["--target_params=10k"] if any(line.startswith("--target_params=") for line in lines) else []
    arguments += ["--epochs=1", f"--workdir={tmp_path / 'run'}"]
    assert main(arguments) == 0
    untrained = "--notrain_weights" in lines and "--update=frozen" in lines  # One step is only to measure with.
    assert ("1 step an epoch" if untrained else "2 steps an epoch") in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["epochs"] == 1 + staged + start
    assert untrained or np.isfinite(summary["step_ms"])
