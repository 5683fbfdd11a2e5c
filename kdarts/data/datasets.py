"""Labelled images: where they come from, what they measure, and how a search divides them.

Three sources, by name: `digits` (part of the package), a name of TensorFlow Datasets, and `folder:PATH`. Small ones are
held in memory, larger ones are read from disk as they are needed.
"""

import dataclasses
import hashlib
import importlib.resources
import os

import numpy as np
from PIL import ImageColor

from kdarts.data import folders, pictures, records, sources
from kdarts.data.sources import Files, Pictures, Progress, Source, check_size, measured, opened, tell
from kdarts.data.splits import Picture, compiled, group_of, no_split
from kdarts.genotypes.errors import KdartsError, choice

SPLITS = ("train", "test")
"""The splits that every data set has."""

SAMPLE = 4096
"""Images from which the mean and deviation of a data set are taken that has more than `IN_MEMORY` bytes decoded."""

_CHUNK = 256  # images whose histogram is taken at a time: a chunk is widened to 64 bits


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images.

    Args:
        images: uint8 `[n, height, width, channels]`, 0 to 255; 1 or 3 channels. An array, or a `Source`, which reads
            `images[indices]` from disk.
        labels: int32 `[n]`, indices of `class_names`.
        class_names: one name per class.
        name: the name that the data set was loaded by.
        names: the file of each image, relative to the folder of the data set; None where there are no files.
        peak: the value that became 255, in pictures of 16 bits a channel.

    Raises:
        KdartsError: shapes or types that are not these.
    """

    images: np.ndarray | Source
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    names: tuple[str, ...] | None = None
    peak: int = 65535

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
        """The examples at `indices`, in that order; those on disk stay there."""
        images = self.images.part(indices) if self.streamed else self.images[indices]
        names = None if self.names is None else tuple(np.array(self.names, object)[indices])
        return dataclasses.replace(self, images=images, labels=self.labels[indices], names=names)

    def fingerprint(self) -> np.ndarray:
        """A number for each example: a hash of its class and its file, or else its position. uint64 `[n]`."""
        names = range(len(self)) if self.names is None else self.names
        texts = (f"{self.class_names[label]}\n{name}" for name, label in zip(names, self.labels, strict=True))
        hashes = b"".join(hashlib.blake2b(os.fsencode(text), digest_size=8).digest() for text in texts)
        return np.frombuffer(hashes, np.uint64)

    @property
    def streamed(self) -> bool:
        """Whether the images are read from disk as they are needed."""
        return isinstance(self.images, Source)


def load(
    name: str = "digits",
    data_dir: str | None = None,
    image_size: int | None = None,
    split: str = "train",
    limit: int | None = None,
    *,
    download: bool = False,
    labels: str | None = None,
    group: str | None = None,
    background: str = "white",
    cache_dir: str | os.PathLike | None = None,
    alike: tuple[int, int] | None = None,
    valid_split: str | None = None,
    resize: int | None = None,
) -> ImageData:
    """Loads one split of a data set.

    Args:
        name: `digits`, a name of TensorFlow Datasets, or `folder:PATH` with one sub-folder of pictures per class.
        data_dir: where TensorFlow Datasets finds prepared data; None for its default.
        image_size: side in pixels, 8 or more, to which images are scaled (the shorter side) and cut. None leaves them
            as they are, or chooses one size for all where they differ.
        split: "train" or "test"; with `valid_split` also "valid", which is that one. Where a data set has no test
            split, "test" is its validation split, or else a fixed fifth.
        limit: load at most this many examples, 1 or more; None for all.
        download: whether data that is not on this machine may be fetched; otherwise the network is never tried.
        labels: for a folder, the CSV file that names each picture's class (see `kdarts.data.folders.listing`).
        group: for a folder, a pattern of names; pictures that agree in its group are in the same split (likewise).
        background: colour behind transparent pixels: a name such as "white", "#rrggbb", or what else
            `PIL.ImageColor.getrgb` reads.
        cache_dir: folder in which a data set that is too large for memory is decoded into a file, once; None: its
            pictures are decoded each time that they are needed.
        alike: for a folder, the `channels` and `peak` of `pictures.decode`, as a network was trained with; None: those
            that suit its pictures.
        valid_split: name of a split that is neither train nor test, such as "validation"; of a folder, that of the
            pictures for validation, which otherwise join the train split.
        resize: pixels that the shorter side is scaled to before `image_size` is cut; None: `image_size` (see
            `pictures.fitted`).

    Returns:
        The images and labels, in an order that is the same each time. Images that take more than
        `kdarts.data.sources.IN_MEMORY` bytes decoded stay on disk.

    Raises:
        KdartsError: an unknown name or split, data that is not there or cannot be decoded.
    """
    choice("split", split, SPLITS if valid_split is None else (*SPLITS, "valid"))
    check_size(image_size, resize)
    if limit is not None and limit < 1:
        raise KdartsError(f"limit {limit}; allowed: 1 or more")
    behind = colour(background)
    is_folder = name.startswith("folder:")
    for argument, value in {"labels": labels, "group": group}.items():
        if value is not None and not is_folder:
            raise KdartsError(f"{argument} {value}: is about pictures in a folder; dataset {name!r} is none")
    if name == "digits" and valid_split is not None:
        raise no_split(valid_split, name, ())
    if name == "digits":
        return ImageData(*_digits(split, image_size, limit, resize), name)
    if is_folder:
        return _folder(name, split, image_size, limit, labels, group, behind, cache_dir, alike, valid_split, resize)
    how = data_dir, image_size, limit, download, behind, cache_dir, valid_split, resize
    return ImageData(*records.read(name, split, *how), name)


def colour(text: str) -> tuple[int, int, int]:
    """Red, green and blue of a colour, 0 to 255 each; raises `KdartsError` if it is none (see `load`)."""
    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError:
        raise KdartsError(f"background {text}: allowed is a colour, such as white, black or #8a2be2") from None


def _digits(
    split: str, image_size: int | None, limit: int | None, resize: int | None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    with (
        (importlib.resources.files("kdarts.data") / "digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        images, labels = arrays[f"x_{split}"][:limit], arrays[f"y_{split}"][:limit]
    if image_size:
        most = int((sources.IN_MEMORY / len(images)) ** 0.5)
        if image_size > most:
            raise KdartsError(f"image_size {image_size}; allowed: 8 to {most} for {len(images)} digits")
        images = np.stack([pictures.fitted(image, image_size, resize) for image in images])
    return images, labels.astype(np.int32), tuple("0123456789")


def _folder(
    name, split, image_size, limit, labels, group, background, cache_dir, alike, valid_split, resize
) -> ImageData:
    listings = folders.listings(name.removeprefix("folder:"), labels, group, valid_split)
    listing = listings.part(split)
    survey, first = measured(Files(listings.files), name, image_size)  # Train and test are read alike.
    channels, peak = alike or (survey.channels, survey.peak)
    size = survey.image_size
    shape = (size or first.height, size or first.width, channels)
    files, names = listing.files[:limit], listing.names[:limit]
    images = Pictures(shape, np.arange(len(files)), Files(files), size, background, peak, resize)
    return ImageData(opened(images, name, cache_dir), listing.labels[:limit], listing.class_names, name, names, peak)


def statistics(images: np.ndarray | Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, for the scale 0 to 1.

    Args:
        images: uint8 `[n, height, width, channels]`, 0 to 255. Where they take more than `IN_MEMORY` bytes, `SAMPLE`
            of them are measured, spread evenly, wherever they are: so the figures do not depend on the machine.

    Returns:
        Mean and standard deviation, `channels` numbers each; the deviation is at least 0.001, so that it can divide.
    """
    count = len(images)
    places = np.arange(count)
    if images.nbytes > sources.IN_MEMORY and count > SAMPLE:
        places = np.arange(SAMPLE) * count // SAMPLE
        tell(f"mean and deviation of {count} pictures are taken from {SAMPLE} of them")
    # 256 counts say all there is to know of 8-bit images, exactly and faster than sums of floats.
    counts = np.zeros((images.shape[-1], 256), np.int64)
    progress = Progress("pictures for their mean", len(places))
    for start in range(0, len(places), _CHUNK):
        some = images[places[start : start + _CHUNK]]
        for channel, found in enumerate(counts):
            found += np.bincount(some[..., channel].ravel(), minlength=256)
        progress.update(start + len(some))
    values, total = np.arange(256) / 255, counts[0].sum()
    means, deviations = [], []
    for found in counts:
        mean = found @ values / total
        means.append(float(mean))
        deviations.append(max(float(np.sqrt(found @ (values - mean) ** 2 / total)), 1e-3))
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
    for name, given in (("train_examples", train_examples), ("valid_examples", valid_examples)):
        if given is not None and not 1 <= given < count:
            raise KdartsError(f"{name} {given}: allowed is 1 to {count - 1} of the {count} images of {data.name}")
    if train_examples is None:
        train_examples = min(valid_examples, count - valid_examples)
    if valid_examples is None:
        valid_examples = min(train_examples, count - train_examples)
    if train_examples + valid_examples > count:
        raise KdartsError(
            f"train_examples {train_examples} and valid_examples {valid_examples}; allowed: {count} in all for the "
            f"train split of {data.name}"
        )
    order = _order(data, seed, stratified)
    return data.take(order[:train_examples]), data.take(order[train_examples : train_examples + valid_examples])


def for_both(
    data: ImageData,
    train_examples: int | None = None,
    valid_examples: int | None = None,
    seed: int = 0,
    stratified: bool = False,
) -> ImageData:
    """Data for the weights and the architecture parameters of a search with one level.

    Args:
        data, train_examples, valid_examples, seed, stratified: as of `halves`.

    Returns:
        All data where neither size is given. Else what `halves` gives the weights, or with `valid_examples` alone all
        that it does not give the architecture parameters: those are kept out, to measure on.
    """
    if train_examples is None and valid_examples is None:
        return data
    train, valid = halves(data, train_examples, valid_examples, seed, stratified)
    if train_examples is not None:
        return train
    return data.take(np.delete(_order(data, seed, stratified), slice(len(train), len(train) + len(valid))))


def hold_back(data: ImageData, part: float, group: str | None = None) -> tuple[ImageData, ImageData]:
    """Divides data into what a run may learn from and what it is measured on, the same for every seed.

    Args:
        data: what to divide.
        part: of it that is held back, more than 0 and less than 1; every class gives its share (see `halves`).
        group: as of `load`: pictures that agree in it stay together. What is held back is then as near to its share as
            whole groups allow.

    Returns:
        The rest, and what is held back.

    Raises:
        KdartsError: if either would have no example.
    """
    count = round(part * len(data))
    if not 0 < count < len(data):
        raise KdartsError(f"{data.name}: {part:g} of {len(data)} examples cannot be held back; allowed: 1 to all but 1")
    if group is None or data.names is None:
        return halves(data, len(data) - count, count, stratified=True)
    groups = _groups(data, compiled(group))
    if len(groups) < 2:
        raise KdartsError(f"{data.name}: all pictures are of one group, of which none can be held back alone")
    totals = np.cumsum([len(members) for members in groups])
    rest = 1 + int(np.abs(totals[:-1] - (len(data) - count)).argmin())
    return tuple(data.take(np.sort(np.concatenate(part))) for part in (groups[:rest], groups[rest:]))


def _groups(data: ImageData, pattern) -> list[np.ndarray]:
    """The places of each group's pictures, in an order of which any first part has its share of all classes."""
    found: dict[str, list[int]] = {}
    for place, (name, label) in enumerate(zip(data.names, data.labels, strict=True)):
        named = group_of(Picture(name, data.class_names[label], ""), pattern)
        found.setdefault(f"picture {place}" if named is None else f"group {named}", []).append(place)
    groups = [np.array(members) for members in found.values()]
    groups = [groups[k] for k in np.random.RandomState(0).permutation(len(groups))]
    # A group counts for the class of most of its pictures, and stands in the middle of its pictures among those of it.
    labels = np.array([np.bincount(data.labels[members]).argmax() for members in groups])
    sizes, middles = np.array([len(members) for members in groups]), np.empty(len(groups))
    for label in np.unique(labels):
        own = sizes[labels == label]
        middles[labels == label] = (np.cumsum(own) - own / 2) / own.sum()
    return [groups[k] for k in np.argsort(middles, kind="stable")]


def _order(data: ImageData, seed: int, stratified: bool) -> np.ndarray:
    order = np.random.RandomState(seed).permutation(len(data))
    return order[np.argsort(_places(data.labels[order]), kind="stable")] if stratified else order


def _places(labels: np.ndarray) -> np.ndarray:
    """For each example how far it stands, 0 to 1, among those of its class; by it, any first part has all classes."""
    places = np.empty(len(labels))
    for label in np.unique(labels):
        own = labels == label
        places[own] = (np.arange(own.sum()) + 0.5) / own.sum()
    return places
