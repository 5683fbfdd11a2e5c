"""A family of networks: accuracy against size."""

import os

import numpy as np
from matplotlib import colormaps

from kdarts.genotypes.errors import KdartsError
from kdarts.views.figure import COLOUR_MAP, MUTED, SMALL_SIZE, image_format, new_figure, save, style


def draw_family(
    candidates: list[tuple[float, float]],
    family: list[tuple[float, float]],
    path: str | os.PathLike,
    bin_width: float | None = None,
) -> None:
    """Draws all candidates of an evolution, and the family that was chosen from them.

    Args:
        candidates: of each its weights, in 10^6, and its accuracy, 0 to 1, in the order in which they were looked at.
        family: the same of the chosen ones.
        path: where to, ending in .svg, .png or .pdf.
        bin_width: of the size bins, in 10^6 weights, which are then drawn; None: none.

    Raises:
        KdartsError: if there is nothing to draw, the suffix is unknown or the file cannot be written.
    """
    image_format(path)
    if not candidates or not family:
        raise KdartsError("draw_family: needs a candidate and a network of the family at least")
    sizes, accuracies = np.array(candidates).T
    chosen_sizes, chosen = np.array(family).T
    with style():
        figure = new_figure(4.6, 3.2)
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        axes.scatter(sizes, 100 * accuracies, s=7, color="0.72", linewidths=0, label=f"{len(sizes)} candidates")
        look = {"s": 22, "marker": "D", "edgecolors": "white", "linewidths": 0.5, "zorder": 3}
        colour = colormaps[COLOUR_MAP](0.2)
        axes.scatter(chosen_sizes, 100 * chosen, color=colour, label=f"family of {len(chosen)}", **look)
        if bin_width:
            bins = chosen_sizes // bin_width
            best = [max(np.flatnonzero(bins == number), key=lambda i: chosen[i]) for number in np.unique(bins)]
            line = {"color": colour, "linewidth": 1, "zorder": 2, "label": "best of each size"}
            axes.plot(chosen_sizes[best], 100 * chosen[best], **line)
            for edge in range(int(sizes.min() // bin_width), int(sizes.max() // bin_width) + 2):
                axes.axvline(edge * bin_width, color="0.88", linewidth=0.6, zorder=0)
        axes.legend(frameon=False, loc="lower right", fontsize=SMALL_SIZE, handletextpad=0.3)
        axes.set(
            xlabel="weights of the stand-alone network (millions)", ylabel="validation accuracy, shared weights (%)"
        )
        axes.tick_params(color=MUTED)
        axes.spines[["top", "right"]].set_visible(False)
        save(figure, path)
