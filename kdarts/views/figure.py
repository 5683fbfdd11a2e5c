"""Style of all pictures, their common elements, measuring of text, and saving of figures."""

import contextlib
import functools
import io
import os
import pathlib
from collections.abc import Iterator, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import TextPath

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_with

FORMATS = ("svg", "png", "pdf")
"""Suffixes of the files that pictures can be written to."""

INK = "#1f1f1f"
"""Colour of text and axes."""

MUTED = "#6b6b6b"
"""Colour of ticks and secondary lines."""

COLOUR_MAP = "plasma"
"""A perceptually uniform colour map whose lightness increases with the value, so that it works in greyscale."""

FONT = "DejaVu Sans"
"""A font that is part of matplotlib, so that pictures are the same everywhere."""

TITLE_SIZE = 10.0
TEXT_SIZE = 8.0
SMALL_SIZE = 7.0
"""Font sizes in points."""

_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT, "Verdana", "Arial", "Helvetica"],
    "font.size": TEXT_SIZE,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": TITLE_SIZE,
    "axes.labelsize": TEXT_SIZE,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": SMALL_SIZE,
    "ytick.labelsize": SMALL_SIZE,
    "axes.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "kdarts",
    "pdf.fonttype": 42,
}

_SIDE, _PIXELS = 60_000, 200_000_000
"""The most pixels of a picture: matplotlib's are of less than 65,536 a side, and these take 800 MB."""

_METADATA = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Applies the style of kdarts' pictures inside the context, independent of the user's settings of matplotlib."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty white figure, of sizes in inches, that pyplot does not manage."""
    figure = Figure(figsize=(width, height), dpi=200, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def canvas(width: float, height: float) -> Axes:
    """Returns invisible axes that fill a new figure. Their coordinates are inches from the top left."""
    axes = new_figure(width, height).add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def rounded_box(axes: Axes, x, y, width, height, rounding: float, fill: str, line: str, linewidth=0.9) -> None:
    """Draws a rectangle with rounded corners, centred at `(x, y)`."""
    corner = (x - width / 2, y - height / 2)
    shape = FancyBboxPatch(corner, width, height, boxstyle=f"round,pad=0,rounding_size={rounding}")
    shape.set(facecolor=fill, edgecolor=line, linewidth=linewidth, zorder=4)
    axes.add_patch(shape)


def write(axes: Axes, x, y, text, size, colour=INK, weight="normal", formula=False, align="center") -> None:
    """Writes text that is vertically centred at `y`. Only a `formula` is read as mathematical text."""
    look = {"fontsize": size, "color": colour, "fontweight": weight, "zorder": 5, "parse_math": formula}
    axes.text(x, y, text, ha=align, va="center" if "\n" in text else "center_baseline", **look)


def image_format(path: str | os.PathLike, allowed: Sequence[str] = FORMATS) -> str:
    """Returns the suffix of a path in lower case, without the dot. Raises `KdartsError` if it is not `allowed`."""
    suffix = pathlib.Path(path).suffix.lower().removeprefix(".")
    if suffix not in allowed:
        names = ", ".join(f".{name}" for name in allowed)
        given = f"unknown suffix {'.' + suffix!r}" if suffix else "no suffix"
        raise KdartsError(f"{os.fspath(path)}: {given}; a picture's file may end in {names}")
    return suffix


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure to a file, in the format of its suffix: svg (with text as text), png or pdf.

    The same figure always gives the same bytes, without a date or random identifiers. An existing file is replaced
    atomically. Raises `KdartsError` if the suffix is not one of `FORMATS`, the file cannot be written, or a png would
    have more pixels than a viewer shows.
    """
    kind = image_format(path)
    width, height = (round(inches * figure.dpi) for inches in figure.get_size_inches())
    if kind == "png" and (max(width, height) > _SIDE or width * height > _PIXELS):
        allowed = f"allowed are {_SIDE:,} pixels of a side and {_PIXELS:,} in all; .svg and .pdf have no pixels"
        raise KdartsError(f"{os.fspath(path)}: would have {width:,}x{height:,} pixels; {allowed}")
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
    write_with(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def plain(text: str, limit: int = 40) -> str:
    """Returns `text` without control characters, and shortened with an ellipsis to at most `limit` characters."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


@functools.lru_cache(maxsize=1024)
def text_width(text: str, size: float) -> float:
    """Returns the width of `text` in inches, at `size` points in `FONT`. Dollar signs are plain characters."""
    if not text.strip():  # matplotlib has no outline of nothing.
        return 0.0
    escaped = text.replace("$", r"\$")
    return TextPath((0, 0), escaped, size=size, prop=FontProperties(family=FONT)).get_extents().width / 72


def contrast(colour: str | tuple[float, ...]) -> str:
    """Returns the colour of text on a background: white on dark colours, near-black on light ones."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    return "white" if luminance < 0.27 else INK


def columns_for(count: int, width: float, height: float, aspect: float = 1.5) -> int:
    """Returns the number of columns in which `count` panels of one size come closest to an aspect ratio.

    `width` and `height` are those of a panel, `aspect` is the desired ratio of the figure's width to its height.
    """

    def distance(columns: int) -> float:
        ratio = columns * width / (-(-count // columns) * height) / aspect
        return max(ratio, 1 / ratio)

    return min(range(1, count + 1), key=distance)
