"""DrNAS: Dirichlet Neural Architecture Search (Chen, Wang, Cheng, Tang and Hsieh, ICLR 2021).

- The weights of an edge are drawn in every pass from a Dirichlet distribution, p ~ Dir(c) with c = elu(α) + 1. α's pass
  and the weights' pass draw for themselves; all cells of a kind have one draw.
- α minimises E_p L_valid(w, p) + λ d(c, 1), with d the distance of the distribution from the uniform one. In the
  authors' program d is the L2 penalty on α, `arch_l2`, as c = 1 at α = 0; `anchor_weight` is the paper's divergence,
  Σ KL(Dir(c) || Dir(1)), to be given together with `arch_l2=0`.
- ∂p/∂c is that of the Gamma draws behind it (implicit reparameterisation); it cannot be differentiated again, so that
  the eigenvalue of the Hessian in α is not defined here.
- Derived cell: DARTS' rule by softmax(α), not by the mean of the distribution. No `none` in DARTS' space.
- Recipe: 100 epochs, and otherwise DARTS' in first order, as the authors search in NAS-Bench-201. Not part of it: the
  progressive search of partial channels that the paper has for DARTS' space.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

DRNAS = register_method(
    DARTS.override(mixing="concentration", sampling="dirichlet", space="ddarts", epochs=100).named(
        "drnas", "DrNAS, Chen et al., ICLR 2021"
    )
)
