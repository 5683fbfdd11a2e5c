"""A trained network in use: what its file carries, how it is measured, and `kdarts predict`."""

import csv
import json
import re
import runpy
import zipfile

import keras
import numpy as np
import pytest
from conftest import ROOT  # (starts TensorFlow quietly, first)
from PIL import Image

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.models import check_about, load_model, read_about, save_model, write_about
from kdarts.serving.evaluation import evaluate
from kdarts.serving.predict import open_classifier, picture_files, predict
from kdarts.training.workdir import Workdir, data_changes, read_json, write_json

ABOUT = {"class_names": ["ant", "bee", "cat"], "input_shape": [8, 8, 3], "mean": [0.0] * 3, "std": [1.0] * 3}
COLOURS = {"ant": (250, 10, 10), "bee": (10, 250, 10), "cat": (10, 10, 250)}


def colour_network(scale: float = 9.0, softmax: bool = False) -> keras.Model:
    """A network whose logits are the mean red, green and blue of a picture times `scale`."""
    image = keras.Input((8, 8, 3))
    dense = keras.layers.Dense(3, use_bias=False, activation="softmax" if softmax else None)
    network = keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(image)))
    dense.set_weights([scale * np.eye(3, dtype="float32")])
    return network


def picture(path, colour, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_model(colour_network(), path, {**ABOUT, "metrics": {"test_accuracy": 1.0}})
    return path


@pytest.fixture
def pictures(tmp_path):
    """A folder `p` with a picture of each class."""
    for name, colour in COLOURS.items():
        picture(tmp_path / "p" / name / "1.png", colour, (20, 13))
    return tmp_path / "p"


# What a file carries


def test_a_file_carries_what_its_use_needs(model, tmp_path):
    assert read_about(model) == {**ABOUT, "metrics": {"test_accuracy": 1.0}}
    copy = tmp_path / "copy.keras"
    copy.write_bytes(model.read_bytes())
    write_about(copy, {"class_names": ["x", "y", "z"]})
    assert read_about(copy) == {"class_names": ["x", "y", "z"]}
    assert zipfile.ZipFile(copy).namelist().count("kdarts.json") == 1
    images = np.random.default_rng(0).random((2, 8, 8, 3), "float32")
    network = keras.saving.load_model(copy)
    np.testing.assert_array_equal(network(images), load_model(model)(images))
    network.save(copy)
    assert read_about(copy) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_names": ["a", "a", "b"]},
        {"class_names": ["a", 1, "b"]},
        {"class_names": "abc"},
        {"class_names": ["a", "b"]},
        {"mean": None},
        {"mean": [float("nan")] * 3},
        {"mean": [0.5]},
        {"mean": [10**400] * 3},
        {"std": [1.0, 1.0, 0.0]},
        {"std": [1.0, True, 1.0]},
        {"input_shape": [8, 8]},
        {"input_shape": [8, 8, 2]},
        {"input_shape": [0, 8, 3]},
        {"peak": 0},
        {"background": [255, 255, 255]},
        {"metrics": {"test_loss": float("inf")}},
    ],
    ids=repr,
)
def test_wrong_values_are_named(wrong):
    with pytest.raises(KdartsError, match=f"^m.keras: .*{next(iter(wrong))}"):
        check_about(ABOUT | wrong, "m.keras", 3)


@pytest.mark.parametrize("text", [b"{", b"[" * 100_000, b"[]", b'{"mean": [NaN], "std": [1]}', b"\xff"])
def test_a_damaged_member_is_one_line(model, tmp_path, text):
    path = tmp_path / "m.keras"
    path.write_bytes(model.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("kdarts.json", text)
    with pytest.raises(KdartsError, match=r"m\.keras: .") as caught:
        read_about(path)
    assert "\n" not in str(caught.value)


def test_a_file_without_it_has_summary_json_beside_it(tmp_path):
    colour_network().save(tmp_path / "old.keras")
    write_json(tmp_path / "summary.json", ABOUT)
    assert open_classifier(tmp_path / "old.keras").class_names == ("ant", "bee", "cat")
    write_json(tmp_path / "summary.json", ABOUT | {"std": [0, 0, 0]})
    with pytest.raises(KdartsError, match="std"):
        open_classifier(tmp_path / "old.keras")
    for wrong in ({"mean": [0.0], "std": [1.0]}, {"input_shape": [9, 9, 3]}):
        write_json(tmp_path / "summary.json", wrong)
        with pytest.raises(KdartsError, match=next(iter(wrong))):
            open_classifier(tmp_path / "old.keras")


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), {"c": 1.5}]})
    assert (tmp_path / "x.json").read_text().count("null") == 2
    assert read_json(tmp_path / "x.json")["b"][1] == {"c": 1.5}


# Prediction


def test_predict_tells_the_classes_of_pictures_and_names_the_broken(model, pictures, capsys, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    assert main(["predict", f"--model={model}", "p", "--top=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [[f"p/{name}/1.png", name, "1.000"] for name in COLOURS]

    (pictures / "ant" / "broken.png").write_bytes(b"no picture")
    (pictures / ".hidden.png").write_bytes(b"no picture")
    (pictures / "notes.txt").write_text("no picture")
    assert main(["predict", f"--model={model}", "p", "--format=jsonl", "--batch_size=2"]) == 1
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["file"] for row in rows] == [f"p/{n}.png" for n in ("ant/1", "ant/broken", "bee/1", "cat/1")]
    assert [row["classes"][0]["class"] for row in rows if "classes" in row] == list(COLOURS)
    assert "error" in rows[1] and "p/ant/broken.png: " in err and "1 of 4 pictures" in err

    (pictures.parent / "list.csv").write_text("id,File Name\n1,p/cat/1.png\n2,p/gone.png\n3,\n")
    assert main(["predict", f"--model={model}", "list.csv", "--format=csv", "--top=9", "--to=out/found.csv"]) == 1
    out, err = capsys.readouterr()
    assert out == "out/found.csv\n" and "p/gone.png: " in err
    with (pictures.parent / "out" / "found.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [(row["rank"], row["class"]) for row in found] == [("1", "cat"), ("2", "ant"), ("3", "bee")]
    assert sum(float(row["probability"]) for row in found) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("file;label\np/cat/1.png;x\np/ant/1.png;y\n", "utf-8-sig"),
        ("label\tImage Path\nx\tp/cat/1.png\ny\tp/ant/1.png\nz\n", "utf-16"),
        ('"note","photo"\n"a, b\nc", p/cat/1.png \n,p/ant/1.png\n', "utf-8"),
    ],
)
def test_tables_of_pictures_are_read_as_those_of_labels(pictures, text, encoding):
    table = pictures.parent / "list.csv"
    table.write_text(text, encoding)
    assert picture_files([table]) == [pictures / "cat" / "1.png", pictures / "ant" / "1.png"]
    table.write_text(text.splitlines()[0], encoding)
    with pytest.raises(KdartsError, match=r"list\.csv: none of its 0 rows has a file"):
        picture_files([table])


def test_what_predict_cannot_use_is_one_line(model, pictures, capsys, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("age,label\n")
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    (tmp_path / "m.tflite").write_bytes(b"nothing")
    (tmp_path / "folder").mkdir()
    save_model(colour_network(float("nan")), tmp_path / "nan.keras", ABOUT)
    colour_network().save(tmp_path / "bare.keras")
    image = keras.Input((8, 8, 3))
    save_model(keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(image))), tmp_path / "one.keras", {})
    one = pictures / "ant" / "1.png"
    for words in (
        [f"--model={model}", tmp_path / "gone.png"],
        [f"--model={model}", tmp_path / "empty"],
        [f"--model={model}", tmp_path / "list.csv"],
        [f"--model={model}", tmp_path / "broken.png"],
        [f"--model={model}"],
        [one],
        *([f"--model={tmp_path / name}", one] for name in ("m.onnx", "m.tflite", "folder", "no.keras", "list.csv")),
        *([f"--model={tmp_path / name}", one] for name in ("nan.keras", "bare.keras", "one.keras")),
    ):
        assert main(["predict", *map(str, words)]) == 2, words
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("kdarts: ") and len(lines) <= 2, words


def test_pictures_are_read_as_the_training_read_them(tmp_path):
    """Transparent pixels take the background, 16-bit grey its range, and other sizes are scaled and cut."""
    about = {**ABOUT, "background": "#0a0afa", "peak": 1000}
    save_model(colour_network(), tmp_path / "m.keras", about)
    Image.new("RGBA", (30, 9), (250, 10, 10, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((9, 9), 500, np.uint16)).save(tmp_path / "deep.png")
    classifier = open_classifier(tmp_path / "m.keras")
    assert (classifier.read(tmp_path / "clear.png") == (10, 10, 250)).all()
    assert (classifier.read(tmp_path / "deep.png") == 128).all()
    [found] = predict(classifier, [tmp_path / "clear.png"])
    assert found.classes[0][0] == "cat"


def test_a_folder_is_searched_in_order_and_paths_may_repeat(pictures):
    listed = [str(file.relative_to(pictures)) for file in picture_files([pictures, pictures / "ant" / "1.png"])]
    assert listed == ["ant/1.png", "bee/1.png", "cat/1.png", "ant/1.png"]


def test_the_program_of_the_page(model, pictures, monkeypatch, capsys, tmp_path):
    (program,) = re.findall(r"```python\n(from kdarts.*?)```", (ROOT / "docs" / "serving.md").read_text(), re.DOTALL)
    (tmp_path / "program.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    pictures.rename("pictures")
    (tmp_path / "model.keras").write_bytes(model.read_bytes())
    found = runpy.run_path("program.py", {"images": np.zeros((2, 8, 8, 3), np.uint8)})
    assert found["probabilities"].shape == (2, 3)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        f"pictures/{n}/1.png" for n in COLOURS
    ]


# Evaluation


@pytest.fixture
def folder(tmp_path):
    """Pictures of bee and cat, two of which look like something else."""
    for name in ("bee", "cat"):
        for number in range(5):
            picture(tmp_path / "data" / "train" / name / f"{number}.png", COLOURS[name])
            picture(tmp_path / "data" / "test" / name / f"{number}.png", COLOURS[name])
    picture(tmp_path / "data" / "test" / "cat" / "3.png", (10, 120, 110))
    picture(tmp_path / "data" / "test" / "cat" / "4.png", (250, 10, 60))
    return tmp_path / "data"


def test_evaluate_matches_classes_by_name(model, folder, tmp_path, capsys):
    assert main(["evaluate", f"--model={model}", f"--dataset=folder:{folder}", f"--to={tmp_path}/to"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["accuracy"] == 0.8 and told["top_2_accuracy"] == 1 and told["examples"] == 10
    figures = read_json(tmp_path / "to" / "evaluation.json")
    ant, bee, cat = figures["classes"]
    assert ant == {"class": "ant", "examples": 0, "precision": 0.0, "recall": None}
    assert (bee["precision"], bee["recall"], cat["precision"], cat["recall"]) == (5 / 6, 1, 1, 0.6)
    wrong = [(row["image"].rsplit("/", 1)[-1], row["class"], row["predicted"]) for row in figures["most_wrong"]]
    assert wrong == [("4.png", "cat", "ant"), ("3.png", "cat", "bee")]
    assert figures["most_wrong"][0]["image"] in err
    rows = list(csv.reader((tmp_path / "to" / "confusion.csv").open()))
    assert rows == [
        ["class", "ant", "bee", "cat"],
        ["ant", "0", "0", "0"],
        ["bee", "0", "5", "0"],
        ["cat", "1", "1", "3"],
    ]
    assert (tmp_path / "to" / "confusion.png").stat().st_size > 1000


def test_evaluate_refuses_classes_that_the_model_does_not_know(model, folder, capsys):
    for part in ("train", "test"):
        (folder / part / "cat").rename(folder / part / "dog")
    assert main(["evaluate", f"--model={model}", f"--dataset=folder:{folder}"]) == 2
    assert capsys.readouterr().err.count("dog; it knows ant, bee, cat") == 1
    assert not (model.parent / "evaluation.json").exists()


def test_probabilities_and_logits_give_the_same_figures(folder, tmp_path):
    from kdarts.data import datasets

    data = datasets.load(f"folder:{folder}", split="test")
    found = []
    for softmax in (False, True):
        save_model(colour_network(softmax=softmax), tmp_path / "m.keras", ABOUT)
        found.append(evaluate(open_classifier(tmp_path / "m.keras"), data)[0])
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], abs=1e-5)
    logits = 9 * data.images.mean((1, 2)) / 255
    labels = np.array([1, 2])[data.labels]
    expected = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert found[0]["loss"] == pytest.approx(float(np.mean(expected)), abs=1e-5)


def test_evaluate_refuses_a_network_that_has_diverged(folder, tmp_path, capsys):
    save_model(colour_network(float("nan")), tmp_path / "nan.keras", ABOUT)
    assert main(["evaluate", f"--model={tmp_path}/nan.keras", f"--dataset=folder:{folder}"]) == 2
    out, err = capsys.readouterr()
    assert not out and "its training has diverged" in err and not (tmp_path / "evaluation.json").exists()


# One run, one data set


def splits_of(root):
    from kdarts.data import datasets

    return {split: datasets.load(f"folder:{root}", split=split) for split in ("train", "test")}


def test_a_run_remembers_its_data(folder, tmp_path):
    def start():
        workdir = Workdir(tmp_path / "run")
        workdir.check_data(**splits_of(folder))
        workdir.begin({"seed": "0"})

    def refused():
        with pytest.raises(KdartsError, match="was started with other data: ") as caught:
            start()
        return str(caught.value).partition("data: ")[2].partition(". ")[0]

    start()
    start()
    before = (tmp_path / "run" / "data.npz").read_bytes()
    for part in ("train", "test"):
        (folder / part / "bee").rename(folder / part / "bird")
    assert refused() == "class 'bee' is now 'bird'"
    for part in ("train", "test"):
        (folder / part / "bird").rename(folder / part / "bee")
        picture(folder / part / "dog" / "0.png", (0, 0, 0))
        picture(folder / part / "eel" / "0.png", (0, 0, 0))
    assert refused() == "classes 'dog', 'eel' new"
    for part in ("train", "test"):
        for name in ("dog", "eel"):
            (folder / part / name / "0.png").unlink()
            (folder / part / name).rmdir()
    for number in range(12):
        picture(folder / "train" / "cat" / f"new {number}.png", COLOURS["cat"])
    (folder / "test" / "bee" / "0.png").unlink()
    assert refused() == "images of the test split: 1 removed; images of the train split: 12 added"
    assert (tmp_path / "run" / "data.npz").read_bytes() == before
    (tmp_path / "run" / "data.npz").write_bytes(before[:50])
    start()  # Without a record there is nothing to compare.
    Workdir(tmp_path / "run").release()
    assert not list((tmp_path / "run").iterdir())


def test_data_that_came_without_a_record_are_known_by_the_summary(folder, tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.begin({"seed": "0"})
    write_json(workdir / "summary.json", {"class_names": ["bee", "dog"]})
    with pytest.raises(KdartsError, match="class 'dog' is now 'cat'"):
        workdir.check_data(**splits_of(folder))


@pytest.mark.parametrize("words", [["search", "--seeds=2"], ["tune", "--choose=learning_rate=0.1,0.2"]], ids=" ".join)
def test_several_searches_have_the_same_data(words, folder, tmp_path, capsys, monkeypatch):
    """They are commands of their own; the first of them may be over when the data change."""
    monkeypatch.setattr("kdarts.cli.tune._Tuning._check", lambda tuning: None)
    monkeypatch.setattr("kdarts.training.repeats.measured", lambda *args: 1 / 0)
    words = [*words, f"--dataset=folder:{folder}", f"--workdir={tmp_path}/run"]
    with pytest.raises(Exception, match=r"zero"):
        main(words)
    (folder / "train" / "bee" / "0.png").unlink()
    assert main(words) == 2
    assert "images of the train split: 1 removed" in capsys.readouterr().err


def test_a_label_that_changes_is_told():
    record = {"class_names": np.array(["a", "b"]), "train": np.array([1, 2, 3], np.uint64)}
    assert data_changes(record, record) == []
    changed = record | {"train": np.array([1, 2, 4], np.uint64)}
    assert data_changes(record, changed) == ["images of the train split: 1 added, 1 removed (or now in another class)"]
    assert data_changes(record, record | {"class_names": np.array(["b", "a"])}) == ["its classes have another order"]
