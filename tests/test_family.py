"""A family of networks: divided by weights, MACs or milliseconds, and trained by one command."""

import csv
import json
import pathlib
import shlex

import numpy as np
import pytest

from kdarts.cli import options, seeds
from kdarts.cli.main import command_of, main
from kdarts.genotypes.cuboid import load_family
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.ops.cost import Latencies
from kdarts.paths.derivation import Family
from kdarts.paths.prune import family_of, ranked, usual_width
from kdarts.training.family import known_figures, run_family, table
from kdarts.training.workdir import STOPPED, Workdir, write_json

TINY = ("train", "--epochs=1", "--cells=1", "--channels=2", "--train_examples=64", "--batch_size=32")


@pytest.mark.parametrize(
    ("largest", "width"), [(4.0, 0.2), (3.3, 0.2), (0.15, 0.01), (0.1, 0.005), (560.0, 50.0), (1.6, 0.1), (2.0, 0.1)]
)
def test_bins_are_a_round_sixteenth_of_the_largest(largest, width):
    assert usual_width(largest) == width


def test_a_family_is_divided_by_any_size():
    accuracies, sizes = [0.5, 0.7, 0.7, 0.6], [(5, 20, 1.9), (1, 31, 0.4), (2, 30, 0.3), (3, 50, 2.0)]
    rows = [
        {"candidate": k, "accuracy": a, "params": p * 10**6, "macs": m * 10**6, "latency_ms": ms}
        for k, (a, (p, m, ms)) in enumerate(zip(accuracies, sizes, strict=True))
    ]
    assert [row["candidate"] for row in family_of(rows, 10.0, 1)] == [1]
    family = family_of(rows, 10.0, 1, "macs")
    assert [(row["candidate"], row["from"], row["to"]) for row in family] == [
        (0, 20_000_000, 30_000_000),
        (2, 30_000_000, 40_000_000),
        (3, 50_000_000, 60_000_000),
    ]
    family = family_of(rows, 0.5, 2, "latency_ms")
    assert [row["candidate"] for row in family] == [2, 1, 0, 3]
    assert [(row["from"], row["to"]) for row in family] == [(0, 0.5), (0, 0.5), (1.5, 2), (2, 2.5)]
    assert [row["candidate"] for row in ranked(rows)] == [1, 2, 3, 0]


def test_a_table_of_latencies_is_there_and_complete(tmp_path, path_network):
    for choices, fault in (
        ({"size_by": "latency_ms"}, "needs size_latencies=FILE"),
        ({"size_latencies": "a.json"}, "needs size_by=latency_ms"),
        ({"size_by": "latency_ms", "size_latencies": str(tmp_path / "a.json")}, "cannot be read"),
    ):
        with pytest.raises(KdartsError, match=fault):
            Family(paths=2, **choices)._latencies()
    Latencies({}).save(tmp_path / "a.json")
    family = Family(size_by="latency_ms", size_latencies=str(tmp_path / "a.json"), family_channels=4, family_cells=2)
    with pytest.raises(KdartsError, match=r"nothing about .*, but with --channels=4 --cells=2$"):
        family.begin(path_network)
    with pytest.raises(KdartsError, match="size_by"):
        Family(size_by="weights")


@pytest.fixture
def path_network():
    from kdarts.genotypes.path_space import PathSpace
    from kdarts.paths.network import PathNetwork

    cell = ((2, 0, ("sep_conv_3x3", "skip_connect")), (2, 1, ("max_pool_3x3", "dil_conv_3x3")))
    return PathNetwork(PathSpace((cell, cell), ((2,), (2,))), (8, 8, 1), 3, channels=2, cells=1)


@pytest.fixture
def folder(tmp_path):
    """A family of two, as a search by DARTS-PD leaves it."""
    family = tmp_path / "family"
    for name in ("size002-1", "size001-1"):
        cells = [[("sep_conv_3x3" if "2" in name else "max_pool_3x3", 2, source) for source in (0, 1)]] * 2
        Genotype(cells, [(2,), (2,)], (0,)).save(family / f"{name}.json")
    text = "name,accuracy,params,latency_ms\nsize001-1,0.25,9,1.5\nsize002-1,,9,none\n"
    (family / "family.csv").write_text(text)
    (family / "family.png").write_bytes(b"")
    return family


def test_a_folder_of_genotypes_is_read(folder, tmp_path):
    family = load_family(folder)
    assert list(family) == ["size001-1", "size002-1"] and family["size001-1"].name == "size001-1"
    assert known_figures(folder) == {"size001-1": {"path_accuracy": 0.25, "latency_ms": 1.5}, "size002-1": {}}
    assert known_figures(tmp_path) == {}
    (tmp_path / "genotype.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (folder / "other.json").write_text("{}")
    faults = {tmp_path: "its family is in", tmp_path / "empty": "holds no .json", tmp_path / "no": "needs a folder"}
    for path, fault in {**faults, folder: r"other\.json"}.items():
        with pytest.raises(KdartsError, match=fault):
            load_family(path)


def test_a_training_that_diverges_does_not_end_the_others(folder, tmp_path, capsys):
    calls = []

    def train(architecture, part):
        calls.append(architecture.name)
        if architecture.name == "size001-1":
            write_json(part / STOPPED, {"stopped_by": "divergence", "what": "x", "epoch": 1, "step": 1})
            raise KdartsError("diverged")
        return {"params": 1200, "macs": 34_000, "held_back_accuracy": 0.5, "wall_seconds": 2.0}

    about = Workdir(tmp_path / "run"), load_family(folder), known_figures(folder)
    rows = run_family(train, *about)
    assert rows == run_family(train, *about) and calls == ["size001-1", "size002-1", "size002-1"]
    assert rows[0] == {"name": "size001-1", "diverged": True}
    assert table(rows) == [
        "network     weights    MACs  held-back",
        "size001-1  diverged",
        "size002-1     1,200  34,000     0.5000",
    ]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["networks"] == rows

    def broken(architecture, part):
        raise KdartsError("no space")

    with pytest.raises(KdartsError, match="no space"):
        run_family(broken, Workdir(tmp_path / "other"), *about[1:])


def test_one_command_trains_a_family_and_goes_on(folder, tmp_path, capsys):
    run = tmp_path / "run"
    words = [*TINY, f"--family={folder}", f"--workdir={run}"]
    assert main([*words, "--dry_run"]) == 0
    assert "size002-1: digits" in (out := capsys.readouterr().out) and "dry run: 2 times 2 steps" in out
    assert not run.exists() and main(words) == 0
    rows = list(csv.DictReader((run / "family.csv").open()))
    assert [row["name"] for row in rows] == ["size001-1", "size002-1"]
    assert [row["path_accuracy"] for row in rows] == ["0.25", ""]
    for row in rows:
        summary = json.loads((run / "networks" / row["name"] / "summary.json").read_text())
        for name in ("params", "macs", "test_accuracy"):
            assert float(row[name]) == summary[name]
    assert "network    weights   MACs   ms  shared    test" in capsys.readouterr().out
    (run / "networks" / "size002-1" / "summary.json").unlink()
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "size001-1, 1 of 2: finished before" in out and "size002-1, 2 of 2\n" in out
    again = list(csv.DictReader((run / "family.csv").open()))
    assert [row["test_accuracy"] for row in again] == [row["test_accuracy"] for row in rows]
    (folder / "size001-1.json").write_text((folder / "size002-1.json").read_text())
    assert main(words) == 2 and "belongs to another run: there --family=" in capsys.readouterr().err
    assert main([*words, "--genotype=DARTS_V2"]) == 2
    assert "allowed is one of them" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("several", [[], ["--seeds=2"]])
def test_each_network_is_as_if_trained_by_itself(several, folder, tmp_path):
    import keras

    assert main([*TINY, *several, f"--family={folder}", f"--workdir={tmp_path / 'all'}"]) == 0
    for name in load_family(folder):
        words = [*TINY, *several, f"--genotype={folder / name}.json", f"--workdir={tmp_path / name}"]
        assert main(words) == 0
        one, other = (
            keras.models.load_model(path / "model.keras").get_weights()
            for path in (tmp_path / name, tmp_path / "all" / "networks" / name)
        )
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_proposed_training_has_the_stem_of_the_recipe(monkeypatch):
    """PC-DARTS searches on ImageNet with a wider stem than it trains with."""
    monkeypatch.chdir(pathlib.Path(__file__).parents[1])
    values = command_of("search").parse(["search", "--flagfile=flags/pcdarts_imagenet.flags", "--data_dir=D"])
    line = seeds.train_command(values, options.chosen_method(values), "PC_DARTS_image", 1_281_167)
    words = shlex.split(line.removeprefix("Next: kdarts "))
    assert "--stem=imagenet" in words
    train, genotype = command_of("train").parse(words), Genotype.load("PC_DARTS_image")
    recipe = command_of("train").parse(["train", "--flagfile=flags/train_pcdarts_imagenet.flags"])
    sizes = [options.sizes(each, genotype, (224, 224, 3), 1000, {}) for each in (train, recipe)]
    assert sizes[0] == sizes[1] and round(sizes[0]["params"] / 1e4) == 534
    line = seeds.train_command(
        values, options.chosen_method(values), "PC_DARTS_image", 1_281_167, family="W/f", cells=9
    )
    assert line.splitlines()[1].startswith("Or, all of the family: kdarts train --family=W/f --dataset=imagenet2012")
