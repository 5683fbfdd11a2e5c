"""`ImageClassifier`: the run of `kdarts auto` as an object with `fit`, `predict` and `evaluate`."""

import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kdarts.auto.deliver import check_formats, deliver, write_exports
from kdarts.auto.limits import Limits
from kdarts.auto.run import AutoRun, Settings
from kdarts.data import datasets
from kdarts.data.augmentation import Augmentation, default_augmentation
from kdarts.data.datasets import ImageData
from kdarts.data.pictures import fitted
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.models import load_model
from kdarts.serving.evaluation import evaluate
from kdarts.serving.predict import Classifier, open_classifier
from kdarts.training.distribution import configure_threads
from kdarts.training.workdir import Workdir

ARRAYS = "pictures"
"""The name of pictures that come as arrays."""

MOST_BYTES = 4e9
"""The most bytes of pictures that are collected from a dataset."""


class Predictions(NamedTuple):
    """The answers to pictures.

    Attributes:
        classes: The most probable class of each picture, its name as text, `[n]`.
        probabilities: float64 `[n, classes]`, in the order of `class_names`.
    """

    classes: np.ndarray
    probabilities: np.ndarray


class ImageClassifier:
    """Finds and trains the best classifier of pictures within limits and a time, as `kdarts auto` does.

    It compares networks that a search finds with networks that were made by hand, all trained by one recipe for one
    time, and keeps the best. So the result is never worse than the best network made by hand, on the pictures that it
    holds back to compare by.

    ```python
    classifier = kdarts.ImageClassifier(minutes=10, max_params=80_000)
    classifier.fit(x_train, y_train)
    print(classifier.evaluate(x_test, y_test)["accuracy"])
    classes, probabilities = classifier.predict(x_new)
    ```

    Args:
        minutes: The time limit of `fit`, 1 or more. Defaults to 60.
        max_params: The most weights of the network. Defaults to `None`: any number.
        max_macs: The most multiply-accumulates for an image. Defaults to `None`: what can be trained in the time.
        max_latency_ms: The most milliseconds for an image, by LiteRT on this machine with one thread. Defaults to
            `None`: any.
        max_size: The most bytes of the 8-bit LiteRT file, estimated. Defaults to `None`: any.
        workdir: The folder of the run. A run that was ended by any cause goes on there when `fit` is called again with
            the same data. Defaults to `None`: a temporary folder, which is removed with the object.
        hold_back: The part of the training pictures by which networks are compared, in (0, 1). Defaults to 0.15.
        augmentation: The `Augmentation` of the training pictures. Defaults to `None`: random shifts and mirroring.
        seeds: The number of final trainings of each of the last two networks. Defaults to 1.
        seed: The seed of all random numbers. Defaults to 0.
        verbose: Whether `fit` prints its progress. Defaults to `True`.

    Attributes:
        summary: What `fit` came to, a `dict` (see `summary.json` of `kdarts auto`); None before.

    Raises:
        KdartsError: If an argument is out of its range.
    """

    def __init__(
        self,
        minutes: float = 60.0,
        *,
        max_params: float | None = None,
        max_macs: float | None = None,
        max_latency_ms: float | None = None,
        max_size: float | None = None,
        workdir: str | os.PathLike | None = None,
        hold_back: float = 0.15,
        augmentation: Augmentation | None = None,
        seeds: int = 1,
        seed: int = 0,
        verbose: bool = True,
    ):
        limits = Limits(max_params, max_macs, max_latency_ms, max_size)
        self._settings = Settings(minutes, limits, hold_back, seeds, seed)
        self._augmentation, self._verbose = augmentation, verbose
        self._temporary = tempfile.TemporaryDirectory(prefix="kdarts-") if workdir is None else None
        self.workdir = pathlib.Path(workdir or pathlib.Path(self._temporary.name, "run"))
        self.summary: dict | None = None
        self._classifier: Classifier | None = None
        self._auto: AutoRun | None = None

    def fit(self, x, y=None, test=None) -> "ImageClassifier":
        """Finds and trains the network.

        Args:
            x: The pictures: an array `[n, height, width, 1 or 3]` or `[n, height, width]`, uint8 or numbers from 0 to
                255 or from 0 to 1; a `tf.data.Dataset` of pairs `(picture, label)` or of batches of them; or the path
                of a folder with one sub-folder of pictures for each class.
            y: The labels of an array, `[n]`: whole numbers from 0, or texts. `None` for a dataset or a folder.
            test: Pictures that are measured once, at the end: `(x, y)`, or a dataset. Defaults to `None`: none, but of
                a folder a fifth, or its own test split.

        Returns:
            The object itself.

        Raises:
            KdartsError: If the data cannot be used; the message says why.
        """
        configure_threads()
        train, tested = self._read(x, y, test)
        augmentation = self._augmentation or default_augmentation(train.name, train.image_shape)
        workdir, flags = Workdir(self.workdir), self._flags(train.name)
        workdir.check(flags)
        workdir.check_data(train=train, **({} if tested is None else {"test": tested}))
        about = {"dataset": train.name} if train.name != ARRAYS else {}
        how = self._settings, workdir, about, self._verbose

        def resized(side):
            if isinstance(x, str | os.PathLike):
                return tuple(datasets.load(_folder(x), split=split, image_size=side) for split in ("train", "test"))
            return _scaled(train, side), None if tested is None else _scaled(tested, side)

        auto = AutoRun(train, tested, augmentation, *how, resized=resized)
        workdir.begin(flags)
        try:
            auto.run()
        finally:
            if auto.concluded:
                deliver(auto, [])
                self._auto, self.summary = auto, auto.concluded
                self._classifier = open_classifier(self.workdir / "model.keras")
        return self

    def predict(self, x) -> Predictions:
        """Returns the classes of pictures and their probabilities.

        Args:
            x: An array as of `fit`, or a list of paths of pictures.

        Returns:
            A `Predictions`, which is a tuple `(classes, probabilities)`.
        """
        classifier = self._fitted()
        images = self._pictures(x)
        parts = [classifier.probabilities(images[k : k + 256]) for k in range(0, len(images), 256)]
        probabilities = np.concatenate(parts)
        return Predictions(np.array(classifier.class_names)[probabilities.argmax(-1)], probabilities)

    def evaluate(self, x, y=None) -> dict:
        """Measures the network on pictures.

        Args:
            x, y: As of `fit`; of a folder all pictures are measured that would be its test split.

        Returns:
            `loss`, `accuracy`, top-k accuracy, `examples`, and of each class precision and recall (see
            `kdarts.serving.evaluation.evaluate`).
        """
        classifier = self._fitted()
        if isinstance(x, str | os.PathLike):
            height, width, _ = classifier.shape
            data = datasets.load(_folder(x), split="test", image_size=height if height == width else None)
        else:
            data = _data(x, y, classifier.class_names)
            data = dataclasses.replace(data, images=_fitting(data.images, classifier.shape))
        figures, _ = evaluate(classifier, data)
        return figures

    def export(self, folder: str | os.PathLike, formats: Sequence[str] = ("saved_model", "litert")) -> dict:
        """Writes the network for serving, and checks each file against it.

        Args:
            folder: The folder of the files.
            formats: Names of formats: saved_model, litert, litert_float16, litert_int8, c_array, onnx.

        Returns:
            Of each format its `path`, `bytes` and how closely it answers as the network (see
            `kdarts.serving.export.export`).

        Raises:
            KdartsError: If a format is unknown or needs a package that is not installed; or if the object was loaded,
                since it then has no pictures to check on.
        """
        check_formats(formats)
        self._fitted()
        if self._auto is None:
            raise KdartsError("export: needs the pictures of fit to check the files; kdarts export takes a .keras file")
        return write_exports(self.workdir / "model.keras", folder, formats, self._auto.valid, self._auto.train)

    def export_model(self) -> keras.Model:
        """Returns the trained Keras model, which takes normalised images and gives logits."""
        return self.model

    def save(self, path: str | os.PathLike) -> None:
        """Saves the network as a `.keras` file with its class names and preprocessing, which `load` reads."""
        if pathlib.Path(path).suffix != ".keras":
            raise KdartsError(f"{os.fspath(path)}: needs a name that ends in .keras")
        shutil.copyfile(self._fitted().path, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ImageClassifier":
        """Loads a network that `save`, `kdarts auto` or `kdarts train` has written, to predict and evaluate."""
        made = cls(verbose=False)
        made._classifier = open_classifier(path)
        return made

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities."""
        return self._fitted().class_names

    @property
    def model(self) -> keras.Model:
        """The trained Keras model, which takes normalised images and gives logits."""
        return load_model(self._fitted().path, compile=False)

    def _fitted(self) -> Classifier:
        if self._classifier is None:
            raise KdartsError("the ImageClassifier has no network yet: call fit, or ImageClassifier.load")
        return self._classifier

    def _flags(self, name: str) -> dict[str, str]:
        """What identifies the run in its folder."""
        kept = self._settings
        flags = {"dataset": name, "minutes": kept.minutes, "hold_back": kept.hold_back, "seeds": kept.seeds}
        flags |= {"seed": kept.seed, **{f"max_{kind}": value for kind, value in kept.limits.given().items()}}
        if self._augmentation is not None:
            flags["augmentation"] = self._augmentation
        return {name: str(value) for name, value in flags.items()}

    def _read(self, x, y, test) -> tuple[ImageData, ImageData | None]:
        if isinstance(x, str | os.PathLike):
            if y is not None or test is not None:
                raise KdartsError(f"fit({os.fspath(x)!r}): a folder has its own labels and test pictures")
            return tuple(datasets.load(_folder(x), split=split) for split in ("train", "test"))
        train = _data(x, y)
        if test is None:
            return train, None
        tested = _data(*test, train.class_names) if isinstance(test, tuple) else _data(test, None, train.class_names)
        if tested.image_shape != train.image_shape:
            raise KdartsError(f"test: pictures of {tested.image_shape}, but x has pictures of {train.image_shape}")
        return train, tested

    def _pictures(self, x) -> np.ndarray:
        classifier = self._fitted()
        if isinstance(x, str | os.PathLike):
            x = [x]
        if isinstance(x, list | tuple) and all(isinstance(each, str | os.PathLike) for each in x):
            return np.stack([classifier.read(each) for each in x])
        return _fitting(pixels(x), classifier.shape)


def _scaled(data: ImageData, side: int) -> ImageData:
    return dataclasses.replace(data, images=fitted(data.images, side))


def _fitting(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Pictures in the shape that a network takes: scaled, if it takes squares, as before its training."""
    height, width, channels = shape
    if images.shape[1:] == shape:
        return images
    if height != width or images.shape[-1] != channels:
        raise KdartsError(f"x has pictures of {images.shape[1:]}, the network takes {shape}")
    return fitted(images, height)


def _folder(path) -> str:
    return f"folder:{os.fspath(path).removeprefix('folder:')}"


def pixels(x) -> np.ndarray:
    """Returns pictures as uint8 `[n, height, width, 1 or 3]`.

    Args:
        x: `[n, height, width]` or `[n, height, width, 1, 3 or 4]`, uint8; or numbers from 0 to 1, or from 0 to 255.

    Raises:
        KdartsError: For another shape, and for numbers that are not finite or out of range, such as normalised ones.
    """
    x = np.asarray(x)
    x = x[..., None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[-1] not in (1, 3) or not x.size:
        raise KdartsError(f"x is of shape {x.shape}: needs (pictures, height, width, 1 or 3)")
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind not in "iufb":
        raise KdartsError(f"x is of type {x.dtype}: needs numbers from 0 to 255, or from 0 to 1")
    least, most = float(x.min()), float(x.max())
    if not (least >= 0 and most <= 255):  # Also where a number is NaN.
        raise KdartsError(f"x holds numbers from {least:g} to {most:g}: needs 0 to 255, or 0 to 1, not normalised")
    scale = 255.0 if x.dtype.kind == "f" and most <= 1 else 1.0
    return np.rint(x * scale).astype(np.uint8)


def _data(x, y, class_names: Sequence[str] | None = None) -> ImageData:
    """Pictures and labels as `ImageData`. Labels that are texts are matched with `class_names`, or name the classes."""
    if isinstance(x, tf.data.Dataset):
        if y is not None:
            raise KdartsError("y: a dataset has its own labels")
        x, y = _collected(x)
    if y is None:
        raise KdartsError("y: an array of pictures needs labels")
    x, y = pixels(x), np.asarray(y)
    y = y.reshape(len(y)) if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != x.shape[:1]:
        hint = ", not one-hot: y.argmax(-1)" if y.ndim == 2 else ""
        raise KdartsError(f"y is of shape {y.shape}: needs one label for each of {len(x)} pictures{hint}")
    names = tuple(class_names or ())
    if y.dtype.kind in "OSU":
        texts = [each.decode() if isinstance(each, bytes) else str(each) for each in y]
        names = names or tuple(sorted(set(texts)))
        index = {name: number for number, name in enumerate(names)}
        for text in texts:
            if text not in index:
                raise KdartsError(f"y holds {text!r}, which is none of the classes")
        y = np.array([index[text] for text in texts])
    elif y.dtype.kind not in "iub" and not (y.dtype.kind == "f" and np.array_equal(y, np.rint(y))):
        raise KdartsError("y: needs whole numbers or texts")
    y = y.astype(np.int32)
    names = names or tuple(map(str, range(int(y.max()) + 1)))
    if len(names) < 2:
        raise KdartsError("y: needs two classes or more")
    if y.min() < 0 or y.max() >= len(names):
        raise KdartsError(f"y holds {y.min() if y.min() < 0 else y.max()}: allowed is 0 to {len(names) - 1}")
    return ImageData(x, y, names, ARRAYS)


def _collected(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The pictures and labels of a dataset of pairs, or of batches of them."""
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or not all(isinstance(each, tf.TensorSpec) for each in spec):
        raise KdartsError("a dataset needs elements (picture, label), or batches of them")
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise KdartsError("the dataset has no end: dataset.take(n) gives it one")
    batched = spec[0].shape.rank == 4
    xs, ys, size = [], [], 0
    for x, y in dataset.as_numpy_iterator():
        xs.append(x if batched else x[None])
        ys.append(np.atleast_1d(y))
        size += x.nbytes
        if size > MOST_BYTES:
            raise KdartsError(f"the dataset has more than {MOST_BYTES / 1e9:g} GB of pictures; give a folder")
    if not xs:
        raise KdartsError("the dataset is empty")
    if len({each.shape[1:] for each in xs}) > 1:
        raise KdartsError("the dataset has pictures of several sizes; resize them, or give a folder")
    return np.concatenate(xs), np.concatenate(ys)
