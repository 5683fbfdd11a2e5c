"""A trained network in use: classes of pictures, from a `.keras` file or from anything that `kdarts export` writes."""

import importlib.util
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from kdarts.data.datasets import colour
from kdarts.data.label_files import FILES, read_rows
from kdarts.data.pictures import SUFFIXES, PictureError, decode
from kdarts.data.sources import Progress, map_threads
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.models import check_about, load_model, read_about
from kdarts.serving.served import open_served, probe
from kdarts.training.workdir import summary_beside


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network that takes raw pictures and gives probabilities.

    Attributes:
        path: Where it was read from.
        about: The entries of `check_about`, as far as the file has them.
        shape: Height, width and channels of an image.
        answer: The network itself: from float32 images `[n, height, width, channels]` to its outputs `[n, classes]`.
        raw: Whether `answer` takes pixels from 0 to 255. Otherwise they are normalised before.
        output: "probabilities", or "logits" of them.
    """

    path: pathlib.Path
    about: dict
    shape: tuple[int, int, int]
    answer: Callable[[np.ndarray], np.ndarray]
    raw: bool
    output: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; () if the file does not have them."""
        return tuple(self.about.get("class_names", ()))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the probability of each class.

        Args:
            images: uint8 `[n, height, width, channels]`.

        Returns:
            float64 `[n, classes]`.

        Raises:
            KdartsError: If mean and deviation are needed and not known, or if an output is not finite.
        """
        images = np.asarray(images, "float32")
        if not self.raw:
            if "mean" not in self.about:
                raise KdartsError(
                    f"model {str(self.path)!r} takes normalised images and tells no mean and std; "
                    "kdarts train saves them in the file"
                )
            images = ((images / 255 - self.about["mean"]) / self.about["std"]).astype("float32")
        outputs = np.asarray(self.answer(images), "float64")
        if not np.isfinite(outputs).all():
            raise KdartsError(f"model {str(self.path)!r}: an output is not a finite number; its training has diverged")
        if self.output == "probabilities":
            return outputs
        exponentials = np.exp(outputs - outputs.max(-1, keepdims=True))
        return exponentials / exponentials.sum(-1, keepdims=True)

    def read(self, file: os.PathLike | str) -> np.ndarray:
        """Reads a picture as the training read its pictures: the shorter side scaled, and the middle cut out.

        Args:
            file: The path of the picture.

        Returns:
            uint8 `[height, width, channels]`.

        Raises:
            KdartsError: If the picture cannot be read, or has another size and the network's images are not square.
        """
        height, width, channels = self.shape
        size = height if height == width else None
        background = colour(self.about.get("background", "white"))
        resize = self.about.get("resize") if size else None
        image = decode(pathlib.Path(file), channels, size, background, self.about.get("peak", 65535), resize)
        if image.shape != self.shape:
            raise KdartsError(f"{image.shape[1]}x{image.shape[0]} pixels, the model takes {width}x{height}")
        return image


def open_classifier(path: os.PathLike | str) -> Classifier:
    """Opens a trained network in any of its forms.

    Args:
        path: A `.keras` file, or a `.tflite` or `.onnx` file or the folder of a SavedModel that `kdarts export` wrote.
            Also the folder of a training or an export with a SavedModel. For a `.keras` file without class names and
            preprocessing, `summary.json` beside it is read.

    Raises:
        KdartsError: If it does not exist, is damaged, or is none of these.
    """
    path = pathlib.Path(path)
    # The folder of a training or of an export stands for what is in it.
    path = next((path / name for name in ("model.keras", "saved_model") if (path / name).exists()), path)
    if not path.exists():
        raise KdartsError(f"no model file {str(path)!r}")
    if path.suffix == ".keras":
        return _keras(path)
    form = "saved_model" if path.is_dir() else {".tflite": "litert", ".onnx": "onnx"}.get(path.suffix)
    if form is None:
        raise KdartsError(f"model {str(path)!r}: needs a .keras, .tflite or .onnx file, or a folder of a SavedModel")
    if form == "onnx" and importlib.util.find_spec("onnxruntime") is None:
        raise KdartsError(f"model {str(path)!r} needs onnxruntime: pip install 'kdarts[onnx]'")
    try:
        answer, about = open_served(form, path)
        check_about(about, path)
        if "input_shape" not in about:
            raise KdartsError(f"model {str(path)!r} has no input_shape; kdarts export writes it")
        shape = tuple(about["input_shape"])
        classes, output = probe(answer, shape)
    except KdartsError:
        raise
    except Exception as error:  # Each library has its own exceptions for a damaged file.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KdartsError(
            f"model {str(path)!r} cannot be read; it is damaged or not by kdarts export ({first})"
        ) from None
    check_about(about, path, classes)
    return Classifier(path, about, shape, answer, about.get("input") == "raw", about.get("output", output))


def open_network(path: os.PathLike | str) -> tuple[keras.Model, dict]:
    """Opens a `.keras` file without its optimizer.

    Returns:
        The model, of one input and one output: an auxiliary classifier has no part in an answer. And the entries of
        `check_about`: those in the file, else those of `summary.json` beside it.

    Raises:
        KdartsError: If the file cannot be read or the model does not take images, or if an entry has a wrong value.
    """
    model = load_model(path, compile=False)
    if not getattr(model, "built", False) or len(getattr(model, "inputs", None) or ()) != 1:
        raise KdartsError(f"model {str(path)!r} is not a network of one input; needs one that takes images")
    model = keras.Model(model.inputs[0], model.outputs[0])
    shape, dtype = model.input_shape[1:], model.inputs[0].dtype
    if len(shape) != 3 or "float" not in dtype:
        raise KdartsError(f"model {str(path)!r} takes inputs of {shape}, {dtype}; needs normalised images of floats")
    return model, check_about(read_about(path) or summary_beside(path), path, model.output_shape[-1])


def _keras(path: pathlib.Path) -> Classifier:
    model, about = open_network(path)
    shape = tuple(model.input_shape[1:])
    if None in shape:
        shape = tuple(about.get("input_shape", shape))
    if None in shape:
        raise KdartsError(f"model {str(path)!r} takes inputs of {shape}; needs images of one size")
    if list(about.get("input_shape", shape)) != list(shape):
        raise KdartsError(f"{path}: input_shape {about['input_shape']}, but the model takes {shape}")
    check_about(about | {"input_shape": list(shape)}, path)
    return Classifier(path, about, shape, model.predict_on_batch, False, probe(model.predict_on_batch, shape)[1])


@dataclass(frozen=True)
class Prediction:
    """The classes of a picture.

    Attributes:
        file: The path of the picture.
        classes: Names and probabilities of the most probable classes, the most probable first.
        error: Why the picture could not be read, else None.
    """

    file: str
    classes: tuple[tuple[str, float], ...] = ()
    error: str | None = None


def predict(
    model: Classifier | os.PathLike | str, paths: Sequence[os.PathLike | str], top: int = 3, batch_size: int = 32
) -> list[Prediction]:
    """Predicts the classes of pictures.

    Args:
        model: A trained network, or the path of one (see `open_classifier`).
        paths: Pictures, folders of pictures, and CSV files that list pictures (see `picture_files`).
        top: The number of classes for each picture, at least 1.
        batch_size: The number of pictures at once.

    Returns:
        A prediction for each picture, in order. A picture that cannot be read has an `error`.

    Raises:
        KdartsError: If the network or a path cannot be read.
    """
    classifier = model if isinstance(model, Classifier) else open_classifier(model)
    files, found = picture_files(paths), []
    progress = Progress("pictures", len(files))
    for start in range(0, len(files), batch_size):
        part = files[start : start + batch_size]
        # The size of a file that may not be there is not asked for.
        images = list(map_threads(lambda file: _attempt(classifier, file), part, math.inf))
        readable = [image for image in images if not isinstance(image, str)]
        answers = iter(classifier.probabilities(np.stack(readable)) if readable else ())
        for file, image in zip(part, images, strict=True):
            failed = isinstance(image, str)
            found.append(
                Prediction(str(file), error=image)
                if failed
                else Prediction(str(file), _best(next(answers), classifier.class_names, top))
            )
        progress.update(len(found))
    return found


def _attempt(classifier: Classifier, file: pathlib.Path) -> np.ndarray | str:
    try:
        return classifier.read(file)
    except PictureError as error:
        return error.reason
    except KdartsError as error:
        return str(error)


def _best(probabilities: np.ndarray, names: Sequence[str], top: int) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple((names[i] if names else str(i), float(probabilities[i])) for i in order)


def picture_files(paths: Sequence[os.PathLike | str]) -> list[pathlib.Path]:
    """Lists the pictures that paths stand for.

    Args:
        paths: Files; folders, whose pictures are found by their suffixes, also in sub-folders that are not hidden; and
            CSV files (see `label_files`) with a column of files, whose paths are relative to the folder of theirs.

    Raises:
        KdartsError: If a path does not exist, a folder has no picture, or a CSV file has no such column or no row.
    """
    files: list[pathlib.Path] = []
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if _is_picture(file, path)]
            if not inside:
                raise KdartsError(f"{path}: no pictures in this folder; allowed: {', '.join(SUFFIXES)}")
            files += inside
        elif path.suffix.lower() == ".csv" and path.is_file():
            files += _listed(path)
        elif path.exists():
            files.append(path)
        else:
            raise KdartsError(f"no file {str(path)!r}")
    return files


def _is_picture(file: pathlib.Path, root: pathlib.Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return not hidden and file.suffix.lower() in SUFFIXES and file.is_file()


def _listed(table: pathlib.Path) -> list[pathlib.Path]:
    rows, [column] = read_rows(str(table), {"files": FILES})
    listed = [table.parent / row[column].strip() for row in rows if len(row) > column and row[column].strip()]
    if not listed:
        raise KdartsError(f"{table}: none of its {len(rows)} rows has a file")
    return listed
