"""`tools/edarts_study.py` and the grid of trials under it: what resumes, what is refused, the tables, the pictures."""

import csv
import json
import pathlib

import numpy as np
import pytest
from conftest import ROOT
from test_docs import commands

from kdarts.cli.search import SEARCH
from kdarts.cli.train import TRAIN
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.training.workdir import write_json

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner")  # It asks for its thread as of old.

TINY = ["--dataset=digits", "--limit=200", "--epochs=1", "--cells=2", "--channels=2", "--batch_size=64"]
TINY += ["--search_epochs=1", "--search_batch_size=32", "--subset_examples=32", "--order=first"]


@pytest.fixture
def study(tool):
    return tool("edarts_study")


@pytest.fixture
def pretended(tool, monkeypatch):
    """Lets every command finish at once with figures made up from its words; returns the commands, and whom to kill."""
    commands, killed = [], set()

    def run(words, **choices):
        verb, given = words[0], dict(word.removeprefix("--").partition("=")[::2] for word in words[1:])
        folder = pathlib.Path(given["workdir"])
        commands.append((verb, folder, given))
        if folder.parent.name in killed:
            return -9
        folder.mkdir(parents=True)
        seconds = 100.0 if "update" not in given else 10.0
        summary = {"wall_seconds": seconds, "params": 110_000, "macs": 2_500_000, "step_ms": 1.0}
        if verb == "search":
            summary["valid_accuracy"] = 0.4 + int(given["seed"]) / 50
            skip = "skip_connect" if "update" not in given else "sep_conv_3x3"
            cell = [(skip, 2, 0), ("skip_connect", 2, 1)]
            Genotype([cell, cell[:1]], [(2,), (2,)]).save(folder / "genotype.json")
        else:
            name = Genotype.load(given["genotype"]).to_json()
            summary["test_accuracy"] = 0.5 + (sum(name.encode()) % 97) / 1000 + int(given["seed"]) / 100
            summary["test_accuracy_sd"] = 0.01
        write_json(folder / "summary.json", summary)
        return 0

    monkeypatch.setattr(tool("edarts_trials"), "run_kdarts", run)
    return commands, killed


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# The grid


@pytest.fixture
def grid(tool):
    def make(folder, names, then=None):
        oracle = tool("edarts_grid").GridOracle(names, then)
        oracle._set_project_dir(str(folder.parent), folder.name)
        oracle.reload()
        return oracle

    return make


def _begin(oracle, worker):
    trial = oracle.create_trial(worker)
    return trial, trial.hyperparameters.values.get("candidate", trial.status)


def _end(oracle, trial, accuracy=0.5):
    oracle.update_trial(trial.trial_id, {"accuracy": accuracy})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def _finish(oracle, most=99) -> list[str]:
    told = []
    while len(told) < most:
        trial, name = _begin(oracle, "one")
        if name == "STOPPED":
            break
        told.append(name)
        _end(oracle, trial, len(name) / 10)
    return told


def test_a_grid_goes_on_where_it_was_left_and_grows(tmp_path, grid):
    oracle = grid(tmp_path / "grid", ["a", "bb", "c"])
    assert _finish(oracle, 1) == ["a"]
    assert _begin(oracle, "one")[1] == "bb"  # begun, and never ended
    again = grid(tmp_path / "grid", ["new", "a", "bb", "c"])
    assert again.measured() == [("a", 0.1)]
    assert _finish(again) == ["bb", "new", "c"]
    assert dict(grid(tmp_path / "grid", ["a"]).measured()) == {"a": 0.1, "bb": 0.2, "new": 0.3, "c": 0.1}


def test_workers_share_a_grid_and_its_second_round_waits(tmp_path, grid):
    def then(accuracies):
        assert set(accuracies) == {"a", "bb"}
        return [*sorted(accuracies, key=lambda name: -accuracies[name])[:1], "last"]

    oracle = grid(tmp_path / "grid", ["a", "bb"], then)
    first, second = _begin(oracle, "one"), _begin(oracle, "two")
    assert (first[1], second[1]) == ("a", "bb")
    assert _begin(oracle, "three")[1] == "IDLE"
    _end(oracle, second[0], 0.9)
    assert _begin(oracle, "three")[1] == "IDLE"
    _end(oracle, first[0], 0.1)
    assert _begin(oracle, "one")[1] == "last"  # "bb" is measured already
    assert _finish(grid(tmp_path / "grid", ["a", "bb"], then)) == ["last"]


def test_a_damaged_trial_is_told_and_measured_again(tmp_path, capsys, grid):
    _finish(grid(tmp_path / "grid", ["a", "b"]))
    file = tmp_path / "grid" / "trial_0001" / "trial.json"
    data = json.loads(file.read_text())
    file.write_text(file.read_text()[:100])
    assert _finish(grid(tmp_path / "grid", ["a", "b"])) == ["b"]
    assert f"{file}: cannot be read as JSON" in capsys.readouterr().out
    for change in ({"score": "high"}, {"hyperparameters": {"values": {}}}):
        file.write_text(json.dumps({**data, **change}))
        with pytest.raises(KdartsError, match=r"trial\.json"):
            grid(tmp_path / "grid", ["a", "b"])


# Numbers


def test_ranking_and_the_best(tool):
    tables = tool("edarts_tables")
    rows = [
        {"cells": cells, "topology": k, "test_accuracy": accuracy}
        for cells, found in (("normal", (0.1, 0.3, 0.2)), ("both", (0.5, 0.6)))
        for k, accuracy in enumerate(found)
    ]
    ranked = [(row["rank"], row["cells"], row["topology"]) for row in tables.ranking(rows)]
    assert ranked == [(1, "normal", 1), (2, "normal", 2), (3, "normal", 0), (1, "both", 1), (2, "both", 0)]
    assert tables.best({"x": 0.1, "y": 0.3, "z": 0.3}, 2) == ["y", "z"]


def test_the_time_left_goes_by_trials_of_the_same_kind(tool):
    left = tool("edarts_tables").seconds_left
    assert left({"a-1": None, "b-1": None}) is None
    assert left({"a-1": 10.0, "a-2": 20.0, "a-3": None, "b-1": 105.0, "b-2": None}) == 15 + 105
    assert left({"a-1": 10.0, "b-1": 30.0, "c-1": None}) == 20


def test_skips_of_each_cell(tool):
    found = tool("edarts_tables").skips(Genotype.load("DARTS_V1"))
    assert found == {"skips_normal": 3, "skips_reduce": 3}


def test_table_two(tool):
    figures = {"params": 110_000, "search_seconds": 30.4}
    rows = [
        {"method": "DARTS", "skips_normal": 2, "skips_reduce": 4, "test_accuracy": 0.90, **figures},
        {"method": "DARTS", "skips_normal": 4, "skips_reduce": 4, "test_accuracy": 0.92, **figures},
        {"method": "both", "skips_normal": 1, "skips_reduce": 0, "test_accuracy": 0.95, **figures},
    ]
    lines = tool("edarts_tables").skips_table(rows)
    assert lines[2] == "| DARTS | 2 | 3.0 ± 1.4 | 4.0 ± 0.0 | 91.00 ± 1.41 | 0.110 | 30 |"
    assert lines[3] == "| both | 1 | 1.0 | 0.0 | 95.00 | 0.110 | 30 |"


def test_the_surface_is_in_the_order_of_the_numbers(tool):
    rows = [{"cells": "normal", "topology": 37, "test_accuracy": 0.5}]
    rows += [{"cells": "both", "topology": 0, "test_accuracy": 0.9}]
    values = tool("edarts_figures").surface(rows)
    assert values.shape == (18, 10)
    assert values[3, 7] == 50
    assert np.isfinite(values).sum() == 1


def test_the_cells_of_a_topology(tool):
    cells = tool("edarts_studies").topology_cells
    normal, reduce = cells(179, False).cells
    assert normal[-2:] == (("sep_conv_3x3", 5, 3), ("sep_conv_3x3", 5, 4))
    assert reduce == tuple(("max_pool_3x3", to, source) for to in (2, 3, 4, 5) for source in (0, 1))
    assert cells(7, True).cells[0] == cells(7, True).cells[1] == cells(7, False).cells[0]


# Whole studies with made-up commands


@pytest.mark.slow
def test_topologies_are_ranked_and_the_best_measured_in_both_cells(study, pretended, tmp_path, capsys):
    commands, _ = pretended
    arguments = ["topologies", f"--workdir={tmp_path}", "--numbers=0,7,30-32", "--best=2", "--seeds=3"]
    assert study.main(arguments) == 0
    assert len(commands) == 7
    assert all(given["seeds"] == "3" for _, _, given in commands)
    rows = table(tmp_path / "topologies.csv")
    assert [row["cells"] for row in rows] == ["normal"] * 5 + ["both"] * 2
    normal = [float(row["test_accuracy"]) for row in rows[:5]]
    assert normal == sorted(normal, reverse=True)
    assert {row["topology"] for row in rows[5:]} == {row["topology"] for row in rows[:2]}
    assert (tmp_path / "topologies.png").read_bytes().startswith(b"\x89PNG")
    assert study.main(arguments) == 0
    assert study.main([*arguments, "--best=3"]) == 0
    assert len(commands) == 8


def test_the_skips_of_four_methods(study, pretended, tmp_path, capsys):
    commands, killed = pretended
    arguments = ["skips", f"--workdir={tmp_path}", "--seeds=2", "--search_examples=1000", "--subset_examples=200"]
    killed.add("subset-seed1")
    assert study.main(arguments) == 1
    assert "subset-seed1/search ended with -9; the same command goes on there" in capsys.readouterr().err
    assert not (tmp_path / "skips.csv").exists()
    killed.clear()
    before = len(commands)
    assert study.main(arguments) == 0
    assert commands[before][1].parent.name == "subset-seed1"
    out = capsys.readouterr().out
    assert "trial 6 of 8: subset-seed1 · about 0:07:00 left" in out  # 200 s, of its kind, and twice 110 s
    lines = (tmp_path / "skips.md").read_text()
    assert "| DARTS | 2 | 2.0 ± 0.0 | 1.0 ± 0.0 |" in lines
    assert "| DARTS + data subset + epoch update | 2 | 1.0 ± 0.0 | 0.0 ± 0.0 |" in lines
    given = {folder.parent.name: words for verb, folder, words in commands if verb == "search"}
    assert [given[f"{name}-seed0"]["train_examples"] for name in ("darts", "subset", "update", "both")] == [
        *("1000", "200", "1000", "200")
    ]
    assert [given[f"{name}-seed0"].get("update") for name in ("darts", "subset", "update", "both")] == [
        *(None, None, "epoch", "epoch")
    ]
    count = len(commands)
    assert study.main([*arguments[:2], "--seeds=3", *arguments[3:]]) == 0
    assert len(commands) == count + 8  # a search and a training of each method
    assert study.main([*arguments, "--epochs=3"]) == 2
    assert "belongs to another run" in capsys.readouterr().err


def test_spaces_by_depth(study, pretended, tmp_path):
    commands, _ = pretended
    assert study.main(["spaces", f"--workdir={tmp_path}", "--spaces=ss4,ss3", "--depths=5,16", "--seeds=2"]) == 0
    searches = [given for verb, _, given in commands if verb == "search"]
    assert len(searches) == 8
    assert {(given["space"], given["cells"], given["seed"]) for given in searches} >= {("ss3", "16", "21")}
    assert all(given["update"] == "epoch" and given["train_examples"] == "2500" for given in searches)
    assert (tmp_path / "spaces.md").read_text().splitlines()[4].startswith("| SS3 | ")
    assert (tmp_path / "spaces.png").read_bytes().startswith(b"\x89PNG")


def test_mixings_on_the_same_seeds_and_budget(study, pretended, tmp_path, capsys):
    commands, killed = pretended
    arguments = ["mixings", f"--workdir={tmp_path}", "--seeds=2", "--search_examples=512", "--nodes=3"]
    killed.add("max_w-seed1")
    assert study.main(arguments) == 1
    killed.clear()
    assert study.main(arguments) == 0
    searches = [(folder.parent.name, given) for verb, folder, given in commands if verb == "search"]
    order = ["softmax-seed0", "max_w-seed0", "softmax-seed1", "max_w-seed1"]
    assert [name for name, _ in searches] == [*order, order[-1]]
    for name, given in searches:
        assert name == f"{given.pop('mixing')}-seed{given['seed']}"
        given.pop("workdir")
    assert searches[0][1] == searches[1][1]
    assert searches[2][1] == searches[3][1] == {**searches[0][1], "seed": "1"}
    assert searches[0][1].items() >= {("method", "sharpdarts"), ("train_examples", "512"), ("nodes", "3")}
    trains = [given for verb, _, given in commands if verb == "train"]
    assert [given["seed"] for given in trains] == ["0", "0", "1", "1"]
    rows = table(tmp_path / "mixings.csv")
    assert [(row["mixing"], row["seed"]) for row in rows] == [
        *(("softmax", "0"), ("max_w", "0"), ("softmax", "1"), ("max_w", "1"))
    ]
    lines = (tmp_path / "mixings.md").read_text()
    assert "| softmax | 2 | 0.1100 ± 0.0000 | 2.50 ± 0.00 | 2.0 ± 0.0 | 1.0 ± 0.0 | 41.00 ± 1.41 | " in lines
    assert "searched with sharpdarts, 8 cells, 512 + 512 images, 60 epochs" in lines
    count = len(commands)
    assert study.main([*arguments, "--mixings=softmax,max_w,max_w_stopped"]) == 0
    assert len(commands) == count + 4
    assert study.main([*arguments, "--method=darts"]) == 2
    assert "belongs to another run" in capsys.readouterr().err


def test_the_commands_are_the_papers(study, tool):
    studies = tool("edarts_studies")
    trial = studies.STUDIES["skips"].trial("both-seed4", study.parse(["skips"]))
    search, train = SEARCH.parse(trial.search), TRAIN.parse(trial.train)
    assert (search.order, search.epochs, search.cells, search.channels, search.update) == ("second", 50, 8, 16, "epoch")
    assert (search.train_examples, search.valid_examples, search.seed) == (2500, 2500, 4)
    assert (train.epochs, train.cells, train.channels, train.batch_size, train.drop_path) == (100, 5, 16, 64, 0.2)
    assert (train.cutout, train.auxiliary, train.clip, train.seed) == (0, False, 5.0, 4)


@pytest.mark.parametrize("page", ["edarts", "sharpdarts"])
def test_the_commands_of_what_was_measured_are_commands(study, tool, page):
    given = [words for _, program, *words in commands(ROOT / "docs" / f"{page}.md") if "edarts_study" in program]
    assert given
    for words in given:
        chosen = study.parse(words)
        kind = tool("edarts_studies").STUDIES[chosen.verb]
        kind.trial(kind.names(chosen)[0], chosen).check()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "VERB"),
        (["figure3"], "unknown study 'figure3'"),
        (["skips", "--seeds=0"], "--seeds=0: allowed is 1 and more"),
        (["skips", "--methods=darts,dart"], "did you mean 'darts'"),
        (["skips", "--methods=darts,darts"], "one is there twice"),
        (["skips", "--order=third"], "order"),
        (["spaces", "--spaces=ss9"], "ss9"),
        (["mixings", "--mixings=softmax,maxw"], "did you mean 'max_w'"),
        (["mixings", "--method=ddarts"], "needs one that finds a normal and a reduction cell"),
        (["mixings", "--method=multichannelnet"], "needs one that finds a normal and a reduction cell"),
        (["spaces", "--depths=0"], "--depths=0"),
        (["topologies", "--numbers=180"], "allowed are 0 to 179"),
        (["topologies", "--numbers=a"], "'a' is neither"),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else "",
)
def test_refused_in_one_line_and_nothing_is_written(study, pretended, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert study.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("edarts_study: ")
    assert err.count("\n") == 1
    assert said in err
    assert not list(tmp_path.iterdir())


# Real ones


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["topologies", "--numbers=0,7", "--best=1"],
        ["spaces", "--spaces=ss1", "--depths=2", "--seeds=1"],
        ["skips", "--methods=darts,both", "--search_examples=64", "--search_cells=2", "--seeds=1"],
        ["mixings", "--search_examples=64", "--search_cells=2", "--nodes=1", "--seeds=1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_real_study(study, tmp_path, arguments):
    assert study.main([*arguments, *TINY, f"--workdir={tmp_path}"]) == 0
    rows = table(tmp_path / f"{arguments[0]}.csv")
    assert len(rows) == {"topologies": 3, "spaces": 1, "skips": 2, "mixings": 2}[arguments[0]]
    assert all(0 <= float(row["test_accuracy"]) <= 1 for row in rows)
