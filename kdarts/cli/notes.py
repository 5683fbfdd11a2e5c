"""What a command says beside its result."""

import sys

from kdarts.genotypes.found import Found
from kdarts.genotypes.genotype import Genotype


def note_gaps(found: Found) -> None:
    """Prints what a genotype's network cannot build as found, one line a gap on standard error; a path has none."""
    for gap in found.gaps() if isinstance(found, Genotype) else ():
        print(f"note: {gap}", file=sys.stderr)
