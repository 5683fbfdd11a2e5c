"""DARTS-PT: Rethinking Architecture Selection in Differentiable NAS (Wang, Cheng, Chen, Tang, Hsieh; ICLR 2021).

- α trains the supernet, and does not decide. With M(p) what the supernet comes to on the images of α under mixing
  weights p, an edge keeps argmin over o of M(p with p_o = 0): the operation whose removal hurts most. The other weights
  stay as they are, and `none`, whose removal changes nothing, is never kept (`removal`).
- Edges are decided one after another in random order, in each round one of every cell; a decided edge computes its
  operation alone, at weight 1, and the search goes on for 5 epochs before the next round: the weights at a tenth of
  their learning rate with fresh momentum, α by its own rate.
- Then each node with more than two inputs keeps the two whose removal hurts most, one node a round.
- M is the accuracy, normalised by the statistics of each batch; here without augmentation. Before that, DARTS in first
  order. The paper leaves `none` out of the space, which changes no decision but the weights of the others.
- On NAS-Bench-201 the authors' rate stays constant in between; here it falls to the final one in every space.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

DARTS_PT = register_method(
    DARTS.override(discretization="removal", removal_tune=5).named("darts_pt", "DARTS-PT, Wang et al., ICLR 2021")
)
