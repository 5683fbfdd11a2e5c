"""From the digits to a served network, as the README says, and a search on the real CIFAR-10."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from test_resume import finish

from kdarts.cli.main import main
from kdarts.data import datasets

ROOT = pathlib.Path(__file__).parent.parent

SERVE = """
import sys
import numpy as np, tensorflow as tf
assert "kdarts" not in sys.modules
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
(logits,) = signature(image=tf.constant(np.load(sys.argv[2]))).values()
np.save(sys.argv[3], logits.numpy())
"""


@pytest.mark.slow
def test_digits_from_search_to_serving(tmp_path, capsys):
    assert main(["search", f"--workdir={tmp_path}/search"]) == 0
    assert f"Next: kdarts train --genotype={tmp_path}/search/genotype.json" in capsys.readouterr().out
    assert main(["train", f"--genotype={tmp_path}/search/genotype.json", f"--workdir={tmp_path}/train"]) == 0
    capsys.readouterr()
    assert main(["evaluate", f"--model={tmp_path}/train/model.keras", "--dataset=digits"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] >= 0.97
    assert main(["export", f"--model={tmp_path}/train/model.keras", f"--to={tmp_path}/served", "--input=raw"]) == 0

    from kdarts.networks.models import load_model

    summary = json.loads((tmp_path / "train" / "summary.json").read_text())
    images = datasets.load("digits", split="test").images.astype("float32")
    normalized = (images / 255 - summary["mean"]) / summary["std"]
    expected = load_model(tmp_path / "train" / "model.keras").predict(normalized.astype("float32"), verbose=0)
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", SERVE, f"{tmp_path}/served/saved_model", f"{tmp_path}/images.npy"]
    # From another folder and without this one on the path: the process has TensorFlow, not kdarts.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*command, f"{tmp_path}/logits.npy"], check=True, cwd=tmp_path, env=environment, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.large
def test_cifar10_search_of_the_papers_size_takes_steps(cifar10_dir, tmp_path):
    flags = [f"--flagfile={ROOT}/flags/darts_v1_cifar10.flags", f"--data_dir={cifar10_dir}", "--epochs=1"]
    flags += ["--train_examples=192", "--valid_examples=192"]
    finish(["search", *flags], tmp_path)  # In a process of its own, which gives its 8 GB of memory back.
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["cells"], summary["channels"]) == (8, 16)
    with np.load(tmp_path / "alphas.npz") as alphas:
        assert alphas["normal"].shape == (1, 14, 8)
        assert np.ptp(alphas["normal"]) > 0
