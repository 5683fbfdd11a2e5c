"""kdarts: the mix of the papers' choices with the least regret a minute on NAS-Bench-201 (docs/benchmark.md).

- DARTS in first order (Eq. 2 to 4 of Liu et al. 2019): each step moves α by the validation loss, then the weights.
- Beta decay (Ye et al. 2022, Eq. 12): α's loss gains λ times the mean over the edges of log Σ exp α, and λ grows from 0
  to 6 in a straight line, an eighth of the paper's 50. It keeps candidates from winning by having led early, so that
  the convolutions, which train more slowly, catch up.
- What convolutions never catch up with is the one skip connection that the network is best built around. A cell keeps
  one, on the edge where it leads the best other operation by most (`residual`, see `skip_places`); every other edge
  takes its best other operation. P-DARTS limits skip connections likewise, by their strength, to two.
- α's Adam takes ten times DARTS' steps, 3e-3, so that a search takes minutes.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

KDARTS = register_method(
    DARTS.override(
        beta_weight=6.0, discretization="residual", max_skips=1, skip_trial=True, arch_learning_rate=3e-3
    ).named("kdarts", "kdarts: DARTS with beta decay and one skip connection a cell")
)
