"""Placed skips: beta decay, and one skip connection in a cell, by hand (docs/benchmark.md has what it came to).

Two priors about the space stand in it: that a cell has one skip connection, and, where a target of the size is given,
that larger cells are better. A search that is to find such things out by itself is `kdarts`.

- DARTS in first order (Eq. 2 to 4 of Liu et al. 2019): each step moves α by the validation loss, then the weights.
- Beta decay (Ye et al. 2022, Eq. 12): α's loss gains λ times the mean over the edges of log Σ exp α, and λ grows from 0
  to 6 in a straight line, an eighth of the paper's 50. It keeps candidates from winning by having led early, so that
  the convolutions, which train more slowly, catch up.
- A normal cell has one skip connection, and every other edge its best other operation (`residual`, see `skip_places`).
  P-DARTS limits skip connections likewise, by their strength, to two.
- Where it stands is not read from α: paths with a skip connection or the best other operation on each edge are trained
  with shared weights and path-wise strict fairness (DARTS-PD, section 3.2), and the places compared by the loss along
  them (`skip_paths`). No other operation is tried so: a short training prefers what trains fast.
- Otherwise as DARTS. A search of minutes needs longer steps of α, --arch_learning_rate=3e-3, as with any method here.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

PLACED_SKIPS = register_method(
    DARTS.override(
        beta_weight=6.0,
        discretization="residual",
        max_skips=1,
        paths=2,
        path_choice="skips",
        path_epochs=10,
        path_batch_size=64,
        path_learning_rate=0.025,
        path_drop_path=0.0,
        path_cutout=0,
    ).named("placed_skips", "DARTS with beta decay, and one skip connection a cell where shared paths want it")
)
