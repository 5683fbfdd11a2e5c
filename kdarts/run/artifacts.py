"""How a model is written for those who serve it, with what they must know of it inside the file."""

import functools
import json
import pathlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf


def _signature(model: keras.Model) -> list[tf.TensorSpec]:
    return [tf.TensorSpec((None, *model.input_shape[1:]), "float32", name="image")]


def write_saved_model(model: keras.Model, path: pathlib.Path, about: dict, calibration=None) -> None:
    """A SavedModel; its signature `about` gives the class names and the preprocessing as tensors."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", functools.partial(model.__call__, training=False), input_signature=_signature(model))

    @tf.function(input_signature=[])
    def tell():
        strings = {"class_names": tf.constant(about["class_names"], tf.string), "input": tf.constant(about["input"])}
        return strings | {name: tf.constant(about[name], tf.float32) for name in ("mean", "std") if name in about}

    tell.get_concrete_function()
    archive.add_endpoint("about", tell)
    archive.write_out(str(path), verbose=False)


def write_litert(model: keras.Model, path: pathlib.Path, about: dict, calibration=None, weights="float32") -> None:
    """A LiteRT file; behind the model lies a zip archive of `labels.txt` and `about.json`, as LiteRT's tools pack them.

    Args:
        model: float32; so are the file's input and output, whatever it computes in.
        path: file to write.
        about: goes into `about.json`, its `class_names` into `labels.txt`.
        calibration: images as the model takes them, float32 `[n, height, width, channels]`, for "int8".
        weights: "float32", "float16" (halves the file; computed in float32), or "int8" (so are the activations).
    """
    options = {}
    if weights != "float32":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        options["target_spec"] = {"supported_types": [tf.float16]}
    if weights == "int8":
        options["target_spec"] = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]}
        options["representative_dataset"] = lambda: ([calibration[i : i + 1]] for i in range(len(calibration)))
    model.export(str(path), format="litert", input_signature=_signature(model), verbose=False, **options)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "".join(f"{name}\n" for name in about["class_names"]))
        archive.writestr("about.json", json.dumps(about))


def write_onnx(model: keras.Model, path: pathlib.Path, about: dict, calibration=None) -> None:
    """An ONNX file; its `metadata_props` hold each entry of `about` as JSON."""
    model.export(str(path), format="onnx", input_signature=_signature(model), verbose=False)
    import onnx

    proto = onnx.load(str(path))
    onnx.helper.set_model_props(proto, {name: json.dumps(value) for name, value in about.items()})
    onnx.save(proto, str(path))


@dataclass(frozen=True)
class Artifact:
    """A format.

    Attributes:
        file: name of the file or folder that it leaves.
        write: from the serving model, the path, what goes inside and the calibration's images to that file.
        tolerance: by how much a logit may differ from the model's, as a part of the greatest logit or of 1; None: by
            anything, since that depends on the network: the command tells.
        needs: packages beside kdarts' own.
        calibrated: whether it needs images of the training.
    """

    file: str
    write: Callable
    tolerance: float | None = 1e-3
    needs: tuple[str, ...] = ()
    calibrated: bool = False


_FLOAT16 = functools.partial(write_litert, weights="float16")
_INT8 = functools.partial(write_litert, weights="int8")
ARTIFACTS = {
    "saved_model": Artifact("saved_model", write_saved_model),
    "litert": Artifact("model.tflite", write_litert),
    "litert_float16": Artifact("model_float16.tflite", _FLOAT16, tolerance=3e-2),
    "litert_int8": Artifact("model_int8.tflite", _INT8, tolerance=None, calibrated=True),
    "onnx": Artifact("model.onnx", write_onnx, needs=("onnx", "tf2onnx", "onnxruntime")),
}
"""The formats by name."""
