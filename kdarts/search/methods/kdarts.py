"""kdarts: a mix of published choices that has no prior about the space (docs/benchmark.md has what it came to).

- Exponentiated gradient on the mixing weights (GAEA, Li et al. 2021). What counts is the rate times the number of
  steps: a search of a few hundred needs --arch_learning_rate=1.
- One level: the weights and α take batches of their own, both of all images (GAEA's empirical risk minimization).
- The weights are trained under random noise on the mixing weights, which grows along the search (SmoothDARTS-RS), so
  that they bear what is derived from them.
- Otherwise DARTS in first order. No size, no number of skip connections and no operation is preferred by hand.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.gaea import GAEA

KDARTS = register_method(
    GAEA.override(level="single", perturbation="random").named(
        "kdarts", "kdarts: GAEA on one level, with SmoothDARTS' random noise"
    )
)
