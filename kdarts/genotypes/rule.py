"""What can be said of a genotype's cells without any training: which edges count, and a score of the normal cell.

Yang, Esperança and Carlucci ("NAS evaluation is frustratingly hard", ICLR 2020) trained random cells of DARTS' space by
DARTS' protocol. Their accuracy grows with the separable convolutions of the normal cell, with its skip connections and
with the edges from its two inputs. The score here is the sum of these with weights that were set on these cells; it is
a control, which any search in DARTS' space has to beat. `rule` in the zoo is a cell that the score favours.
"""

from dataclasses import replace

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, reached_in

OF_DARTS = {"none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"}
OF_DARTS |= {f"{kind}_conv_{size}x{size}" for kind in ("sep", "dil") for size in (3, 5)}
"""The operations of DARTS' space, whose cells the score is about."""

_SKIP, _FROM_INPUT = 0.8, 0.5


def rule_parts(genotype: Genotype) -> dict[str, float]:
    """The rule score of a genotype of a normal and a reduction cell, and its parts.

    Returns:
        `rule`, the score: separable convolutions + 0.8 skip connections + 0.5 edges that leave an input; and the counts
            in the normal cell, `sep_convs`, `skips` and `from_inputs`.

    Raises:
        KdartsError: if it has no normal cell.
    """
    if genotype.stages or genotype.sequence is not None:
        raise KdartsError("rule score: it is of a normal cell of two inputs, and the genotype has other cells")
    cell = genotype.cells[0]
    separable = sum(operation.startswith("sep_conv") for operation, _, _ in cell)
    skips = sum(operation == "skip_connect" for operation, _, _ in cell)
    inputs = sum(source < 2 for _, _, source in cell)
    score = round(separable + _SKIP * skips + _FROM_INPUT * inputs, 6)
    return {"rule": score, "sep_convs": separable, "skips": skips, "from_inputs": inputs}


def live_part(genotype: Genotype) -> Genotype:
    """The same with those edges alone that are on a path from a cell's inputs to its output without `none`.

    Only they decide what the network computes, so the cost of this genotype is the one to compare networks by.
    """
    cells = []
    for cell, outputs in zip(genotype.cells, genotype.concats, strict=True):
        reached, ahead = reached_in(cell, "none"), set(outputs)
        for operation, to, source in sorted(cell, key=lambda edge: -edge[1]):  # edges lead to higher nodes only
            if to in ahead and operation != "none":
                ahead.add(source)
        cells.append(tuple(e for e in cell if e[0] != "none" and e[1] in ahead and e[2] in reached))
    return replace(genotype, cells=tuple(cells))
