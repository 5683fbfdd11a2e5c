"""The figures of `ddarts_study.py`, and for each study what becomes of its searches."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import ddarts_tables as tables
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdarts.views import figure as house


@dataclass(frozen=True)
class Result:
    """What becomes of a study's searches.

    Attributes:
        title: one line.
        read: from the folder of a search to its rows.
        table: from the rows of all searches to lines of text.
        draw: draws them.
    """

    title: str
    read: Callable[[pathlib.Path], list[dict]] | None
    table: Callable[[list[dict]], list[str]]
    draw: Callable[[Figure, list[dict]], None]


def save(result: Result, rows: list[dict], size: str, path: pathlib.Path) -> None:
    """Writes the picture of `rows` to `path` with the suffixes .png and .svg.

    Args:
        result: draws it.
        rows: of all searches.
        size: a line on data and sizes, set below the picture.
        path: without a suffix.
    """
    with house.style():
        figure = house.new_figure(4.6, 3.3)
        figure.set_layout_engine("constrained")
        result.draw(figure, rows)
        figure.supxlabel(house.plain(size, 90), fontsize=house.SMALL_SIZE, color=house.MUTED, parse_math=False)
        for suffix in (".png", ".svg"):
            house.save(figure, path.parent / (path.name + suffix))


def look(index: int, count: int, points: int = 1) -> dict:
    """Line and marker of the `index`-th of `count` curves.

    They are told apart in greyscale by lightness, dashes and marker; every other marker is larger and hollow, so that
    curves that lie on each other are both seen.
    """
    return {
        "color": colormaps[house.COLOUR_MAP](0.72 * index / max(count - 1, 1)),
        "linestyle": ("-", "--", "-.", ":")[index % 4],
        "marker": "os^DvPX"[index % 7],
        "markersize": 6 if index % 2 else 4,
        "fillstyle": "none" if index % 2 else "full",
        "linewidth": 1.3,
        "markevery": max(1, points // 12),
    }


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.ticklabel_format(useOffset=False)
    axes.spines[["top", "right"]].set_visible(False)


def _against_weight(figure, rows, by: str, columns: dict[str, str], x: str, y: str) -> Axes:
    """Curves of several columns against a loss's weight, with the standard deviation as bars."""
    axes = figure.add_subplot()
    for index, (column, label) in enumerate(columns.items()):
        groups, means, deviations = tables.summarized(rows, by, column)
        weights = np.array([float(group) for group in groups])
        order = np.argsort(weights)
        bars = deviations[order] if deviations.any() else None
        axes.errorbar(
            weights[order], means[order], bars, label=label, capsize=2.5, elinewidth=0.8, **look(index, len(columns))
        )
    _finish(axes, x, y)
    figure.legend(loc="outside upper center", ncols=len(columns), frameon=False)
    return axes


def _draw_ablation_weight(figure, rows) -> None:
    x = "weight of the ablation loss, $w_{AB}$"
    y = "validation cross-entropy\n= mean of $L_T$ over the cells (nats)"
    _against_weight(figure, rows, "ablation_weight", tables.LOSSES, x, y)


def _draw_zero_one_weight(figure, rows) -> None:
    x = "weight of the zero-one loss, $w_{01}$"
    axes = _against_weight(figure, rows, "zero_one_weight", tables.SHARES, x, "operations after the last epoch (%)")
    axes.set_ylim(0, max(5.0, axes.get_ylim()[1]))
    for line in axes.lines:
        line.set_clip_on(False)  # Markers at 0 are seen whole.


def _draw_methods(figure, rows) -> None:
    axes = figure.add_subplot()
    names = list(dict.fromkeys(row["method"] for row in rows))
    for index, name in enumerate(names):
        own = [row for row in rows if row["method"] == name]
        epochs, means, deviations = tables.summarized(own, "epoch", "best_val_accuracy")
        style = look(index, len(names), len(epochs))
        axes.plot(epochs, 100 * means, label=name, **style)
        if deviations.any():
            low, high = 100 * (means - deviations), 100 * (means + deviations)
            axes.fill_between(epochs, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes, "epoch", "best validation accuracy so far (%)")
    figure.legend(loc="outside upper center", ncols=min(len(names), 4), frameon=False)


def _draw_modes(figure, rows) -> None:
    figure.set_size_inches(7.0, 3.0)
    epochs = list(dict.fromkeys(row["epoch"] for row in rows))
    panels = {"cosine": "cosine of own and exact", "norm_ratio": "norm of own / norm of exact"}
    for index, (column, label) in enumerate(panels.items()):
        axes = figure.add_subplot(1, 2, index + 1)
        values = np.array([[row[column] for row in rows if row["epoch"] == epoch] for epoch in epochs])
        style = look(0, 1, len(epochs))
        axes.axhline(1, color=house.MUTED, linewidth=0.9, linestyle="--", label="equal")
        low, high = values.min(1), values.max(1)
        axes.fill_between(
            epochs, low, high, color=style["color"], alpha=0.2, linewidth=0, label="least to greatest cell"
        )
        axes.plot(epochs, values.mean(1), label="mean over the cells", **style)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _finish(axes, "epochs searched", label)
        axes.set_xlim(epochs[0] - 0.03 * epochs[-1], epochs[-1] * 1.03)  # Also where nothing is drawn.
        if column == "cosine":
            axes.set_ylim(-1.05 if (low < 0).any() else -0.05, 1.05)
        else:
            axes.set_ylim(bottom=0)
        if not index and np.isnan(values).any():
            note = {"fontsize": house.SMALL_SIZE, "color": house.MUTED, "transform": axes.transAxes}
            axes.text(0.02, 0.03, "no value: the mean contribution is not below 0", **note)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)


ABLATION_WEIGHT = Result(
    "Validation cross-entropy (nats), the mean of L_T over the cells, whose ablation terms sum to zero",
    tables.cross_entropies,
    lambda rows: tables.compared_table(rows, "ablation_weight", tables.LOSSES, 4),
    _draw_ablation_weight,
)
ZERO_ONE_WEIGHT = Result(
    "Percent of the operations of all cells after the last epoch",
    tables.dominant,
    lambda rows: tables.compared_table(rows, "zero_one_weight", tables.SHARES, 1),
    _draw_zero_one_weight,
)
METHODS = Result(
    "Best validation accuracy of the supernet", tables.best_accuracies, tables.methods_table, _draw_methods
)
MODES = Result(
    "Gradient of the ablation loss alone, own against exact, on one validation batch; nan where mean M is not below 0",
    None,
    tables.modes_table,
    _draw_modes,
)
