"""Blank-PT: the selection of DARTS-PT on a supernet whose α never moves (Wang et al., ICLR 2021, section 5.1).

- All candidates of an edge weigh 1 / |O| in every pass, and each step trains the weights alone.
- Everything else is as in `darts_pt`. What it comes to without α is what any training of α has to beat.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts_pt import DARTS_PT

BLANK_PT = register_method(
    DARTS_PT.override(mixing="uniform", update="frozen").named("blank_pt", "Blank-PT, Wang et al., ICLR 2021")
)
