"""What all pictures share: colours, type, measuring of text, and saving a figure whole or not at all."""

import contextlib
import functools
import io
import os
import pathlib
from collections.abc import Iterator, Sequence

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_with

FORMATS = ("svg", "png", "pdf")
"""Suffixes that a picture may have."""

INK = "#1f1f1f"
"""Text and frames."""

MUTED = "#6b6b6b"
"""What should stand back: ticks, secondary lines."""

COLOUR_MAP = "plasma"
"""Perceptually uniform, and its lightness grows with the value, so that it survives greyscale."""

FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a picture is the same everywhere."""

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

_METADATA = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The house style, whatever the user's own settings of matplotlib are; these are back afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure, outside of pyplot.

    Args:
        width: inches, above 0.
        height: inches, above 0.
    """
    figure = Figure(figsize=(width, height), dpi=200, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def image_format(path: str | os.PathLike, allowed: Sequence[str] = FORMATS) -> str:
    """The format that the suffix of `path` asks for, in lower case and without the dot.

    Args:
        path: where a picture shall go.
        allowed: the formats to choose from.

    Raises:
        KdartsError: if it is none of `allowed`; the message names them.
    """
    suffix = pathlib.Path(path).suffix.lower().removeprefix(".")
    if suffix not in allowed:
        names = ", ".join(f".{name}" for name in allowed)
        given = f"unknown suffix {'.' + suffix!r}" if suffix else "no suffix"
        raise KdartsError(f"{os.fspath(path)}: {given}; a picture's file may end in {names}")
    return suffix


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes `figure` to `path`, in the format of its suffix: svg (text as text), png or pdf.

    The same figure gives the same bytes: no date, no random identifiers. The old file stays until the new one is whole.

    Raises:
        KdartsError: if the suffix is none of `FORMATS`, or the file cannot be written.
    """
    kind = image_format(path)
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
    write_with(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def plain(text: str, limit: int = 40) -> str:
    """`text` fit for a label: no control characters, and cut with an ellipsis past `limit` characters."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


@functools.lru_cache(maxsize=1024)
def text_width(text: str, size: float) -> float:
    """Width in inches of `text` set at `size` points in `FONT`; dollar signs are plain characters."""
    escaped = text.replace("$", r"\$")
    return TextPath((0, 0), escaped, size=size, prop=FontProperties(family=FONT)).get_extents().width / 72


def contrast(colour: str | tuple[float, ...]) -> str:
    """The text colour to put on `colour` (anything matplotlib reads): white on dark, near-black on light."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    return "white" if luminance < 0.27 else INK


def columns_for(count: int, width: float, height: float, aspect: float = 1.5) -> int:
    """In how many columns to set `count` panels of one size, so that the whole comes closest to `aspect`.

    Args:
        count: panels, at least 1.
        width: inches of a panel.
        height: inches of a panel.
        aspect: width over height that the figure should have.
    """

    def distance(columns: int) -> float:
        ratio = columns * width / (-(-count // columns) * height) / aspect
        return max(ratio, 1 / ratio)

    return min(range(1, count + 1), key=distance)
