"""Λ-DARTS: Mitigating Performance Collapse by Harmonizing Operation Selection among Cells (Movahedi et al., ICLR 2023).

- All normal cells share α, but each has a gradient of its own by the mixing weights, and those of the cells near the
  output outweigh the others: what α learns is what the last cells want, and their wish is a skip connection.
- The weights therefore descend L_train − λ Λ, where Λ is the mean cosine between the gradients of two normal cells
  (`kdarts/search/alignment.py` has the equations). Its gradient takes two passes more on the batch of the weights. λ
  grows from 0 to 0.25 along the search, and all mixing weights together are shifted by 1e-3 (authors' scripts).
- Otherwise DARTS in first order: a step costs twice as much. The authors search DARTS' space without `none`, and
  NAS-Bench-201 for 100 epochs with α at a rate of 1e-4.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

LAMBDA_DARTS = register_method(
    DARTS.override(alignment_weight=0.25).named("lambda_darts", "Λ-DARTS, Movahedi et al., ICLR 2023")
)
