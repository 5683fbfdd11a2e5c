"""Draws learning rates by epoch, on an even and on a logarithmic scale, as sharpDARTS' Figure 5 does.

    python tools/schedule_figure.py [--to=docs/schedules.svg] [--epochs=300] [--learning_rate=0.1] \
        [--final_learning_rate=7.5e-4] [--powers=1,2,10]

Each curve is the printed Eq. 2 of cosine power annealing, `--schedule=cosine_power_equation`, with one power p; p = 1
is the plain cosine. The sizes are those of the figure, for ImageNet.
"""

import argparse
import itertools
import pathlib
import sys

import numpy as np
from matplotlib import colormaps

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Runs where kdarts is not installed, too.

from kdarts.cli.command import exit_code
from kdarts.cli.process import start_tensorflow
from kdarts.views import figure as house

_LINES = "-", "--", "-.", ":"
"""The curves can be told apart without colours."""


def draw(curves: dict[str, list[float]], path) -> None:
    """Draws the rates of each curve by epoch, and writes the picture to `path`."""
    with house.style():
        figure = house.new_figure(5.6, 4.2)
        figure.set_layout_engine("constrained")
        panels = figure.subplots(2, sharex=True)
        colours = colormaps[house.COLOUR_MAP](np.linspace(0.05, 0.8, len(curves)))
        for axes, scale in zip(panels, ("linear", "log"), strict=True):
            for (name, rates), colour, dashes in zip(curves.items(), colours, itertools.cycle(_LINES), strict=False):
                axes.plot(rates, dashes, color=colour, linewidth=1.4, label=name)
            axes.set(yscale=scale, ylabel="learning rate" if scale == "linear" else "learning rate, log scale")
            axes.grid(axis="y", color="0.9", linewidth=0.5)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(color=house.MUTED)
        panels[0].set_ylim(0)
        panels[1].set(xlabel="epoch", xlim=(0, max(map(len, curves.values()))))
        panels[0].legend(frameon=False)
        house.save(figure, path)


def run() -> None:
    """Reads the options and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default="docs/schedules.svg")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--learning_rate", type=float, default=0.1)
    parser.add_argument("--final_learning_rate", type=float, default=7.5e-4)
    parser.add_argument("--powers", default="1,2,10")
    chosen = parser.parse_args()
    start_tensorflow()
    from kdarts.search.schedules import get_schedule

    curves = {}
    for word in chosen.powers.split(","):
        sizes = chosen.learning_rate, chosen.final_learning_rate, chosen.epochs
        rate = get_schedule("cosine_power_equation", *sizes, power=float(word))
        name = "cosine annealing" if float(word) == 1 else f"cosine power annealing, p = {word}"
        curves[name] = [rate(epoch) for epoch in range(chosen.epochs)]
    draw(curves, chosen.to)
    print(chosen.to)


if __name__ == "__main__":
    sys.exit(exit_code("schedule_figure", run, goes_on=False))
