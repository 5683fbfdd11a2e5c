"""`kdarts draw`: a genotype's cells, or a path, as a picture."""

from absl import flags

from kdarts.cli.command import Command
from kdarts.cli.notes import note_gaps
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.found import load_found
from kdarts.genotypes.hyper_path import HyperPath


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string("to", None, "file to write: .svg, .png, .pdf, or .dot for Graphviz", flag_values=values)
    flags.DEFINE_string("title", None, "above the cells; default: the genotype's name", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Draws."""
    from kdarts.views.drawing import draw_genotype
    from kdarts.views.trellis import draw_path

    if not values.to:
        raise KdartsError("--to is missing: a file that ends in .svg, .png, .pdf or .dot")
    found = load_found(values.arguments[0])
    if isinstance(found, HyperPath):
        draw_path(found, values.to, values.title)
    else:
        draw_genotype(found, values.to, values.title)
    note_gaps(found)
    print(values.to)


COMMAND = Command("draw the cells of a genotype", define, run, "GENOTYPE ", 1, "kdarts draw DARTS_V2 --to=darts_v2.svg")
