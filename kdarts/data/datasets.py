"""Labelled images in memory: where they come from, what they measure, and how a search divides them.

Three sources, by name: `digits` (part of the package), a name of TensorFlow Datasets, and `folder:PATH`.
"""

import dataclasses
import importlib.resources

import numpy as np

from kdarts.data import catalog, folders
from kdarts.data.pictures import check_memory, check_size, fitted
from kdarts.genotypes.errors import KdartsError, choice

SPLITS = ("train", "test")
"""The splits that every data set has."""

_CHUNK = 1024  # images whose histogram is taken at a time: a chunk is widened to 64 bits


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images, held in memory.

    Args:
        images: uint8 `[n, height, width, channels]`, 0 to 255; 1 or 3 channels.
        labels: int32 `[n]`, indices of `class_names`.
        class_names: one name per class.
        name: the name that the data set was loaded by.

    Raises:
        KdartsError: shapes or types that are not these.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str

    def __post_init__(self):
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3) or not len(images):
            raise KdartsError(
                f"{self.name}: images {images.dtype} {list(images.shape)}; allowed: uint8 [n, height, width, 1 or 3]"
            )
        if labels.shape != images.shape[:1] or labels.dtype != np.int32:
            raise KdartsError(
                f"{self.name}: labels {labels.dtype} {list(labels.shape)}; allowed: int32 [{len(images)}]"
            )
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise KdartsError(
                f"{self.name}: labels {labels.min()} to {labels.max()}; allowed: 0 to {len(self.class_names) - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        return self.images.shape[1:]

    @property
    def num_classes(self) -> int:
        """Number of classes, present among the labels or not."""
        return len(self.class_names)

    def take(self, indices: np.ndarray | slice) -> "ImageData":
        """The examples at `indices`, in that order."""
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices])


def load(
    name: str = "digits",
    data_dir: str | None = None,
    image_size: int | None = None,
    split: str = "train",
    limit: int | None = None,
    *,
    download: bool = False,
) -> ImageData:
    """Loads one split of a data set into memory.

    Args:
        name: `digits`, a name of TensorFlow Datasets, or `folder:PATH` with one sub-folder of pictures per class.
        data_dir: where TensorFlow Datasets finds prepared data; None for its default.
        image_size: side in pixels, 8 or more, to which images are scaled (the shorter side) and cut; needed where
            they differ in size. None leaves them as they are.
        split: "train" or "test". Where a data set has no test split, its validation split, or else a fixed fifth.
        limit: load at most this many examples, 1 or more; None for all.
        download: whether data that is not on this machine may be fetched; otherwise the network is never tried.

    Returns:
        The images and labels, in an order that is the same each time.

    Raises:
        KdartsError: an unknown name or split, data that is not there, cannot be decoded, differs in size, or takes more
            than `kdarts.data.pictures.MEMORY_LIMIT` bytes decoded.
    """
    choice("split", split, SPLITS)
    check_size(image_size)
    if limit is not None and limit < 1:
        raise KdartsError(f"limit {limit}; allowed: 1 or more")
    if name == "digits":
        images, labels, class_names = _digits(split, image_size, limit)
    elif name.startswith("folder:"):
        images, labels, class_names = folders.read(name.removeprefix("folder:"), split, image_size, limit)
    else:
        images, labels, class_names = catalog.read(name, split, data_dir, image_size, limit, download)
    return ImageData(images, labels, class_names, name)


def _digits(split: str, image_size: int | None, limit: int | None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    with (
        (importlib.resources.files("kdarts.data") / "digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        images, labels = arrays[f"x_{split}"][:limit], arrays[f"y_{split}"][:limit]
    if image_size:
        check_memory(len(images), (image_size, image_size, 1), "digits")
        images = fitted(images, image_size).numpy()
    return images, labels.astype(np.int32), tuple("0123456789")


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, for the scale 0 to 1.

    Args:
        images: uint8 `[n, height, width, channels]`, 0 to 255.

    Returns:
        Mean and standard deviation, `channels` numbers each; the deviation is at least 0.001, so that it can divide.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        # 256 counts say all there is to know of 8-bit images, exactly and faster than sums of floats.
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), _CHUNK):
            counts += np.bincount(images[start : start + _CHUNK, ..., channel].ravel(), minlength=256)
        mean = counts @ values / counts.sum()
        means.append(float(mean))
        deviations.append(max(float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum())), 1e-3))
    return tuple(means), tuple(deviations)


def halves(
    data: ImageData,
    train_examples: int | None = None,
    valid_examples: int | None = None,
    seed: int = 0,
    stratified: bool = False,
) -> tuple[ImageData, ImageData]:
    """Divides data between the two levels of a search.

    With neither size given, the first half trains the weights and the second half the architecture parameters (DARTS).
    With a size given or `stratified`, that many are drawn at random without replacement, once (eDARTS): the first ones
    drawn train the weights, the others the architecture parameters.

    Args:
        data: what to divide, 2 examples or more.
        train_examples: examples for the weights. None, with the other given: as many as that, or as are left.
        valid_examples: examples for the architecture parameters; None likewise.
        seed: of the draw, 0 to 2**32 - 1.
        stratified: whether every class has its share of both, that of the whole data to within two examples: of equal
            classes, equally many where the sizes allow it.

    Returns:
        Data for the weights and data for the architecture parameters; no example is in both.

    Raises:
        KdartsError: sizes below 1, or more in all than there are.
    """
    count = len(data)
    if count < 2:
        raise KdartsError(f"{data.name}: {count} example cannot be divided; allowed: 2 or more")
    if train_examples is None and valid_examples is None and stratified:
        train_examples = count // 2
    if train_examples is None and valid_examples is None:
        return data.take(slice(count // 2)), data.take(slice(count // 2, None))
    if train_examples is None:
        train_examples = min(valid_examples, count - valid_examples)
    if valid_examples is None:
        valid_examples = min(train_examples, count - train_examples)
    if train_examples < 1 or valid_examples < 1 or train_examples + valid_examples > count:
        raise KdartsError(
            f"train_examples {train_examples} and valid_examples {valid_examples}; allowed: 1 or more each, "
            f"{count} in all for the train split of {data.name}"
        )
    order = np.random.RandomState(seed).permutation(count)
    if stratified:
        order = order[np.argsort(_places(data.labels[order]), kind="stable")]
    return data.take(order[:train_examples]), data.take(order[train_examples : train_examples + valid_examples])


def hold_back(data: ImageData, part: float) -> tuple[ImageData, ImageData]:
    """Divides data into what a run may learn from and what it is measured on, the same for every seed.

    Args:
        data: what to divide.
        part: of it that is held back, more than 0 and less than 1; every class gives its share (see `halves`).

    Returns:
        The rest, and what is held back.

    Raises:
        KdartsError: if either would have no example.
    """
    count = round(part * len(data))
    if not 0 < count < len(data):
        raise KdartsError(f"{data.name}: {part:g} of {len(data)} examples cannot be held back; allowed: 1 to all but 1")
    return halves(data, len(data) - count, count, stratified=True)


def _places(labels: np.ndarray) -> np.ndarray:
    """For each example how far it stands, 0 to 1, among those of its class; by it, any first part has all classes."""
    places = np.empty(len(labels))
    for label in np.unique(labels):
        own = labels == label
        places[own] = (np.arange(own.sum()) + 0.5) / own.sum()
    return places
