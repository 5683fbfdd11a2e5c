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
from conftest import ROOT, state_dict  # noqa: F401  (starts TensorFlow quietly, first)

import kdarts
from kdarts.cli.main import main
from kdarts.data import datasets
from kdarts.genotypes.errors import KdartsError
from kdarts.serving.export import FORMATS, check_served, serving_model
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
    command = ["export", f"--model={folder}/model.keras", f"--to={folder}/to", "--examples=64"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main([*command, "--input=raw", f"--format={','.join(formats)}"]) == 0
    *lines, paths = said.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == list(json.loads(paths)) == formats
    assert all("MB" in line and "ms an image" in line and "of 64 images" in line for line in lines)
    return folder, formats


def test_the_command_compares_every_format_on_real_images(exported):
    folder, formats = exported
    about = json.loads((folder / "to" / "metrics.json").read_text())["exports"]
    assert list(about) == formats
    for name, figures in about.items():
        assert figures["path"] == str(folder / "to" / FORMATS[name])
        assert figures["examples"] == 64 and figures["latency_ms"] > 0
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
