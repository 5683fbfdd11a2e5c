"""The ways of searches through the toy bilevel problem, as in Figure 2 of DARTS and of the course project."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps

from kdarts.genotypes.errors import KdartsError
from kdarts.views import figure as house

_MARKS = "osD^vPX<>"
"""A shape for each search, so that they can be told apart without colours."""

_SIDES = (0.5, 3.5), (-2.5, 3.5)
"""Of α and of w, as in the paper; wider where a way leads out of them."""


def draw_trajectories(
    paths: Sequence[np.ndarray],
    names: Sequence[str],
    path: str | os.PathLike,
    solution: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Draws each search's points, the line w = α on which the lower level is solved, the solution and the starts.

    Args:
        paths: for each search `[points, 2]`, α and w, finite, from its start on.
        names: of the searches, for the legend.
        path: file to write, ending in .svg, .png or .pdf.
        solution: α and w where both levels are solved.

    Raises:
        KdartsError: if a path has another shape or is not finite, the numbers of paths and names differ, the suffix is
            unknown, or the file cannot be written.
    """
    house.image_format(path)
    points = [np.asarray(values, np.float64) for values in paths]
    fit = all(p.ndim == 2 and p.shape[1:] == (2,) and len(p) and np.isfinite(p).all() for p in points)
    if not points or len(points) != len(names) or not fit:
        raise KdartsError("trajectories: needs finite [points, 2] and a name for each, at least one")
    with house.style():
        house.save(_figure(points, [house.plain(str(name)) for name in names], solution), path)


def _figure(points, names, solution):
    figure = house.new_figure(6.2, 3.6)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    everything = np.concatenate([*points, [solution]])
    limits = [(min(low, *v), max(high, *v)) for (low, high), v in zip(_SIDES, everything.T, strict=True)]
    axes.axline((0, 0), slope=1, color="#c22f2f", linestyle="--", linewidth=1, label="w = α", zorder=1)
    shades = colormaps[house.COLOUR_MAP](np.linspace(0.05, 0.9, len(points)))
    for k, (name, values, shade) in enumerate(zip(names, points, shades, strict=True)):
        mark = {"marker": _MARKS[k % len(_MARKS)], "markersize": 3.5, "markeredgewidth": 0}
        spaced = _apart(values, [(high - low) / 60 for low, high in limits])
        axes.plot(*values[spaced].T, linestyle="", color=shade, label=name, zorder=2 + k, **mark)
    star = {"linestyle": "", "marker": "*", "markersize": 11, "markeredgecolor": "white", "markeredgewidth": 0.5}
    starts = np.unique([values[0] for values in points], axis=0)
    axes.plot(*starts.T, color="0.55", label="start", zorder=20, **star)
    axes.plot(*solution, color="black", label="solution", zorder=21, **star)
    axes.set(xlabel="α (upper level)", ylabel="w (lower level)", xlim=limits[0], ylim=limits[1])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))  # beside: no way leads there
    return figure


def _apart(values, least) -> list[int]:
    """Points of a way at least so far apart along one axis, and its last: hundreds on one spot are one mark."""
    kept = [0]
    for index, value in enumerate(values):
        if (np.abs(value - values[kept[-1]]) >= least).any():
            kept.append(index)
    return [*kept, len(values) - 1]
