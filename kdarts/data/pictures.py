"""Picture files: what they measure, by their headers, and their pixels.

Pillow reads them. `FORMATS` lists the formats, `MODES` the kinds of pixels, and docs/data.md says what happens to each.
All functions may be called from several threads.
"""

import contextlib
import dataclasses
import io
import math
import os
import statistics
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from kdarts.genotypes.errors import KdartsError, listed

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Formats that are read, as Pillow calls them, and the file names of each, in either case.

A file is read as what it contains, whatever its name. Formats that start programs or name other files are left out.
"""

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""File names of pictures, in either case."""

MODES = {
    **dict.fromkeys(("1", "L", "LA"), "grey"),
    **dict.fromkeys(("P", "PA"), "palette"),
    **dict.fromkeys(("RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"), "colour"),
    **dict.fromkeys(("I;16", "I;16B", "I;16L", "I;16N", "I"), "deep"),
}
"""Pillow's modes that are read: grey or colour of 8 bits or less, palettes of colours, and grey of up to 16 bits."""

WHITE = (255, 255, 255)

LARGEST = 178_956_970
"""Most pixels of a picture: Pillow's limit, beyond which a small file is taken for one that is made to fill memory."""

SMALLEST, LARGEST_CHOSEN, STEP = 8, 224, 8
"""The range in which `survey` chooses a size, and what it is a multiple of."""

_DEPTHS = (255, 1023, 4095, 16383, 65535)  # largest values of 8, 10, 12, 14 and 16 bits
_STEPS = {"1": 255, "L;2": 85, "L;4": 17}  # what grey of 1, 2 and 4 bits is multiplied by
_UNREAD = {"F": "its pixels are floating-point numbers", "LAB": "its colours are CIELAB"}
_LONG = 64  # a picture that is so many times longer than wide is not scaled as a whole
_REDUCED = 4  # a JPEG is decoded at a fraction of its size that is still this many times what is needed
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns of damaged metadata and of large pictures, which are no concern of the user here. A context for each
# picture would not do: the filters belong to the process, and pictures are read by several threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class PictureError(KdartsError):
    """A picture that cannot be read.

    Args:
        source: the file, or the bytes of one.
        reason: why, in a few words.
    """

    def __init__(self, source: Path | str | bytes, reason: str):
        self.name = "a picture" if isinstance(source, bytes) else shown(source)
        self.reason = reason
        super().__init__(f"cannot read {self.name}: {reason}; allowed: {allowed()}")


@dataclasses.dataclass(frozen=True)
class Header:
    """What a picture measures, the right way up.

    Args:
        width, height: in pixels.
        channels: 1 if the picture is grey, else 3.
        peak: the largest value of its pixels if they have 16 bits a channel, else None.
    """

    width: int
    height: int
    channels: int
    peak: int | None = None


@dataclasses.dataclass(frozen=True)
class Survey:
    """How all pictures of a data set are read alike.

    Args:
        channels: 1 or 3, as of `decode`.
        image_size: as of `decode`; None if all pictures have one size that is not square, and keep it.
        peak: as of `decode`.
        lines: what was chosen for the user, a sentence each.
    """

    channels: int
    image_size: int | None
    peak: int
    lines: tuple[str, ...] = ()


def shown(file: Path | str) -> str:
    """The name of a file as text of one line, whatever characters it is made of."""
    text = os.fspath(file)
    return text if text.isprintable() else ascii(text)


def allowed() -> str:
    """The formats that are read, as a message lists them."""
    return ", ".join(FORMATS)


def unreadable(errors: Sequence[PictureError]) -> KdartsError:
    """One error for all pictures of a data set that cannot be read: the first of them by name, and their number."""
    errors = sorted(errors, key=lambda error: error.name)
    named = listed(f"{error.name} ({error.reason})" for error in errors)
    return KdartsError(f"cannot read {len(errors)} pictures: {named}; allowed: {allowed()}")


def header(source: Path | str | bytes) -> Header:
    """Measures a picture, without decoding it unless it has 16 bits a channel.

    Args:
        source: a file, or the bytes of one.

    Returns:
        Its size after its EXIF orientation, its channels and its largest value.

    Raises:
        PictureError: if the picture cannot be read.
    """
    with _opened(source) as (image, stream):
        width, height = image.size
        if _orientation(image, stream) >= 5:
            width, height = height, width
        channels = 1 if _is_grey(image) else 3
        deep = _deep(image, stream)
        return Header(width, height, channels, None if deep is None else _largest(deep))


def decode(
    source: Path | str | bytes,
    channels: int,
    size: int | None = None,
    background: tuple[int, int, int] = WHITE,
    peak: int = 65535,
    resize: int | None = None,
) -> np.ndarray:
    """Reads a picture: the right way up, without transparency, with 8 bits a channel.

    Args:
        source: a file, or the bytes of one.
        channels: 1 for grey, 3 for colour. Colours become grey by their luminance (ITU-R 601).
        size: side of the square to which the picture is scaled and cut (see `fitted`); None leaves its size.
        background: colour behind transparent pixels, red, green and blue of 0 to 255.
        peak: the value that becomes 255, in pictures of 16 bits a channel; larger ones do, too.
        resize: pixels that the shorter side is scaled to before the square is cut, `size` or more (see `fitted`).

    Returns:
        uint8 `[height, width, channels]`; of pictures of several frames or pages the first.

    Raises:
        PictureError: if the picture cannot be read.
    """
    with _opened(source) as (image, stream):
        orientation = _orientation(image, stream)
        if image.size == (size, size) and resize in (None, size):
            size = None
        # Pillow takes every CMYK of a JPEG to be inverted, which is Adobe's custom and marked as such.
        inverted = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
        if size is not None and resize is None:
            scale = _REDUCED * size / min(image.size)
            image.draft(None, tuple(math.ceil(side * scale) for side in image.size))
        deep = _deep(image, stream)
        if deep is not None:
            image = _narrowed(deep, peak)
        whole = image.size
        if size is not None and resize is None:
            image = image.crop(_middle(whole, size))
        image = _converted(ImageChops.invert(image) if inverted else image, channels, background)
        if orientation > 1:
            image = image.transpose(_UPRIGHT[orientation])
            whole = whole[::-1] if orientation >= 5 else whole
        pixels = np.asarray(image if size is None else _fitted(image, size, whole, resize))
        return pixels.reshape(*pixels.shape[:2], channels)


def fitted(images: np.ndarray, size: int | None, resize: int | None = None) -> np.ndarray:
    """Pictures as squares: the shorter side scaled to `size` (bilinear, antialiased), then the middle cut out.

    Args:
        images: uint8 `[..., height, width, channels]`, one picture or a batch.
        size: side in pixels; None leaves the pictures as they are.
        resize: pixels that the shorter side is scaled to instead, `size` or more, such as 256 for squares of 224 (He et
            al. 2016, section 3.4, and torchvision's `Resize(256)` and `CenterCrop(224)`, to which it is equal).

    Returns:
        uint8 `[..., size, size, channels]`; pixels of pictures that already fit are unchanged.
    """
    if size is None or (images.shape[-3:-1] == (size, size) and resize in (None, size)):
        return images
    *batch, height, width, channels = images.shape
    flat = images.reshape(-1, height, width, channels)
    squares = np.empty((len(flat), size, size, channels), np.uint8)
    for picture, square in zip(flat, squares, strict=True):
        image = Image.fromarray(picture[..., 0] if channels == 1 else picture)
        middle = image if resize else image.crop(_middle(image.size, size))
        square[:] = np.asarray(_fitted(middle, size, image.size, resize)).reshape(square.shape)
    return squares.reshape(*batch, size, size, channels)


def survey(headers: Iterable[Header], image_size: int | None = None) -> Survey:
    """Chooses how all pictures of a data set are read alike.

    Args:
        headers: of all pictures, of every split.
        image_size: side in pixels that the user asks for, or None.

    Returns:
        Grey if all pictures are. Without `image_size` pictures of one size keep it; those of several sizes become
        squares of their median shorter side, between 8 and 224, rounded to a multiple of 8 unless most pictures are
        squares of that side.
    """
    headers = tuple(headers)
    lines = []
    sizes = sorted({(head.width, head.height) for head in headers})
    if image_size is None and len(sizes) > 1:
        median = statistics.median(min(head.width, head.height) for head in headers)
        # Pictures of which most are squares of one size are not all scaled for the sake of a few.
        common = 2 * sum(head.width == head.height == median for head in headers) > len(headers)
        image_size = min(max(int(median) if common else STEP * round(median / STEP), SMALLEST), LARGEST_CHOSEN)
        small, large = (f"{width}x{height}" for width, height in (sizes[0], sizes[-1]))
        lines.append(
            f"pictures of {len(sizes)} sizes, {small} to {large}, with a median shorter side of {median:g}: "
            f"scaled and cut to {image_size}x{image_size}, as image_size={image_size} would"
        )
    elif image_size is None and sizes and sizes[0][0] == sizes[0][1]:
        image_size = sizes[0][0]
    deep = [head.peak for head in headers if head.peak is not None]
    peak = next(depth for depth in _DEPTHS if depth >= max(deep, default=65535))
    if deep:
        lines.append(f"{len(deep)} pictures of 16 bits a channel, with values to {max(deep)}: scaled from 0 to {peak}")
    return Survey(3 if any(head.channels == 3 for head in headers) else 1, image_size, peak, tuple(lines))


@contextlib.contextmanager
def _opened(source: Path | str | bytes):
    """A picture that is not decoded yet, and the stream that it comes from."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
            if not stream.read(1):
                raise PictureError(source, "the file is empty")
            image = Image.open(stream, formats=tuple(FORMATS))
            if _raw(image) in _STEPS and "transparency" in image.info:
                # Pillow scales the pixels, and not (of 1 bit: not in every release) the one that is transparent.
                image.info["transparency"] = min(255, image.info["transparency"] * _STEPS[_raw(image)])
            if image.mode not in MODES:
                raise PictureError(source, _UNREAD.get(image.mode, f"pixels of Pillow's mode {image.mode}"))
            if not 0 < image.width * image.height <= LARGEST:
                raise PictureError(source, f"{image.width}x{image.height} pixels")
            yield image, stream
    except KdartsError:
        raise
    except Exception as error:  # each format has its own: ValueError, SyntaxError, struct.error, EOFError, KeyError
        raise PictureError(source, _reason(error)) from error


def _reason(error: Exception) -> str:
    """Why a picture cannot be read, in a few words."""
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {LARGEST} pixels"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a format that is read, or damaged at its start"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "does not fit in memory"
    return "truncated" if "truncated" in str(error).lower() else "damaged, or of a kind that is not read"


class _Refused(Exception):
    """Pixels of a kind that would come out wrong."""


def _orientation(image: Image.Image, stream) -> int:
    """The EXIF orientation, 1 to 8, or 1; of TIFF pictures always 1, for Pillow applies it."""
    if image.format == "TIFF":
        return 1
    if image.format == "PNG" and "exif" not in image.info:
        if not _late_exif(stream):
            return 1
        image.load()
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata of every kind; the pixels are none the worse for it
        return 1
    return found if found in _UPRIGHT else 1


def _late_exif(stream) -> bool:
    """Whether EXIF stands behind the pixels of a PNG, where Pillow finds it only after decoding them."""
    place = stream.tell()
    stream.seek(8)
    found = False
    while not found and len(head := stream.read(8)) == 8:
        found = head[4:] == b"eXIf"
        stream.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    stream.seek(place)
    return found


def _raw(image: Image.Image) -> str:
    """How pixels lie in the file, in Pillow's words, or ""."""
    args = image.tile[0].args if getattr(image, "tile", None) else ""
    raw = args if isinstance(args, str) else args[0] if args else ""
    return raw if isinstance(raw, str) else ""


def _is_grey(image: Image.Image) -> bool:
    if MODES[image.mode] != "palette":
        return MODES[image.mode] in ("grey", "deep") or _raw(image).startswith("LA")
    probe = Image.new("P", (1, 1))
    probe.putpalette(image.palette)
    colours = np.array(probe.getpalette("RGB")).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _deep(image: Image.Image, stream) -> np.ndarray | None:
    """The pixels `[height, width, channels]` of a picture of 16 bits a channel, with alpha last; None for others."""
    if MODES[image.mode] == "deep":
        pixels = np.asarray(image)[..., None]
        if image.format == "TIFF" and image.tag_v2.get(262) == 0:
            raise _Refused("grey of 16 bits in which 0 is white")
        if pixels.min() < 0 or pixels.max() > 65535:
            raise _Refused(f"grey values from {pixels.min()} to {pixels.max()}, beyond 16 bits")
        hidden = image.info.get("transparency")
        if hidden is not None:
            pixels = np.concatenate([pixels, np.where(pixels == hidden, 0, 65535)], -1)
        return pixels
    if ";16" not in _raw(image):
        return None
    if image.format == "PNG":
        import tensorflow as tf  # Pillow keeps the upper 8 bits alone

        image.load()  # raises for damaged files, of which TensorFlow would print a warning
        stream.seek(0)
        with tf.device("CPU:0"):
            channels = 0 if _raw(image).startswith("LA") else 4
            return tf.io.decode_png(stream.read(), channels, tf.uint16).numpy()
    if max(high for _, high in image.getextrema()[:3]) < 16:
        raise _Refused("colours of 16 bits a channel that stay below 4096")
    return None


def _largest(deep: np.ndarray) -> int:
    """The largest value of what can be seen."""
    if deep.shape[-1] % 2:
        return int(deep.max())
    return int(np.where(deep[..., -1:] > 0, deep[..., :-1], 0).max())


def _narrowed(deep: np.ndarray, peak: int) -> Image.Image:
    """The picture of 8 bits a channel."""
    scales = np.full(deep.shape[-1], 255 / peak, np.float32)
    if deep.shape[-1] % 2 == 0:
        scales[-1] = 255 / 65535
    pixels = np.minimum(np.rint(deep * scales), 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _converted(image: Image.Image, channels: int, background: tuple[int, int, int]) -> Image.Image:
    """The picture as "L" or "RGB", on the background where it is transparent."""
    mode = "L" if channels == 1 else "RGB"
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, (*background, 255))
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    return image if image.mode == mode else image.convert(mode)


def _middle(whole: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """The box around the middle of a picture that holds all that `_fitted` reads, as far from one end as the other."""
    short = min(whole)
    margin = math.ceil(2 * max(1, short / size)) + 2
    cut_x, cut_y = (max(0, (side - short) // 2 - margin) for side in whole)
    return cut_x, cut_y, whole[0] - cut_x, whole[1] - cut_y


def _fitted(image: Image.Image, size: int, whole: tuple[int, int], resize: int | None = None) -> Image.Image:
    """As `fitted`, from the middle of a picture of `whole` pixels; with `resize` from all of it."""
    if resize is not None:
        width, height = (int(side * resize / min(whole)) if side > min(whole) else resize for side in whole)
        left, top = (round((side - size) / 2) for side in (width, height))
        if max(width, height) > _LONG * resize:  # The whole would take too much memory, and rounds the same but seldom.
            x, y = whole[0] / width, whole[1] / height
            box = (left * x, top * y, (left + size) * x, (top + size) * y)
            return image.resize((size, size), Image.Resampling.BILINEAR, box)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        return image.crop((left, top, left + size, top + size))
    box = []
    for side, there in zip(whole, image.size, strict=True):
        scaled = round(side * size / min(whole))
        first, cut = (scaled - size) // 2, (side - there) // 2
        box.append([edge * side / scaled - cut for edge in (first, first + size)])
    # Pillow reads beyond the box where the filter does, so that no edge shows.
    return image.resize((size, size), Image.Resampling.BILINEAR, (box[0][0], box[1][0], box[0][1], box[1][1]))
