"""SNAS: Stochastic Neural Architecture Search (Xie, Zheng, Liu and Lin, ICLR 2019).

- The weights of an edge are drawn in every pass from the concrete distribution, z = softmax((log p + G) / τ) with
  Gumbel noise G (Eq. 4): relaxed one-hot draws, whose largest entry is candidate k with probability p_k =
  softmax(α)_k. The temperature τ falls from 1 to 0.03 in a straight line, until a pass is close to one candidate of
  each edge.
- One level: α and the weights descend the same loss in the same pass over a training batch of all images (Eq. 3).
  `--valid_examples=2500` keeps so many out of it, to measure on.
- Derived cell: of every edge its strongest operation, `none` among them, so that a node has any number of inputs.
- Recipe (authors' program): 150 epochs, batch 64, weights as DARTS; α by Adam 3e-4, betas 0.5 and 0.999, L2 1e-3.
- Not part of it: the paper's resource constraint (its section 2.4). A target, such as
  `--target_params`, takes that place. The authors' constant drop-path of 0.3 on the edges is left out too.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

SNAS = register_method(
    DARTS.override(sampling="concrete", order="joint", discretization="argmax", epochs=150).named(
        "snas", "SNAS, Xie et al., ICLR 2019"
    )
)
