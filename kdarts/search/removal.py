"""Selection by removal: what the supernet loses where an operation is taken out of it decides, not α.

- Wang, Cheng, Chen, Tang, Hsieh, "Rethinking architecture selection in differentiable NAS", ICLR 2021 (DARTS-PT).
- Xiang et al., "Zero-Cost-PT", 2021 (arXiv 2106.06799), on a supernet that was never trained.

The order of the decisions is in `kdarts.search.decisions`, what runs them on a supernet in `kdarts.search.removal_run`.
"""

from dataclasses import dataclass
from typing import ClassVar

from kdarts.genotypes.edges import cell_of
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import MOST_EPOCHS, setting
from kdarts.search.decisions import plan_of
from kdarts.search.selection import Argmax, TwoStrongest, register_selection

MEASURES = ("accuracy", "loss", "naswot")
"""As of `kdarts.search.measures`; NASWOT needs no training."""


@register_selection
@dataclass(frozen=True)
class Removal(TwoStrongest):
    """The operation of each edge whose removal hurts the supernet most, then the two edges of each node likewise.

    After the search, edges are decided one after another, in random order: the weight of each operation in turn is set
    to 0, that of the others stays, and the supernet is measured on the images of α, normalised by the statistics of
    each batch. The edge keeps the operation whose removal hurts most, at weight 1; of equal ones the first, and `none`
    only where there is nothing else. Then the edges of each node with more than two are removed in turn, and the two
    whose removal hurts most stay. In cells of one input all edges stay. Until then a genotype is that of α, by DARTS'
    rule.

    Between two decisions, one in each cell, the search goes on for `removal_tune` epochs: the weights at a tenth of
    their learning rate with fresh momentum, on a cosine towards the final one, and α of what is undecided.
    """

    name: ClassVar[str] = "removal"
    one_input: ClassVar[bool] = True
    measures: ClassVar[bool] = True

    removal_measure: str = setting(
        "accuracy",
        "what is measured without an operation; the loss tells more where images are few",
        choices=MEASURES,
        source="DARTS-PT, section 4.2; Zero-Cost-PT, section 4",
    )
    removal_batches: int = setting(
        0,
        "batches of α's images that each decision measures on, the next ones every time; 0: all images",
        least=0,
        most=1_000_000,
    )
    removal_tune: int = setting(
        0, "epochs in which the search goes on between two decisions", least=0, most=MOST_EPOCHS, source="DARTS-PT"
    )
    removal_repeats: int = setting(
        1,
        "times that everything is decided anew, in another order; the cell of the best NASWOT is kept",
        least=1,
        most=10_000,
        source="Zero-Cost-PT, Algorithm 1",
    )

    def cell(self, weights, operations, normal=True):
        return (Argmax() if cell_of(len(weights))[1] == 1 else TwoStrongest()).cell(weights, operations, normal)

    def in_cells_of(self, inputs):
        return Argmax() if inputs == 1 else self

    def keeps(self, scores, passes):
        raise KdartsError(f"discretization {self.name!r}: its expected cost is not known, so it takes no target")

    def check(self, method):
        """Refuses what follows or replaces the search itself, and repeats of a supernet that goes on training."""
        for name in ("stages", "paths", "samples"):
            value = getattr(method, name)
            if value:
                shown = ",".join(map(str, value)) if name == "stages" else value
                raise KdartsError(f"{name} {shown}: discretization 'removal' decides after one search, without them")
        if self.removal_repeats > 1 and self.removal_tune:
            raise KdartsError(
                f"removal_repeats {self.removal_repeats}: needs removal_tune 0; a search that goes on is decided once"
            )

    def further_steps(self, net, steps):
        return self.removal_tune * (len(plan_of(net, [0]).rounds) - 1) * steps

    def follow(self, search, data, session):
        from kdarts.search.removal_run import select

        return select(self, search, data, session)
