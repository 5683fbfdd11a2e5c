"""DARTS-: Robustly Stepping out of Performance Collapse Without Indicators (Chu et al., ICLR 2021).

- Every edge has an auxiliary skip connection beside its mixed operation: o(x) = β x + Σ softmax(α)_k o_k(x). It takes
  over what skips do for training, so that α weighs them as candidates alone. Where an edge halves the image, the
  auxiliary one halves it, too.
- β falls from 1 to 0 in a straight line over the epochs, and the skip connection is no part of what is derived.
- Otherwise DARTS in first order.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

DARTS_MINUS = register_method(DARTS.override(auxiliary_skip=True).named("darts_minus", "DARTS-, Chu et al., ICLR 2021"))
