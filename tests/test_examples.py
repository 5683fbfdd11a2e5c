"""The examples of detection and segmentation: data, scores, faults, and, in the long run, that they find things."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from kdarts.genotypes.errors import KdartsError


@pytest.fixture
def example(monkeypatch):
    """Imports a module of the examples by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module


@pytest.fixture
def shapes(example):
    """The examples' generator."""
    return example("shapes")


OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
TINY = ["--side=64", "--channels=2", "--cells=3", "--epochs=1"]


def _voc(folder, xml=None):
    """Two splits of one picture of 40x20 pixels: a cell, a box that passes the edge, and one without area."""
    objects = [("red", 4, 5, 14, 15), ("white", 30, 10, 44, 25), ("red", 7, 7, 7, 9)]
    xml = xml or f"<annotation>{''.join(OBJECT.format(*found) for found in objects)}</annotation>"
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for split in ("train", "test"):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{split}0\n")
        (folder / "Annotations" / f"{split}0.xml").write_text(xml)
        Image.new("RGB", (40, 20), (255, 0, 0)).save(folder / "JPEGImages" / f"{split}0.jpg")
    return f"voc:{folder}"


def _coco(folder, **changed):
    (folder / "annotations").mkdir(parents=True)
    boxes = [(4, 5, 10, 10), (30, 10, 14, 15), (7, 7, 0, 2)]
    found = [{"image_id": 3, "category_id": 8 + k % 2, "bbox": box} for k, box in enumerate(boxes)]
    crowd = {"image_id": 3, "category_id": 8, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    table = {"images": [{"id": 3, "file_name": "a.jpg"}], "annotations": [*found, crowd]}
    table["categories"] = [{"id": 8, "name": "red"}, {"id": 9, "name": "white"}]
    for split in ("train", "test"):
        (folder / split).mkdir()
        Image.new("RGB", (40, 20), (255, 0, 0)).save(folder / split / "a.jpg")
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps({**table, **changed}))
    return f"coco:{folder}"


def _camvid(folder, mode="L"):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, pixels in ((split, rng.integers(0, 255, (48, 64, 3))), (f"{split}annot", np.eye(48, 64) * 11)):
            (folder / name).mkdir(parents=True)
            Image.fromarray(pixels.astype("uint8")).convert(mode if pixels.ndim == 2 else "RGB").save(
                folder / name / "a.png"
            )
    return f"camvid:{folder}"


@pytest.mark.parametrize("write", [_voc, _coco])
def test_boxes_are_read_from_voc_and_coco(example, tmp_path, write):
    for found in example("labelled").read_boxes(write(tmp_path), ("train", "test"), 80):
        assert found.images.shape == (1, 80, 80, 3) and found.classes == ("red", "white")
        np.testing.assert_allclose(found.images[0, 40, 40], [1, -1, -1], atol=0.05)
        np.testing.assert_allclose(found.boxes[0], [[8, 20, 28, 60], [60, 40, 80, 80], [-1] * 4])
        assert found.labels.tolist() == [[0, 1, -1]]


VOC_FAULTS = {
    "doctype": '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
    "utf-16": '<?xml version="1.0"?><!DOCTYPE annotation><annotation/>',
    "not XML": "annotation",
    "no box": "<annotation><object><name>red</name></object></annotation>",
    "no number": f"<annotation>{OBJECT.format('red', 1, 'x', 2, 2)}</annotation>",
    "not finite": f"<annotation>{OBJECT.format('red', 1, 'nan', 2, 2)}</annotation>",
}


@pytest.mark.parametrize("fault", VOC_FAULTS)
def test_an_annotation_that_is_none_is_refused(example, tmp_path, fault):
    data = _voc(tmp_path, VOC_FAULTS[fault])
    if fault == "utf-16":
        (tmp_path / "Annotations" / "train0.xml").write_text(VOC_FAULTS[fault], "utf-16")
    with pytest.raises(KdartsError, match=r"train0.xml: no annotation of Pascal VOC; needs XML without DOCTYPE"):
        example("labelled").read_boxes(data, ("train",), 64)


def test_files_outside_the_folder_and_missing_ones_are_refused(example, tmp_path):
    read = example("labelled").read_boxes
    for number, outside in enumerate(("../a.jpg", "/a.jpg")):
        data = _coco(tmp_path / f"c{number}", images=[{"id": 3, "file_name": outside}])
        with pytest.raises(KdartsError, match="allowed: paths inside train/"):
            read(data, ("train",), 64)
    with pytest.raises(KdartsError, match=r"no annotations of COCO; needs JSON with images"):
        read(_coco(tmp_path / "d", categories=[]), ("train",), 64)
    data = _voc(tmp_path / "e")
    (tmp_path / "e" / "ImageSets" / "Main" / "train.txt").write_text("../train0\n")
    with pytest.raises(KdartsError, match="allowed: names of pictures without folders"):
        read(data, ("train",), 64)
    for wrong, said in {
        "voc:none": "cannot be read",
        "coco:none": "needs JSON",
        "coc:x": "allowed: shapes, voc",
    }.items():
        with pytest.raises(KdartsError, match=said):
            read(wrong, ("train",), 64)
    with pytest.raises(KdartsError, match="a split without pictures, or no box in any"):
        read(_voc(tmp_path / "f", "<annotation/>"), ("train",), 64)


def test_masks_are_read_and_colours_are_refused(example, tmp_path):
    read = example("labelled").read_masks
    _camvid(tmp_path / "a")
    images, masks = read(tmp_path / "a", "train", 64, 5)
    assert images.shape == (1, 64, 64, 3) and set(np.unique(masks)) == {0, 5}  # 11 is beyond the 5 classes
    _camvid(tmp_path / "b", "RGB")
    with pytest.raises(KdartsError, match="mode RGB; allowed: a PNG of 8-bit labels"):
        read(tmp_path / "b", "train", 64, 11)
    with pytest.raises(KdartsError, match="no pictures; needs"):
        read(tmp_path / "a", "val", 64, 11)
    (tmp_path / "a" / "trainannot" / "a.png").write_bytes(b"")
    with pytest.raises(KdartsError, match="no mask that can be read"):
        read(tmp_path / "a", "train", 64, 11)


def test_a_perfect_detector_has_no_loss_of_boxes_and_finds_everything(example, shapes):
    detection = example("detection")
    images, boxes, labels, _ = shapes.draw(6, seed=1)
    truth = detection.Boxes(images, boxes, labels, shapes.CLASSES)
    wanted = detection.targets(boxes, labels, 3, 64)
    assert np.sum(wanted[..., :3] == 1) == np.sum(labels >= 0)
    heat = np.clip(wanted[..., :3], 1e-6, 1 - 1e-6)
    found = np.concatenate([np.log(heat / (1 - heat)), wanted[..., 3:7]], -1)

    class Perfect:
        def predict(self, images, **_):
            return found

    answers = detection.detect(Perfect(), images)
    assert detection.coco_map(answers, truth) == pytest.approx(1, abs=0.01)
    assert shapes.mean_average_precision(answers, boxes, labels, detection.THRESHOLDS) == pytest.approx(1)
    assert float(detection.loss(wanted, found)) < 0.5 < float(detection.loss(wanted, found * 0))
    assert detection.coco_map(detection.most_frequent(truth, 6), truth) < 0.2


def test_pycocotools_agrees(example, shapes):
    pytest.importorskip("pycocotools")
    detection, rng = example("detection"), np.random.default_rng(0)
    images, boxes, labels, _ = shapes.draw(40, seed=1)
    found = {"boxes": boxes + rng.normal(0, 3, boxes.shape), "labels": labels, "confidence": rng.random(labels.shape)}
    ours = shapes.mean_average_precision(found, boxes, labels, detection.THRESHOLDS)
    theirs = detection.coco_map(found, detection.Boxes(images, boxes, labels, shapes.CLASSES))
    assert 0.1 < ours < 0.9 and theirs == pytest.approx(ours, abs=0.01)  # COCO adds up 101 points of the curve


def test_iou_by_hand(example):
    truth, found = np.array([[0, 0, 1, 3]]), np.array([[0, 1, 1, 0]])
    assert example("segmentation").mean_iou(found, truth, 3) == 0.5  # 1/2 and 1/2; class 2 is nowhere, 3 not counted


def _main(example, monkeypatch, name, *arguments):
    monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments])
    example(name).main()


@pytest.mark.parametrize(
    ("name", "write", "scores"),
    [("detection", _voc, 3), ("segmentation", _camvid, 2)],
)
def test_an_example_trains_scores_and_draws(example, monkeypatch, eagerly, tmp_path, capsys, name, write, scores):
    pictures = tmp_path / "pictures"
    _main(example, monkeypatch, name, f"--data={write(tmp_path / 'data')}", *TINY, f"--pictures={pictures}")
    said = capsys.readouterr().out
    assert len(re.findall(r"^(?:mAP|mean IoU) .* \d\.\d{3}$", said, re.MULTILINE)) == scores, said
    assert Image.open(pictures / "0.png").size == ((128, 128) if name == "detection" else (384, 128))


@pytest.mark.parametrize(
    ("name", "argument", "said"),
    [
        ("detection", "--side=100", "detection.py: --side=100: allowed are multiples of 32 from 64"),
        ("detection", "--backbone=DARTS_V3", "detection.py: unknown genotype 'DARTS_V3'"),
        (
            "detection",
            "--cells=1",
            "detection.py: --backbone: DARTS_V2 at 1 cells has no level P5; allowed: two reductions",
        ),
        ("detection", "--epochs=0", "detection.py: --epochs=0: allowed is 1 and more"),
        ("segmentation", "--data=voc:x", "segmentation.py: --data=voc:x: allowed: shapes, camvid:FOLDER"),
    ],
)
def test_a_mistake_ends_an_example_with_one_line(example, monkeypatch, capsys, name, argument, said):
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--images=4", argument])
    monkeypatch.setattr("kdarts.configure_threads", lambda: None)
    with pytest.raises(SystemExit) as ended:
        example("transfer").run(example(name).main)
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith(said) and told.count("\n") == 1


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
    assert shapes.mean_average_precision(found, truth, labels) == pytest.approx((1 + 0.5) / 2)
    assert shapes.overlap(truth[0, 0], boxes[0, 1:2])[0] == pytest.approx(361 / 400)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "needs", "least"), [("retinanet", "keras_hub", 0.5), ("segmentation", "keras", 0.6)])
def test_an_example_finds_what_it_looks_for(name, needs, least):
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    before, *_, after = [float(number) for number in re.findall(r"(?:mAP|IoU) .*?([\d.]+)$", ran.stdout, re.MULTILINE)]
    assert before < 0.25 and after > least, ran.stdout


@pytest.mark.slow
def test_a_search_is_watched_step_by_step(tmp_path):
    """α begins uniform, and its operations have grown apart at the end."""
    said = _run("watch_alpha.py", tmp_path)
    rows = [[float(share) for share in re.findall(r"([\d.]+)%", line)] for line in said.splitlines() if "%" in line]
    assert len(rows) == 4 * 5 and all(sum(row) == pytest.approx(100, abs=0.3) for row in rows)
    assert np.allclose(rows[:5], 25, atol=0.5) and np.ptp(rows[-5:], axis=1).max() > 3
    assert '"format": "kdarts-genotype' in said


@pytest.mark.slow
def test_a_network_for_a_microcontroller_keeps_its_limits(tmp_path):
    said = _run("microcontroller.py", tmp_path)
    size = (tmp_path / "runs" / "microcontroller" / "files" / "model_int8.tflite").stat().st_size
    assert f"{size:,} bytes of flash" in said and size <= 60 * 1024
    assert "#ifndef MODEL_H" in said
    accuracy = [float(share) for share in re.findall(r'"accuracy": ([\d.]+)', said)]
    assert accuracy and accuracy[-1] > 0.7


def _run(name, folder) -> str:
    """What a program of the examples prints, which has cells and runs in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = ROOT / "examples" / name
    assert program.read_text("utf-8").startswith("# %% [markdown]\n# # ")
    done = subprocess.run(
        [sys.executable, str(program)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """Its code cells run one after another, and print nothing but what the cells ask for."""
    cells = json.loads((ROOT / "examples" / "classify_pictures.ipynb").read_text("utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode().splitlines()
    assert said[0].startswith("final") and "Epoch" not in " ".join(said)
    assert (tmp_path / "runs" / "notebook" / "report.html").exists()
