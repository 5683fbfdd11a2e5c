"""`kdarts deepen`: another depth for a genotype."""

from absl import flags

from kdarts.cli import options
from kdarts.cli.command import Command
from kdarts.cli.notes import note_gaps
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string("genotype", None, "path of a genotype, or its name in the zoo", flag_values=values)
    options.positive("cells", None, "number of cells of the new network", values)
    flags.DEFINE_string("to", None, "file to write (JSON)", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Writes the new genotype and says which cells stand where."""
    from kdarts.genotypes.deepen import deepen, derived

    needed = {"genotype": "a path, or a name of the zoo such as DD-4", "cells": "how many", "to": "a file to write"}
    for flag, what in needed.items():
        if not values[flag].value:
            raise KdartsError(f"--{flag} is missing: {what}")
    genotype = Genotype.load(values.genotype)
    deeper = deepen(genotype, values.cells)
    deeper.save(values.to)
    sequence, reductions = deeper.at_depth(None)
    print(values.to)
    row = " ".join(f"[{cell}]" if place in reductions else str(cell) for place, cell in enumerate(sequence))
    print(f"{len(sequence)} cells, reductions in brackets: {row}")
    if genotype.sequence is not None:
        for where, place in derived(len(genotype.sequence), values.cells)[1].items():
            nearest = genotype.sequence[place]
            print(f"no normal cell was searched {where} the reductions: the nearest, cell {nearest}, stands there")
    note_gaps(deeper)


COMMAND = Command(
    "give a genotype more cells, or fewer (D-DARTS' Algorithm 1)",
    define,
    run,
    example="kdarts deepen --genotype=DD-4 --cells=14 --to=dd4-14.json",
)
