"""Pictures of a HyperCuboid: heat maps of its mixing weights, and drawings of paths through its states."""

import os

import numpy as np
from matplotlib.axes import Axes

from kdarts.genotypes.cuboid import Cuboid, HyperPath, label
from kdarts.genotypes.errors import KdartsError
from kdarts.views import figure as house
from kdarts.views.heatmap import draw_alphas

_PATH, _OFF = "#173f6e", "#c9c9c9"
_BOX = 0.24
"""Height of the box of a state in inches."""
_ROW = 0.62
_MARGIN = 0.15


MOST_PLACES = 2000
"""The most states of all stages in a picture, which take some seconds to draw."""


def draw_stages(cuboid: Cuboid, weights: np.ndarray, path: str | os.PathLike) -> None:
    """Draws a heat map of the mixing weights of each stage, with a field for each transition and choice.

    Args:
        cuboid: The axes of the HyperCuboid.
        weights: Mixing weights, `[stages, states, states, choices]`. NaN stands for a forbidden transition, which is
            left blank.
        path: The file to write; see `draw_alphas`.
    """
    states = [label(state) or "·" for state in cuboid.state_values]
    edges = [f"{source}→{target}" for source in states for target in states]
    panels = {label(position, True): weights[k].reshape(len(edges), -1) for k, position in enumerate(cuboid.positions)}
    draw_alphas(panels, [label(choice) or "weight" for choice in cuboid.choice_values], path, edges)


def draw_path(
    path: HyperPath, to: str | os.PathLike, title: str | None = None, weights: np.ndarray | None = None
) -> None:
    """Draws a path as a line through columns of states; between two columns there is a stage.

    Args:
        path: The path.
        to: The file to write. Its suffix is .svg, .png or .pdf.
        title: Title of the figure. Defaults to the path's name, if it has one.
        weights: Mixing weights, `[stages, states, states, choices]`. If given, all transitions are drawn, the wider and
            darker, the larger the weight of their best choice is within the stage.

    Raises:
        KdartsError: If the shapes do not match, there are more states than a picture has room for, the suffix is
            unknown, or the file cannot be written.
    """
    house.image_format(to)
    stages, states, *_ = path.cuboid.shape
    if (stages + 1) * states > MOST_PLACES:
        raise KdartsError(f"{os.fspath(to)}: {stages} stages of {states} states; a picture has room for {MOST_PLACES}")
    if weights is not None and weights.shape != path.cuboid.shape:
        raise KdartsError(f"path: weights {weights.shape}, the cuboid has {path.cuboid.shape}")
    with house.style():
        house.save(_figure(path, path.name if title is None else title, weights), to)


def _figure(path: HyperPath, title: str, weights):
    states = [house.plain(label(state) or "·") for state in path.cuboid.state_values]
    stages = ["\n".join(f"{name} {value}" for name, value in p.items()) for p in path.cuboid.positions]
    chosen = [house.plain(label(step.choice)) for step in path.steps]
    wide = max(house.text_width(state, house.TEXT_SIZE) for state in states) + 0.2
    words = [*chosen, *(line for stage in stages for line in stage.split("\n"))]
    column = wide + 0.5 + max(house.text_width(word, house.SMALL_SIZE) for word in words)
    lines = len(path.cuboid.sequence)
    axis = ", ".join(name for name, _ in path.cuboid.states)
    header = (0.35 if title else 0.0) + 0.16 * lines + 0.3
    width = 2 * _MARGIN + wide + column * len(stages)
    height = header + _ROW * (len(states) - 1) + _BOX + 2 * _MARGIN + (0.2 if axis else 0)
    axes = house.canvas(width, height)
    if title:
        house.write(axes, width / 2, 0.22, house.plain(title, 100), house.TITLE_SIZE, weight="bold")
    places = {
        (k, row): (_MARGIN + wide / 2 + k * column, header + _MARGIN + _BOX / 2 + row * _ROW)
        for k in range(len(stages) + 1)
        for row in range(len(states))
    }
    if weights is not None:
        _transitions(axes, weights, places, wide)
    for k, (stage, choice) in enumerate(zip(stages, chosen, strict=True)):
        begin, end = places[k, path.states[k]], places[k + 1, path.states[k + 1]]
        house.write(axes, (begin[0] + end[0]) / 2, header - 0.1 - 0.08 * lines, stage, house.SMALL_SIZE, house.MUTED)
        axes.plot([begin[0] + wide / 2, end[0] - wide / 2], [begin[1], end[1]], color=_PATH, lw=2.2, zorder=3)
        if choice:
            middle = (begin[0] + end[0]) / 2, (begin[1] + end[1]) / 2
            _box(axes, middle, house.text_width(choice, house.SMALL_SIZE) + 0.14, 0.19, "white", _PATH)
            house.write(axes, *middle, choice, house.SMALL_SIZE, _PATH)
    for (k, row), place in places.items():
        visited = path.states[k] == row
        fill, line, ink = (_PATH, _PATH, "white") if visited else ("white", _OFF, house.MUTED)
        _box(axes, place, wide, _BOX, fill, line)
        house.write(axes, *place, states[row], house.TEXT_SIZE, ink)
    if axis:
        house.write(axes, width / 2, height - _MARGIN, f"states: {axis}", house.SMALL_SIZE, house.MUTED)
    return axes.figure


def _transitions(axes: Axes, weights, places, wide: float) -> None:
    """Draws the allowed transitions, the wider and darker, the larger the weight of their best choice is."""
    best = np.where(np.isnan(weights), -np.inf, weights).max(-1)
    for stage, rows in enumerate(best):
        there = rows[rows > -np.inf]
        low, spread = there.min(), max(np.ptp(there), 1e-12)
        for (source, target), value in np.ndenumerate(rows):
            if value > -np.inf:
                begin, end = places[stage, source], places[stage + 1, target]
                share = max((value - low) / spread, 0.05)
                x, y = [begin[0] + wide / 2, end[0] - wide / 2], [begin[1], end[1]]
                axes.plot(x, y, color="#8a8a8a", lw=1.6 * share, alpha=0.25 + 0.55 * share, zorder=1)


def _box(axes: Axes, place, width: float, height: float, fill: str, line: str) -> None:
    house.rounded_box(axes, *place, width, height, height / 2.5, fill, line)
