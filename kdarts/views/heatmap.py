"""Heat maps of mixing weights, of confused classes and of the distances between genotypes (D-DARTS, Figure 9).

`draw_alphas` and `draw_distances` write the file `path`, whose suffix is .svg, .png or .pdf. They raise `KdartsError`
if shapes and names do not match, the suffix is unknown or the file cannot be written.
"""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from kdarts.genotypes.edges import cell_of
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.views import figure as house

ORDERS = ("target", "source")
"""Orders of the edges in a heat map."""

_CELL = (0.36, 0.27)
"""Width and height of the field of a mixing weight in inches, with room for `-0.00` in small type."""


def draw_alphas(
    alphas: Mapping[str, np.ndarray],
    operations: Sequence[str],
    path: str | os.PathLike,
    edges: Sequence[str] | None = None,
    label: str = "mixing weight",
    title: str | None = None,
    order: str = "target",
) -> None:
    """Draws a heat map of the mixing weights of each cell. All panels share one colour scale.

    Args:
        alphas: The mixing weights `[edges, operations]` of each panel, by its title, such as `"normal cell"`. NaN
            stands for a candidate that has been removed, and is left blank.
        operations: Names of the operations, in the order of the columns of `alphas`. The first one is at the top.
        path: The file to write.
        edges: Labels of the edges, such as "0→2"; the order "source" needs this form. Defaults to `edge_labels`.
        label: Label of the colour bar.
        title: Title of the figure. Defaults to none.
        order: Order of the edges. "target", the order of α's rows, is by the node that an edge leads to. "source" is by
            the node that it starts at, with labels such as "0, 2".

    Raises:
        KdartsError: If the order is unknown or a value is infinite.
    """
    house.image_format(path)
    panels = _checked(alphas, operations, edges)
    if choice("order", order, ORDERS) == "source":
        panels, edges = _by_source(panels, edges)
    with house.style():
        house.save(_figure(panels, [house.plain(str(o)) for o in operations], edges, label, title), path)


def edge_labels(count: int) -> list[str]:
    """Returns labels "from→to" of the edges of a cell, in the order of α's rows: by target, then by source.

    A cell of n nodes with two inputs, the nodes 0 and 1, has n (n + 3) / 2 edges: "0→2", "1→2", "0→3", .... A cell
    with one input, node 0, has n (n + 1) / 2 edges. For other counts the labels are "0", "1", ....
    """
    try:
        nodes, inputs = cell_of(count)
    except KdartsError:
        return [str(i) for i in range(count)]
    return [f"{source}→{target}" for target in range(inputs, inputs + nodes) for source in range(target)]


def _by_source(panels, edges):
    """Returns the panels and the labels with the edges ordered by their sources."""
    given = edges or edge_labels(len(next(iter(panels.values()))))
    if any(len(panel) != len(given) for panel in panels.values()):
        raise KdartsError("heat map: order 'source' needs cells of the same number of edges")
    ends = [tuple(int(end) for end in label.split("→")) for label in given]
    rows = sorted(range(len(given)), key=ends.__getitem__)
    return {name: panel[rows] for name, panel in panels.items()}, ["{}, {}".format(*ends[row]) for row in rows]


def _checked(alphas, operations, edges) -> dict[str, np.ndarray]:
    if not alphas:
        raise KdartsError("heat map: no α set given")
    panels = {}
    for name, values in alphas.items():
        try:
            values = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise KdartsError(f"heat map: {name!r} holds something that is not a number") from None
        if values.ndim != 2 or not values.size:
            raise KdartsError(f"heat map: {name!r} must be [edges, operations], got shape {values.shape}")
        if values.shape[1] != len(operations):
            raise KdartsError(f"heat map: {name!r} has {values.shape[1]} columns for {len(operations)} operations")
        if edges is not None and len(edges) != values.shape[0]:
            raise KdartsError(f"heat map: {name!r} has {values.shape[0]} edges for {len(edges)} labels")
        if np.isinf(values).any():
            raise KdartsError(f"heat map: {name!r} holds an infinite value")
        panels[name] = values
    return panels


def _figure(panels, operations, edges, label, title):
    rows, most = len(operations), max(values.shape[0] for values in panels.values())
    wide, high = most * _CELL[0], rows * _CELL[1]
    left = 0.3 + max(house.text_width(name, house.SMALL_SIZE) for name in operations)
    values = np.concatenate([v[np.isfinite(v)] for v in panels.values()] or [[0.0]])
    low, top = (values.min(), values.max()) if values.size else (0.0, 1.0)
    digits = 2 if top - low >= 0.02 else 3
    right, gap, below, above = 0.65 + 0.1 * digits, 0.35, 0.5 + _upright(edges or []), 0.3
    columns = len(panels) if len(panels) <= 2 else house.columns_for(len(panels), wide + gap, high + below + above)
    lines = -(-len(panels) // columns)
    header = 0.3 if title else 0.0
    width = left + columns * wide + (columns - 1) * gap + right
    height = header + lines * (high + above + below)
    figure = house.new_figure(width, height)
    norm = Normalize(low, top if top > low else low + 1.0)
    for k, (name, panel) in enumerate(panels.items()):
        line, column = divmod(k, columns)
        x = left + column * (wide + gap)
        y = height - header - (line + 1) * (high + above) - line * below
        own = panel.shape[0] * _CELL[0]
        axes = figure.add_axes((x / width, y / height, own / width, high / height))
        labels = [house.plain(str(e)) for e in edges] if edges is not None else edge_labels(panel.shape[0])
        image = _panel(axes, panel, operations if column == 0 else None, labels, norm, digits)
        axes.set_title(house.plain(str(name), 80), pad=5, parse_math=False)
    tall = high if lines == 1 else 2 * high + below + above
    colour_bar(figure, image, (width - right + 0.2, height - header - above - tall, tall), label)
    if title:
        look = {"fontsize": house.TITLE_SIZE + 1, "fontweight": "bold", "parse_math": False}
        figure.text(0.5, 1 - 0.2 / height, house.plain(title, 120), ha="center", va="center", **look)
    return figure


def _panel(axes: Axes, values, operations, edges, norm, digits) -> AxesImage:
    image = value_grid(axes, values.T, norm, digits)
    axes.set_xticks(range(len(edges)), edges, rotation=90 if _upright(edges) else 0)
    axes.set_yticks(range(values.shape[1]), operations or [], parse_math=False) if operations else axes.set_yticks([])
    form = next((f" (from{sign}to)" for sign in ("→", ", ") if all(sign in edge for edge in edges)), "")
    axes.set_xlabel(f"edge{form}", labelpad=3)
    return image


def _upright(labels) -> float:
    """Returns the extra height in inches for vertical labels of edges, or 0 if the labels fit horizontally."""
    widest = max((house.text_width(house.plain(str(name)), house.SMALL_SIZE) for name in labels), default=0.0)
    return widest - 0.1 if widest > _CELL[0] - 0.04 else 0.0


def value_grid(axes: Axes, values: np.ndarray, norm: Normalize, digits: int = 2) -> AxesImage:
    """Draws a coloured field for each of the values `[rows, columns]` on empty axes, and the value in it.

    The first row is at the top. NaN is left blank. `norm` is the colour scale, `digits` is the number of decimals.
    """
    image = axes.imshow(np.ma.masked_invalid(values), cmap=house.COLOUR_MAP, norm=norm, aspect="auto")
    axes.set_facecolor("white")
    axes.tick_params(length=0, pad=3)
    axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    colours = colormaps[house.COLOUR_MAP]
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            look = {"fontsize": house.SMALL_SIZE - 0.5, "color": house.contrast(colours(norm(value)))}
            axes.text(column, row, f"{value:.{digits}f}", ha="center", va="center", **look)
    return image


def colour_bar(figure: Figure, image: AxesImage, place: tuple[float, float, float], label: str) -> None:
    """Draws the colour bar of an image; `place` is its left edge, bottom edge and height in inches."""
    x, y, tall = place
    width, height = figure.get_size_inches()
    bar = figure.colorbar(image, cax=figure.add_axes((x / width, y / height, 0.14 / width, tall / height)))
    bar.set_label(label, labelpad=6)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, width=0.6, pad=2)


_SIDE = 0.42
"""Width and height of the field of a distance in inches, with room for `0.000` in small type."""


def draw_distances(
    distances: np.ndarray, names: Sequence[str], path: str | os.PathLike, label: str = "distance"
) -> None:
    """Draws a heat map of the distances between genotypes.

    Args:
        distances: Finite distances, `[n, n]`.
        names: Names of the n genotypes.
        path: The file to write.
        label: Label of the colour bar.

    Raises:
        KdartsError: If a value is not finite.
    """
    house.image_format(path)
    values = np.asarray(distances, np.float64)
    if not len(names) or values.shape != (len(names), len(names)) or not np.isfinite(values).all():
        raise KdartsError(f"distances: needs finite [{len(names)}, {len(names)}] for as many names, at least one")
    with house.style():
        house.save(_distance_map_figure(values, [house.plain(str(name), 60) for name in names], label), path)


def _distance_map_figure(values, names, label, sides=("", "")):
    longest, side = max(house.text_width(name, house.SMALL_SIZE) for name in names), len(names) * _SIDE
    lettering = house.text_width(label, house.TEXT_SIZE) / 2 - side / 2 + 0.1  # Label of the bar, beyond the map.
    titles = 0.2 if any(sides) else 0.0
    left, above, right = longest + 0.25 + titles, max(0.12, lettering), 0.85
    below = max(longest * math.sqrt(0.5) + 0.25 + titles, lettering)  # The names are rotated by 45 degrees.
    width, height = left + side + right, below + side + above
    figure = house.new_figure(width, height)
    axes = figure.add_axes((left / width, below / height, side / width, side / height))
    top = np.nanmax(values)
    image = value_grid(axes, values, Normalize(0, top if top > 0 else 1), digits=3 if top < 10 else 2)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_xlabel(sides[0])
    axes.set_ylabel(sides[1])
    colour_bar(figure, image, (left + side + 0.2, below, side), label)
    return figure


_NAMED = 30
"""The most classes whose names and numbers a confusion matrix shows."""


def draw_confusion(confusion: np.ndarray, names: Sequence[str], path: str | os.PathLike) -> None:
    """Draws a confusion matrix, as the share of each true class that is predicted as each class.

    Args:
        confusion: Numbers of images, `[n, n]`: true classes in rows, predicted classes in columns. At least one is
            above 0.
        names: Names of the n classes, shown where there are at most 30.
        path: The file to write. Its suffix is .svg, .png or .pdf.

    Raises:
        KdartsError: If the suffix is unknown, or the file cannot be written.
    """
    house.image_format(path)
    counts = np.asarray(confusion, np.float64)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    label, sides = "share of the true class", ("predicted class", "true class")
    with house.style():
        if len(names) <= _NAMED:
            figure = _distance_map_figure(shares, [house.plain(str(name), 60) for name in names], label, sides)
        else:
            figure = house.new_figure(6.4, 5.4)
            axes = figure.add_axes((0.1, 0.1, 0.72, 0.855))
            axes.set_facecolor("white")
            image = axes.imshow(np.ma.masked_invalid(shares), cmap=house.COLOUR_MAP, norm=Normalize(0, 1))
            axes.set_xlabel(sides[0])
            axes.set_ylabel(sides[1])
            colour_bar(figure, image, (5.4, 0.54, 4.6), label)
        house.save(figure, path)
