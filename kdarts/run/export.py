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

FORMATS = {"saved_model": "saved_model", "litert": "model.tflite", "onnx": "model.onnx"}
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


def export(network: keras.Model, formats: list[str], folder, mean=None, std=None) -> dict[str, pathlib.Path]:
    """Writes the network in each format into `folder`.

    Args:
        network: takes normalised images.
        formats: names in `FORMATS`.
        folder: made if need be; a format that is there already is replaced, whole.
        mean, std: as of `serving_model`.

    Returns:
        Path of each format.

    Raises:
        KdartsError: if a format needs a package that is not installed, or the system refuses to write.
    """
    folder = pathlib.Path(folder)
    missing = [n for n in ("onnx", "tf2onnx") if "onnx" in formats and importlib.util.find_spec(n) is None]
    if missing:
        raise KdartsError(f"--format=onnx needs {' and '.join(missing)}: pip install 'kdarts[onnx]'")
    try:
        return _written(serving_model(network, mean, std), formats, folder)
    except (OSError, tf.errors.OpError) as error:
        raise KdartsError(f"{folder}: cannot be written ({error})") from None


def _written(model: keras.Model, formats: list[str], folder: pathlib.Path) -> dict[str, pathlib.Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export.") as temporary:
        for name in formats:
            made = pathlib.Path(temporary, FORMATS[name])
            kind = "tf_saved_model" if name == "saved_model" else name
            signature = [tf.TensorSpec((None, *model.input_shape[1:]), "float32", name="image")]
            model.export(str(made), format=kind, input_signature=signature, verbose=False)
            final = folder / FORMATS[name]
            if final.is_dir():
                # A folder cannot be replaced in one step: put the old one aside first.
                os.replace(final, pathlib.Path(temporary, "old"))
                shutil.rmtree(pathlib.Path(temporary, "old"))
            os.replace(made, final)
            written[name] = final
    return written
