"""`kdarts tune` and `kdarts search --seeds`, but for the searches: what they start, keep and write."""

import csv
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from kdarts.cli.main import main
from kdarts.cli.search import SEARCH, build
from kdarts.cli.train import TRAIN
from kdarts.data.datasets import hold_back, load
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import get_method
from kdarts.search.random_search import random_found
from kdarts.training.workdir import write_json

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner")  # It asks for its thread as of old.

ROOT = pathlib.Path(__file__).parent.parent
SMALL = ["--cells=2", "--nodes=1", "--channels=2", "--shallow_channels=4"]
TUNE = ["tune", *SMALL, "--choose=zero_one_weight=1,2,4", "--choose=arch_learning_rate=1e-3..1e-1:log", "--trials=4"]


@pytest.fixture
def commands(monkeypatch):
    """Stands in for searches and trainings: notes the commands; `killed` holds the numbers of those that are."""
    begun, killed = [], set()

    def run(words, **_):
        begun.append(words)
        if len(begun) in killed:
            raise KeyboardInterrupt
        values = (SEARCH if words[0] == "search" else TRAIN).parse(words)
        folder = pathlib.Path(values.workdir)
        summary = {"wall_seconds": 2.0, "params": 1000 + values.seed}
        if words[0] == "search":
            if values.learning_rate == 99:
                write_json(folder / "stopped.json", {"stopped_by": "divergence"})
                return 2
            worth = (values.zero_one_weight or 0) / 10 + values.seed / 100 + (values.epochs or 0) / 1000
            names = ["sep_conv_3x3", "skip_connect"]
            Genotype([[(names[values.seed % 2], 2, 0), ("skip_connect", 2, 1)]] * 2, [(2,), (2,)]).save(
                folder / "genotype.json"
            )
            (folder / "history.csv").write_text(f"worth\n{worth}\n")
            write_json(folder / "summary.json", summary | {"valid_accuracy": worth, "skip_connects": 1})
        else:
            searched = folder.parent / "search" / "summary.json"
            worth = json.loads(searched.read_text())["valid_accuracy"] if searched.exists() else 0.05
            write_json(folder / "summary.json", summary | {"held_back_accuracy": worth, "held_back_examples": 287})
        return 0

    monkeypatch.setattr("kdarts.cli.seeds.run_kdarts", run)
    return begun, killed


def _rows(path):
    return list(csv.DictReader(path.open(encoding="utf-8")))


def _files(folder):
    """What a tuning came to, wherever it lies."""
    return [(folder / name).read_text().replace(str(folder), "") for name in ("trials.csv", "best.flags")]


def test_a_tuning_writes_its_table_and_the_best_flags(tmp_path, commands, capsys):
    assert main([*TUNE, f"--workdir={tmp_path / 'a'}"]) == 0
    said, rows = capsys.readouterr().out, _rows(tmp_path / "a" / "trials.csv")
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "random"]
    for row in rows[:4]:
        worth = float(row["zero_one_weight"]) / 10
        assert float(row["accuracy"]) == pytest.approx(worth + 0.005)
        assert float(row["accuracy_sd"]) == pytest.approx(0.01 / 2**0.5)
        assert float(row["seed_1"]) == pytest.approx(worth + 0.01)
        assert 1e-3 <= float(row["arch_learning_rate"]) <= 1e-1 and row["params"] == "1000" and row["seconds"] == "8.0"
    assert float(rows[4]["accuracy"]) == 0.05
    best = max(rows[:4], key=lambda row: float(row["accuracy"]))
    text = (tmp_path / "a" / "best.flags").read_text()
    assert re.match(r"# kdarts search --flagfile=.*best\.flags\n# From: kdarts tune --choose=zero", text)
    mean = f"{float(best['accuracy']):.4f}"
    told = f"mean {mean} ± 0.0071 (sd), median {mean} ± 0.0050 (half range) (2 seeds"
    assert f"# Held-back accuracy: {told}" in text
    found = SEARCH.parse(["search", f"--flagfile={tmp_path / 'a' / 'best.flags'}"])
    assert found.arch_learning_rate == float(best["arch_learning_rate"])
    assert found.zero_one_weight == float(best["zero_one_weight"])
    assert (found.cells, found.nodes, found.hold_back, found.workdir) == (2, 1, None, None)
    assert "trial 2 of 4: " in said and " left\n" in said and "2 random architectures" in said
    assert len(commands[0]) == 4 * 2 * 2 + 2
    assert all("--hold_back=0.2" in words for words in commands[0])


@pytest.mark.parametrize("tuner", ["random", pytest.param("hyperband", marks=pytest.mark.slow)])
def test_a_killed_tuning_comes_to_the_same_result(tmp_path, commands, capsys, tuner):
    begun, killed = commands
    arguments = TUNE if tuner == "random" else [*TUNE[:-1], "--tuner=hyperband", "--epochs=4", "--seeds=1"]
    assert main([*arguments, f"--workdir={tmp_path / 'whole'}"]) == 0
    count = len(begun)
    done = count
    for after in (1, 6, count - 7):  # In the first search, in a training, and in the last one of all.
        killed.add(done + after)
        assert main([*arguments, f"--workdir={tmp_path / 'killed'}"]) == 130
        done = len(begun)
    assert main([*arguments, f"--workdir={tmp_path / 'killed'}"]) == 0
    assert len(begun) == 2 * count + 3  # Nothing is done twice but what was killed.
    assert _files(tmp_path / "killed") == _files(tmp_path / "whole")
    assert main([*arguments, f"--workdir={tmp_path / 'killed'}"]) == 0
    assert len(begun) == 2 * count + 3
    if tuner == "hyperband":
        rows = _rows(tmp_path / "whole" / "trials.csv")[:-1]
        assert [row["budget"] for row in rows] == ["2"] * 5 + ["4"] * 5
        best = max(rows[5:], key=lambda row: float(row["accuracy"]))
        assert f"--arch_learning_rate={best['arch_learning_rate']}\n--epochs=4\n" in _files(tmp_path / "whole")[1]
    main([*arguments, "--random=1", f"--workdir={tmp_path / 'killed'}"])
    assert "belongs to another run" in capsys.readouterr().err


def test_a_search_that_diverges_does_not_end_the_tuning(tmp_path, commands):
    arguments = ["tune", *SMALL, "--choose=learning_rate=0.1,99", "--trials=2", "--seeds=1", "--random=0"]
    assert main([*arguments, f"--workdir={tmp_path / 'a'}"]) == 0
    rows = {float(row["learning_rate"]): row for row in _rows(tmp_path / "a" / "trials.csv")}
    assert (rows[99]["accuracy"], rows[99]["diverged"], rows[99]["params"]) == ("0.0", "1", "")
    assert rows[0.1]["diverged"] == ""
    begun = len(commands[0])
    assert main([*arguments, f"--workdir={tmp_path / 'a'}"]) == 0 and len(commands[0]) == begun


def test_a_damaged_summary_is_made_again(tmp_path, commands, capsys):
    arguments = [*TUNE, "--seeds=1", "--random=0", f"--workdir={tmp_path / 'a'}"]
    assert main(arguments) == 0
    before, begun = _files(tmp_path / "a"), len(commands[0])
    (tmp_path / "a" / "trials" / "2" / "seed-0" / "train" / "summary.json").write_text("{")
    assert main(arguments) == 0
    assert len(commands[0]) == begun + 1 and _files(tmp_path / "a") == before
    assert "summary.json: cannot be read as JSON" in capsys.readouterr().out


@pytest.mark.slow
def test_each_kind_of_architectures_has_a_baseline(tmp_path, commands):
    arguments = ["tune", *SMALL, "--choose=method=darts,ddarts", "--trials=2", "--seeds=1", "--random=3"]
    assert main([*arguments, f"--workdir={tmp_path / 'a'}"]) == 0
    rows = _rows(tmp_path / "a" / "trials.csv")
    assert [row["method"] for row in rows if row["trial"] == "random"] == [row["method"] for row in rows[:2]]
    found = [Genotype.load(p) for p in (tmp_path / "a" / "random" / "method=darts").glob("*/search/genotype.json")]
    assert len(found) == 3 and all(len(genotype.cells) == 2 for genotype in found)
    trains = [words for words in commands[0] if words[0] == "train" and "method=ddarts" in words[-1]]
    assert len(trains) == 3 and not any(word.startswith("--cells") for words in trains for word in words)


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--choose=zero_one_weight"], "needs a flag of kdarts search and its values"),
        (["--choose=wrong=1,2"], "'wrong' is not a flag"),
        (["--choose=zero_one_weight=5,x"], "'x'"),
        (["--choose=zero_one_weight=5,nan"], "finite"),
        (["--choose=zero_one_weight=5,5.0"], "twice"),
        (["--choose=channels=4..2"], "less than the second"),
        (["--choose=learning_rate=0..1:log"], "more than 0"),
        (["--choose=learning_rate=0.1..1:cubic"], "linear and log"),
        (["--choose=seed=1,2"], "share one"),
        (["--choose=cells=2,3"], "--cells=2 is given"),
        (["--choose=mixing=softmax,soft"], "unknown mixing 'soft'"),
        (["--choose=method=darts,dart"], "unknown method 'dart'"),
        (["--tuner=grid"], "unknown tuner 'grid'"),
        (["--tuner=hyperband", "--trials=3"], "follow from --epochs"),
        (["--tuner=hyperband", "--choose=method=darts,ddarts"], "choices have 2"),
        (["--hold_back=0"], "held back"),
        (["--choose=sharing=shared,individual", "--shallow_cells=3"], "the genotype has its own depth"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_runs(tmp_path, capsys, commands, flags, fault):
    assert main(["tune", *SMALL, *flags, f"--workdir={tmp_path / 'a'}"]) == 2
    err = capsys.readouterr().err
    assert fault in err and err.count("\n") == 1
    assert not commands[0] and not (tmp_path / "a").exists()


def test_half_of_keras_tuners_variables_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    assert main([*TUNE, f"--workdir={tmp_path / 'a'}"]) == 2
    assert "KERASTUNER_TUNER_ID and KERASTUNER_ORACLE_PORT not" in capsys.readouterr().err


def test_several_searches_keep_the_best(tmp_path, commands, capsys):
    begun, killed = commands
    killed.add(4)
    arguments = ["search", *SMALL, "--seeds=3", "--seed=4", "--zero_one_weight=1", f"--workdir={tmp_path}"]
    assert main(arguments) == 130
    assert main(arguments) == 0
    assert len(begun) == 7  # Three of each, and the one that was killed.
    assert [words[0] for words in begun] == ["search", "train", "search", "train", "train", "search", "train"]
    rows, summary = _rows(tmp_path / "seeds.csv"), json.loads((tmp_path / "summary.json").read_text())
    assert [(row["seed"], f"{float(row['accuracy']):.2f}") for row in rows] == [
        ("4", "0.14"),
        ("5", "0.15"),
        ("6", "0.16"),
    ]
    assert summary["best_seed"] == 6 and summary["accuracy"] == pytest.approx(0.15)
    assert summary["accuracy_sd"] == pytest.approx(0.01) and summary["valid_accuracy"] == 0.16
    assert [part["seed"] for part in summary["seeds"]] == [4, 5, 6]
    assert (tmp_path / "genotype.json").read_bytes() == (tmp_path / "seeds/2/search/genotype.json").read_bytes()
    assert (tmp_path / "history.csv").read_text() == "worth\n0.16\n"
    assert (summary["accuracy_median"], summary["accuracy_half_range"]) == (pytest.approx(0.15), pytest.approx(0.01))
    said = "mean 0.1500 ± 0.0100 (sd), median 0.1500 ± 0.0100 (half range) after shallow trainings, on 287 held-back"
    assert said in capsys.readouterr().out
    assert all(f"--workdir={tmp_path / 'seeds'}" in " ".join(words) for words in begun)
    damaged = tmp_path / "seeds/2/search/genotype.json"
    whole = damaged.read_text()
    damaged.write_text(whole[: len(whole) // 2])
    assert main(arguments) == 0 and f"{damaged}: not JSON" in capsys.readouterr().out
    assert len(begun) == 8 and begun[7][-1] == f"--workdir={damaged.parent}"
    assert damaged.read_text() == (tmp_path / "genotype.json").read_text() == whole
    train = TRAIN.parse(begun[1])
    assert (train.channels, train.cells, train.epochs, train.hold_back, train.seed) == (4, 5, 10, 0.2, 4)


def test_what_is_held_back_is_the_same_for_all_and_in_no_half():
    data = load("digits")
    rest, held = hold_back(data, 0.2)
    assert (len(rest), len(held)) == (len(data) - round(0.2 * len(data)), round(0.2 * len(data)))
    seen = {image.tobytes() for image in rest.images}
    assert len(seen & {image.tobytes() for image in held.images}) <= len(data) - len(
        {image.tobytes() for image in data.images}
    )
    counts = np.bincount(held.labels)
    assert counts.max() - counts.min() <= 4
    np.testing.assert_array_equal(hold_back(data, 0.2)[1].images, held.images)


@pytest.mark.parametrize("name", ["darts", "ddarts", "multichannelnet"])
def test_random_architectures_differ_and_come_again(name):
    values = SEARCH.parse(["search", f"--method={name}", "--nodes=2"])
    search = build(values, get_method(name).override(cells=2, channels=2), (8, 8, 3), 10)
    found = [random_found(search, 5, number) for number in (0, 1, 2, 0)]
    assert found[0] == found[3] and len({one.to_json() for one in found}) == 3
    if name != "multichannelnet":
        assert not any(genotype.gaps() for genotype in found)


def test_a_command_ends_with_the_process_that_began_it(tmp_path):
    command = [sys.executable, "-m", "kdarts.cli.process", "search", f"--workdir={tmp_path / 'run'}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, stdout=subprocess.DEVNULL)
    process.stdin.close()
    assert process.wait(60) == 129
