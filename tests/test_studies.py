"""`tools/ddarts_study.py`: what it refuses, what it reads out of finished searches, and two tiny real studies."""

import csv
import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from kdarts.cli import options
from kdarts.search.method import get_method
from kdarts.training.workdir import Workdir, write_arrays, write_json, write_table

TINY = ["--cells=2", "--channels=4", "--nodes=2", "--epochs=1", "--batch_size=64"]


@pytest.fixture
def study(tool):
    return tool("ddarts_study")


@pytest.fixture
def finished(study, tmp_path):
    """Makes the folders of a study as its finished searches would leave them, without searching."""

    def make(arguments, content) -> None:
        chosen, rest = study.parse(arguments)
        for run in study.plan(chosen.study, chosen, rest):
            Workdir(run.folder).begin(options.remembered(run.values))
            history, alphas = content(*run.label.values())
            write_table(run.folder / "history.csv", history)
            write_arrays(run.folder / "alphas.npz", alphas)
            write_json(run.folder / "summary.json", {"wall_seconds": 60.0})

    return make


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pictures(folder, name):
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    return (folder / f"{name}.svg").read_text("utf-8")


# What is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["methods", "--dataset=digits"], "put -- before the flags of kdarts search"),
        ([], "put --"),
        (["--"], "STUDY"),
        (["figure4", "--"], "unknown study 'figure4'"),
        (["methods", "--value=darts", "--"], "--value=darts"),
        (["methods", "--seeds=0", "--"], "--seeds=0: allowed is 1 and more"),
        (["methods", "--seeds=x", "--"], "--seeds"),
        (["methods", "--values=darts,dart", "--"], "did you mean 'darts'?"),
        (["methods", "--values=", "--"], "unknown method ''"),
        (["methods", "--values=darts,darts", "--"], "darts is there twice"),
        (["ablation_weight", "--values=0,-1", "--"], "'-1' is no finite number from 0"),
        (["ablation_weight", "--values=nan", "--"], "'nan' is no finite number"),
        (["ablation_weight", "--values=0.5,.50", "--"], "0.5 is there twice"),
        (["ablation_weight", "--", "--zero_one_weight=7"], "--zero_one_weight after --"),
        (["ablation_weight", "--", "--seed=1"], "--seed after --"),
        (["ablation_weight", "--", "--validate_every=0"], "--validate_every=0"),
        (["methods", "--", "--epochs=2", "--validate_every=3"], "needs 1 to 2"),
        (["zero_one_weight", "--", "--mixing=softmax"], "--mixing=softmax"),
        (["methods", "--", "--batch=3"], "batch"),
        (["methods", "--", "--epochs=0"], "epochs"),
        (["methods", "--", "there"], "'there'"),
        (["methods", "--", "--help"], "kdarts search --help"),
        (["modes", "--values=own", "--"], "takes neither --values nor --seeds"),
        (["modes", "--", "--method=darts"], "--method after --"),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else "",
)
def test_refused_in_one_line_and_nothing_is_written(study, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert study.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ddarts_study: ")
    assert err.count("\n") == 1
    assert said in err
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_size_is_refused(study, finished, tmp_path, capsys):
    arguments = ["methods", "--values=darts", f"--workdir={tmp_path}", "--"]
    finished([*arguments, "--epochs=2"], lambda *_: ([{"epoch": 0, "val_accuracy": 0.5}], {}))
    assert study.main([*arguments, "--epochs=3"]) == 2
    assert "belongs to another run: there --epochs=2, here --epochs=3" in capsys.readouterr().err


def test_help(study, capsys):
    with pytest.raises(SystemExit) as stop:
        study.main(["--help"])
    assert stop.value.code == 0
    assert "ablation_weight" in capsys.readouterr().out


# What is read out of finished searches


def test_least_cross_entropy_against_the_ablation_weight(study, finished, tmp_path, capsys):
    losses = {"0": (2.0, 1.0, 1.5), "0.5": (1.9, "", 0.5), "2": (1.0, 3.0, 3.0)}

    def content(value, seed):
        return [{"epoch": e, "val_loss": x if x == "" else x + seed} for e, x in enumerate(losses[value])], {}

    arguments = ["ablation_weight", "--values=2,0,0.5", "--seeds=2", f"--workdir={tmp_path}", "--", "--epochs=3"]
    finished(arguments, content)
    assert study.main(arguments) == 0
    rows = table(tmp_path / "ablation_weight.csv")
    found = {(r["ablation_weight"], r["seed"]): [float(r[k]) for k in list(r)[2:]] for r in rows}
    assert found["0", "0"] == [1.0, 2, 1.5]
    assert found["0.5", "1"] == [1.5, 3, 1.5]
    assert found["2", "1"] == [2.0, 1, 4.0]
    out = capsys.readouterr().out
    assert "run 6 of 6: ablation_weight=0.5 seed=1 · finished before" in out
    assert "1.5000 ± 0.7071" in out
    svg = pictures(tmp_path, "ablation_weight")
    assert "mean and SD of 2 seeds" in svg
    assert "least over the epochs" in svg


def test_share_of_dominant_operations(study, finished, tmp_path, capsys):
    def content(value, seed):
        last = {"0": [0.0, 0.0, 0.0, 2.19], "7": [3.0, 2.2, -2.2, -2.19]}[value]
        alphas = np.zeros((2, 2, 2), np.float32)
        alphas[1] = np.reshape(last, (2, 2))
        return [{"epoch": 0}], {"cell_0": alphas, "cell_1": alphas}

    arguments = ["zero_one_weight", "--values=0,7", f"--workdir={tmp_path}", "--", "--epochs=2"]
    finished(arguments, content)
    assert study.main(arguments) == 0
    rows = table(tmp_path / "zero_one_weight.csv")
    assert [(float(r["percent_above_0.9"]), float(r["percent_below_0.1"])) for r in rows] == [(0, 0), (50, 25)]
    assert "50.0" in capsys.readouterr().out
    assert "σ(α) &gt; 0.9 (dominant)" in pictures(tmp_path, "zero_one_weight")


def test_best_accuracy_so_far_of_each_method(study, finished, tmp_path, capsys):
    accuracies = {"darts": ("", 0.5, 0.4), "ddarts": (0.2, 0.1, 0.75)}

    def content(value, seed):
        return [{"epoch": e, "val_accuracy": a} for e, a in enumerate(accuracies[value])], {}

    arguments = ["methods", "--values=darts,ddarts", f"--workdir={tmp_path}", "--", "--epochs=3"]
    finished(arguments, content)
    assert study.main(arguments) == 0
    rows = table(tmp_path / "methods.csv")
    best = {name: [float(r["best_val_accuracy"]) for r in rows if r["method"] == name] for name in accuracies}
    assert np.isnan(best["darts"][0])
    assert best["darts"][1:] == [0.5, 0.5]
    assert best["ddarts"] == [0.2, 0.2, 0.75]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["darts", "50.00", "2.00"] in lines
    assert ["ddarts", "75.00", "3.00"] in lines
    assert ">ddarts<" in pictures(tmp_path, "methods")


@pytest.mark.parametrize("history", ["", "epoch\n0\n", "epoch,val_loss\n0,\n", "epoch,val_loss\n0,x\n"])
def test_a_damaged_table_is_named(study, finished, tmp_path, capsys, history):
    arguments = ["ablation_weight", "--values=1", f"--workdir={tmp_path}", "--"]
    finished(arguments, lambda *_: ([{"epoch": 0}], {}))
    (tmp_path / "ablation_weight" / "1" / "history.csv").write_text(history)
    assert study.main(arguments) == 2
    err = capsys.readouterr().err
    assert "history.csv" in err
    assert err.count("\n") == 1


def test_the_time_left_goes_by_the_finished_searches(tool, study, finished, tmp_path, capsys, monkeypatch):
    arguments = ["methods", f"--workdir={tmp_path}", "--", "--epochs=1"]
    finished(arguments, lambda *_: ([{"epoch": 0, "val_accuracy": 0.5}], {}))
    (tmp_path / "methods" / "fairdarts" / "summary.json").unlink()
    started = []

    def fail(words, **_):
        started.append(words)
        return type("Finished", (), {"returncode": -9})

    monkeypatch.setattr(subprocess, "run", fail)
    assert study.main(arguments) == 1
    out, err = capsys.readouterr()
    assert "run 1 of 3: method=darts seed=0 · finished before" in out
    assert "run 2 of 3: method=fairdarts seed=0 · about 0:01:00 left" in out
    assert "ended with -9; the same command goes on there" in err
    assert len(started) == 1
    assert started[0][1:4] == ["-m", "kdarts.cli.process", "search"]
    assert not (tmp_path / "methods.csv").exists()


# Modes of the ablation loss


def test_comparison_of_two_gradients(tool):
    compared = tool("ablation_study").own_and_exact
    own = [np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]])]
    exact = [np.array([[6.0, 8.0]]), np.array([[0.0, 2.0]])]
    method = get_method("ddarts").override(ablation_clip=1.0)
    rows = compared(own, exact, np.array([-0.1, -0.3]), method)
    assert [r["cosine"] for r in rows] == pytest.approx([1, 0])
    assert [r["norm_ratio"] for r in rows] == pytest.approx([0.5, 0.5])
    # -0.5 (1 - r / 2) / mean, with r = 0.5 and 1.5 and a mean of -0.2; the clip is 1.
    assert [r["own_factor_unclipped"] for r in rows] == pytest.approx([1.875, 0.625])
    assert [r["own_factor"] for r in rows] == pytest.approx([1, 0.625])
    off = compared([np.zeros((1, 2))] * 2, [np.zeros((1, 2))] * 2, np.array([0.1, 0.3]), method)
    assert all(np.isnan(r["cosine"]) and np.isnan(r["norm_ratio"]) and r["own_factor"] == 0 for r in off)


def test_comparison_of_all_modes_with_the_exact_gradient(tool):
    compared = tool("ablation_study").compared
    search = SimpleNamespace(
        method=get_method("ddarts"), architecture_gradients=lambda train, valid: [np.array([[0.0, 1.0]])]
    )
    exact, other, none = ([np.array([row])] for row in ([1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]))
    for mean, counted, whole in ((-0.03, 1, "0.500"), (-0.01, 0, "1.000")):
        found = {"exact": [exact], "drawn": [exact, other], "constant": [none]}
        head, *rows = compared(search, lambda batch, f=found, m=mean: (f, np.array([m])), [None])
        assert f"counted on {counted} of 1 batches" in head
        assert rows[0] == "| exact | 1.000 | 1.000 |" and rows[1] == f"| drawn | 0.000 | {whole} |"
        assert rows[2].startswith("| constant | nan |")


def test_figure_of_the_modes(tool, tmp_path):
    figures = tool("ddarts_figures")
    row = {"contribution": -0.2, "own_factor": 0.5, "own_factor_unclipped": 0.5}
    rows = [
        {
            **row,
            "epoch": e,
            "cell": f"cell_{c}",
            "cosine": c - 0.5 if e else np.nan,
            "norm_ratio": 1 + c if e else np.nan,
        }
        for e in range(3)
        for c in range(2)
    ]
    figures.save(figures.MODES, rows, "made up", tmp_path / "modes")
    svg = pictures(tmp_path, "modes")
    assert "no value: the mean contribution is not below 0" in svg
    assert "made up" in svg
    assert "0.000 (-0.500 to 0.500)" in figures.MODES.table(rows)[-1]


# Real ones


@pytest.mark.slow
def test_a_real_study_of_one_value(study, tmp_path, capfd):
    arguments = ["zero_one_weight", "--values=5", f"--workdir={tmp_path}", "--", *TINY]
    assert study.main(arguments) == 0
    folder = tmp_path / "zero_one_weight" / "5"
    assert json.loads((folder / "summary.json").read_text())["method"] == "ddarts"
    flags = (folder / "flags.flags").read_text()
    assert "--zero_one_weight=5.0" in flags
    assert "--ablation_weight=0.5" in flags
    assert "run 1 of 1: zero_one_weight=5 seed=0 · started" in capfd.readouterr().out
    before = (tmp_path / "zero_one_weight.csv").read_bytes()
    assert study.main(arguments) == 0
    assert "finished before" in capfd.readouterr().out
    assert (tmp_path / "zero_one_weight.csv").read_bytes() == before
    assert study.main([*arguments, "--batch_size=9999", "--recompute"]) == 2


@pytest.mark.slow
def test_a_mistake_that_only_the_search_sees(study, tmp_path, capfd):
    assert study.main(["methods", "--values=darts", f"--workdir={tmp_path}", "--", *TINY, "--batch_size=9999"]) == 2
    err = capfd.readouterr().err
    assert err.startswith("kdarts: --batch_size=9999")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_modes_along_a_real_search(study, tmp_path, capsys):
    arguments = ["modes", f"--workdir={tmp_path}", "--", *TINY]
    assert study.main(arguments) == 0
    rows = table(tmp_path / "modes.csv")
    assert [(r["epoch"], r["cell"]) for r in rows] == [
        ("0", "cell_0"),
        ("0", "cell_1"),
        ("1", "cell_0"),
        ("1", "cell_1"),
    ]
    for row in rows:
        cosine = float(row["cosine"])
        assert np.isnan(cosine) or abs(cosine) <= 1 + 1e-6
    assert "cosine" in capsys.readouterr().out
    pictures(tmp_path, "modes")
    before = (tmp_path / "modes.csv").read_bytes()
    assert study.main(arguments) == 0
    assert (tmp_path / "modes.csv").read_bytes() == before
