"""ReinMax: Bridging Discrete and Backpropagation (Liu, Dong, Liu, Yu and Gao, NeurIPS 2023), in GDAS.

- A pass goes through one candidate of each edge, D ~ softmax(α) = π. With m = (softmax(α / τ) + D) / 2 and J(q) v =
  q v − q (q · v), ∇α = 2 J(m) g − J(π) g / 2, where g is the gradient by the edge's weights. At τ = 1 its mean over D
  is exact for a loss that is quadratic in D, that of GDAS' estimate for none.
- g is needed for every candidate, also for those that were not drawn, so that all of them are computed in a pass. A
  step costs as much as DARTS', where GDAS' computes what was drawn alone.
- Otherwise GDAS. The paper has no search of architectures.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.gdas import GDAS

REINMAX = register_method(
    GDAS.override(sampling="reinmax").named("reinmax", "ReinMax, Liu et al., NeurIPS 2023, in GDAS")
)
