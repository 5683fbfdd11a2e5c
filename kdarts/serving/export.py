"""Trained networks in the formats that serve them: how each is written, what it holds, and how it answers."""

import functools
import importlib.util
import json
import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.networks.models import check_about
from kdarts.serving.c_array import model_bytes, read_header, write_header
from kdarts.serving.served import litert, median_ms, open_served, probe, quantization_of


def _signature(model: keras.Model, batch: int | None = None) -> list[tf.TensorSpec]:
    return [tf.TensorSpec((batch, *model.input_shape[1:]), "float32", name="image")]


def write_saved_model(model: keras.Model, path: pathlib.Path, about: dict, calibration=None) -> None:
    """A SavedModel; its signature `about` gives class names and preprocessing as tensors, and all as JSON."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", functools.partial(model.__call__, training=False), input_signature=_signature(model))

    @tf.function(input_signature=[])
    def tell():
        strings = {"class_names": tf.constant(about["class_names"], tf.string), "input": tf.constant(about["input"])}
        strings["json"] = tf.constant(json.dumps(about))
        return strings | {name: tf.constant(about[name], tf.float32) for name in ("mean", "std") if name in about}

    tell.get_concrete_function()
    archive.add_endpoint("about", tell)
    archive.write_out(str(path), verbose=False)


def write_litert(
    model: keras.Model,
    path: pathlib.Path,
    about: dict,
    calibration=None,
    weights="float32",
    batch: int | None = None,
    int8_io: bool = False,
) -> None:
    """A LiteRT file; behind the model lies a zip archive of `labels.txt` and `about.json`, as LiteRT's tools pack them.

    Args:
        model: float32; so are the file's input and output, whatever it computes in, without `int8_io`.
        path: file to write.
        about: goes into `about.json`, its `class_names` into `labels.txt`.
        calibration: images as the model takes them, float32 `[n, height, width, channels]`, for "int8".
        weights: "float32", "float16" (halves the file; computed in float32), or "int8" (so are the activations).
        batch: the number of images that it takes at once; None: any. LiteRT for microcontrollers plans its memory by
            the shapes in the file alone, which are wrong around dilated convolutions where the number is free.
        int8_io: whether input and output are 8-bit integers, too, for weights "int8".
    """
    options = {}
    if weights != "float32":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        options["target_spec"] = {"supported_types": [tf.float16]}
    if weights == "int8":
        options["target_spec"] = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]}
        options["representative_dataset"] = lambda: ([calibration[i : i + 1]] for i in range(len(calibration)))
        if int8_io:
            options |= {"inference_input_type": tf.int8, "inference_output_type": tf.int8}
    model.export(str(path), format="litert", input_signature=_signature(model, batch), verbose=False, **options)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "".join(f"{name}\n" for name in about["class_names"]))
        archive.writestr("about.json", json.dumps(about))


def write_c_array(
    model: keras.Model, path: pathlib.Path, about: dict, calibration=None, batch=1, int8_io: bool = False
) -> None:
    """A C header of the bytes of the int8 LiteRT file, for LiteRT for Microcontrollers; arguments as of `write_litert`.

    It takes one image at once.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "model.tflite")
        write_litert(model, file, about, calibration, "int8", 1, int8_io)
        data = model_bytes(file)
    write_header(path, data, quantization_of(litert(model_content=data)), about["input_shape"])


def write_onnx(model: keras.Model, path: pathlib.Path, about: dict, calibration=None) -> None:
    """An ONNX file; its `metadata_props` hold each entry of `about` as JSON."""
    model.export(str(path), format="onnx", input_signature=_signature(model), verbose=False)
    import onnx

    proto = onnx.load(str(path))
    _rename_output(proto.graph, about["output"])
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(proto, {name: json.dumps(value) for name, value in about.items()})
    onnx.save(proto, str(path))


def _rename_output(graph, name: str) -> None:
    """Gives the one output of an ONNX graph a name; the converter numbers it."""
    (output,) = graph.output
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name if each == output.name else each for each in names]
    output.name = name


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
        sized: whether it may be of a fixed number of images at once; others take any.
        integer: whether its input and output may be 8-bit integers.
    """

    file: str
    write: Callable
    tolerance: float | None = 1e-3
    needs: tuple[str, ...] = ()
    calibrated: bool = False
    sized: bool = False
    integer: bool = False


_FLOAT16 = functools.partial(write_litert, weights="float16")
_INT8 = functools.partial(write_litert, weights="int8")
ARTIFACTS = {
    "saved_model": Artifact("saved_model", write_saved_model),
    "litert": Artifact("model.tflite", write_litert, sized=True),
    "litert_float16": Artifact("model_float16.tflite", _FLOAT16, tolerance=3e-2, sized=True),
    "litert_int8": Artifact("model_int8.tflite", _INT8, tolerance=None, calibrated=True, sized=True, integer=True),
    "c_array": Artifact("model.h", write_c_array, tolerance=None, calibrated=True, integer=True),
    "onnx": Artifact("model.onnx", write_onnx, needs=("onnx", "tf2onnx", "onnxruntime")),
}
"""The formats by name."""


TRAVELS = ("background", "peak", "resize", "metrics", "dataset", "labels", "group", "genotype")
"""What goes inside a file besides class names, mean and std, as far as it is known."""

MIN_AGREEMENT = 0.97
"""The least part of the images that a calibrated format puts into the class of the model, unless another is given."""


def check_served(
    name: str, path: pathlib.Path, images: np.ndarray, expected: np.ndarray, min_agreement: float = MIN_AGREEMENT
) -> dict:
    """Compares the answers of a written network with those expected, and times it.

    Args:
        name: the format, as in `ARTIFACTS`.
        path: the file or folder.
        images: float32 `[n, height, width, channels]`, as the network takes them.
        expected: logits `[n, classes]`.
        min_agreement: the least part of the images, 0 to 1, that a calibrated format puts into the same class.

    Returns:
        `examples`, `largest_difference` of a logit, `agreement` (the part of images that both put into the same class)
        and `latency_ms`, the median time of an answer to one image, in this process.

    Raises:
        KdartsError: if a logit differs by more than the format may, or too few images get the same class.
    """
    answer, _ = open_served(name, path)
    logits = np.concatenate([answer(images[i : i + 1]) for i in range(len(images))])
    difference = float(np.max(np.abs(logits - expected)))
    tolerance = ARTIFACTS[name].tolerance
    allowed = None if tolerance is None else tolerance * max(1.0, float(np.max(np.abs(expected))))
    if not np.isfinite(difference) or (allowed is not None and difference > allowed):
        raise KdartsError(
            f"--format={name}: a logit differs by {difference:.2g} from the model's on {len(images)} images, allowed: "
            f"{'a finite number' if allowed is None else format(allowed, '.2g')}; nothing was written"
        )
    agreement = float(np.mean(np.argmax(logits, -1) == np.argmax(expected, -1)))
    if ARTIFACTS[name].calibrated and agreement < min_agreement:
        raise KdartsError(
            f"--format={name}: {agreement:.1%} of {len(images)} images get the model's class, --min_agreement="
            f"{min_agreement:g}; nothing was written. Calibrate on images like those in use, or allow less"
        )
    return {
        "examples": len(images),
        "largest_difference": difference,
        "agreement": agreement,
        "latency_ms": median_ms(lambda: answer(images[:1])),
    }


FORMATS = {name: artifact.file for name, artifact in ARTIFACTS.items()}
"""File or folder that each format leaves."""

INPUTS = ("raw", "normalized")


def serving_model(network: keras.Model, mean=None, std=None) -> keras.Model:
    """The network as a float32 model with one output.

    Args:
        network: takes normalised images.
        mean, std: of each channel on the scale 0 to 1; then the result takes raw images, 0 to 255, and normalises them.
    """
    network = _in_float32(network)
    # The first output alone: an auxiliary classifier has no part in serving.
    # The names of the layers inside are in the files, and would otherwise have the numbers of models made before.
    network = keras.Model(network.inputs, network.outputs[0], name="net")
    image = keras.Input(network.input_shape[1:], dtype="float32", name="image")
    x = image
    if mean is not None:
        scale = 1 / (255 * np.asarray(std))
        # Rescaling takes one factor for each channel: (x / 255 - mean) / std.
        x = keras.layers.Rescaling(scale.tolist(), (-np.asarray(mean) / np.asarray(std)).tolist(), name="normalize")(x)
    return keras.Model(image, network(x, training=False), name="serving")


def _in_float32(network: keras.Model) -> keras.Model:
    """The same network computed in float32: one trained with 16 bits would ask its clients for them."""
    if all(layer.compute_dtype == "float32" for layer in network.layers):
        return network
    plain = keras.saving.serialize_keras_object(keras.DTypePolicy("float32"))

    def replaced(config):
        if isinstance(config, dict):
            is_policy = config.get("class_name") == plain["class_name"]
            return plain if is_policy else {key: replaced(value) for key, value in config.items()}
        if isinstance(config, list | tuple):
            return type(config)(replaced(value) for value in config)
        return config

    copy = type(network).from_config(replaced(network.get_config()))
    copy.set_weights(network.get_weights())
    return copy


def export(
    network: keras.Model,
    formats: list[str],
    folder,
    mean=None,
    std=None,
    *,
    raw: bool | None = None,
    class_names=(),
    images=None,
    calibration=None,
    min_agreement: float = MIN_AGREEMENT,
    about: dict | None = None,
    batch: int | None = 1,
    int8_io: bool = False,
) -> dict[str, dict]:
    """Writes the network in each format into `folder`, once it has answered there as it does here.

    Args:
        network: takes normalised images.
        formats: names in `FORMATS`.
        folder: made if need be; a format that is there already is replaced, whole.
        mean, std: of each channel on the scale 0 to 1, by which the training's images were normalised, if known.
        raw: whether the result takes raw images, 0 to 255, and normalises them itself; None: if `mean` is given.
        class_names: one for each logit, if known; they travel inside, and so do `mean` and `std`.
        images: real ones, raw, uint8 `[n, height, width, channels]`, to compare on; None: nothing is compared.
        calibration: real ones likewise, of the training, which the int8 format needs to measure its activations. Those
            that are in `images`, too, are left out there; without `images`, every fifth is kept to compare on.
        min_agreement: as of `check_served`.
        about: more entries that travel inside, such as `background` and `peak` of `check_about`.
        batch: the number of images that a LiteRT file takes at once, 1; None: any, as the other formats do.
        int8_io: whether input and output of the int8 formats are 8-bit integers, too.

    Returns:
        Of each format `path` and `bytes`; of LiteRT and C `flash`, the bytes of the model that a device stores; with
        `int8_io` the `quantization` (see `quantization_of`); and with `images` what `check_served` tells.

    Raises:
        KdartsError: if a format needs a package that is not installed or images that are not given, if mean, std or
            class names are missing, have wrong values or another number than the network's channels and classes, if
            what it answers is not finite or not what the network does, or the system refuses to write; what the folder
            held then stays.
    """
    folder = pathlib.Path(folder)
    raw = mean is not None if raw is None else raw
    for name in formats:
        _check_needs(name, calibration)
    if batch not in (1, None):
        raise KdartsError(f"batch {batch}; allowed: 1, or None for any number")
    if raw and mean is None:
        raise KdartsError("raw images need mean and std, by which the result normalises them")
    about = {**(about or {}), "input_shape": list(network.input_shape[1:])}
    about |= {"class_names": [str(name) for name in class_names]}
    about |= {name: np.asarray(value).tolist() for name, value in (("mean", mean), ("std", std)) if value is not None}
    check_about(about, "export", network.outputs[0].shape[-1])
    model = serving_model(network, mean if raw else None, std)
    about |= {"input": "raw" if raw else "normalized"}
    about |= {"output": probe(model.predict_on_batch, model.input_shape[1:])[1]}
    # A client reads the output by its name.
    model = keras.Model(model.inputs, {about["output"]: model.outputs[0]}, name="served")
    if any(ARTIFACTS[name].calibrated for name in formats):
        images, calibration = _apart(images, calibration)

    def taken(images):
        """Images as the result takes them."""
        images = np.asarray(images, "float32")
        return images if raw or mean is None else ((images / 255 - mean) / std).astype("float32")

    expected = None
    if images is not None:
        normal = np.asarray(images, "float32")
        normal = normal if mean is None else ((normal / 255 - mean) / std).astype("float32")
        expected = serving_model(network).predict(normal, verbose=0)
    try:
        how = {"batch": batch, "int8_io": int8_io}
        return _written(model, formats, folder, about, taken, calibration, images, expected, min_agreement, how)
    except (OSError, tf.errors.OpError) as error:
        raise KdartsError(f"{folder}: cannot be written ({error})") from None


def _apart(images, calibration) -> tuple[np.ndarray, np.ndarray]:
    """Images to compare on that are not among those to calibrate on, and these."""
    calibration = np.asarray(calibration)
    if images is None:
        kept = np.arange(len(calibration)) % 5 == 4
        images, calibration = calibration[kept], calibration[~kept]
    known = {image.tobytes() for image in calibration}
    images = np.asarray(images)
    images = images[[image.tobytes() not in known for image in images]]
    if not len(images):
        raise KdartsError("images: needs some to compare on that are not used to calibrate")
    return images, calibration


def _written(model, formats, folder, about, taken, calibration, images, expected, least, how) -> dict[str, dict]:
    """Writes and compares, as of `export`; `taken` makes of raw images what the model takes, `expected` are logits."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export.") as temporary:
        made = {name: pathlib.Path(temporary, FORMATS[name]) for name in formats}
        for name, path in made.items():
            options = {"batch": how["batch"]} if ARTIFACTS[name].sized else {}
            options |= {"int8_io": how["int8_io"]} if ARTIFACTS[name].integer else {}
            ARTIFACTS[name].write(model, path, about, None if calibration is None else taken(calibration), **options)
            written[name] = {"path": str(folder / FORMATS[name]), "bytes": _size(path), **_on_device(path)}
            if images is not None:
                written[name] |= check_served(name, path, taken(images), expected, least)
        for name, path in made.items():
            final = folder / FORMATS[name]
            if final.is_dir():
                # A folder cannot be replaced in one step: put the old one aside first.
                os.replace(final, pathlib.Path(temporary, "old"))
                shutil.rmtree(pathlib.Path(temporary, "old"))
            os.replace(path, final)
    return written


def _on_device(path: pathlib.Path) -> dict:
    """What a device stores of a file, and how its integers are meant; {} of a file for no device."""
    if path.suffix not in (".tflite", ".h"):
        return {}
    data = model_bytes(path) if path.suffix == ".tflite" else read_header(path)
    quantization = quantization_of(litert(model_content=data))
    return {"flash": len(data), **({"quantization": quantization} if quantization else {})}


def _check_needs(name: str, calibration) -> None:
    """Raises `KdartsError` for a format that cannot be written here."""
    missing = [package for package in ARTIFACTS[name].needs if importlib.util.find_spec(package) is None]
    if missing:
        raise KdartsError(f"--format={name} needs {' and '.join(missing)}: pip install 'kdarts[{name}]'")
    if ARTIFACTS[name].calibrated and calibration is None:
        raise KdartsError(f"--format={name} needs images of the training to calibrate on: give --dataset")


def _size(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
