"""Zero-Cost-PT: Zero-Cost Operation Scoring in Differentiable Architecture Search (Xiang et al., 2021).

- The selection of DARTS-PT on a supernet that is never trained: nothing moves, and all candidates of an edge weigh
  1 / |O|. What is measured without an operation is NASWOT's score ln |det K|, where K_ij is the number of ReLU units
  that are on for both images i and j, or off for both; the lowest score decides. It needs no labels. A ReLU that
  several operations of a node begin with counts once here, as long as one of them is there.
- Each decision sees a batch of its own. All is decided 10 times, in another order and on other batches, and of the
  cells found those with the largest NASWOT over up to 100 batches are kept.
- The authors normalise by running statistics that nothing has touched, so not at all; NASWOT, and so this, by the
  batch. They compare the cells as networks of their own; here the supernet computes each at its own size.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.blank_pt import BLANK_PT

ZERO_COST_PT = register_method(
    BLANK_PT.override(
        train_weights=False,
        epochs=1,
        removal_measure="naswot",
        removal_batches=1,
        removal_tune=0,
        removal_repeats=10,
    ).named("zero_cost_pt", "Zero-Cost-PT, Xiang et al., 2021")
)
