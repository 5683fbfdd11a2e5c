"""Trained networks in the forms that serve them."""

import importlib.util
import os
import pathlib
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.serving.formats import ARTIFACTS, check_served

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
    network = keras.Model(network.inputs, network.outputs[0])
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
        calibration: real ones likewise, of the training, which the int8 format needs to measure its activations.

    Returns:
        Of each format `path` and `bytes`, and with `images` what `check_served` tells.

    Raises:
        KdartsError: if a format needs a package that is not installed or images that are not given, if what it answers
            is not what the network does, or the system refuses to write; what the folder held then stays.
    """
    folder = pathlib.Path(folder)
    raw = mean is not None if raw is None else raw
    for name in formats:
        _check_needs(name, calibration)
    model = serving_model(network, mean if raw else None, std)
    about = {"input": "raw" if raw else "normalized", "input_shape": list(model.input_shape[1:])}
    about |= {"class_names": [str(name) for name in class_names]}
    if mean is not None:
        about |= {"mean": [float(m) for m in mean], "std": [float(s) for s in std]}

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
        return _written(model, formats, folder, about, taken, calibration, images, expected)
    except (OSError, tf.errors.OpError) as error:
        raise KdartsError(f"{folder}: cannot be written ({error})") from None


def _written(model, formats, folder, about, taken, calibration, images, expected) -> dict[str, dict]:
    """Writes and compares, as of `export`; `taken` makes of raw images what the model takes, `expected` are logits."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export.") as temporary:
        made = {name: pathlib.Path(temporary, FORMATS[name]) for name in formats}
        for name, path in made.items():
            ARTIFACTS[name].write(model, path, about, None if calibration is None else taken(calibration))
            written[name] = {"path": str(folder / FORMATS[name]), "bytes": _size(path)}
            if images is not None:
                written[name] |= check_served(name, path, taken(images), expected)
        for name, path in made.items():
            final = folder / FORMATS[name]
            if final.is_dir():
                # A folder cannot be replaced in one step: put the old one aside first.
                os.replace(final, pathlib.Path(temporary, "old"))
                shutil.rmtree(pathlib.Path(temporary, "old"))
            os.replace(path, final)
    return written


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
