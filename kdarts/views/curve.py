"""The distance to a search's start, epoch by epoch (D-DARTS Fig. 7)."""

import os

from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator

from kdarts.genotypes.errors import KdartsError
from kdarts.views.figure import COLOUR_MAP, MUTED, image_format, new_figure, save, style


def draw_distance(
    distances: list[float], path: str | os.PathLike, pretrain_epochs: int = 0, stopped: bool = False
) -> None:
    """Draws how far a search has gone from the genotype that it started from.

    Args:
        distances: M after each epoch, from the first.
        path: where to, ending in .svg, .png or .pdf.
        pretrain_epochs: epochs at the beginning in which α stood still.
        stopped: whether the distance's standing still ended the search.

    Raises:
        KdartsError: if there is no distance, the suffix is unknown or the file cannot be written.
    """
    image_format(path)
    if not distances:
        raise KdartsError("draw_distance: no distance to draw")
    with style():
        figure = new_figure(4.2, 2.8)
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        epochs = range(1, len(distances) + 1)
        colour = colormaps[COLOUR_MAP](0.2)
        axes.plot(epochs, distances, color=colour, marker="o", markersize=3, linewidth=1.2)
        if pretrain_epochs:
            axes.axvspan(0.5, min(pretrain_epochs, len(distances)) + 0.5, color="0.92", zorder=0, label="weights alone")
        if stopped:
            axes.axvline(len(distances), color=MUTED, linestyle="--", linewidth=1, label="stable: search ended")
        if pretrain_epochs or stopped:
            axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        axes.set(xlabel="epoch", ylabel="distance M to the start", xlim=(0.5, len(distances) + 0.5))
        axes.set_ylim(0, max(max(distances) * 1.15, 0.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        save(figure, path)
