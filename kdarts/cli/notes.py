"""What a command says beside its result."""

import sys

from kdarts.genotypes.genotype import Genotype


def note_gaps(genotype: Genotype) -> None:
    """Prints what the network of `genotype` cannot build as found: a line for each gap on standard error."""
    for gap in genotype.gaps():
        print(f"note: {gap}", file=sys.stderr)
