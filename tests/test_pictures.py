"""Picture files: each cell of the table in docs/data.md against Pillow's own reading, sizes, and what is refused."""

import contextlib
import io
import pathlib
import re
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import pytest
import tensorflow as tf
from conftest import TFDS
from PIL import Image, ImageOps

import kdarts
from kdarts.data import pictures
from kdarts.data.pictures import Header, PictureError, decode, fitted, header, survey
from kdarts.genotypes.errors import KdartsError

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "data.md"
RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY = RGB[..., 0]
ALPHA = np.where(np.arange(9) % 3, np.arange(9) * 30, 0).astype(np.uint8) * np.ones((6, 1), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 4000, (6, 9)).astype(np.uint16)
RGBA, LA = np.dstack([RGB, ALPHA]), np.dstack([GREY, ALPHA])
COLOURS = [10, 20, 30, 200, 0, 0, 0, 200, 0]


def file(pixels, format, **how) -> bytes:
    """A picture in some format, from an array or a picture of Pillow's."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, format, **how)
    return stream.getvalue()


def chunks(*named) -> bytes:
    whole = b"\x89PNG\r\n\x1a\n"
    for name, data in named:
        whole += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return whole


def png(rows, width, depth, kind, *before, after=()) -> bytes:
    """A PNG of any bit depth and colour type, from the bytes of its rows."""
    head = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return chunks((b"IHDR", head), *before, (b"IDAT", data), *after, (b"IEND", b""))


def tiff(pixels, photometric=1, extra=(), order="<") -> bytes:
    """An uncompressed TIFF of any integer or float type, from an array `[height, width, samples]`."""
    height, width, samples = pixels.shape
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    bits = pixels.dtype.itemsize * 8
    tags = [(256, [width]), (257, [height]), (258, [bits] * samples), (259, [1]), (262, [photometric]), (273, [8])]
    tags += [(277, [samples]), (278, [height]), (279, [pixels.nbytes])]
    tags += [(338, list(extra))] if extra else []
    tags += [(339, [kind] * samples)]
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    place = 8 + len(data) + 2 + 12 * len(tags) + 4
    directory, values = struct.pack(order + "H", len(tags)), b""
    for tag, numbers in tags:
        packed = struct.pack(f"{order}{len(numbers)}H", *numbers)
        if len(packed) > 4:
            offset, values = struct.pack(order + "I", place + len(values)), values + packed
            packed = offset
        directory += struct.pack(order + "HHI", tag, 3, len(numbers)) + packed.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8 + len(data)) + data + directory + bytes(4) + values


def bmp_with_alpha(pixels) -> bytes:
    height, width = pixels.shape[:2]
    masks = 0xFF, 0xFF00, 0xFF0000, 0xFF000000
    head = struct.pack("<IiiHHIIiiIIIIII", 56, width, height, 1, 32, 3, pixels.size, 0, 0, 0, 0, *masks)
    return b"BM" + struct.pack("<IHHI", 70 + pixels.size, 0, 0, 70) + head + pixels[::-1].tobytes()


def palette(colours=COLOURS, **how):
    image = Image.fromarray((GREY % (len(colours) // 3)).astype(np.uint8)).convert("P")
    image.putpalette(colours)
    image.info.update(how)
    return image


def animated(format, **how) -> bytes:
    others = [Image.fromarray(255 - RGB), Image.fromarray(RGB // 2)]
    return file(RGB, format, save_all=True, append_images=others, **how)


def by_pillow(data: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


def on_white(data: bytes) -> np.ndarray:
    """What Pillow reads, on white by the formula."""
    pixels = np.asarray(by_pillow(data).convert("RGBA"), float)
    alpha = pixels[..., 3:] / 255
    return pixels[..., :3] * alpha + 255 * (1 - alpha)


def scaled(values, peak) -> np.ndarray:
    return np.rint(values.astype(float) * (255 / peak))


def close(pixels, expected, within=0):
    expected = np.asarray(expected, float)
    expected = expected if expected.ndim == 3 else expected[..., None]
    assert pixels.dtype == np.uint8 and pixels.shape[:2] == expected.shape[:2]
    assert np.abs(pixels.astype(float) - expected).max() <= within


def refused(call, *args, **kwargs) -> str:
    with pytest.raises(PictureError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value) and "; allowed: " in str(caught.value)
    return str(caught.value)


# The table: each cell has files, and what they read as.


def upright(format):
    how = {"lossless": True} if format == "WEBP" else {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = file(RGB, format, exif=exif, **how)
        close(decode(data, 3), by_pillow(data).convert("RGB"))
        tall = orientation > 4
        assert header(data) == Header(6 if tall else 9, 9 if tall else 6, 3)


def transparent(*files):
    for data in files:
        assert Image.open(io.BytesIO(data)).has_transparency_data
        white = on_white(data)
        assert (white == 255).all(-1).any() and (white < 200).any(), "something hidden, something seen"
        close(decode(data, 3), white, 1)
        close(decode(data, 3, background=(255, 0, 0))[..., 1:], np.where(white == 255, 0, white)[..., 1:], 255)
        assert (decode(data, 3, background=(1, 2, 3))[(white == 255).all(-1)] == (1, 2, 3)).all()


def coloured(format):
    data = file(palette(), format)
    assert Image.open(io.BytesIO(data)).mode == "P" and header(data).channels == 3
    close(decode(data, 3), np.array(COLOURS).reshape(-1, 3)[GREY % 3])
    grey = file(palette([5, 5, 5, 90, 90, 90, 250, 250, 250]), format)
    assert header(grey).channels == 1
    close(decode(grey, 1), np.array([5, 90, 250])[GREY % 3])


def grey(format, within=0, **how):
    data = file(GREY, format, **how)
    if format != "AVIF" or int(PIL.__version__.split(".")[0]) >= 13:
        assert header(data).channels == 1
    close(decode(data, 1), GREY, within)
    close(decode(data, 3), decode(data, 1))


def bits(format):
    data = file(Image.fromarray(GREY > 99), format)
    assert header(data).channels == 1
    close(decode(data, 1), 255 * (GREY > 99))


def deep_grey(*files):
    for data in files:
        found = header(data)
        assert found == Header(9, 6, 1, int(DEEP.max())) and survey([found]).peak == 4095
        close(decode(data, 1, peak=4095), scaled(DEEP, 4095))
        close(decode(data, 1), scaled(DEEP, 65535))


def upper_bits(data, pixels, within=0):
    assert header(data) == Header(9, 6, 3)
    close(decode(data, 3), pixels, within)


def first(data, within=0):
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) > 1
    close(decode(data, 3), RGB, within)
    close(decode(data, 3), by_pillow(data).convert("RGB"))


def png_transparency():
    hidden = b"tRNS"
    rows = [row.tobytes() for row in RGB]
    transparent(
        file(RGBA, "PNG"),
        file(LA, "PNG"),
        file(palette(), "PNG", transparency=2),
        file(palette(), "PNG", transparency=bytes([0, 128, 255])),
        png(rows, 9, 8, 2, (hidden, struct.pack(">3H", *RGB[0, 0]))),
        png([row.tobytes() for row in GREY], 9, 8, 0, (hidden, struct.pack(">H", GREY[0, 0]))),
    )
    for depth, row, values in ((1, b"\x50", [0, 1] * 2), (2, b"\x1b", [0, 1, 2, 3]), (4, b"\x01\xcf", [0, 1, 12, 15])):
        data = png([row], 4, depth, 0, (hidden, struct.pack(">H", 1)))
        greys = [255 if value == 1 else value * 255 // (2**depth - 1) for value in values]
        assert decode(data, 1).ravel().tolist() == greys, depth
    deep = png([struct.pack(">3H", 0, 4095, 60000)], 3, 16, 0, (hidden, struct.pack(">H", 60000)))
    assert header(deep).peak == 4095, "what is hidden does not count"
    assert decode(deep, 1, peak=4095).ravel().tolist() == [0, 255, 255]


def png_deep():
    deep_grey(file(DEEP, "PNG"))
    colours = np.dstack([DEEP, DEEP // 2, DEEP // 3])
    alpha = np.full_like(DEEP, 65535)
    for kind, pixels in ((2, colours), (6, np.dstack([colours, alpha])), (4, np.dstack([DEEP, alpha]))):
        data = png([row.astype(">u2").tobytes() for row in pixels], 9, 16, kind)
        assert header(data) == Header(9, 6, 1 if kind == 4 else 3, int(DEEP.max()))
        expected = scaled(pixels[..., :-1] if kind > 2 else pixels, 4095)
        close(decode(data, 3, peak=4095), np.broadcast_to(expected, (6, 9, 3)))
    data = png([struct.pack(">12H", 9, 99, 999, 0, 4095, 0, 0, 65535, 0, 0, 0, 32768)], 3, 16, 6)
    assert decode(data, 3, peak=4095).tolist() == [[[255] * 3, [255, 0, 0], [127] * 3]]


def tiff_deep():
    deep_grey(
        file(DEEP, "TIFF"),
        file(DEEP, "TIFF", compression="tiff_lzw"),
        tiff(DEEP[..., None], order=">"),
        tiff(DEEP[..., None].astype(np.uint32)),
        tiff(DEEP[..., None].astype(np.int16)),
    )
    assert "0 is white" in refused(decode, tiff(DEEP[..., None], photometric=0), 1)
    assert "floating-point" in refused(header, tiff(DEEP[..., None].astype(np.float32)))
    assert "-1 to" in refused(header, tiff(DEEP[..., None].astype(np.int32) - 1 - DEEP.min()))
    colours = np.dstack([RGB.astype(np.uint16) * 256 + 17])
    upper_bits(tiff(colours, 2), RGB)
    upper_bits(tiff(colours, 2, order=">"), RGB)
    for call in (header, lambda data: decode(data, 3)):
        assert "below 4096" in refused(call, tiff(colours // 16, 2))


def ppm_deep():
    for peak in (4095, 65535):  # Pillow scales the values from the peak that the file tells
        data = b"P5 9 6 %d\n" % peak + DEEP.astype(">u2").tobytes()
        assert header(data).peak == np.asarray(by_pillow(data)).max()
        close(decode(data, 1), scaled(DEEP, peak))
    colours = np.dstack([DEEP, DEEP // 2, DEEP // 3])
    upper_bits(b"P6 9 6 4095\n" + colours.astype(">u2").tobytes(), scaled(colours, 4095), 1)


def jpeg_cmyk():
    picture = Image.fromarray(RGB).resize((64, 48)).convert("CMYK")
    data = file(picture, "JPEG", quality=95)
    start = data.index(b"\xff\xee")
    length = 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    plain, ycck = data[:start] + data[start + length :], bytearray(data)
    ycck[start + length - 1] = 2
    for found in (data, plain, bytes(ycck)):
        by_tensorflow = tf.io.decode_image(found, expand_animations=False).numpy()
        assert np.abs(decode(found, 3) - by_tensorflow.astype(float)).mean() < 3
    close(decode(data, 3), by_pillow(data).convert("RGB"))


def cmyk(data):
    assert Image.open(io.BytesIO(data)).mode == "CMYK" and header(data).channels == 3
    close(decode(data, 3), by_pillow(data).convert("RGB"))


def jpeg_2000_deep():
    deep_grey(file(DEEP, "JPEG2000"))


GIF_ALPHA = file(palette(), "GIF", transparency=2)
WEBP_ALPHA = file(RGBA, "WEBP", lossless=True, exact=True)
CELLS = {
    ("PNG", "EXIF orientation"): lambda: upright("PNG"),
    ("PNG", "transparency"): png_transparency,
    ("PNG", "palette"): lambda: coloured("PNG"),
    ("PNG", "grey and 1 bit"): lambda: (grey("PNG"), bits("PNG")),
    ("PNG", "16 bits a channel"): png_deep,
    ("PNG", "several pictures"): lambda: (first(animated("PNG")), first(animated("PNG", default_image=True))),
    ("JPEG", "EXIF orientation"): lambda: upright("JPEG"),
    ("JPEG", "grey and 1 bit"): lambda: grey("JPEG", 25, quality=95),
    ("JPEG", "several pictures"): lambda: first(animated("MPO", quality=100, subsampling=0), 9),
    ("JPEG", "CMYK"): jpeg_cmyk,
    ("GIF", "transparency"): lambda: transparent(GIF_ALPHA),
    ("GIF", "palette"): lambda: coloured("GIF"),
    ("GIF", "grey and 1 bit"): lambda: (grey("GIF"), bits("GIF")),
    ("GIF", "several pictures"): lambda: first(animated("GIF")),
    ("BMP", "transparency"): lambda: transparent(bmp_with_alpha(RGBA)),
    ("BMP", "palette"): lambda: coloured("BMP"),
    ("BMP", "grey and 1 bit"): lambda: (grey("BMP"), bits("BMP")),
    ("WEBP", "EXIF orientation"): lambda: upright("WEBP"),
    ("WEBP", "transparency"): lambda: transparent(WEBP_ALPHA),
    ("WEBP", "several pictures"): lambda: first(animated("WEBP", lossless=True)),
    ("TIFF", "EXIF orientation"): lambda: upright("TIFF"),
    ("TIFF", "transparency"): lambda: transparent(file(RGBA, "TIFF"), file(LA, "TIFF"), tiff(RGBA, 2, (2,))),
    ("TIFF", "palette"): lambda: coloured("TIFF"),
    ("TIFF", "grey and 1 bit"): lambda: (grey("TIFF"), bits("TIFF")),
    ("TIFF", "16 bits a channel"): tiff_deep,
    ("TIFF", "several pictures"): lambda: first(animated("TIFF")),
    ("TIFF", "CMYK"): lambda: cmyk(file(Image.fromarray(RGB).convert("CMYK"), "TIFF")),
    ("JPEG2000", "transparency"): lambda: transparent(file(RGBA, "JPEG2000"), file(LA, "JPEG2000")),
    ("JPEG2000", "grey and 1 bit"): lambda: grey("JPEG2000"),
    ("JPEG2000", "16 bits a channel"): jpeg_2000_deep,
    ("JPEG2000", "CMYK"): lambda: cmyk(file(Image.fromarray(RGB).convert("CMYK"), "JPEG2000")),
    ("AVIF", "EXIF orientation"): lambda: upright("AVIF"),
    ("AVIF", "transparency"): lambda: transparent(file(RGBA, "AVIF", quality=100)),
    ("AVIF", "grey and 1 bit"): lambda: grey("AVIF", 9, quality=100),
    ("AVIF", "several pictures"): lambda: first(animated("AVIF", quality=100, subsampling="4:4:4"), 9),
    ("PPM", "grey and 1 bit"): lambda: (grey("PPM"), bits("PPM")),
    ("PPM", "16 bits a channel"): ppm_deep,
}


@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_each_cell_of_the_table_against_pillow(cell):
    CELLS[cell]()


def test_the_table_of_the_page_is_the_one_that_is_tested():
    rows = [
        [word.strip() for word in line.strip("|").split("|")]
        for line in PAGE.read_text("utf-8").splitlines()
        if "|" in line
    ]
    start = next(i for i, row in enumerate(rows) if row[1] == "EXIF orientation")
    table = rows[start + 2 : start + 2 + len(pictures.FORMATS)]
    told = {
        (row[0].replace(" ", "").upper(), name)
        for row in table
        for name, text in zip(rows[start][1:], row[1:], strict=True)
        if text != "–"
    }
    assert told == {*CELLS}
    for suffix in pictures.SUFFIXES:
        assert f"`{suffix}`" in PAGE.read_text("utf-8"), suffix


# What else a file may be.


def test_colours_of_hidden_pixels_are_never_seen():
    red = np.full((40, 40, 4), (255, 0, 0, 0), np.uint8)
    red[10:30, 10:30] = 0, 0, 255, 255
    for data in (file(red, "PNG"), file(red, "WEBP", lossless=True, exact=True), file(red, "TIFF")):
        for size in (None, 8, 13, 100):
            pixels = decode(data, 3, size).astype(int)
            assert (pixels[..., 0] == pixels[..., 1]).all(), "between blue and white only"


def test_exif_behind_the_pixels_of_a_png_counts():
    exif = Image.Exif()
    exif[0x0112] = 6
    rows = [row.tobytes() for row in RGB]
    data = png(rows, 9, 8, 2, after=[(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))])
    assert header(data) == Header(6, 9, 3)
    close(decode(data, 3), np.rot90(RGB, -1))


def test_files_are_read_as_what_they_contain(tmp_path):
    path = tmp_path / "named.jpg"
    path.write_bytes(file(RGB, "PNG"))
    assert header(path) == Header(9, 6, 3)
    close(decode(str(path), 3), RGB)
    grey = decode(path, 1)
    close(grey, Image.fromarray(RGB).convert("L"))


BROKEN = {
    "empty": b"",
    "text": b"no picture",
    "start only": b"\xff\xd8\xff",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PNG of no width": png([b""], 0, 8, 0),
    "PPM of no height": b"P5 4 0 255\n",
    "many pixels": png([], 20000, 1, 0)[:16] + struct.pack(">II", 20000, 20000) + bytes(100),
    "CIELAB": file(Image.fromarray(RGB).convert("LAB"), "TIFF"),
    "floats": b"Pf\n1 1\n-1.0\n" + struct.pack("<f", 0.5),
    **{f"{kind}, not read": file(RGB, kind) for kind in ("EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "IM", "DDS")},
}
CUT = {
    kind: file(np.tile(RGB, (9, 9, 1)), kind)[:-60]
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "AVIF", "PPM")
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_picture_is_refused(data, capfd):
    for call in (header, lambda data: decode(data, 3, 8)):
        refused(call, data)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", CUT.values(), ids=CUT)
def test_truncated_pictures_are_refused(data):
    assert re.search("truncated|damaged", refused(decode, data, 3))


def test_refusals_say_why(tmp_path, monkeypatch):
    assert "a picture: the file is empty" in refused(decode, b"", 3)
    large = chunks((b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)), (b"IDAT", b""))
    assert "more than 178956970 pixels" in refused(header, large)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as other libraries do
    assert "20000x20000 pixels" in refused(header, large)
    deep = png([bytes(60)] * 40, 10, 16, 2)
    assert "truncated" in refused(decode, deep[: len(deep) - 20], 3), "by Pillow, before TensorFlow sees it"
    assert "No such file" in refused(header, tmp_path / "nowhere.png")
    assert "directory" in refused(decode, tmp_path, 3)
    odd = tmp_path / "new\nline.png"
    odd.write_bytes(b"x")
    assert "new\\nline.png" in refused(decode, odd, 3)


def test_pictures_that_cannot_be_read_are_named_and_counted():
    errors = [PictureError(f"{i}.png", "the file is empty") for i in range(9)]
    text = str(pictures.unreadable(errors))
    assert (
        text.startswith("cannot read 9 pictures: 0.png (the file is empty), 1.png")
        and " and 4 more; allowed: PNG" in text
    )
    assert "more" not in str(pictures.unreadable(errors[:5])) and "5.png" not in text


def test_damaged_pictures_raise_nothing_else(capfd):
    rng = np.random.default_rng(0)
    whole = [data for data in CUT.values() if not data.startswith(b"II")]  # libtiff prints of itself
    for data in (*whole, animated("WEBP"), animated("GIF"), animated("PNG"), GIF_ALPHA, WEBP_ALPHA):
        for _ in range(8):
            damaged = np.frombuffer(data, np.uint8).copy()
            places = rng.integers(30, min(len(data), 400), 6)
            damaged[places] = rng.integers(0, 256, 6)
            with contextlib.suppress(PictureError):
                found = header(damaged.tobytes())
                if found.width * found.height < 1e6:
                    assert decode(damaged.tobytes(), 3).shape == (found.height, found.width, 3)
    assert capfd.readouterr() == ("", "")


def test_threads_read_what_one_reads():
    files = [file(RGBA, "PNG"), WEBP_ALPHA, GIF_ALPHA, file(RGB, "TIFF"), file(DEEP, "PNG")] * 20
    alone = [decode(data, 3, 8).tobytes() for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert alone == list(pool.map(lambda data: decode(data, 3, 8).tobytes(), files))


def test_photographs_of_a_telephone_stand_upright():
    folder = TFDS.parent / "folders" / "sign_digits" / "7"
    if not folder.is_dir():
        pytest.skip("the photographs are not here")
    turned = [path for path in sorted(folder.iterdir()) if Image.open(path).getexif().get(0x0112) == 6]
    assert len(turned) == 3
    lying = np.asarray(Image.open(turned[0]))
    close(decode(turned[0], 3), np.rot90(lying, -1))


# Sizes.


def as_tensorflow(images, size):
    """Scaled by TensorFlow's resize, then the middle."""
    sides = np.array(images.shape[-3:-1])
    scaled = np.rint(sides * size / sides.min()).astype(int)
    top, left = (scaled - size) // 2
    whole = tf.image.resize(images, scaled, antialias=True).numpy()
    return whole[..., top : top + size, left : left + size, :]


def test_scaling_is_that_of_tensorflow_within_rounding():
    rng = np.random.default_rng(0)
    for shape in ((30, 41, 3), (41, 30, 1), (100, 37, 3), (8, 9, 3), (5, 60, 3), (2, 16, 24, 3)):
        images = rng.integers(0, 256, shape, np.uint8)
        for size in (8, 13, 32):
            squares = fitted(images, size)
            assert squares.shape == (*shape[:-3], size, size, shape[-1]) and squares.dtype == np.uint8
            assert np.abs(squares - np.rint(as_tensorflow(images, size))).max() <= 1, (shape, size)
            if len(shape) == 3:
                assert np.array_equal(decode(file(images.squeeze(), "PNG"), shape[-1], size), squares), (shape, size)


def test_pictures_that_fit_are_unchanged_and_wider_ones_are_cut():
    assert fitted(RGB, None) is RGB and np.array_equal(fitted(RGB[:, :6], 6), RGB[:, :6])
    assert np.array_equal(fitted(RGB, 6), RGB[:, 1:7])
    assert np.array_equal(decode(file(RGB, "PNG"), 3, 6), RGB[:, 1:7])
    assert np.array_equal(decode(file(RGB[:1, :1], "PNG"), 3, 8), np.broadcast_to(RGB[:1, :1], (8, 8, 3)))


@pytest.mark.parametrize("shape", [(20, 31), (31, 20), (24, 24), (14, 90), (16, 16), (300, 170), (3, 400)])
def test_a_test_picture_is_read_as_by_torchvision(shape):
    """`Resize(18)` and `CenterCrop(14)` of torchvision: the longer side rounded down, the corner to the even pixel."""
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    (height, width), short = shape, min(shape)
    size = (18, 18 * height // width) if width == short else (18 * width // height, 18)
    left, top = (round((side - 14) / 2.0) for side in size)
    whole = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
    expected = whole[top : top + 14, left : left + 14]
    rounding = int(max(shape) > 64 * short)  # It is not scaled as a whole.
    assert np.abs(decode(file(rgb, "PNG"), 3, 14, resize=18) - expected.astype(int)).max() <= rounding
    assert rounding or np.array_equal(fitted(rgb, 14, 18), expected)
    if shape != (16, 16):
        plain = fitted(rgb, 14).astype(int)
        assert np.abs(plain - expected).max() > 10  # The whole shorter side shows there, 14 of 18 pixels of it here.
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = file(np.ascontiguousarray(np.rot90(rgb, 1)), "PNG", exif=exif)
    assert np.abs(decode(turned, 3, 14, resize=18) - expected.astype(int)).max() <= rounding


def test_scaling_for_the_test_is_a_mean_over_a_triangle():
    """By hand, where the shorter side of 8 becomes 4: weights of 1, 3, 3, 1 around each pixel, less at the edge."""
    line = np.random.default_rng(0).integers(0, 256, 8)
    padded, weights = np.pad(line.astype(float), 1), np.array([1, 3, 3, 1])
    there = np.pad(np.ones(8), 1)
    expected = [padded[k : k + 4] @ weights / (there[k : k + 4] @ weights) for k in (2, 4)]
    image = np.broadcast_to(line.astype(np.uint8)[:, None, None], (8, 8, 3))
    assert np.abs(fitted(np.ascontiguousarray(image), 2, 4)[:, 0, 0] - expected).max() <= 0.51


def test_turned_pictures_are_cut_as_upright_ones():
    wide = np.random.default_rng(0).integers(0, 256, (21, 300, 3), np.uint8)
    for orientation, back in ((3, 2), (6, 1), (8, 3)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = file(np.ascontiguousarray(np.rot90(wide, back)), "PNG", exif=exif)
        close(decode(turned, 3, 16), fitted(wide, 16), 1)


def test_large_jpegs_are_decoded_at_a_fraction_of_their_size():
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).resize((1024, 768), Image.Resampling.BICUBIC)
    data = file(smooth, "JPEG", quality=95)
    whole = decode(data, 3)
    for size in (16, 60, 100):
        assert np.abs(decode(data, 3, size).astype(int) - fitted(whole, size)).max() <= 3, size


def test_long_pictures_take_little_memory_and_nothing_is_printed():
    """In a process of its own: pytest has filters of its own for warnings."""
    rows = [row.tobytes() for row in RGB]
    damaged = png(rows, 9, 8, 2, (b"eXIf", b"II*\0\xff\xff\xff\xff"))
    program = f"""
import io, resource, numpy as np
from PIL import Image
from kdarts.data.pictures import decode
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
stream = io.BytesIO()
Image.fromarray(np.zeros((20, 30, 4), np.uint8)).save(stream, "PNG")
decode(stream.getvalue(), 3, 224)
assert decode({damaged!r}, 3).shape == (6, 9, 3)
files = []
for shape in ((1, 500_000, 3), (500_000, 1, 4)):
    stream = io.BytesIO()
    Image.fromarray(np.full(shape, 200, np.uint8)).save(stream, "PNG")
    files.append(stream.getvalue())
before = most()
shapes = [decode(data, 3, 224).shape for data in files]
assert shapes == [(224, 224, 3)] * 2
assert decode(files[0], 3, 224, resize=256).shape == (224, 224, 3)
print(most() - before)
"""
    folder = pathlib.Path(kdarts.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 10 and done.stderr == ""


def test_a_data_set_is_read_alike():
    square, wide, tall = Header(20, 20, 1), Header(30, 20, 3), Header(300, 400, 1)
    assert survey([square, square]) == pictures.Survey(1, 20, 65535)
    assert survey([wide, wide]) == pictures.Survey(3, None, 65535)
    assert survey([square, wide], 16) == pictures.Survey(3, 16, 65535)
    several = survey([square, tall, Header(101, 150, 3)])
    assert (several.channels, several.image_size) == (3, 104)
    assert several.lines[0].startswith("pictures of 3 sizes, 20x20 to 300x400") and "104x104" in several.lines[0]
    assert survey([Header(100, 100, 3)] * 5 + [tall]).image_size == 100
    assert survey([Header(100, 101, 3)] * 5 + [tall]).image_size == 96
    assert survey([Header(1, 2, 1), Header(2, 1, 1)]).image_size == 8
    assert survey([Header(4000, 3000, 3), Header(3000, 4000, 3)]).image_size == 224
    for largest, peak in ((200, 255), (256, 1023), (3000, 4095), (16383, 16383), (20000, 65535)):
        found = survey([square, Header(20, 20, 1, 12), Header(20, 20, 1, largest)])
        assert found.peak == peak
        assert re.fullmatch(f"2 pictures of 16 bits a channel, with values to {largest}: .* 0 to {peak}", *found.lines)
    assert issubclass(PictureError, KdartsError)
