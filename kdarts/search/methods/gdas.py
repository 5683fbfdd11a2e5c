"""GDAS: Searching for a Robust Neural Architecture in Four GPU Hours (Dong and Yang, CVPR 2019).

- A pass goes through one candidate of each edge, drawn with probability softmax(α) by a Gumbel noise (Eq. 4 to 6); the
  gradient reaches α through the softmax of (log p + g) / τ. The temperature τ falls from 10 to 0.1 in a straight line.
- α's pass and the weights' pass draw for themselves. On a CPU with oneDNN a candidate is computed for the edges that
  drew it alone (`ops/drawn.py`); elsewhere all are computed and most weigh 0.
- Derived cell: of each node the two operations of largest weight, which may stand on one edge (authors' program).
- 250 epochs; otherwise DARTS in first order.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

GDAS = register_method(
    DARTS.override(sampling="gumbel", discretization="pairs", epochs=250).named(
        "gdas", "GDAS, Dong and Yang, CVPR 2019"
    )
)
