"""True accuracy against search time, method by method."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps

from kdarts.genotypes.errors import KdartsError
from kdarts.views.figure import COLOUR_MAP, INK, MUTED, TEXT_SIZE, image_format, new_figure, plain, save, style

_MARKS, _LINES = "osD^vPX*<>hd", ("-", "--", "-.", ":")


def draw_benchmark(
    courses: Mapping[str, Sequence[tuple[float, float]]],
    path: str | os.PathLike,
    best: float,
    random: float,
    label: str = "true accuracy (%)",
) -> None:
    """Draws how the true accuracy of what a method stands for changes along its searches.

    Args:
        courses: by method, `(seconds, accuracy in %)` after each epoch, means over its seeds.
        path: where to, ending in .svg, .png or .pdf.
        best: the optimum, in %.
        random: what a random choice is expected to come to, in %.
        label: of the accuracy.

    Raises:
        KdartsError: if there is no course, the suffix is unknown or the file cannot be written.
    """
    image_format(path)
    if not courses or not all(len(course) for course in courses.values()):
        raise KdartsError("draw_benchmark: no course to draw")
    with style():
        figure = new_figure(7.2, 4.4)
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        colours = colormaps[COLOUR_MAP](np.linspace(0, 0.88, len(courses)))
        for number, (name, course) in enumerate(courses.items()):
            seconds, accuracies = np.asarray(course, float).T
            look = {"marker": _MARKS[number % len(_MARKS)], "linestyle": _LINES[number % len(_LINES)]}
            every = {"markersize": 3.5, "markevery": max(1, len(course) // 6), "linewidth": 1.2}
            axes.plot(seconds / 60, accuracies, color=colours[number], label=plain(name), **look, **every)
        axes.axhline(best, color=INK, linewidth=0.8)
        axes.axhline(random, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for value, text in ((best, f"optimum {best:.2f}"), (random, f"random choice {random:.2f}")):
            place = {"xycoords": ("axes fraction", "data"), "xytext": (2, 2), "textcoords": "offset points"}
            axes.annotate(text, (0, value), fontsize=TEXT_SIZE, **place)
        lowest = min(random, *(min(a for _, a in course) for course in courses.values()))
        axes.set(xlabel="time of the search (min)", ylabel=label, xlim=(0, None))
        axes.set_ylim(lowest - 2, best + 4)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(frameon=False, loc="outside right upper")
        save(figure, path)
