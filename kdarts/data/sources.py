"""Images on disk that stand for an array: read when they are asked for, or decoded once into a file.

`images[indices]` of a source is what it would be of the array, at any place and in any order; so a pipeline needs no
other state than the number of its step.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from kdarts.data import pictures
from kdarts.data.pictures import Header, PictureError, Survey
from kdarts.genotypes.errors import KdartsError

IN_MEMORY = 2**30
"""Most bytes that the decoded images of a split may take in memory; the input pipeline holds one copy more."""

SMALLEST = 8
"""Smallest side that pictures may be resized to."""

PATIENCE = 2.0
"""Seconds of reading after which progress is shown."""

_CHUNK = 256  # pictures decoded at a time
_SMALL = 2**14  # bytes of an encoded picture below which threads would mostly wait for Python's lock
_AGAIN = 60.0  # seconds between two lines of progress where there is no terminal


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Images uint8 `[n, height, width, channels]` on disk, of which `source[indices]` reads some.

    Args:
        image_shape: height, width and channels of one image.
        places: int64 `[n]`, where its images stand among all that are on disk.
    """

    image_shape: tuple[int, int, int]
    places: np.ndarray

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of an array."""
        return len(self.places), *self.image_shape

    @property
    def nbytes(self) -> int:
        """Bytes that the images would take in memory."""
        return len(self.places) * int(np.prod(self.image_shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.places)

    def part(self, indices: np.ndarray | slice) -> "Source":
        """The images at `indices`, in that order, still on disk."""
        return dataclasses.replace(self, places=self.places[indices])

    def __getitem__(self, indices) -> np.ndarray:
        places = self.places[indices]
        images = self._read(np.atleast_1d(places))
        return images if np.ndim(places) else images[0]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def _read(self, places: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class Encoded(Protocol):
    """Encoded pictures, each at its place."""

    @property
    def size(self) -> float:
        """Bytes of one, on average."""

    def stamp(self) -> bytes:
        """Bytes that are others when a picture has changed."""

    def name(self, place: int) -> Path | str:
        """What a message calls the picture at a place."""

    def verify(self) -> None:
        """Raises an error if the files have checksums and are not as these tell."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> Path | bytes: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures(Source):
    """Encoded pictures, decoded each time that they are read, by several threads.

    Args:
        encoded: a file or the bytes of one for each place.
        image_size, background, peak, resize: as of `pictures.decode`.
    """

    encoded: Encoded
    image_size: int | None
    background: tuple[int, int, int]
    peak: int
    resize: int | None = None

    def decode(self, places: np.ndarray) -> tuple[np.ndarray, list[PictureError]]:
        """The images at `places`, black where a picture cannot be read, and what is wrong with those."""
        images, errors = np.zeros((len(places), *self.image_shape), np.uint8), []

        def read(slot: int) -> None:
            try:
                images[slot] = content(self.encoded, places[slot], self._decoded)
            except PictureError as error:
                errors.append(error)

        for _ in map_threads(read, range(len(places)), self.encoded.size):
            pass
        return images, errors

    def _decoded(self, source: Path | bytes) -> np.ndarray:
        how = self.image_size, self.background, self.peak, self.resize
        image = pictures.decode(source, self.image_shape[-1], *how)
        if image.shape != self.image_shape:
            (height, width), (others, wide) = image.shape[:2], self.image_shape[:2]
            raise PictureError(source, f"{width}x{height} pixels where others have {wide}x{others}; pass image_size")
        return image

    def _read(self, places: np.ndarray) -> np.ndarray:
        images, errors = self.decode(places)
        if errors:
            raise combined(errors)
        return images

    def chunks(self, name: str, first: int = 0) -> Iterator[np.ndarray]:
        """All images in order, from `first` on, a few at a time, with progress.

        Raises:
            KdartsError: at the end, for all pictures that could not be read; none is yielded after the first of them.
        """
        if len(self) > len(self.encoded) / 2:  # Few pictures are not worth the reading of whole files.
            self.encoded.verify()
        errors, progress = [], Progress(name, len(self))
        for start in range(first, len(self), _CHUNK):
            images, failed = self.decode(self.places[start : start + _CHUNK])
            errors += failed
            if not errors:
                yield images
            progress.update(start + len(images))
        if errors:
            raise combined(errors)


@dataclasses.dataclass(frozen=True, eq=False)
class Files:
    """Pictures in files of their own.

    Args:
        files: their paths.
    """

    files: Sequence[Path]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Path:
        return self.files[place]

    @functools.cached_property
    def size(self) -> float:
        """Bytes of a file, on average of some."""
        some = stats(self.files[:: max(1, len(self) // _CHUNK)])
        return sum(size for _, size, _ in some) / max(1, len(some))

    def name(self, place: int) -> Path:
        """Its path."""
        return self.files[place]

    def verify(self) -> None:
        """They have no checksums."""

    def stamp(self) -> bytes:
        """Changes when a file is added, removed, renamed or written."""
        return hashlib.sha256(repr(stats(self.files)).encode()).digest()


def stats(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Of each file its path, its bytes, and when it was written; raises `KdartsError` for one that is not there."""
    found = []
    for file in files:
        try:
            about = os.stat(file)
        except OSError as error:
            raise KdartsError(f"cannot read {pictures.shown(file)}: {error.strerror}") from None
        found.append((os.fspath(file), about.st_size, about.st_mtime_ns))
    return found


_measured: dict[tuple[bytes, int | None], tuple[Survey, Header]] = {}
"""What `measured` came to in this process: train and test ask for the same."""


def measured(encoded: Encoded, name: str, image_size: int | None) -> tuple[Survey, Header]:
    """How all pictures of a data set are read alike, by their headers, and the header of the first; tells the user.

    Args:
        encoded: the pictures of all splits.
        name: of the data set, for messages.
        image_size: side in pixels that the user asks for, or None.

    Raises:
        KdartsError: for all that are no pictures.
    """
    key = encoded.stamp(), image_size
    if key not in _measured:
        headers, errors, progress = [], [], Progress(name, len(encoded), "measuring")

        def read(place: int) -> Header | PictureError:
            try:
                return content(encoded, place, pictures.header)
            except PictureError as error:
                return error

        for found in map_threads(read, range(len(encoded)), encoded.size):
            (errors if isinstance(found, PictureError) else headers).append(found)
            progress.update(len(headers) + len(errors))
        if errors:
            raise combined(errors)
        _measured[key] = pictures.survey(headers, image_size), headers[0]
        for line in _measured[key][0].lines:
            tell(f"{name}: {line}")
    return _measured[key]


@dataclasses.dataclass(frozen=True, eq=False)
class Rows(Source):
    """Images in a `.npy` file, which is read at the places asked for and takes no memory of its own.

    Args:
        path: the file.
        offset: where its first image begins, in bytes.
    """

    path: Path
    offset: int

    def _read(self, places: np.ndarray) -> np.ndarray:
        images = np.empty((len(places), *self.image_shape), np.uint8)
        try:
            with self.path.open("rb", buffering=0) as file:
                for image, place in zip(images, places, strict=True):
                    at = self.offset + int(place) * image.nbytes
                    if os.preadv(file.fileno(), [image.reshape(-1)], at) != image.nbytes:
                        raise OSError(0, "it is too short")
        except OSError as error:
            raise KdartsError(f"cannot read {self.path}: {error.strerror}") from None
        return images


def opened(source: Pictures, name: str, cache_dir: str | os.PathLike | None = None) -> np.ndarray | Source:
    """The images of a data set, where they are read fastest: in memory if they take at most `IN_MEMORY` bytes.

    Args:
        source: the encoded pictures.
        name: of the data set, for messages.
        cache_dir: a folder in which larger ones are decoded into a file, once; None: they are decoded each time.

    Returns:
        An array, or a source.

    Raises:
        KdartsError: pictures that cannot be read, or a file that cannot be written.
    """
    if source.nbytes <= IN_MEMORY:
        images = np.empty(source.shape, np.uint8)
        start = 0
        for chunk in source.chunks(name):
            images[start : start + len(chunk)] = chunk
            start += len(chunk)
        return images
    if cache_dir is not None:
        return cached(source, name, Path(cache_dir).expanduser())
    height, width, channels = source.image_shape
    tell(
        f"{name}: {len(source)} pictures of {width}x{height}x{channels} take {source.nbytes / 2**30:.1f} GiB decoded: "
        "they are read as they are needed; cache_dir would keep them decoded on disk"
    )
    return source


def cached(source: Pictures, name: str, folder: Path) -> Rows:
    """The images of `source` in a file of `folder`, which is written if it is not there.

    Its name is a hash of the pictures and of how they are decoded. A process that finds it half written goes on from
    there; one that finds another at it waits.

    Raises:
        KdartsError: pictures that cannot be read, or a folder that cannot be written.
    """
    how = source.image_shape, source.image_size, source.background, source.peak
    how += (source.resize,) if source.resize else ()
    key = hashlib.sha256(source.encoded.stamp() + source.places.tobytes() + repr(how).encode()).hexdigest()[:24]
    path, part = folder / f"{key}.npy", folder / f".{key}.writing"
    row, shape = source.nbytes // len(source), source.shape
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with part.open("ab") as file:
                _lock(file)
                if not path.exists():
                    try:
                        _write(source, name, file, row)
                    except KdartsError:  # The pictures will be others when they can be read.
                        part.unlink()
                        raise
                    os.replace(part, path)
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            found = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else None
            offset = file.tell()
        if found != (shape, False, np.dtype(np.uint8)) or path.stat().st_size != offset + source.nbytes:
            raise KdartsError(f"{path} is damaged: remove it, and it is written again")
    except ValueError as error:
        if isinstance(error, KdartsError):
            raise
        raise KdartsError(f"{path} is damaged: remove it, and it is written again") from None
    except OSError as error:
        raise KdartsError(f"cache_dir {str(folder)!r}: cannot be written ({error.strerror})") from None
    return Rows(source.image_shape, np.arange(len(source)), path, offset)


def _lock(file) -> None:
    with contextlib.suppress(OSError):  # A file system without locks.
        fcntl.flock(file, fcntl.LOCK_EX)


def _write(source: Pictures, name: str, file, row: int) -> None:
    """Writes the array to a file that may hold the beginning of it."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": source.shape})
    start = header.tell()
    # Whole chunks were written; of the last one a killed process may have left a part.
    done = max(0, file.tell() - start) // (row * _CHUNK) * _CHUNK
    file.truncate(start + done * row if done else 0)
    if not done:
        file.write(header.getvalue())
    for chunk in source.chunks(name, done):
        file.write(chunk.data)
        file.flush()
    os.fsync(file.fileno())


def content(encoded: Encoded, place: int, function: Callable[[Path | bytes], Any]):
    """`function` of the picture at a place; of a small file, of its bytes, for these are read faster at once.

    Raises:
        PictureError: as `function` does, by the picture's name.
    """
    source = encoded[place]
    try:
        if not isinstance(source, bytes) and (found := _beginning(source)) is not None:
            source = found
        return function(source)
    except PictureError as error:
        raise PictureError(encoded.name(place), error.reason) from None


def _beginning(path: Path) -> bytes | None:
    """What a file holds, if that is less than `_SMALL` bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.read(descriptor, _SMALL)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise PictureError(path, error.strerror) from None
    return found if len(found) < _SMALL else None


def combined(errors: Sequence[PictureError]) -> KdartsError:
    """One error for pictures that cannot be read."""
    return errors[0] if len(errors) == 1 else pictures.unreadable(errors)


def map_threads(function, items: Iterable, size: float) -> Iterator:
    """`map`, by several threads where an item has `size` bytes that are worth it."""
    return map(function, items) if size < _SMALL else _pool().map(function, items)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "pictures")


def check_size(size: int | None, resize: int | None = None) -> None:
    """Raises `KdartsError` unless `size` is None or a side that pictures can be resized to, and `resize` fits it."""
    if size is not None and not (isinstance(size, int) and size >= SMALLEST):
        raise KdartsError(f"image_size {size!r}; allowed: an integer of {SMALLEST} pixels or more")
    if resize is not None and (size is None or resize < size):
        raise KdartsError(f"resize {resize}: needs an image_size, of {resize} pixels or less")


def tell(line: str) -> None:
    """Prints a line for the user on standard error."""
    print(line, file=sys.stderr, flush=True)


class Progress:
    """How far reading has come and how long it takes, on standard error, once it has taken `PATIENCE` seconds.

    Args:
        name: what is read.
        total: how many pictures that is.
        verb: what is done with them.
    """

    def __init__(self, name: str, total: int, verb: str = "reading"):
        self._name, self._total, self._verb = name, total, verb
        self._start = time.monotonic()
        self._next = PATIENCE
        self._bar = None

    def update(self, done: int) -> None:
        """Shows that `done` of the pictures are read: a bar on a terminal, otherwise a line now and then."""
        passed = time.monotonic() - self._start
        if self._bar is None and (passed < self._next or done >= self._total):
            return
        if self._bar is None:
            left = passed * (self._total - done) / max(1, done)
            tell(f"{self._verb} {self._name}: {done} of {self._total} pictures, about {left:.0f} s left")
            self._next = passed + _AGAIN
            if sys.stderr.isatty():
                self._bar = keras.utils.Progbar(self._total, unit_name="picture")
        if self._bar is not None:
            # Keras' bar knows standard output only, which is kept for results.
            with contextlib.redirect_stdout(sys.stderr):
                self._bar.update(done)
