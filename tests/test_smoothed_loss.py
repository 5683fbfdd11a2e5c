"""Label smoothing: the formula, the papers' numbers, and that only the training sees it."""

import json

import keras
import numpy as np
import pytest

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.models import SmoothedCrossentropy, load_model, training_loss

TINY = ["train", "--genotype=DARTS_V1", "--cells=2", "--channels=4", "--epochs=1"]


def _by_hand(labels, logits, smoothing):
    logits = logits.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    q = (1 - smoothing) * np.eye(logits.shape[1])[labels] + smoothing / logits.shape[1]
    return -(q * log_p).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("column", [False, True])
def test_it_is_the_formula(smoothing, column):
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(7, 5)).astype("float32") * 3, draw.integers(0, 5, 7)
    given = labels[:, np.newaxis] if column else labels
    expected = _by_hand(labels, logits, smoothing)
    loss = SmoothedCrossentropy(smoothing)
    np.testing.assert_allclose(loss(given, logits), expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(loss.call(given, keras.ops.convert_to_tensor(logits)), expected, rtol=1e-5, atol=1e-6)
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    np.testing.assert_allclose(SmoothedCrossentropy(0.0)(labels, logits), plain, rtol=1e-6)


def test_it_is_the_reference_s(golden):
    arrays = golden("ddarts_final.npz")
    labels = arrays["y"].astype("int32")
    np.testing.assert_allclose(training_loss(0.1)(labels, arrays["train_logits"]), arrays["ce_label_smooth"], rtol=1e-5)
    np.testing.assert_allclose(training_loss()(labels, arrays["train_logits"]), arrays["ce"], rtol=1e-5)


def test_saved_and_refused():
    loss = keras.losses.deserialize(keras.losses.serialize(SmoothedCrossentropy(0.2)))
    assert isinstance(loss, SmoothedCrossentropy)
    assert loss.label_smoothing == 0.2
    assert isinstance(training_loss(), keras.losses.SparseCategoricalCrossentropy)
    for wrong in (-0.1, 1.0):
        with pytest.raises(KdartsError, match="0 to below 1"):
            SmoothedCrossentropy(wrong)


@pytest.mark.parametrize("wrong", ["1", "-0.1", "nan"])
def test_the_flag_is_refused_in_one_line(tmp_path, capsys, wrong):
    arguments = ["train", "--genotype=DARTS_V1", f"--label_smoothing={wrong}", f"--workdir={tmp_path}/run"]
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "label_smoothing" in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_only_the_training_sees_it(tmp_path, capsys):
    run = tmp_path / "run"
    assert main([*TINY, "--label_smoothing=0.9", "--auxiliary", f"--workdir={run}"]) == 0
    capsys.readouterr()
    summary = json.loads((run / "summary.json").read_text())
    assert main(["evaluate", f"--model={run}/model.keras"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["loss"] == pytest.approx(summary["test_loss"], rel=1e-5)
    assert measured["accuracy"] == pytest.approx(summary["test_accuracy"])
    saved = load_model(run / "model.keras")
    assert isinstance(saved.loss, SmoothedCrossentropy)
    assert saved.loss.label_smoothing == 0.9
