"""OLES: Operation-Level Early Stopping for Robustifying Differentiable NAS (Jiang et al., NeurIPS 2023).

- An operation with weights that fits the training part too closely makes α prefer those without. Its gradient matching
  score is GM = 1/M Σ cos(∂L_train/∂w_o, ∂L_valid/∂w_o) over M = 20 iterations; once GM < ξ = 0.4 its weights are frozen
  for good: no gradient, momentum or decay moves them any more. α goes on, over all operations.
- Both gradients are of one step, at the same weights and the same α, flattened over all weights of the operation, and
  of each edge of each cell alone. That of the validation loss costs one more pass; `freeze_every` measures less often.
- The authors' program has another score: the validation gradient is added to what is left of the last step's, the
  cosine is taken along one axis of each kernel, and its mean is tested after each 20 steps anew. Its ξ is for that, and
  how many operations freeze at 0.4 here depends on data and batch. The history has `frozen_operations` and
  `gradient_cosine`, the mean of all GM, to choose ξ by.
- Recipe: DARTS' in first order. The authors take the genotype of the epoch with the best supernet accuracy.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

OLES = register_method(DARTS.override(freezing="oles").named("oles", "OLES, Jiang et al., NeurIPS 2023"))
