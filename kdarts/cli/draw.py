"""`kdarts draw`: a genotype's cells as a picture."""

from absl import flags

from kdarts.cli.command import Command
from kdarts.cli.notes import note_gaps
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string("to", None, "file to write: .svg, .png, .pdf, or .dot for Graphviz", flag_values=values)
    flags.DEFINE_string("title", None, "above the cells; default: the genotype's name", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Draws."""
    from kdarts.views.drawing import draw_genotype

    if not values.to:
        raise KdartsError("--to is missing: a file that ends in .svg, .png, .pdf or .dot")
    genotype = Genotype.load(values.arguments[0])
    draw_genotype(genotype, values.to, values.title)
    note_gaps(genotype)
    print(values.to)


COMMAND = Command("draw the cells of a genotype", define, run, "GENOTYPE ", 1, "kdarts draw DARTS_V2 --to=darts_v2.svg")
