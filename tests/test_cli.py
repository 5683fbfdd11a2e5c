"""The commands: what they print, what they refuse, and that a refusal changes nothing."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli.main import VERBS, main

SMALL = ["--cells=2", "--channels=4", "--nodes=2", "--epochs=1"]


@pytest.fixture
def refused(capfd, tmp_path, monkeypatch):
    """Runs a command that must fail: one line on standard error, exit code 2, and no file made, changed or removed."""
    monkeypatch.chdir(tmp_path)

    def files():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def run(*arguments) -> str:
        before = files()
        capfd.readouterr()
        assert main([str(a) for a in arguments]) == 2
        out, err = capfd.readouterr()
        assert err.startswith("kdarts: ")
        assert err.count("\n") == 1
        assert "Traceback" not in out + err
        assert files() == before
        return err

    return run


def _folder(root: pathlib.Path, classes=("cats", "dogs"), count=8) -> pathlib.Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture = np.full((8, 8, 3), 40 * number + i, np.uint8)
            (root / name / f"{i}.png").write_bytes(tf.io.encode_png(picture).numpy())
    return root


def test_help_and_lists(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert f"usage: kdarts {verb}" in capsys.readouterr().out
    assert main(["methods", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["name"] == "darts"
    assert main(["spaces", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["name"] == "darts"
    assert len(first["operations"]) == 8


def test_nothing_asked_shows_the_help_and_counts_as_a_mistake(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


def test_info_counts_darts_v2(capsys):
    assert main(["info", "DARTS_V2", "--channels=36", "--cells=20"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["params"], found["macs"]) == (3349342, 528359040)
    assert found["operations"] == {"dil_conv_3x3": 18, "max_pool_3x3": 10, "sep_conv_3x3": 90, "skip_connect": 42}
    assert main(["info", "DARTS_V2", "--auxiliary"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 3349342 + 476426


def test_draw(tmp_path, capsys):
    for suffix in ("svg", "png", "dot"):
        assert main(["draw", "DARTS_V1", f"--to={tmp_path}/cells.{suffix}"]) == 0
        assert (tmp_path / f"cells.{suffix}").stat().st_size > 1000


def test_mistakes_in_flags(refused):
    assert "allowed: darts" in refused("search", "--method=drats")
    assert "did you mean 'darts'" in refused("search", "--space=dart")
    assert "bogus" in refused("search", "--bogus=1")
    assert "--epochs=x" in refused("search", "--epochs=x")
    assert "--epochs=0" in refused("search", "--epochs=0")
    assert "search" in refused("serch")
    assert "order" in refused("search", "--order=third")
    assert "--batch_size=5000" in refused("search", "--batch_size=5000")
    assert "channels 5" in refused("search", "--channels=5")
    assert "sharing" in refused("search", "--sharing=none")
    assert "mixing" in refused("search", "--mixing=hard")
    assert "no-such.flags" in refused("search", "--flagfile=no-such.flags")
    assert "format" in refused("export", "--model=m.keras", "--to=out", "--format=pickle")
    assert "--model is missing" in refused("evaluate")
    assert "--genotype is missing" in refused("train")
    assert "usage: kdarts info" in refused("info")
    assert ".gif" in refused("draw", "DARTS_V1", "--to=cells.gif")


def test_mistakes_in_data(refused, tmp_path):
    assert "nowhere" in refused("search", "--dataset=folder:nowhere")
    assert "did you mean" in refused("search", "--dataset=cifar11", f"--data_dir={tmp_path}")
    _folder(tmp_path / "one", classes=("cats",))
    assert "class" in refused("search", f"--dataset=folder:{tmp_path}/one")
    broken = _folder(tmp_path / "two")
    (broken / "dogs" / "3.png").write_bytes(b"not a picture")
    assert "3.png" in refused("search", f"--dataset=folder:{broken}")


def test_mistakes_in_genotypes(refused, tmp_path):
    assert "DARTS_V2" in refused("train", "--genotype=DARTS_V3")
    assert "no genotype file" in refused("info", "nowhere.json")
    path = tmp_path / "odd.json"
    cell = [["warp_drive", 2, 0], ["skip_connect", 2, 1]]
    genotype = {"format": "kdarts-genotype-1", "cells": [cell, cell], "concats": [[2], [2]]}
    path.write_text(json.dumps(genotype))
    assert "warp_drive" in refused("info", path)
    assert "warp_drive" in refused("train", f"--genotype={path}")
    path.write_text(path.read_text()[:-20])
    assert "odd.json" in refused("info", path)
    path.write_text("Genotype(normal=__import__('os'))")
    assert "odd.json" in refused("info", path)


def test_mistakes_in_models(refused, tmp_path):
    assert "nowhere.keras" in refused("evaluate", "--model=nowhere.keras")
    damaged = tmp_path / "model.keras"
    damaged.write_bytes(b"PK\x03\x04 damaged")
    assert "model.keras" in refused("evaluate", f"--model={damaged}")
    assert "model.keras" in refused("export", f"--model={damaged}", "--to=out")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A search, a training and two exports on a folder of pictures, as small as they come."""
    root = tmp_path_factory.mktemp("runs")
    data = f"--dataset=folder:{_folder(root / 'pictures', count=20)}"
    assert main(["search", data, f"--workdir={root}/search", "--batch_size=4", *SMALL]) == 0
    genotype = f"--genotype={root}/search/genotype.json"
    sizes = ["--cells=2", "--channels=4", "--epochs=2", "--batch_size=8"]
    sizes += ["--auxiliary", "--drop_path=0.1", "--cutout=2"]
    assert main(["train", genotype, data, f"--workdir={root}/train", *sizes]) == 0
    for kind in ("raw", "normalized"):
        command = ["export", f"--model={root}/train/model.keras", f"--to={root}/{kind}", f"--input={kind}"]
        assert main([*command, "--format=saved_model"]) == 0
    return root, data


def test_search_leaves_what_the_readme_says(runs):
    root, _ = runs
    names = {path.name for path in (root / "search").iterdir()}
    wanted = "genotype.json genotypes.jsonl alphas.npz history.csv alphas.png cells.svg summary.json flags.flags backup"
    assert set(wanted.split()) <= names
    summary = json.loads((root / "search" / "summary.json").read_text())
    keys = "method dataset seed epochs valid_accuracy params macs skip_connects step_ms wall_seconds peak_memory_mb"
    assert {*keys.split(), "stopped_by"} <= set(summary)
    assert summary["epochs"] == 1
    with np.load(root / "search" / "alphas.npz") as alphas:
        assert {name: alphas[name].shape for name in alphas.files} == {"normal": (1, 5, 8), "reduce": (1, 5, 8)}


def test_evaluate_prints_the_accuracy_of_training(runs, capsys):
    root, data = runs
    assert main(["evaluate", f"--model={root}/train/model.keras", data]) == 0
    found = json.loads(capsys.readouterr().out)
    summary = json.loads((root / "train" / "summary.json").read_text())
    assert found["accuracy"] == pytest.approx(summary["test_accuracy"], abs=1e-6)
    assert found["loss"] == pytest.approx(summary["test_loss"], abs=1e-4)
    assert found["examples"] == summary["test_examples"]


def test_exports_answer_as_the_model_does(runs):
    from kdarts.run.models import load_model

    root, _ = runs
    summary = json.loads((root / "train" / "summary.json").read_text())
    model = load_model(root / "train" / "model.keras")
    raw = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype("float32")
    normalized = ((raw / 255 - summary["mean"]) / summary["std"]).astype("float32")
    expected = model(normalized, training=False).numpy()
    for kind, images in (("raw", raw), ("normalized", normalized)):
        signature = tf.saved_model.load(str(root / kind / "saved_model")).signatures["serving_default"]
        assert signature.structured_input_signature[1]["image"].dtype == tf.float32
        (logits,) = signature(image=tf.constant(images)).values()
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        assert json.loads((root / kind / "metrics.json").read_text())["input"] == kind
        assert (root / kind / "genotype.json").read_text() == (root / "search" / "genotype.json").read_text()


def test_the_same_command_again_says_what_was_found_and_changes_nothing(runs, capsys):
    root, data = runs
    files = [root / "search" / name for name in ("genotype.json", "history.csv", "summary.json", "alphas.npz")]
    before = [path.read_bytes() for path in files]
    assert main(["search", data, f"--workdir={root}/search", "--batch_size=4", *SMALL]) == 0
    assert "finished before" in capsys.readouterr().out
    assert [path.read_bytes() for path in files] == before


def test_a_workdir_of_another_run_is_refused(runs, capfd):
    root, data = runs
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for command in (
        ["search", data, f"--workdir={root}/search", "--batch_size=4", "--seed=1", *SMALL],
        ["search", "--dataset=digits", f"--workdir={root}/train", *SMALL],
        ["search", "--dataset=digits", f"--workdir={root}/pictures", *SMALL],
        ["search", "--dataset=digits", f"--workdir={root}/search/genotype.json", *SMALL],
    ):
        capfd.readouterr()
        assert main(command) == 2
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert str(root) in err
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_damaged_state_is_named(runs, capfd, tmp_path):
    import shutil

    root, data = runs
    shutil.copytree(root / "search", tmp_path / "search")
    (state,) = (tmp_path / "search" / "backup").iterdir()
    state.write_bytes(state.read_bytes()[:500])
    assert main(["search", data, f"--workdir={tmp_path}/search", "--batch_size=4", *SMALL]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert state.name in err
