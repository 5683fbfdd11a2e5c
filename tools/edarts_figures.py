"""The pictures of `edarts_study.py`."""

import edarts_tables as tables
import numpy as np
from ddarts_figures import Result, look
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from kdarts.genotypes.edges import topologies
from kdarts.views import figure as house
from kdarts.views.heatmap import value_grid

SHAPE = 18, 10
"""Of the accuracy surface: choices of nodes 3 and 4, and of node 5."""


def surface(rows: list[dict]) -> np.ndarray:
    """Test accuracies in percent by topology, `[18, 10]`; NaN where none was measured.

    The paper does not say how it lays its surface out. Here the rows are the inputs of nodes 3 and 4 and the columns
    those of node 5; node 2 has no choice. This is the order of their numbers.
    """
    values = np.full(SHAPE[0] * SHAPE[1], np.nan)
    for row in rows:
        if row["cells"] == "normal":
            values[row["topology"]] = 100 * row["test_accuracy"]
    return values.reshape(SHAPE)


def _draw_topologies(figure, rows) -> None:
    figure.set_size_inches(6.4, 6.2)
    axes, values = figure.add_subplot(), surface(rows)
    known = values[np.isfinite(values)]
    low, top = known.min(), known.max()
    image = value_grid(axes, values, Normalize(low, top if top > low else low + 1))
    order = [["".join(map(str, pair)) for pair in topology] for topology in topologies()]
    axes.set_xticks(range(SHAPE[1]), [pairs[3] for pairs in order[: SHAPE[1]]])
    axes.set_yticks(range(SHAPE[0]), [f"{pairs[1]}, {pairs[2]}" for pairs in order[:: SHAPE[1]]])
    axes.set_xlabel("inputs of node 5")
    axes.set_ylabel("inputs of node 3, of node 4")
    for row in rows:
        if row["cells"] == "both":
            y, x = divmod(row["topology"], SHAPE[1])
            frame = {"fill": False, "edgecolor": house.INK, "linewidth": 1.6, "zorder": 3}
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **frame))
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label("test accuracy (%); framed: measured in both cells")
    bar.outline.set_visible(False)


def _draw_spaces(figure, rows) -> None:
    figure.set_size_inches(6.4, 3.4)
    axes = figure.add_subplot()
    spaces = sorted({row["space"] for row in rows})
    depths = sorted({row["depth"] for row in rows})
    groups = tables.grouped(rows, "space", "depth")
    for index, depth in enumerate(depths):
        style = look(index, len(depths))
        offset = 0.5 * (index - (len(depths) - 1) / 2) / max(len(depths), 2)
        for place, space in enumerate(spaces):
            own = [100 * row["test_accuracy"] for row in groups.get((space, depth), [])]
            if not own:
                continue
            x = place + offset
            dots = {"markersize": 3, "markerfacecolor": "none", "markeredgewidth": 0.7, "alpha": 0.8}
            axes.plot([x] * len(own), own, style["marker"], color=style["color"], **dots)
            mean = {"color": style["color"], "linewidth": 2.2, "solid_capstyle": "butt"}
            axes.plot([x - 0.1, x + 0.1], [np.mean(own)] * 2, **mean)
        name = {"label": f"{depth} cells", "markersize": 4, "fillstyle": "none"}
        axes.plot([], [], style["marker"], color=style["color"], **name)
    axes.plot([], [], color=house.MUTED, linewidth=2.2, label="mean")
    axes.set_xticks(range(len(spaces)), [space.upper() for space in spaces])
    axes.set_xlim(-0.6, len(spaces) - 0.4)
    axes.set_ylabel("test accuracy (%)")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(depths) + 1, frameon=False)


TOPOLOGIES = Result("Accuracy surface", None, tables.ranking_table, _draw_topologies)
SPACES = Result("Depth and sub-space", None, tables.spaces_table, _draw_spaces)
