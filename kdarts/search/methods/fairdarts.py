"""FairDARTS: Eliminating Unfair Advantages in Differentiable Architecture Search (Chu et al., ECCV 2020).

- Each candidate is weighed by a sigmoid of its own (Eq. 3), so that none gains by another's loss, and `none` is left
  out of the space: a weight may simply be small. α starts at zero.
- The zero-one loss (Eq. 4; one mean over the α of both cells) with weight 10 drives each weight to 0 or 1 (Eq. 5).
- Shared cells and first order, as DARTS V1. Derived cell: at most two inputs a node and one operation an input, each
  with a weight of at least 0.85 (section 4.3).
- Recipe (authors' program): 50 epochs, batch 128; weights by SGD 0.005 → 0.001; α by Adam 3e-3, betas 0.9 and 0.999.
"""

from kdarts.search.method import Method, register_method

FAIRDARTS = register_method(
    Method(
        "fairdarts",
        "FairDARTS, Chu et al., ECCV 2020",
        space="ddarts",
        mixing="sigmoid",
        discretization="sparse",
        zero_one_weight=10.0,
        learning_rate=0.005,
        arch_learning_rate=3e-3,
        arch_beta_1=0.9,
        batch_size=128,
    )
)
