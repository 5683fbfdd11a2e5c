"""Searches of stages: each begins anew with what the one before left, and a kill is harmless."""

import csv
import json
import pathlib

import keras
import numpy as np
import pytest
from test_resume import same_state

from kdarts.cli.main import main
from kdarts.data import datasets
from kdarts.data.augmentation import Augmentation
from kdarts.data.pipeline import ImageSearchData, search_dataset
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import get_method
from kdarts.search.search import Search
from kdarts.search.stages import Stage, check_method, narrow, parse_stages
from kdarts.supernet.supernet import Supernet
from kdarts.training.checkpoint import checkpoints
from kdarts.training.search_run import SearchSession, run_search
from kdarts.training.workdir import Workdir, read_json

PDARTS = get_method("pdarts")
TINY = PDARTS.override(stages=(Stage(1, 8), Stage(2, 3, 0.5)), epochs=2, warmup_epochs=1, batch_size=12, channels=2)


class Killed(Exception):
    """Stands for a kill."""


class KillAt(keras.callbacks.Callback):
    """Kills a run of so many cells at the start of an epoch."""

    def __init__(self, cells, epoch):
        super().__init__()
        self.cells, self.epoch = cells, epoch

    def on_epoch_begin(self, epoch, logs=None):
        if (len(self.model.supernet.cells), epoch) == (self.cells, self.epoch):
            raise Killed


def _run(folder, kill=None, built=None):
    """Runs `TINY` in a folder; notes in `built` what each stage was built with."""
    train, valid = datasets.halves(datasets.load("digits"), 24, 24, 0)
    data = ImageSearchData(train, valid, TINY.batch_size, 3, Augmentation(), *datasets.statistics(train.images))
    search = Search(TINY, train.image_shape, 10, nodes=1, seed=3)
    sibling = search.sibling

    def noted(method, candidates=None, seed=0):
        made = sibling(method, candidates, seed)
        built.append((method, candidates, seed, made.supernet.alphas[0].numpy()))
        return made

    if built is not None:
        search.sibling = noted
    about = {"method": "pdarts", "dataset": "digits", "seed": 3}
    session = SearchSession(Workdir(folder), about, extra=lambda part: [KillAt(*kill)] if kill else [])
    return search, run_search(search, data, session, validate_every=0)


@pytest.mark.slow
def test_killed_in_any_stage_it_comes_to_the_same_result(eagerly, tmp_path, capsys):
    whole, killed, built = tmp_path / "whole", tmp_path / "killed", []
    search, summary = _run(whole, built=built)
    for place in [(1, 1), (2, 0), (2, 1)]:
        with pytest.raises(Killed):
            _run(killed, place)
        assert not (killed / "summary.json").exists() and not (killed / "stages" / "2" / "summary.json").exists()
    rebuilt = []
    _run(killed, built=rebuilt)
    assert len(rebuilt) == 1, "a finished stage is not built again"
    for name in ("genotype.json", "genotypes.jsonl", "history.csv"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    same_state(whole / "alphas.npz", killed / "alphas.npz")
    for stage in "12":
        state = f"stages/{stage}/backup"
        same_state(whole / state, killed / state)
    assert not list(killed.rglob(".*"))

    # What a stage begins with
    (first, everything, seed, alpha), (second, left, next_seed, fresh) = built
    assert everything is None and (seed, next_seed) == (3, 4)
    assert (first.cells, first.skip_dropout, second.cells, second.skip_dropout) == (1, 0.0, 2, 0.5)
    assert first.stages == second.stages == ()
    with np.load(whole / "stages" / "1" / "alphas.npz") as alphas:
        for there, name in zip(left, ("normal", "reduce"), strict=True):
            shares = np.exp(alphas[name][-1]) / np.exp(alphas[name][-1]).sum(1, keepdims=True)
            assert np.array_equal(there, narrow(shares, np.ones((2, 8), bool), 3))
        assert alphas["reduce"].shape == (2, 2, 8)
        assert not np.array_equal(alphas["reduce"][1], alphas["reduce"][0]), "α moves after the warm-up"
    assert np.abs(fresh[left[0]]).max() < 0.01 and not np.array_equal(fresh[left[0]], alpha[left[0]])

    # What it leaves
    with (whole / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["stage"], row["epoch"]) for row in rows] == [(s, e) for s in "12" for e in "01"]
    assert [row["skip_dropout"] for row in rows] == ["", "", "0.25", "0.5"]
    lines = [json.loads(line) for line in (whole / "genotypes.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    with np.load(whole / "alphas.npz") as alphas:
        for there, name in zip(left, ("normal", "reduce"), strict=True):
            assert np.array_equal(np.isfinite(alphas[name]), [there] * 2)
    assert Genotype.load(whole / "genotype.json") == search.genotype()
    assert search.supernet.skip_dropout_rate.numpy() == np.float32(0.5) and int(search.supernet.mixture.draws) == 6
    assert read_json(whole / "summary.json") == summary
    assert (summary["epochs"], summary["cells"], summary["stopped_by"]) == (4, 2, "epochs")
    assert [(part["cells"], part["operations"], part["skip_dropout"]) for part in summary["stages"]] == [
        (1, 8, 0),
        (2, 3, 0.5),
    ]
    assert summary["wall_seconds"] == sum(part["wall_seconds"] for part in summary["stages"])
    assert "stage" not in summary

    # Damage
    newest = pathlib.Path(checkpoints(killed / "stages" / "1" / "backup")[-1]).name
    for name in ("candidates.npz", "summary.json", f"backup/{newest}.index"):
        (killed / "stages" / "1" / name).write_bytes(b"x")
        _run(killed)
        assert f"{name.removesuffix('.index')}: " in capsys.readouterr().out
        for result in ("genotype.json", "history.csv", "genotypes.jsonl"):
            assert (whole / result).read_bytes() == (killed / result).read_bytes(), (name, result)
        for state in ("alphas.npz", "stages/1/candidates.npz", "stages/1/backup"):
            same_state(whole / state, killed / state)
        found = read_json(killed / "stages" / "1" / "summary.json")["valid_accuracy"]
        assert found == summary["stages"][0]["valid_accuracy"]


def test_a_search_in_stages_is_that_of_the_last_one_and_survives_its_file(eagerly, tmp_path):
    search = Search(TINY, (8, 8, 1), 10, nodes=1)
    first = search.supernet
    search.fit(search_dataset("digits", 12, train_examples=12, valid_examples=12), verbose=0)
    net = search.supernet
    assert (first.depth, net.depth) == (1, 2) and search.layers == [net]
    assert len(search.variables) == len(net.variables)
    assert [there.sum(1).tolist() for there in net.mixture.candidates] == [[3, 3]]
    assert len(search.record.history) == 2 and search.method.stages == TINY.stages
    search.save(tmp_path / "search.keras")
    again = keras.saving.load_model(tmp_path / "search.keras")
    assert again.genotype() == search.genotype()
    assert again.method == TINY.at(TINY.stages[1])
    for ours, theirs in zip(again.supernet.variables, net.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_stages_as_text():
    assert (
        parse_stages("5:8,11:5:0.4, 17:3:0.7") == (Stage(5, 8), Stage(11, 5, 0.4), Stage(17, 3, 0.7)) == PDARTS.stages
    )
    assert ",".join(map(str, PDARTS.stages)) == "5:8:0,11:5:0.4,17:3:0.7"


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "stage '': needs cells:operations"),
        ("5", "stage '5'"),
        ("5:8,x:3", "stage 'x:3'"),
        ("5:8:0:1", "stage '5:8:0:1'"),
        ("5:8:nan", "dropout of 0 to below 1"),
        ("0:8", "stage 0:8:0: allowed are 1 or more cells"),
        ("5:1", "2 or more operations"),
        ("5:8:1", "dropout of 0 to below 1"),
    ],
)
def test_what_is_no_stage_is_refused(text, message):
    with pytest.raises(KdartsError, match=message):
        parse_stages(text)


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"stages": (Stage(5, 7),)}, "stage 1 begins with all 8 operations"),
        ({"stages": (Stage(5, 8), Stage(6, 3), Stage(7, 4))}, "stage 3: 4 operations; the one before it leaves 3"),
        ({"epochs": 10}, "warmup_epochs 10: a stage of 10 epochs"),
        ({"sharing": "individual"}, "sharing 'individual': stages with different numbers of cells"),
    ],
)
def test_stages_that_do_not_follow_one_another_are_refused(choices, message):
    with pytest.raises(KdartsError, match=message):
        check_method(PDARTS.override(**choices))
    check_method(PDARTS)
    check_method(PDARTS.override(space="ddarts"))
    check_method(PDARTS.override(sharing="individual", stages=(Stage(5, 8), Stage(5, 3))))


def test_the_papers_choices():
    method = PDARTS.at(PDARTS.stages[1])
    assert (method.cells, method.skip_dropout, method.stages) == (11, 0.4, ())
    assert (method.epochs, method.warmup_epochs, method.batch_size, method.final_learning_rate) == (25, 10, 96, 0.0)
    assert (method.arch_learning_rate, method.arch_clip, method.max_skips, method.order) == (6e-4, 5.0, 2, "first")
    search = Search(Supernet("ddarts", (8, 8, 1), 2, channels=2, cells=1, nodes=1, skip_dropout=0.4), method)
    search.compile()
    assert search.arch_optimizer.global_clipnorm == 5.0


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--cells=5"], "--cells=5: each stage has its own; choose them by --stages"),
        (["--skip_dropout=0.1"], "--skip_dropout=0.1: each stage"),
        (["--stages=5:8,11"], "stage '11': needs cells:operations"),
        (["--stages=5:5"], "stage 1 begins with all 8 operations"),
        (["--epochs=3", "--warmup_epochs=3"], "--warmup_epochs=3: a stage of 3 epochs"),
        (["--start=DARTS_V2"], "--start: each of the method's stages begins anew"),
    ],
)
def test_mistakes_in_flags(flags, message, tmp_path, capsys):
    assert main(["search", "--method=pdarts", f"--workdir={tmp_path}/run", *flags]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()
