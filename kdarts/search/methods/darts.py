"""DARTS: Differentiable Architecture Search (Liu, Simonyan, Yang; ICLR 2019).

- An edge's output is the softmax-weighted sum of its candidates (Eq. 2); all normal cells share one α, all reduction
  cells another (section 2.1).
- Bilevel: α minimises the validation loss at the weights that minimise the training loss (Eq. 3, 4). Each step moves
  α along Eq. 6, then the weights along the training gradient at the new α (Algorithm 1). `order="first"` is DARTS V1,
  `order="second"` DARTS V2.
- Derived cell: for each node its two strongest inputs, each by its best operation other than `none` (section 2.4).
- Recipe (appendix A.1.1): 50 epochs, batch 64, 16 channels, 8 cells; weights by SGD 0.025 → 0.001 (cosine), momentum
  0.9, L2 3e-4, clipped at norm 5; α by Adam 3e-4, betas 0.5 and 0.999, L2 1e-3. Half of the training set each.
"""

from kdarts.search.method import Method, register_method

DARTS = register_method(Method("darts", "DARTS, Liu et al., ICLR 2019", space="darts"))
