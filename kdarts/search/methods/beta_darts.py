"""beta-DARTS: Beta-Decay Regularization for Differentiable Architecture Search (Ye et al., CVPR 2022).

- α's loss gains λ times the mean over the edges of log Σ exp α, which keeps the weights of an edge from growing apart;
  λ grows from 0 in a straight line, to 50 (authors' program, there over 100 epochs).
- Otherwise DARTS in first order.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

BETA_DARTS = register_method(DARTS.override(beta_weight=50.0).named("beta_darts", "beta-DARTS, Ye et al., CVPR 2022"))
