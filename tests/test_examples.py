"""The examples of detection and segmentation: their data, their score, and, in the long run, that they find things."""

import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT


@pytest.fixture
def shapes(monkeypatch):
    """The examples' generator."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import shapes

    return shapes


def test_boxes_hold_their_shapes(shapes):
    images, boxes, labels, masks = shapes.draw(20, seed=1)
    assert images.shape == (20, 64, 64, 3) and (labels.max(axis=1) >= 0).all()
    covered = np.zeros_like(masks, bool)
    for i, k in np.argwhere(labels >= 0):
        left, top, right, bottom = boxes[i, k].astype(int)
        inside = masks[i, top:bottom, left:right]
        assert set(np.unique(inside)) <= {0, labels[i, k] + 1}
        rows, columns = np.nonzero(inside)
        assert rows.min() <= 1 and columns.min() <= 1 and rows.max() >= bottom - top - 2
        covered[i, top:bottom, left:right] = True
    assert not masks[~covered].any()


def test_average_precision_by_hand(shapes):
    truth = np.array([[[0, 0, 20, 20], [30, 30, 50, 50]]], "float32")
    labels = np.array([[0, 0]])
    # A hit, a second one on the same box, a miss, a hit: precision 1, then 2/4 at the second.
    boxes = np.array([[[0, 0, 20, 20], [1, 1, 20, 20], [40, 0, 60, 20], [30, 32, 50, 52]]], "float32")
    found = {"boxes": boxes, "labels": np.zeros((1, 4), int), "confidence": np.array([[0.9, 0.8, 0.7, 0.6]])}
    assert shapes.mean_average_precision(found, truth, labels) == pytest.approx((1 + 0.5) / 2 / 3)
    assert shapes.overlap(truth[0, 0], boxes[0, 1:2])[0] == pytest.approx(361 / 400)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "needs", "least"), [("detection", "keras_hub", 0.5), ("segmentation", "keras", 0.6)])
def test_an_example_finds_what_it_looks_for(name, needs, least):
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    before, *_, after = [float(number) for number in re.findall(r"(?:mAP|IoU) .*?([\d.]+)$", ran.stdout, re.MULTILINE)]
    assert before < 0.2 and after > least, ran.stdout
