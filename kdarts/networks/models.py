"""Loading and saving networks, under any of Keras' backends, and the loss that they are trained with.

A `.keras` file is a zip archive. `save_model` adds a member to it, `kdarts.json`, with what a user of the network needs
besides: class names, preprocessing and metrics. Keras ignores the member when it loads the file; when Keras saves the
model again, the member is lost. Layers could carry only a part of this: with `Rescaling` for mean and
deviation the network would no longer take normalised images, and no layer holds class names that it does not use.
"""

import json
import os
import pathlib
import zipfile
import zlib

import keras
from keras import ops

from kdarts.genotypes.errors import KdartsError, quoted
from kdarts.genotypes.files import write_with
from kdarts.genotypes.settings import MOST_SIDE
from kdarts.networks.archive import check_model_archive


def load_model(path: str | os.PathLike[str], compile: bool = True) -> keras.Model:
    """Loads a network from a `.keras` file.

    `keras.saving.load_model` does the same once `kdarts.networks` was imported: Keras needs the classes that the file
    names, such as `DropPath` or the optimizer, and does not import them by itself. Code in the file is never run.

    Args:
        path: The path of a `.keras` file, written by `kdarts train`, by `keras.Model.save` or by another program.
        compile: Whether to load the optimizer and the loss as well, which only training needs. Defaults to `True`.

    Returns:
        The model, compiled if `compile` and if it was compiled when it was saved.

    Raises:
        KdartsError: If the file does not exist, is damaged, or is not a Keras model.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise KdartsError(f"no model file {str(path)!r}")
    if path.suffix != ".keras":
        raise KdartsError(f"model {str(path)!r}: needs a file that ends in .keras")
    check_model_archive(path)
    try:
        return keras.saving.load_model(path, compile=compile, safe_mode=True)
    except Exception as error:  # Keras' reader fails with any kind of exception on a damaged file.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KdartsError(f"model {str(path)!r} cannot be read; it is damaged or not a Keras model ({first})") from None


def save_model(network: keras.Model, path, about: dict | None = None) -> None:
    """Saves a network as `.keras`, atomically.

    Args:
        network: The model.
        path: The path of the file.
        about: What else the file contains (see `check_about`), for `read_about`. Defaults to `None`: nothing.

    Raises:
        KdartsError: If `about` has a wrong value, or the file cannot be written.
    """
    if about is not None:
        check_about(about, path)

    def write(temporary):
        network.save(temporary)
        if about is not None:
            _add_about(temporary, about)

    # A full disk makes the writers of zip archives and HDF5 raise these errors.
    write_with(path, write, (ValueError, RuntimeError))


def write_about(path, about: dict) -> None:
    """Replaces what `read_about` reads from a `.keras` file, atomically. Raises errors as `save_model` does."""
    check_about(about, path)

    def write(temporary):
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(temporary, "w") as new:
            for member in old.infolist():
                if member.filename != _ABOUT:
                    new.writestr(member, old.read(member))
        _add_about(temporary, about)

    write_with(path, write, (zipfile.BadZipFile,))


_ABOUT = "kdarts.json"
"""The member of the archive."""


def _add_about(path, about: dict) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_ABOUT, json.dumps(about, allow_nan=False))


def read_about(path) -> dict:
    """Reads what a `.keras` file tells about its network besides the model.

    Args:
        path: The path of a `.keras` file.

    Returns:
        The entries that `check_about` describes, as far as they are known. {} if another program saved the file.

    Raises:
        KdartsError: If the file does not exist or is damaged, or if an entry has a wrong value.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise KdartsError(f"no model file {str(path)!r}")
    try:
        with zipfile.ZipFile(path) as archive:
            if _ABOUT not in archive.namelist():
                return {}
            about = json.loads(archive.read(_ABOUT))
    # A damaged archive makes `zipfile` fail in any of these ways, and a text that is no JSON in two of them.
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError):
        raise KdartsError(f"{path}: is damaged, or its {_ABOUT} is not JSON") from None
    return check_about(about, path)


def check_about(about: dict, source, classes: int | None = None) -> dict:
    """Checks what is known about a network besides the model. Each entry may be missing, and others are not checked.

    Args:
        about: `class_names`, distinct; `input_shape`, `[height, width, 1 or 3]`; `mean` and `std`, finite numbers for
            each channel on the scale 0 to 1, `std` above 0; `background`, the colour behind transparent pixels, as
            text; `peak`, the value that became 255 in pictures of 16 bits a channel, 1 to 65535; `resize`, to which the
            shorter side of a test picture is scaled, in pixels; `metrics`, finite numbers by name; `dataset`, `labels`
            and `group`, texts that say what the network was trained on.
        source: Where it is from, for errors.
        classes: The number of logits, if known.

    Returns:
        `about`.

    Raises:
        KdartsError: If an entry has a wrong value.
    """
    if not isinstance(about, dict):
        raise KdartsError(f"{source}: needs a JSON object, got {quoted(about)}")

    def check(name, is_valid, allowed):
        if name in about and not is_valid(about[name]):
            raise KdartsError(f"{source}: {name} {quoted(about[name])}; allowed: {allowed}")

    def numbers(value, length):
        return _is_list(value, _is_finite) and len(value) in length

    check("input_shape", lambda v: _is_list(v, _is_whole) and len(v) == 3 and v[2] in (1, 3), "[height, width, 1 or 3]")
    channels = about["input_shape"][2:] if "input_shape" in about else (1, 3)
    check("mean", lambda v: numbers(v, channels), "a finite number for each channel")
    check("std", lambda v: numbers(v, channels) and min(v) > 0, "a finite number above 0 for each channel")
    if ("mean" in about) != ("std" in about) or len(about.get("mean", ())) != len(about.get("std", ())):
        raise KdartsError(f"{source}: needs both mean and std, of the same length")
    check("peak", lambda v: _is_whole(v) and v <= 65535, "an integer from 1 to 65535")
    check("resize", lambda v: _is_whole(v) and v <= MOST_SIDE, f"an integer from 1 to {MOST_SIDE}")
    for name in ("background", "dataset", "labels", "group"):
        check(name, _is_text, "text")
    check("metrics", lambda v: isinstance(v, dict) and all(map(_is_finite, v.values())), "finite numbers by name")
    check("class_names", lambda v: _is_list(v, _is_text) and len(set(v)) == len(v), "distinct texts")
    if classes is not None and about.get("class_names") and len(about["class_names"]) != classes:
        raise KdartsError(f"{source}: {len(about['class_names'])} class_names, but the model gives {classes} logits")
    return about


def _is_list(value, is_valid) -> bool:
    return isinstance(value, list | tuple) and all(map(is_valid, value))


def _is_text(value) -> bool:
    return isinstance(value, str)


def _is_finite(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e30


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@keras.saving.register_keras_serializable("kdarts")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits with smoothed labels: `q = (1 - e) onehot + e / K` for K classes.

    `keras.losses.SparseCategoricalCrossentropy`, which takes class numbers as this loss does, has no label smoothing.
    In place of class numbers it also takes the shares of the classes, as of mixed images; they are in place of onehot.

    Args:
        label_smoothing: The smoothing e, a float in [0, 1). Defaults to 0.1.
        name: The name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`: `reduction` and `dtype`.

    Raises:
        KdartsError: If `label_smoothing` is out of its range.
    """

    def __init__(self, label_smoothing: float = 0.1, name="smoothed_crossentropy", **kwargs):
        if not 0 <= label_smoothing < 1:
            raise KdartsError(f"label_smoothing {label_smoothing}; allowed: 0 to below 1")
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """Returns the loss of each example, `[n]`, for logits `[n, K]` and class numbers `[n]`, `[n, 1]`, or shares."""
        labels, classes = y_true, y_pred.shape[-1]
        if len(labels.shape) < 2 or labels.shape[-1] != classes:
            labels = ops.one_hot(ops.cast(ops.reshape(labels, [-1]), "int32"), classes, dtype=y_pred.dtype)
        smoothing = self.label_smoothing
        return keras.losses.categorical_crossentropy(labels, y_pred, from_logits=True, label_smoothing=smoothing)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def training_loss(label_smoothing: float = 0.0, shares: bool = False) -> keras.losses.Loss:
    """Returns the training loss of a network: cross-entropy of its logits, smoothed if `label_smoothing` is above 0.

    With `shares` it also takes labels that are shares of the classes, as `kdarts.data.mixing` makes them.
    """
    if label_smoothing or shares:
        return SmoothedCrossentropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
