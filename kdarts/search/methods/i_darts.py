"""I-DARTS: Improved Differentiable Architecture Search for Language Modeling and NER (Jiang et al., EMNLP 2019).

- One softmax over all candidates of all edges that lead to a node, in place of one for each edge: p_(i,o) =
  exp α_(i,o) / Σ_(i'<j, o') exp α_(i',o'), so that a node's inputs compete, too.
- Derived cell: the best operation of each edge, the two best edges of each node. Otherwise DARTS in first order.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

I_DARTS = register_method(DARTS.override(mixing="node_softmax").named("i_darts", "I-DARTS, Jiang et al., EMNLP 2019"))
