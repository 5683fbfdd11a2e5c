"""Plots of searches and of their results.

Each function writes the file `path`, whose suffix is .svg, .png or .pdf. It raises `KdartsError` if there is nothing to
draw, the suffix is unknown or the file cannot be written.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kdarts.genotypes.errors import KdartsError
from kdarts.views import figure as house

_MARKS, _LINES = "osD^vPX*<>hd", ("-", "--", "-.", ":")
"""Markers and line styles of the searches, so that they can be told apart without colours."""


@contextlib.contextmanager
def _plot(path, width: float, height: float) -> Iterator[Axes]:
    """Gives the axes of a figure of some inches, and writes the figure at the end."""
    house.image_format(path)
    with house.style():
        figure = house.new_figure(width, height)
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        yield axes
        house.save(figure, path)


def draw_distance(
    distances: list[float], path: str | os.PathLike, pretrain_epochs: int = 0, stopped: bool = False
) -> None:
    """Draws the distance of a search's genotype from the one it started from, by epoch (D-DARTS, Figure 7).

    Args:
        distances: Metric M after each epoch.
        path: The file to write.
        pretrain_epochs: Number of epochs at the beginning in which only the weights were trained.
        stopped: Whether the search ended because the distance was stable.
    """
    if not distances:
        raise KdartsError("draw_distance: no distance to draw")
    with _plot(path, 4.2, 2.8) as axes:
        epochs = range(1, len(distances) + 1)
        colour = colormaps[house.COLOUR_MAP](0.2)
        axes.plot(epochs, distances, color=colour, marker="o", markersize=3, linewidth=1.2)
        if pretrain_epochs:
            axes.axvspan(0.5, min(pretrain_epochs, len(distances)) + 0.5, color="0.92", zorder=0, label="weights alone")
        if stopped:
            axes.axvline(len(distances), color=house.MUTED, linestyle="--", linewidth=1, label="stable: search ended")
        if pretrain_epochs or stopped:
            axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        axes.set(xlabel="epoch", ylabel="distance M to the start", xlim=(0.5, len(distances) + 0.5))
        axes.set_ylim(0, max(max(distances) * 1.15, 0.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


_SIDES = (0.5, 3.5), (-2.5, 3.5)
"""Limits of the axes of α and w, as in the paper; they are extended to contain all points."""


def draw_trajectories(
    paths: Sequence[np.ndarray],
    names: Sequence[str],
    path: str | os.PathLike,
    solution: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Draws searches of the toy bilevel problem: their points and starts, and the solution (DARTS, Figure 2).

    A line shows where the lower level is solved, w = α.

    Args:
        paths: The values of α and w of each search, `[points, 2]`, finite, from its start on.
        names: Names of the searches, for the legend.
        path: The file to write.
        solution: The values of α and w at which both levels are solved.

    Raises:
        KdartsError: If a path has another shape or is not finite, or the numbers of paths and names differ.
    """
    points = [np.asarray(values, np.float64) for values in paths]
    fit = all(p.ndim == 2 and p.shape[1:] == (2,) and len(p) and np.isfinite(p).all() for p in points)
    if not points or len(points) != len(names) or not fit:
        raise KdartsError("trajectories: needs finite [points, 2] and a name for each, at least one")
    everything = np.concatenate([*points, [solution]])
    limits = [(min(low, *v), max(high, *v)) for (low, high), v in zip(_SIDES, everything.T, strict=True)]
    shades = colormaps[house.COLOUR_MAP](np.linspace(0.05, 0.9, len(points)))
    marks = _MARKS.replace("*", "")  # The star marks the starts and the solution.
    with _plot(path, 6.2, 3.6) as axes:
        axes.axline((0, 0), slope=1, color="#c22f2f", linestyle="--", linewidth=1, label="w = α", zorder=1)
        for k, (name, values, shade) in enumerate(zip(names, points, shades, strict=True)):
            mark = {"marker": marks[k % len(marks)], "markersize": 3.5, "markeredgewidth": 0}
            spaced = _apart(values, [(high - low) / 60 for low, high in limits])
            label = house.plain(str(name))
            axes.plot(*values[spaced].T, linestyle="", color=shade, label=label, zorder=2 + k, **mark)
        star = {"linestyle": "", "marker": "*", "markersize": 11, "markeredgecolor": "white", "markeredgewidth": 0.5}
        starts = np.unique([values[0] for values in points], axis=0)
        axes.plot(*starts.T, color="0.55", label="start", zorder=20, **star)
        axes.plot(*solution, color="black", label="solution", zorder=21, **star)
        axes.set(xlabel="α (upper level)", ylabel="w (lower level)", xlim=limits[0], ylim=limits[1])
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))  # Beside the axes, where no point is.


def _apart(values, least) -> list[int]:
    """Returns the indices of points that are at least `least` apart along one axis, and of the last point."""
    kept = [0]
    for index, value in enumerate(values):
        if (np.abs(value - values[kept[-1]]) >= least).any():
            kept.append(index)
    return [*kept, len(values) - 1]


def draw_family(
    candidates: list[tuple[float, float]],
    family: list[tuple[float, float]],
    path: str | os.PathLike,
    bin_width: float | None = None,
    size: str = "weights of the stand-alone network (millions)",
) -> None:
    """Draws the candidates of an evolution, and the family of networks chosen from them, by size (DARTS-PD).

    Args:
        candidates: The size and the accuracy, 0 to 1, of each candidate.
        family: The same values of the networks in the family.
        path: The file to write.
        bin_width: Width of the size bins. If given, the bins and the best network of each are drawn.
        size: What the size is, with its unit.
    """
    if not candidates or not family:
        raise KdartsError("draw_family: needs a candidate and a network of the family at least")
    sizes, accuracies = np.array(candidates).T
    chosen_sizes, chosen = np.array(family).T
    colour = colormaps[house.COLOUR_MAP](0.2)
    with _plot(path, 4.6, 3.2) as axes:
        axes.scatter(sizes, 100 * accuracies, s=7, color="0.72", linewidths=0, label=f"{len(sizes)} candidates")
        look = {"s": 22, "marker": "D", "edgecolors": "white", "linewidths": 0.5, "zorder": 3}
        axes.scatter(chosen_sizes, 100 * chosen, color=colour, label=f"family of {len(chosen)}", **look)
        if bin_width:
            bins = chosen_sizes // bin_width
            best = [max(np.flatnonzero(bins == number), key=lambda i: chosen[i]) for number in np.unique(bins)]
            line = {"color": colour, "linewidth": 1, "zorder": 2, "label": "best of each size"}
            axes.plot(chosen_sizes[best], 100 * chosen[best], **line)
            for edge in range(int(sizes.min() // bin_width), int(sizes.max() // bin_width) + 2):
                axes.axvline(edge * bin_width, color="0.88", linewidth=0.6, zorder=0)
        axes.legend(frameon=False, loc="lower right", fontsize=house.SMALL_SIZE, handletextpad=0.3)
        axes.set_xlabel(size)
        axes.set_ylabel("validation accuracy, shared weights (%)")
        axes.tick_params(color=house.MUTED)


def draw_benchmark(
    courses: Mapping[str, Sequence[tuple[float, float]]],
    path: str | os.PathLike,
    best: float,
    random: float,
    label: str = "true accuracy (%)",
    names: tuple[str, str] = ("optimum", "random choice"),
) -> None:
    """Draws the true accuracy of the current architecture of each method against the time of its search.

    Args:
        courses: For each method, `(seconds, accuracy in %)` after each epoch, averaged over seeds; or another figure
            in place of the accuracy.
        path: The file to write.
        best: The best accuracy of the space, in %.
        random: The mean accuracy of random architectures, in %.
        label: Label of the accuracy axis.
        names: What `best` and `random` are called.
    """
    if not courses or not all(len(course) for course in courses.values()):
        raise KdartsError("draw_benchmark: no course to draw")
    with _plot(path, 7.2, 4.4) as axes:
        colours = colormaps[house.COLOUR_MAP](np.linspace(0, 0.88, len(courses)))
        for number, (name, course) in enumerate(courses.items()):
            seconds, accuracies = np.asarray(course, float).T
            look = {"marker": _MARKS[number % len(_MARKS)], "linestyle": _LINES[number % len(_LINES)], "linewidth": 1.2}
            every = {"markersize": 3.5, "markevery": max(1, len(course) // 6)}
            axes.plot(seconds / 60, accuracies, color=colours[number], label=house.plain(name), **look, **every)
        axes.axhline(best, color=house.INK, linewidth=0.8)
        axes.axhline(random, color=house.MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for value, text in ((best, f"{names[0]} {best:.2f}"), (random, f"{names[1]} {random:.2f}")):
            place = {"xycoords": ("axes fraction", "data"), "xytext": (2, 2), "textcoords": "offset points"}
            axes.annotate(text, (0, value), fontsize=house.TEXT_SIZE, **place)
        values = [best, random, *(value for course in courses.values() for _, value in course)]
        axes.set(xlabel="time of the search (min)", ylabel=label, xlim=(0, None))
        axes.set_ylim(min(values) - 2, max(values) + 4)
        axes.figure.legend(frameon=False, loc="outside right upper")
