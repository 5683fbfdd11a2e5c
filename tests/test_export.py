"""Exports: what the command compares, what travels inside, and that each file answers with its own library alone."""

import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, state_dict  # noqa: F401  (starts TensorFlow quietly, first)

import kdarts
from kdarts.cli.main import main
from kdarts.data import datasets
from kdarts.genotypes.errors import KdartsError
from kdarts.serving.export import FORMATS, check_served, export, serving_model
from kdarts.serving.predict import predict
from kdarts.training.workdir import write_json

NEEDS = {"saved_model": "tensorflow", "litert": "ai_edge_litert", "onnx": "onnxruntime"}
"""The library that each format answers with; ONNX is tried where its packages are."""

PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "serving.md").read_text(), re.DOTALL)


def _here(*names) -> bool:
    return all(importlib.util.find_spec(name) for name in names)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network of the digits with every format that can be written here, and what the command printed."""
    folder = tmp_path_factory.mktemp("exported")
    train = datasets.load("digits")
    keras.utils.set_random_seed(0)
    network = kdarts.build_network(kdarts.Genotype.load("DARTS_V1"), (8, 8, 1), 10, channels=2, cells=1)
    mean, std = datasets.statistics(train.images)
    normal = ((train.images / 255 - mean) / std).astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    network.fit(normal, train.labels, batch_size=64, epochs=3, verbose=0)
    network.save(folder / "model.keras")
    names = [f"digit {name}" for name in train.class_names]
    write_json(folder / "summary.json", {"dataset": "digits", "mean": mean, "std": std, "class_names": names})
    formats = [name for name in FORMATS if name != "onnx" or _here("onnx", "tf2onnx", "onnxruntime")]
    command = ["export", f"--model={folder}/model.keras", f"--to={folder}/to", "--examples=128"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main([*command, "--input=raw", "--min_agreement=0.9", f"--format={','.join(formats)}"]) == 0
    *lines, paths = said.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == list(json.loads(paths)) == formats
    assert all("MB" in line and "ms an image" in line and "of 128 images" in line for line in lines)
    return folder, formats


def test_the_command_compares_every_format_on_real_images(exported):
    folder, formats = exported
    about = json.loads((folder / "to" / "metrics.json").read_text())["exports"]
    assert list(about) == formats
    for name, figures in about.items():
        assert figures["path"] == str(folder / "to" / FORMATS[name])
        assert figures["examples"] == 128 and figures["latency_ms"] > 0
        assert figures["largest_difference"] < (0.02 if name == "litert_float16" else 1 if "int8" in name else 1e-4)
        assert figures["agreement"] >= (0.9 if "int8" in name else 1)
    exact, half, eighth = (about[f"litert{kind}"]["largest_difference"] for kind in ("", "_float16", "_int8"))
    assert exact < half < eighth


def test_class_names_and_preprocessing_travel_inside(exported):
    folder, formats = exported
    names = [f"digit {i}" for i in range(10)]
    for name in formats:
        if name.startswith("litert"):
            with zipfile.ZipFile(folder / "to" / FORMATS[name]) as archive:
                assert archive.read("labels.txt").decode().splitlines() == names
                about = json.loads(archive.read("about.json"))
            assert about["input"] == "raw" and about["input_shape"] == [8, 8, 1]
            assert len(about["mean"]) == len(about["std"]) == 1


@pytest.mark.parametrize("name", [pytest.param("saved_model", marks=pytest.mark.slow), "litert", "onnx"])
def test_a_file_answers_with_its_library_alone(exported, name, tmp_path):
    """The programs of docs/serving.md, in a process that finds no kdarts."""
    folder, formats = exported
    if name not in formats or not _here(NEEDS[name]):
        pytest.skip(f"{NEEDS[name]} is not installed")
    (program,) = (p for p in PROGRAMS if f"import {NEEDS[name]}" in p or f"from {NEEDS[name]}" in p)
    test = datasets.load("digits", split="test", limit=20)
    raw = test.images.astype("float32")
    for file in (folder / "to").iterdir():
        os.symlink(file, tmp_path / file.name)
    np.save(tmp_path / "images.npy", raw)
    others = {"kdarts", "keras", *NEEDS.values()} - {NEEDS[name], *(["keras"] if name == "saved_model" else [])}
    program += f"\nimport sys\nassert not {others!r} & set(sys.modules), sys.modules\n"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    about = json.loads((folder / "summary.json").read_text())
    network = keras.saving.load_model(folder / "model.keras")
    expected = network.predict(((raw / 255 - about["mean"]) / about["std"]).astype("float32"), verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-4)
    said = [word for word in ran.stdout.split() if word != "digit"]
    assert said == [str(i) for i in expected.argmax(-1)]


def test_every_file_predicts_as_the_model_does(exported, tmp_path):
    """Class names and preprocessing come from inside each file; the model's from summary.json, as before."""
    folder, formats = exported
    test = datasets.load("digits", split="test", limit=6)
    for i, image in enumerate(test.images):
        (tmp_path / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
    expected = predict(folder / "model.keras", [tmp_path])
    assert all(name.startswith("digit ") for found in expected for name, _ in found.classes)
    for name in formats:
        found = predict(folder / "to" / FORMATS[name], [tmp_path], top=10)
        for one, other in zip(expected, found, strict=True):
            near = 0.3 if "int8" in name else 0.02 if "16" in name else 1e-4
            for label, probability in one.classes:
                assert dict(other.classes)[label] == pytest.approx(probability, abs=near), name


@pytest.mark.parametrize("case", ["black", "the same", "none"])
def test_int8_is_compared_on_other_images_than_it_is_calibrated_on(case, tmp_path):
    image = keras.Input((8, 8, 1), name="image")
    keras.utils.set_random_seed(0)
    network = keras.Model(image, keras.layers.Dense(5)(keras.layers.Flatten()(image)))
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), np.uint8)
    how = {"mean": [0.5], "std": [0.3], "raw": True, "images": None if case == "none" else images}
    if case == "black":
        with pytest.raises(KdartsError, match=r"get the model's class, --min_agreement=0.97; nothing was written"):
            export(network, ["litert_int8"], tmp_path, **how, calibration=np.zeros_like(images))
        assert not list(tmp_path.iterdir())
    elif case == "the same":
        with pytest.raises(KdartsError, match="that are not used to calibrate"):
            export(network, ["litert_int8"], tmp_path, **how, calibration=images)
    else:
        found = export(network, ["litert_int8"], tmp_path, **how, calibration=images, min_agreement=0.5)
        assert found["litert_int8"]["examples"] == 10 and found["litert_int8"]["agreement"] >= 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": [None]},
        {"mean": [float("nan")]},
        {"mean": [0.1, 0.1, 0.1]},
        {"std": [0.0]},
        {"std": [-1]},
        {"class_names": ["a", "b"]},
        {"class_names": ["a", "a", "b"]},
    ],
    ids=repr,
)
def test_wrong_preprocessing_and_class_names_are_refused(wrong, tmp_path, capsys):
    image = keras.Input((8, 8, 1), name="image")
    network = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
    about = {"mean": [0.5], "std": [0.3], "class_names": ["a", "b", "c"]} | wrong
    with pytest.raises(KdartsError, match=next(iter(wrong))):
        export(network, ["saved_model"], tmp_path / "to", raw=True, **about)
    network.save(tmp_path / "model.keras")
    (tmp_path / "summary.json").write_text(json.dumps(about))  # With the NaN that earlier releases wrote.
    assert main(["export", f"--model={tmp_path}/model.keras", f"--to={tmp_path}/to", "--input=raw"]) == 2
    err = capsys.readouterr().err
    assert next(iter(wrong)) in err and err.count("\n") == 1 and not (tmp_path / "to").exists()


def test_an_answer_that_differs_is_refused(tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 1)).astype("float32")
    image = keras.Input((8, 8, 1), name="image")
    network = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
    model = serving_model(network)
    expected = model.predict(images, verbose=0)
    model.export(str(tmp_path / "saved_model"), format="tf_saved_model", verbose=False)
    found = check_served("saved_model", tmp_path / "saved_model", images, expected)
    assert found["largest_difference"] < 1e-3 and found["agreement"] == 1
    with pytest.raises(KdartsError, match="nothing was written"):
        check_served("saved_model", tmp_path / "saved_model", images, expected + 10)


def test_without_images_it_says_so_and_int8_is_refused(tmp_path, capsys):
    image = keras.Input((8, 8, 1), name="image")
    keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image))).save(tmp_path / "model.keras")
    command = ["export", f"--model={tmp_path}/model.keras", f"--to={tmp_path}/to"]
    assert main([*command, "--format=litert_int8"]) == 2
    assert "--dataset" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()
    assert main([*command, "--dataset=cifar10", f"--data_dir={tmp_path}"]) == 2
    capsys.readouterr()
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "not compared" in out and "--dataset" in err
    assert json.loads(out.splitlines()[-1]) == {"saved_model": f"{tmp_path}/to/saved_model"}
