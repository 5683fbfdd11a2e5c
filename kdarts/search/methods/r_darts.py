"""R-DARTS: Understanding and Robustifying Differentiable Architecture Search (Zela et al., ICLR 2020).

- Where the Hessian of the validation loss by α has a large eigenvalue, the derived network does worse than the
  supernet; more regularization of the weights keeps it small.
- R-DARTS (L2), this method: DARTS with a larger penalty on the weights. The authors search with 3e-4 times 1, 3, 9, 27
  and 81, and keep the architecture of the best; here it is 27e-4, and `--l2` names another.
- R-DARTS (DP): `--l2=3e-4 --search_drop_path=0.4`. The output of an edge is dropped, image by image, at a rate that
  grows from 0; the authors search with 0, 0.2, 0.4 and 0.6, and cut squares of 16 pixels out of the images with a
  probability that grows likewise, which is no part of it here (`--cutout=16` cuts them from the first epoch on).
- DARTS-ES, which ends the search early, is `--stop=eigenvalue --watch_hessian=2` on any method.
- Second order; otherwise DARTS.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

R_DARTS = register_method(
    DARTS.override(order="second", l2=27e-4).named("r_darts", "R-DARTS (L2), Zela et al., ICLR 2020")
)
