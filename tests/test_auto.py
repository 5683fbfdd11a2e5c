"""`kdarts auto` and `ImageClassifier`: limits, candidates, the record of a run, its page, and whole runs."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import kdarts
from kdarts.auto import candidates
from kdarts.auto.classifier import _data, _fitting, pixels
from kdarts.auto.ledger import Ledger
from kdarts.auto.limits import Limits, cost_of, latency_ms
from kdarts.auto.pace import fitting_batch, fitting_side
from kdarts.auto.page import verdict, write_page
from kdarts.auto.run import Settings
from kdarts.cli.main import main
from kdarts.data import datasets
from kdarts.data.pictures import fitted
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.handmade import build_resnet
from kdarts.ops.cost import Cost
from kdarts.supernet.mobile import mobile_axes, mobilenet_v2
from kdarts.training.workdir import Workdir, read_table

SHAPE = (32, 32, 3)


def test_the_small_residual_network_has_the_cost_of_mlperf_tiny():
    """MLPerf Tiny's has 78,186 weights. Its 336 biases of convolutions are idle behind normalisations and left out
    here; its two shortcuts have no normalisation, which has 192 weights."""
    cost = cost_of(build_resnet(SHAPE, 10))
    assert (cost.macs, cost.params) == (12_501_632, 78_186 - 336 + 192)


def test_resnet_20_has_its_published_size():
    network = build_resnet(SHAPE, 10, 20)
    assert sum("-conv" in layer.name and "shortcut" not in layer.name for layer in network.layers) + 1 == 20
    assert round(network.count_params() / 1e6, 2) == 0.27


@pytest.mark.parametrize("side, grid", [(32, 8), (64, 8), (128, 8), (8, 2)])
def test_larger_images_are_halved_at_the_start(side, grid):
    network = build_resnet((side, side, 3), 3)
    assert network.get_layer("stage3-1-relu2").output.shape[1:3] == (grid, grid)


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"depth": 9}, "depth 9: allowed is 8, 14, 20"),
        ({"width": 0}, "width 0: needs at least 1"),
        ({"num_classes": 1}, "num_classes 1: needs at least 2"),
    ],
)
def test_resnet_refuses_other_sizes(choices, message):
    with pytest.raises(KdartsError, match=message):
        build_resnet(**{"input_shape": SHAPE, "num_classes": 10, **choices})


def test_limits_name_what_exceeds_them():
    limits = Limits(params=100, macs=1e6, size=5000)
    assert limits.exceeded(Cost(params=100, macs=10**6, flash=5000)) is None
    assert limits.exceeded(Cost(params=101)) == "params"
    assert limits.exceeded(Cost(flash=5001)) == "size"
    assert limits.with_macs(10).macs == 10 and limits.with_macs(1e9) == limits
    assert Limits().with_macs(7).given() == {"macs": 7}
    assert limits.in_words() == "at most 100 weights, 1.00 M MACs, 5,000 bytes"
    for wrong in (0, -1, float("nan"), "many", True):
        with pytest.raises(KdartsError, match=r"max_params .*: needs a number above 0"):
            Limits(params=wrong)


def test_a_family_gives_its_largest_network_within_the_limits():
    family = candidates.mobilenets(SHAPE, 10)
    small, fitting = (cost_of(family.make(width)[0]()) for width in (0.5, 0.6))
    found = family.largest(Limits(macs=fitting.macs))
    assert found.cost == fitting and found.cost.macs > small.macs
    assert family.largest(Limits(macs=fitting.macs - 1)).cost.macs < fitting.macs
    assert family.largest(Limits(params=10)) == "params"


def test_cells_are_counted_as_they_are_built():
    family = candidates.of_cells("mine", candidates.FOUND, candidates.random_cells(0), SHAPE, 10)
    built = cost_of(family.make(8)[0]())
    counted = family.count(8)
    assert (counted.params, counted.macs) == (built.params, built.macs)
    assert candidates.random_cells(0) == candidates.random_cells(0) != candidates.random_cells(1)


def test_equal_networks_are_told_apart_from_others():
    path = mobilenet_v2(mobile_axes(SHAPE, "auto", 0.5))
    differing = dataclasses.replace(path, choices=(0, *path.choices[1:]))
    one, same, other = (
        candidates.of_path(name, each, SHAPE, 10).largest(Limits())
        for name, each in (("a", path), ("b", path.named("")), ("c", differing))
    )
    assert one.same_as(same) and not one.same_as(other)
    by_hand = candidates.resnets(8, (8, 8, 1), 2).largest(Limits(params=9000))
    assert not by_hand.same_as(by_hand) and by_hand.by_hand


def test_latency_is_measured_by_litert():
    small, large = (latency_ms(build_resnet((16, 16, 1), 2, 8, width)) for width in (2, 32))
    assert 0 < small < large


def test_the_ledger_keeps_decisions_and_times(tmp_path):
    began = time.monotonic()
    ledger = Ledger(Workdir(tmp_path), 100, began)
    assert ledger.decide("a", lambda: {"epochs": 3}) == {"epochs": 3}
    ledger.finish("a", 40.0)  # A process before this one had begun it.
    ledger.finish("a", 90.0)
    assert ledger.spent == 40.0 and 59 < ledger.left <= 60
    again = Ledger(Workdir(tmp_path), 100)
    assert again.decide("a", lambda: 1 / 0) == {"epochs": 3}
    assert again.seconds_of("a") == 40.0 and again.seconds_of("b") == 0.0
    assert again.timed("b", lambda: 5) == 5 and 0 <= again.seconds_of("b") < 1
    (tmp_path / "auto.json").write_text('{"parts": {"a": {"seconds": "long"}}}')
    with pytest.raises(KdartsError, match=r"auto\.json: is damaged"):
        Ledger(Workdir(tmp_path), 100)


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"minutes": 0.5}, "minutes 0.5: allowed is 1 to"),
        ({"hold_back": 1.0}, "hold_back 1: allowed"),
        ({"seeds": 0}, "seeds 0: allowed"),
        ({"seed": -1}, "seed -1: allowed"),
    ],
)
def test_settings_have_ranges(choices, message):
    with pytest.raises(KdartsError, match=message):
        Settings(**choices)


def test_batches_are_small_where_pictures_are_few():
    assert [fitting_batch(n) for n in (10, 256, 600, 1024, 1999, 50_000)] == [4, 8, 16, 32, 32, 64]


def test_pictures_are_scaled_where_the_time_is_short():
    """ResNet-8 has 12.5 M MACs for 32 and 64 pixels, of which the latter are halved at once, and 28.1 M for 96."""
    assert fitting_side((100, 100, 3), 10, 1e9) == 100
    assert fitting_side((100, 100, 3), 10, 28.2e6) == 96
    assert fitting_side((100, 100, 3), 10, 13e6) == 64
    assert fitting_side((100, 100, 3), 10, 1.0) == 32
    assert fitting_side((40, 60, 3), 10, 1.0) == 40 and fitting_side((8, 8, 1), 10, 1.0) == 8


def test_pictures_of_another_size_are_scaled_for_the_network():
    images = np.random.default_rng(0).integers(0, 255, (2, 40, 60, 3), np.uint8)
    assert np.array_equal(_fitting(images, (32, 32, 3)), fitted(images, 32))
    for shape in ((32, 24, 3), (32, 32, 1)):
        with pytest.raises(KdartsError, match="the network takes"):
            _fitting(images, shape)


def test_pixels_are_read_in_every_usual_form():
    raw = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    assert pixels(raw) is raw
    for given in (raw.astype(int), raw.astype("float64"), raw.astype("float32") / 255):
        assert np.array_equal(pixels(given), raw)
    assert pixels(raw[..., 0]).shape == (1, 4, 4, 1)
    wrong = {
        r"needs \(pictures, height, width, 1 or 3\)": np.zeros((4, 4)),
        "numbers from -1 to 0: needs 0 to 255": np.linspace(-1, 0, 48).reshape(1, 4, 4, 3),
        "numbers from nan": np.full((1, 4, 4, 3), np.nan),
        "is of type": np.full((1, 4, 4, 3), "a"),
    }
    for message, given in wrong.items():
        with pytest.raises(KdartsError, match=message):
            pixels(given)


def test_labels_are_read_in_every_usual_form():
    x = np.zeros((4, 8, 8, 1), np.uint8)
    for y in ([0, 1, 2, 1], np.array([[0], [1], [2], [1]]), np.array([0.0, 1.0, 2.0, 1.0])):
        data = _data(x, y)
        assert data.labels.tolist() == [0, 1, 2, 1] and data.class_names == ("0", "1", "2")
    data = _data(x, ["dog", "cat", "dog", "bee"])
    assert data.class_names == ("bee", "cat", "dog") and data.labels.tolist() == [2, 1, 2, 0]
    assert _data(x, ["cat"] * 4, data.class_names).labels.tolist() == [1] * 4
    wrong = {
        r"not one-hot: y.argmax\(-1\)": np.eye(4),
        "needs one label for each of 4": [0, 1],
        "two classes or more": [0, 0, 0, 0],
        "y holds -1: allowed is 0 to": [0, 1, -1, 1],
        "whole numbers or texts": [0.5, 1, 1, 0],
        "needs labels": None,
    }
    for message, y in wrong.items():
        with pytest.raises(KdartsError, match=message):
            _data(x, y)
    with pytest.raises(KdartsError, match="y holds 'fox', which is none of the classes"):
        _data(x, ["fox"] * 4, data.class_names)


def test_datasets_are_collected():
    import tensorflow as tf

    x, y = np.arange(5 * 64, dtype=np.uint8).reshape(5, 8, 8, 1), np.array([0, 1, 0, 1, 1])
    pairs = tf.data.Dataset.from_tensor_slices((x, y))
    for given in (pairs, pairs.batch(2)):
        data = _data(given, None)
        assert np.array_equal(data.images, x) and np.array_equal(data.labels, y)
    with pytest.raises(KdartsError, match="has no end"):
        _data(pairs.repeat(), None)
    with pytest.raises(KdartsError, match=r"elements \(picture, label\)"):
        _data(tf.data.Dataset.range(3), None)
    with pytest.raises(KdartsError, match="is empty"):
        _data(pairs.take(0), None)


def test_an_unfitted_classifier_says_so():
    classifier = kdarts.ImageClassifier(minutes=1)
    for use in (lambda: classifier.predict(np.zeros((1, 8, 8, 1))), lambda: classifier.model):
        with pytest.raises(KdartsError, match="has no network yet"):
            use()


def _row(network, origin, accuracy, **more):
    row = {"network": network, "origin": origin, "size": "4 channels", "params": 1000, "macs": 10**5, "flash": 5000}
    return {**row, "round": "final", "epochs": 3, "seconds": 5.0, "held_back_accuracy": accuracy, **more}


def _summary(rows, chosen=0):
    about = {name: rows[chosen][name] for name in ("network", "origin", "size", "round", "params", "macs")}
    return {**about, "networks": rows, "limits": {"params": 2000}, "minutes": 5, "spent_seconds": 290, "dataset": "d",
            "interrupted": False}  # fmt: skip


def test_the_page_tells_whether_the_search_was_worth_it():
    hand, found = _row("ResNet-8", "made by hand", 0.8), _row("found", "found", 0.83)
    assert "3.00 points above that of ResNet-8" in verdict(_summary([found, hand]))
    assert "made by hand: nothing that was found did better" in verdict(_summary([hand, found]))
    assert "differ by about 1.2 points" in verdict({**_summary([found, hand]), "held_back_examples": 2000})
    interrupted = {**_summary([found]), "interrupted": True}
    assert verdict(interrupted).startswith("The run was interrupted") and "No network that" in verdict(interrupted)


def test_the_page_loads_nothing_and_escapes_what_files_say(tmp_path):
    rows = [_row("found", "found", 0.83, test_accuracy=0.8, test_accuracy_sd=0.01), _row("<b>", "random", 0.5)]
    classes = [{"class": "<script>x</script>", "examples": 3, "precision": None, "recall": 1.0}]
    classes.append({"class": "b", "examples": 0, "precision": 0.5, "recall": None})
    wrong = [{"image": "a/<i>.png", "class": "b", "predicted": "<u>", "probability": 0.9}]
    figures = {"accuracy": 0.75, "examples": 4, "classes": classes, "most_wrong": wrong}
    exports = {"litert": {"path": "m.tflite", "bytes": 5000, "latency_ms": 0.5}}
    picture = np.zeros((8, 8, 1), np.uint8)
    write_page(tmp_path / "report.html", _summary(rows), figures, np.array([[3, 0], [0, 0]]), [picture], exports)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "default-src 'none'" in text and "<script" not in text and "http" not in text.replace("http-equiv", "")
    for tag in ("<script>x", "<b>", "<u>", "<i>"):
        assert tag not in text
    assert "80.00% ± 1.00" in text and "75.00%" in text and "0.50 ms" in text


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--max_params=many"], "--max_params=many: needs a number"),
        (["--max_size=5 parsec"], "--max_size=5 parsec: needs a number of bytes"),
        (["--minutes=0.5"], "--minutes=0.5: allowed is a number"),
        (["--format=paper"], "format 'paper'"),
        (["--train_examples=100000"], "--train_examples=100000: allowed is 1 to 1437"),
    ],
)
def test_the_command_refuses_wrong_flags_in_one_line(flags, message, tmp_path, capsys):
    assert main(["auto", f"--workdir={tmp_path / 'w'}", *flags]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0]
    assert not (tmp_path / "w").exists()


def test_limits_that_nothing_fits_are_refused_with_the_least_value(tmp_path, capsys):
    assert main(["auto", "--max_params=10", "--minutes=60", f"--workdir={tmp_path / 'w'}"]) == 2
    assert re.search(r"--max_params=10: the smallest network has [\d,]+ weights$", capsys.readouterr().err.strip())
    assert main(["report", f"--workdir={tmp_path / 'w'}", f"--to={tmp_path / 'r.html'}"]) == 2
    assert "is of kdarts auto" in capsys.readouterr().err


def _command(workdir, *flags):
    words = [sys.executable, "-m", "kdarts", "auto", "--minutes=1", "--max_params=20k", f"--workdir={workdir}", *flags]
    root = str(pathlib.Path(__file__).parent.parent)
    return words, {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def _table(workdir):
    timeless = ("seconds", "folder")
    return [{k: v for k, v in row.items() if k not in timeless} for row in read_table(workdir / "networks.csv")]


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_table(tmp_path):
    """What a run decides by time is taken over from a first run, so that both can be compared."""
    words, environment = _command(tmp_path / "whole")
    subprocess.run(words, env=environment, check=True, timeout=300)
    record = json.loads((tmp_path / "whole" / "auto.json").read_text())
    for part in record["parts"].values():
        part.pop("seconds", None)
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("flags.flags", "data.npz"):
        shutil.copy(tmp_path / "whole" / name, killed / name)
    (killed / "auto.json").write_text(json.dumps(record))
    words, environment = _command(killed)
    for _ in range(3):
        process = subprocess.Popen(words, env=environment)
        time.sleep(15)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(words, env=environment, check=True, timeout=300)
    assert _table(killed) == _table(tmp_path / "whole")
    assert (killed / "export" / "saved_model" / "saved_model.pb").exists()


@pytest.mark.slow
def test_an_interrupted_run_leaves_the_best_network_so_far(tmp_path):
    words, environment = _command(tmp_path / "w")
    process = subprocess.Popen(words, env=environment)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("w/trainings/*/summary.json")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(100) == 130
    summary = json.loads((tmp_path / "w" / "summary.json").read_text())
    assert summary["interrupted"] and (tmp_path / "w" / "export" / "saved_model").is_dir()
    assert subprocess.run(words, env=environment, timeout=300).returncode == 0
    assert not json.loads((tmp_path / "w" / "summary.json").read_text())["interrupted"]


@pytest.mark.slow
def test_the_classifier_learns_predicts_saves_and_exports(tmp_path):
    train, test = datasets.load("digits"), datasets.load("digits", split="test")
    classifier = kdarts.ImageClassifier(minutes=2, max_params=20_000, workdir=tmp_path / "w", verbose=False)
    began = time.monotonic()
    classifier.fit(train.images / 255.0, train.labels, test=(test.images, test.labels))
    assert time.monotonic() - began < 150
    assert classifier.summary["test_accuracy"] > 0.8 and classifier.summary["params"] <= 20_000
    assert classifier.evaluate(test.images, test.labels)["accuracy"] == pytest.approx(
        classifier.summary["test_accuracy"]
    )
    classes, probabilities = classifier.predict(test.images[:50])
    assert (classes == test.labels[:50].astype(str)).mean() > 0.8
    assert np.allclose(probabilities.sum(-1), 1)
    classifier.save(tmp_path / "mine.keras")
    loaded = kdarts.ImageClassifier.load(tmp_path / "mine.keras")
    assert np.array_equal(loaded.predict(test.images[:50]).classes, classes)
    with pytest.raises(KdartsError, match="needs the pictures of fit"):
        loaded.export(tmp_path / "e")
    exports = classifier.export(tmp_path / "e", ["litert"])
    assert exports["litert"]["agreement"] == 1.0
    assert classifier.export_model().output_shape == (None, 10)
