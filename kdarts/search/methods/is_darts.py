"""IS-DARTS: Stabilizing DARTS through Precise Measurement on Candidate Importance (He, Liu, Zhang, Zheng; AAAI 2024).

- There is no α: every candidate of an edge weighs 1 / |O|, also when others have left, and steps train the weights.
- Candidates leave by what their outputs y are, not by what they are worth: I = mean of 3 (y − μ)² / σ⁶, with μ and σ
  over the channels of each pixel, and the largest I leaves first (`shrink`). That is 3 (C − 1) / C times the mean of
  σ⁻⁴: what varies least across the channels is pruned. No label counts.
- In DARTS' space the pairs of edge and operation of each node shrink to two, in 7 steps after epochs 30, 33, ..., 48 of
  50; in NAS-Bench-201's the operations of each edge to one, in 4 steps. The times are in proportion to the epochs.
- All images train the weights (level "single"). The authors train 6 cells, in an order of the images that never
  changes; here 8 cells, and shuffled.
- With `train_weights=False` the same is done with weights that stay as they were drawn: a control, for if that finds
  the same cells, they are a preference of the operations, and nothing was searched.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

IS_DARTS = register_method(
    DARTS.override(mixing="uniform", level="single", update="frozen", masks="shrink", discretization="pairs").named(
        "is_darts", "IS-DARTS, He et al., AAAI 2024"
    )
)
