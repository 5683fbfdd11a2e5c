"""Every command and every piece of Python in the README and in docs/ works: its flags are flags, and it runs, small."""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli.main import VERBS, command_of, main
from kdarts.genotypes.cuboid import HyperPath, load_architecture, load_family
from kdarts.search.method import get_method

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MEASURED = {"benchmark", "ddarts", "edarts", "sharpdarts", "speed"}
"""Pages of results, whose commands take hours and are tested at other sizes, in the tests of what they are about."""
TESTED = {"serving", "backbone"}
"""Pages whose Python is tested beside what it is about (test_export, test_backbone)."""
BATCH = ["--epochs=1", "--batch_size=16", "--train_examples=32"]
PATHS = ["--path_batch_size=16", "--calibration_batches=1"]
FAMILY = ["--population=2", "--generations=1"]


def blocks(page: pathlib.Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: pathlib.Path) -> list[list[str]]:
    """The words of each command of a page: `kdarts`, or `python` and a program of the project."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", "").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(("kdarts ", "python "))]


def small(words: list[str]) -> list[str]:
    """Flags that make a command a matter of seconds."""
    verb, given = words[0], dict(word.removeprefix("--").partition("=")[::2] for word in words[1:])
    if "workdir" not in given and verb in ("auto", "search", "train"):
        folder = f"--workdir=runs/unnamed-{zlib.crc32(' '.join(words).encode())}"
        return [folder, *small([*words, folder])]
    if verb == "search":
        method = get_method(given.get("method", "darts"))
        if "start" in given:
            sizes = ["--pretrain_epochs=1", "--stop=epochs"]  # its cells are those of the start
        elif "stages" in given or method.stages:
            sizes = ["--nodes=2", "--stages=2:8,2:5:0.4", "--warmup_epochs=0"]
        else:
            sizes = ["--cells=2", "--nodes=2"]
        sizes += PATHS if method.paths else []
        sizes += ["--path_epochs=1"] if method.paths and method.path_choice != "evolution" else []
        if given.get("space") == "mobile":
            few = [*PATHS, *FAMILY, "--path_epochs=1"] if "paths" in given else []
            few += ["--blocks=mb_k3_e3,skip"] if "latency_table" in given else []
            return [*BATCH, "--valid_examples=16", *few]
        sizes += FAMILY if method.paths and method.path_choice in ("family", "evolution") else []
        return [*BATCH, "--valid_examples=16", "--channels=4", *sizes]
    if verb == "train":
        if "family" in given:
            own = isinstance(next(iter(load_family(given["family"]).values())), HyperPath)
            return [*BATCH, *([] if own else ["--channels=4", "--cells=2"])]
        found = load_architecture(given["genotype"])
        if isinstance(found, HyperPath):
            return BATCH
        return [*BATCH, "--channels=4", *(["--cells=2"] if found.sequence is None else [])]
    if verb == "auto":
        return ["--minutes=1", "--train_examples=60"]
    if verb == "export":
        return ["--min_agreement=0"]  # of a network that has learned nothing yet
    if verb == "tune":
        shallow = ["--shallow_epochs=1", "--shallow_channels=4", "--shallow_train_examples=64"]
        return [*BATCH, "--valid_examples=16", "--channels=4", "--cells=2", *shallow, "--trials=1", "--seeds=1"]
    if verb == "tools/latency_table.py":
        chain = ["--blocks=mb_k3_e3,skip", "--validate=0"]
        return ["--runs=1", *(chain if "space" in given else ["--channels=4", "--cells=2", "--nodes=2"])]
    return []


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of its own to run commands in, with the project's files and some pictures."""
    for name in ("flags", "examples", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    rng = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        for number in range(45):
            data = tf.io.encode_png(rng.integers(0, 255, (32, 32, 3), np.uint8))
            (tmp_path / "pictures" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "pictures" / kind / f"{number}.png").write_bytes(data.numpy())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_flags_of_every_command_exist(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for program, *words in commands(page):
        check_flags(program, words)


def check_flags(program: str, words: list[str]) -> None:
    """Of a command of `kdarts`, verb and flags exist; of `python`, the program does."""
    if program == "python":
        assert (ROOT / words[0]).is_file(), words
    else:
        assert words[0] in VERBS, words
        made = [word for word in words if word.startswith("--flagfile=runs/")]  # by a command before it
        command_of(words[0]).parse([w for w in words if w not in made])


def test_the_tables_of_the_methods_are_those_of_the_classes(tool):
    tables = tool("methods_tables")
    assert tables.page() == tables.PAGE.read_text("utf-8"), "run python tools/methods_tables.py"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in MEASURED], ids=lambda page: page.stem)
def test_commands_of_a_page_run_one_after_another(page, place, eagerly, request, capsys):
    for program, *words in commands(page):
        if any(word.startswith("--format=") and "onnx" in word for word in words):
            pytest.importorskip("tf2onnx")
        words = [*words, *small(words)]
        if "--data_dir=DIR" in words:
            words[words.index("--data_dir=DIR")] = f"--data_dir={request.getfixturevalue('cifar10_dir')}"
        if program == "python":
            _python(words, place)
            continue
        if any(word.startswith("--target_latency_ms=") for word in words):  # How fast a machine is, no page can know.
            assert main([*words, "--target_latency_ms=1e-6"]) == 2
            least, most = re.search(r"allowed are (\S+) to (\S+)", capsys.readouterr().err).groups()
            words = [*words, f"--target_latency_ms={(float(least) + float(most)) / 2}"]
        assert main(words) == 0, words


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_of_a_page_runs(page, place):
    pieces = blocks(page, "python")
    if pieces and page.stem not in TESTED:
        start = "import keras\nimport kdarts\nkdarts.configure_threads()\n"
        _python(["-c", start + "\n".join(pieces)], place)


@pytest.mark.slow
def test_the_example_of_a_space_of_ones_own_finds_and_trains_a_network(place):
    assert len((ROOT / "examples" / "own_space.py").read_text().splitlines()) < 30
    said = _python(["examples/own_space.py"], place)
    assert '"conv_3x3"' in said
    assert float(re.findall(r"accuracy: ([\d.]+)", said)[-1]) > 0.8


def _python(arguments, folder) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
