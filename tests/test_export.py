"""Exports: what the command compares, what travels inside, and that each file answers with its own library alone."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
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
from kdarts.networks.models import save_model
from kdarts.serving.c_array import model_bytes, read_header, write_header
from kdarts.serving.export import FORMATS, check_served, export, serving_model, write_litert, write_saved_model
from kdarts.serving.predict import open_classifier, predict
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
    left_out = {"c_array", *([] if _here("onnx", "tf2onnx", "onnxruntime") else ["onnx"])}
    formats = [name for name in FORMATS if name not in left_out]
    command = ["export", f"--model={folder}/model.keras", f"--to={folder}/to", "--examples=128"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main([*command, "--input=raw", "--min_agreement=0.9", f"--format={','.join(formats)}"]) == 0
    cost, *lines, paths = said.getvalue().splitlines()
    assert re.fullmatch(
        r"[\d.,M ]+weights, [\d.,M ]+MACs an image; as int8 [\d.]+ KiB of activations, .* of flash", cost
    )
    assert sum("bytes of flash" in line for line in lines) == 3
    lines = [line for line in lines if "bytes of flash" not in line]
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


def test_images_and_logits_are_called_so(exported):
    folder, formats = exported
    signature = tf.saved_model.load(str(folder / "to" / "saved_model")).signatures["serving_default"]
    assert list(signature.structured_outputs) == ["logits"]
    litert = tf.lite.Interpreter(str(folder / "to" / "model.tflite")).get_signature_list()["serving_default"]
    assert litert == {"inputs": ["image"], "outputs": ["logits"]}
    if "onnx" in formats:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "to" / "model.onnx"))
        (image,), (logits,) = session.get_inputs(), session.get_outputs()
        assert (image.name, image.shape) == ("image", ["batch", 8, 8, 1])
        assert (logits.name, logits.shape) == ("logits", ["batch", 10])


def flat_network(classes: int = 3, **dense) -> keras.Model:
    image = keras.Input((8, 8, 1), name="image")
    return keras.Model(image, keras.layers.Dense(classes, **dense)(keras.layers.Flatten()(image)))


@pytest.mark.parametrize("write", [write_saved_model, write_litert])
def test_files_whose_output_has_another_name_are_read(write, tmp_path):
    network, path = flat_network(), tmp_path / ("saved_model" if write is write_saved_model else "m.tflite")
    about = {"class_names": ["a", "b", "c"], "input": "raw", "input_shape": [8, 8, 1], "mean": [0.0], "std": [1.0]}
    write(serving_model(network, about["mean"], about["std"]), path, about)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    expected = keras.ops.softmax(network(images / np.float32(255)))
    np.testing.assert_allclose(open_classifier(path).probabilities(images), expected, atol=1e-5)


# How many images at once


@pytest.fixture(scope="module")
def dilated():
    """A network of one dilated convolution, and images for it."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", dilation_rate=2)(x)
    network = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    return network, np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)


def _litert(network, images, folder, **how):
    """The files, whole and of 8 bits, and by how much their answers may differ."""
    how = {"mean": [0.5], "std": [0.3], "raw": True, "images": images[:20], "calibration": images[20:], **how}
    export(network, ["litert", "litert_int8"], folder, min_agreement=0, **how)
    return zip((folder / "model.tflite", folder / "model_int8.tflite"), (1e-4, 0.1), strict=True)


@pytest.mark.parametrize("batch", [1, None])
def test_litert_takes_one_image_or_any_number(dilated, batch, tmp_path):
    """Microcontrollers see the static shapes alone, so every tensor needs one that is whole."""
    network, images = dilated
    expected = keras.ops.softmax(network(((images / 255 - 0.5) / 0.3).astype("float32")))
    for file, near in _litert(network, images, tmp_path, batch=batch):
        interpreter = tf.lite.Interpreter(str(file))
        shapes = [list(tensor["shape_signature"]) for tensor in interpreter.get_tensor_details()]
        assert any(-1 in shape for shape in shapes) == (batch is None)
        assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [batch or -1, 8, 8, 1]
        np.testing.assert_allclose(open_classifier(file).probabilities(images), expected, atol=near)


def test_int8_input_and_output_answer_as_the_model_does(dilated, tmp_path):
    network, images = dilated
    how = {"mean": [0.5], "std": [0.3], "raw": True, "images": images[:20], "calibration": images[20:]}
    found = export(network, ["litert_int8", "c_array"], tmp_path, min_agreement=0, int8_io=True, **how)
    expected = keras.ops.softmax(network(((images / 255 - 0.5) / 0.3).astype("float32")))
    file = tmp_path / "model_int8.tflite"
    np.testing.assert_allclose(open_classifier(file).probabilities(images), expected, atol=0.1)
    interpreter = tf.lite.Interpreter(str(file))
    ends = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert all(details["dtype"] == np.int8 for details in ends)
    told = found["litert_int8"]["quantization"]
    for name, details in zip(("input", "output"), ends, strict=True):
        assert (told[name]["scale"], told[name]["zero_point"]) == pytest.approx(details["quantization"])
    assert told["input"]["scale"] == pytest.approx(1, abs=0.02)  # Of pixels from 0 to 255.
    assert found["c_array"]["quantization"] == told
    text = (tmp_path / "model.h").read_text()
    data = read_header(tmp_path / "model.h")
    assert data == model_bytes(file) and len(data) == found["litert_int8"]["flash"] == found["c_array"]["flash"]
    assert f"#define MODEL_INPUT_ZERO_POINT {told['input']['zero_point']}\n" in text
    assert len(data) < found["litert_int8"]["bytes"]  # Behind the model of the file lies an archive.


def test_the_header_is_c(tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    write_header(tmp_path / "model.h", bytes(range(40)), {"input": {"scale": 0.5, "zero_point": -3}}, (8, 8, 1))
    body = "return model_data[39] == 39 && MODEL_LENGTH == 40 && MODEL_INPUT_SCALE == 0.5f ? 0 : 1;"
    (tmp_path / "a.c").write_text('#include "model.h"\nint main(void) { ' + body + " }\n")
    subprocess.run([compiler, "-Wall", "-Werror", "-o", tmp_path / "a", tmp_path / "a.c"], check=True)
    assert subprocess.run([tmp_path / "a"], check=False).returncode == 0
    assert read_header(tmp_path / "model.h") == bytes(range(40))
    (tmp_path / "other.h").write_text("int x;\n")
    with pytest.raises(KdartsError, match="has no model_data"):
        read_header(tmp_path / "other.h")


def test_microcontrollers_answer_as_the_model_does(dilated, tmp_path):
    micro = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="tflite-micro is not installed")
    network, images = dilated
    expected = network.predict(((images / 255 - 0.5) / 0.3).astype("float32"), verbose=0)
    for file, near in _litert(network, images, tmp_path):
        interpreter = micro.Interpreter.from_file(str(file))
        for image, logits in zip(images, expected, strict=True):
            interpreter.set_input(image[None].astype("float32"), 0)
            interpreter.invoke()
            np.testing.assert_allclose(interpreter.get_output(0)[0], logits, atol=near)


def test_the_optimizer_is_not_read(tmp_path, recwarn):
    """Keras warns of one that was saved before it had seen a gradient."""
    network = flat_network()
    network.compile("adam", "mse")
    save_model(network, tmp_path / "model.keras", {"mean": [0.0], "std": [1.0]})
    assert main(["export", f"--model={tmp_path}/model.keras", f"--to={tmp_path}/to", "--format=litert"]) == 0
    open_classifier(tmp_path / "model.keras")
    assert not [each for each in recwarn if "optimizer" in str(each.message)]


def test_a_batch_that_has_no_effect_is_refused(tmp_path, capsys):
    flat_network().save(tmp_path / "model.keras")
    words = ["export", f"--model={tmp_path}/model.keras", f"--to={tmp_path}/to", "--batch=any"]
    assert main([*words, "--format=saved_model"]) == 2
    assert "--batch=any: has no effect with --format=saved_model; it is for litert, " in capsys.readouterr().err
    with pytest.raises(KdartsError, match="batch 2; allowed: 1, or None"):
        export(flat_network(), ["litert"], tmp_path / "to", batch=2)
    assert main([*words[:-1], "--int8_io", "--format=litert"]) == 2
    assert "--int8_io: has no effect with --format=litert; it is for litert_int8, c_array" in capsys.readouterr().err
    assert main([*words[:-1], "--latency_table=t.json", "--format=litert"]) == 2
    assert "--latency_table=t.json: needs the file of a path" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


# What is refused


@pytest.mark.parametrize("case", ["black", "the same", "none"])
def test_int8_is_compared_on_other_images_than_it_is_calibrated_on(case, tmp_path):
    keras.utils.set_random_seed(0)
    network = flat_network(5)
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
        {"class_names": ["a"]},
        {"class_names": ["a", "a", "b"]},
    ],
    ids=repr,
)
def test_wrong_preprocessing_and_class_names_are_refused(wrong, tmp_path, capsys):
    network = flat_network()
    about = {"mean": [0.5], "std": [0.3], "class_names": ["a", "b", "c"]} | wrong
    with pytest.raises(KdartsError, match=next(iter(wrong))):
        export(network, ["saved_model"], tmp_path / "to", raw=True, **about)
    network.save(tmp_path / "model.keras")
    (tmp_path / "summary.json").write_text(json.dumps(about))  # With the NaN that earlier releases wrote.
    assert main(["export", f"--model={tmp_path}/model.keras", f"--to={tmp_path}/to", "--input=raw"]) == 2
    err = capsys.readouterr().err
    told = "NaN is no number" if "nan" in repr(wrong) else next(iter(wrong))
    assert told in err and err.count("\n") == 1 and not (tmp_path / "to").exists()


@pytest.mark.parametrize("case", ["two inputs", "no images", "integers", "no input"])
def test_what_takes_no_images_is_one_line(case, tmp_path, capsys):
    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    if case == "two inputs":
        inputs = [keras.Input((8, 8, 1)), keras.Input((8, 8, 1))]
        network = keras.Model(inputs, keras.Sequential(layers)(keras.layers.Add()(inputs)))
    else:
        image = {"no images": [keras.Input((10,))], "integers": [keras.Input((8, 8, 1), dtype="uint8")]}.get(case, [])
        network = keras.Sequential([*image, *layers])
    network.save(tmp_path / "model.keras")
    for words in (["export", f"--to={tmp_path}/to"], ["predict", f"{tmp_path}/a.png"]):
        assert main([*words, f"--model={tmp_path}/model.keras"]) == 2
        err = capsys.readouterr().err
        assert "model.keras " in err and "images" in err and err.count("\n") == 1


@pytest.mark.parametrize("case", ["raw", "diverged"])
def test_what_would_answer_wrongly_is_refused(case, tmp_path):
    """It is found without images to compare on."""
    network, how = flat_network(), {}
    if case == "raw":
        how = {"raw": True}
    else:
        network.set_weights([np.full_like(weight, np.nan) for weight in network.get_weights()])
    with pytest.raises(KdartsError, match="need mean and std" if case == "raw" else "its training has diverged"):
        export(network, ["saved_model"], tmp_path / "to", **how)
    assert not (tmp_path / "to").exists()


def test_an_answer_that_differs_is_refused(tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 1)).astype("float32")
    network = flat_network()
    model = serving_model(network)
    expected = model.predict(images, verbose=0)
    write_saved_model(model, tmp_path / "saved_model", {"class_names": [], "input": "raw"})
    found = check_served("saved_model", tmp_path / "saved_model", images, expected)
    assert found["largest_difference"] < 1e-3 and found["agreement"] == 1
    with pytest.raises(KdartsError, match="nothing was written"):
        check_served("saved_model", tmp_path / "saved_model", images, expected + 10)


def test_without_images_it_says_so_and_int8_is_refused(tmp_path, capsys):
    flat_network().save(tmp_path / "model.keras")
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
