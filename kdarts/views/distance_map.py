"""A heat map of the distances between genotypes, as in Figure 9 of D-DARTS."""

import math
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize

from kdarts.genotypes.errors import KdartsError
from kdarts.views import figure as house
from kdarts.views.heatmap import colour_bar, value_grid

_SIDE = 0.42
"""Inches of one value: room for `0.000` in small type."""


def draw_distances(
    distances: np.ndarray, names: Sequence[str], path: str | os.PathLike, label: str = "distance"
) -> None:
    """Writes a square with a field for each pair.

    Args:
        distances: `[n, n]`, from 0, finite.
        names: of the n genotypes, in that order.
        path: file to write, ending in .svg, .png or .pdf.
        label: what the values are, beside the colour bar.

    Raises:
        KdartsError: if shape and names do not fit together, a value is not finite, the suffix is unknown, or the file
            cannot be written.
    """
    house.image_format(path)
    values = np.asarray(distances, np.float64)
    if not len(names) or values.shape != (len(names), len(names)) or not np.isfinite(values).all():
        raise KdartsError(f"distances: needs finite [{len(names)}, {len(names)}] for as many names, at least one")
    with house.style():
        house.save(_figure(values, [house.plain(str(name), 60) for name in names], label), path)


def _figure(values, names, label):
    longest, side = max(house.text_width(name, house.SMALL_SIZE) for name in names), len(names) * _SIDE
    lettering = house.text_width(label, house.TEXT_SIZE) / 2 - side / 2 + 0.1  # of the bar, which is as high as the map
    left, above, right = longest + 0.25, max(0.12, lettering), 0.85
    below = max(longest * math.sqrt(0.5) + 0.25, lettering)  # the names lean by half a right angle
    width, height = left + side + right, below + side + above
    figure = house.new_figure(width, height)
    axes = figure.add_axes((left / width, below / height, side / width, side / height))
    top = values.max()
    image = value_grid(axes, values, Normalize(0, top if top > 0 else 1), digits=3 if top < 10 else 2)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    colour_bar(figure, image, (left + side + 0.2, below, side), label)
    return figure
