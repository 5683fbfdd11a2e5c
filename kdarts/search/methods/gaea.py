"""GAEA: Geometry-Aware Gradient Algorithms for Neural Architecture Search (Li, Khodak, Balcan, Talwalkar; ICLR 2021).

- The mixing weights p of an edge, which sum to 1, are moved by exponentiated gradient,
  p ← p exp(−η ∂L/∂p) / Σ, where p counts as free in ∂L/∂p; then weights below 1e-5 are raised to that (authors'
  program). With p = softmax(α) this is plain descent of α along ∂L/∂p: DARTS' ∂L/∂α_k = p_k (g_k − Σ_j p_j g_j) lacks
  only its Jacobian, so that what weighs little goes on moving, and α becomes sparse in the course of the search.
- The rate is 0.1 throughout, without momentum, penalty or clipping, and α starts at 0. The log of the ratio of two
  weights moves by η times the difference of their gradients in a step, so that what matters is η times the number of
  steps: 500 to 2,000 in the authors' runs.
- With `--partial_channels=4`, GAEA PC-DARTS, β is moved in the same way and no epoch leaves α at rest: the authors'
  recipe for DARTS' space is `flags/gaea_cifar10.flags`. `--level=single` is their empirical risk minimization, in which
  the weights and α each take batches of all images; their run in NAS-Bench-201 has 24 channels, 25 epochs, no `none`.
- Otherwise DARTS in first order.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

GAEA = register_method(
    DARTS.override(mixing="softmax_eg", arch_optimizer="sgd", arch_learning_rate=0.1, arch_l2=0.0).named(
        "gaea", "GAEA, Li et al., ICLR 2021"
    )
)
