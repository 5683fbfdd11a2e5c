"""Trainings that are measured as they go: on images held back, with the best epoch kept, and after a kill."""

import csv
import json

import keras
import numpy as np
import pytest

from kdarts.cli.main import main
from kdarts.data import datasets
from kdarts.data.augmentation import Augmentation
from kdarts.data.pipeline import eval_dataset
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.models import load_model, read_about, training_loss
from kdarts.training.train_run import run_training
from kdarts.training.workdir import Workdir, read_summary

RATES = (0.1, 0.3, 20.0)
"""Learning rates by epoch; the last one destroys what was learnt."""


def _data(classes: int = 10):
    """Images for training, to validate on and for the test, of the first classes of the digits."""
    found = []
    for split in ("train", "test"):
        data = datasets.load("digits", split=split)
        few = data.take(np.flatnonzero(data.labels < classes)[:300])
        found.append(datasets.ImageData(few.images, few.labels, data.class_names[:classes], "digits"))
    return *datasets.hold_back(found[0], 0.3), found[1]


def _train(folder, epochs=3, rate=lambda epoch: RATES[epoch], classes=10, **how):
    """Trains a network of one layer, with running statistics; returns its summary, history and weights."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(classes)]
    network = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    network.compile(keras.optimizers.SGD(0.1, momentum=0.9), training_loss(0.1), metrics=["accuracy"])
    train, valid, test = _data(classes)
    how = {
        "validate_every": 1,
        "batch_size": 32,
        "augmentation": Augmentation(pad=1, flip=False),
        "seed": 0,
        "about": {"seed": 0},
    } | how
    how |= {"epochs": epochs, "schedule": rate, "mean": [0.3], "std": [0.4]}
    summary = run_training(network, Workdir(folder), train, test, valid, **how)
    rows = list(csv.DictReader((folder / "history.csv").open()))
    return summary, rows, load_model(folder / "model.keras")


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    """Three epochs, of which the second is the best and kept."""
    return _train(tmp_path_factory.mktemp("best"), keep="best")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Two epochs without a measurement between them."""
    return _train(tmp_path_factory.mktemp("plain"), epochs=2, validate_every=0)


def _same_weights(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_best_epoch_is_tested_and_saved(tmp_path, best, plain):
    summary, rows, model = best
    accuracies = [float(row["val_accuracy"]) for row in rows]
    assert accuracies[1] > max(accuracies[0], accuracies[2])
    assert (summary["tested_after_epochs"], summary["epochs"]) == (2, 3)
    assert summary["held_back_accuracy"] == pytest.approx(accuracies[1])
    _same_weights(model, plain[2])
    assert plain[0]["test_accuracy"] == summary["test_accuracy"]
    last, _, _ = _train(tmp_path)
    assert last["tested_after_epochs"] == 3 and last["held_back_accuracy"] == pytest.approx(accuracies[2])
    assert last["test_accuracy"] < summary["test_accuracy"]


def test_groups_stay_whole_in_what_is_held_back():
    rng = np.random.default_rng(0)
    names = tuple(f"{'cats' if k % 3 else 'dogs'}/{rng.integers(40):02d}_{k}.png" for k in range(400))
    labels = np.array([int(name.startswith("dogs")) for name in names], np.int32)
    images = np.zeros((400, 8, 8, 1), np.uint8)
    data = datasets.ImageData(images, labels, ("cats", "dogs"), "folder:x", names)
    rest, held = datasets.hold_back(data, 0.2, r"(\d+)_")
    groups = [{name.split("/")[1].split("_")[0] for name in part.names} for part in (rest, held)]
    assert not groups[0] & groups[1] and len(groups[0] | groups[1]) == 40
    assert sorted((*rest.names, *held.names)) == sorted(names)
    assert 74 <= len(held) <= 86 and 0.2 < held.labels.mean() < 0.47
    assert datasets.hold_back(data, 0.2, r"(\d+)_")[1].names == held.names
    plain = datasets.hold_back(data, 0.2)[1].names
    assert len(plain) == 80 and datasets.hold_back(data, 0.2, "(no such)")[1].names != held.names
    with pytest.raises(KdartsError, match="all pictures are of one group"):
        datasets.hold_back(data, 0.2, r"\.(png)")


def test_a_validation_changes_no_training(tmp_path, plain):
    summary, rows, model = _train(tmp_path, epochs=2, validate_every=2)
    assert [(row.pop("val_accuracy") > "", row.pop("val_loss") > "") for row in rows] == [(False, False), (True, True)]
    assert rows == plain[1] and summary["tested_after_epochs"] == 2
    _same_weights(model, plain[2])
    assert "tested_after_epochs" not in plain[0] and plain[0]["held_back_accuracy"] == summary["held_back_accuracy"]


def test_a_training_interrupted_after_its_best_epoch_comes_to_the_same_result(tmp_path, best):
    def interrupted(epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return RATES[epoch]

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, keep="best", rate=interrupted)
    for _ in range(2):  # The second finds it finished.
        summary, rows, model = _train(tmp_path, keep="best")
        assert summary["tested_after_epochs"] == 2 and rows == best[1]
        _same_weights(model, best[2])
        assert summary["test_accuracy"] == best[0]["test_accuracy"]


def test_the_first_of_equal_epochs_is_kept(tmp_path):
    summary, rows, _ = _train(tmp_path, rate=lambda epoch: 1e-12, keep="best")
    assert len({row["val_accuracy"] for row in rows}) == 1 and summary["tested_after_epochs"] == 1


@pytest.mark.parametrize("classes", [5, 6])
def test_top_5_accuracy_of_more_than_five_classes(tmp_path, classes):
    summary, _, model = _train(tmp_path, epochs=1, classes=classes)
    assert ("test_top_5_accuracy" in summary) == ("held_back_top_5_accuracy" in summary) == (classes > 5)
    if classes > 5:
        _, _, test = _data(classes)
        logits = model.predict(eval_dataset(test, 32, [0.3], [0.4]), verbose=0)
        ranks = (logits > logits[np.arange(len(test)), test.labels][:, None]).sum(-1)
        assert summary["test_top_5_accuracy"] == pytest.approx((ranks < 5).mean())
        assert 0 < summary["test_accuracy"] < summary["test_top_5_accuracy"] < 1


def test_a_loss_that_no_file_may_hold_is_left_out(tmp_path):
    summary, _, _ = _train(tmp_path, epochs=1, rate=lambda epoch: 1e32, batch_size=210, validate_every=0)
    assert summary["test_loss"] is None and 0 <= summary["test_accuracy"] <= 1
    assert "test_loss" not in read_about(tmp_path / "model.keras")["metrics"]
    assert read_summary(tmp_path, ("test_loss",)) is not None


TRAIN = ["train", "--genotype=DARTS_V1", "--cells=2", "--channels=2", "--epochs=2", "--train_examples=64"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--keep=best", "--keep=best: needs the accuracy of epochs: --validate_every=1 with --hold_back=0.1"),
        (
            "--keep=best --hold_back=0.2",
            "--keep=best: needs the accuracy of epochs: --validate_every=1 with --hold_back=",
        ),
        (
            "--validate_every=1",
            "--validate_every=1: needs images to measure on, such as --hold_back=0.1, or --valid_split",
        ),
        ("--validate_every=3 --hold_back=0.1", "--validate_every=3: allowed is 0 to 2, the epochs"),
        ("--validate_every=-1 --hold_back=0.1", "--validate_every=-1: allowed is a whole number from 0 to "),
        ("--hold_back=0.1 --valid_split=val", "--hold_back=0.1 with --valid_split=val: allowed is one of them"),
        ("--hold_back=0.1 --seeds=2", "--hold_back=0.1 with --seeds=2: seeds are compared on the test images"),
        (
            "--valid_split=val --validate_every=1",
            "--valid_split=val: no such split beside train and test in 'digits'; ",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, capfd, flags, said):
    assert main([*TRAIN, *flags.split(), f"--workdir={tmp_path / 'run'}"]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"kdarts: {said}") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_command_says_what_was_tested(tmp_path, capsys, eagerly):
    words = ["--hold_back=0.2", "--validate_every=1", "--keep=best", f"--workdir={tmp_path}"]
    assert main([*TRAIN, *words]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    said = f"top-5 {summary['test_top_5_accuracy']:.4f}, on 360 images with the weights after epoch "
    assert f"{said}{summary['tested_after_epochs']} of 2: {tmp_path}/model.keras" in capsys.readouterr().out
    assert summary["held_back_examples"] == 287
    with np.load(tmp_path / "data.npz") as data:
        assert {"train", "test"} <= set(data.files)
