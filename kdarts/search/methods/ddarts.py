"""D-DARTS: Distributed Differentiable Architecture Search (Heuillet et al.).

- Every cell has an α, a loss and an Adam of its own (section 3.2). One backward pass gives each its gradient, and Adam
  works element by element, so one optimizer over all α is one for each cell.
- FairDARTS' sigmoid mixing and space. The loss of cell i (Eq. 10): cross-entropy, plus 7 times the zero-one loss of
  its own α (Eq. 4), plus 0.5 times the ablation loss (Eq. 8). The paper names both 7 (section 5.2.1, by experiment)
  and 8 (section 5.1) for the first; 7 is what its published genotypes were searched with.
- Derived cells: `edge`, up to two operations on every edge, each with a weight of at least 0.85 (section 4.3; `sparse`,
  one on the two strongest edges, is the paper's smaller choice). `kdarts deepen` makes 14 or 20 cells of 8.
- Recipe: as FairDARTS; α's rate falls from 3e-3 to 1e-3 by half a cosine (authors' program).
"""

from kdarts.search.method import register_method
from kdarts.search.methods.fairdarts import FAIRDARTS

DDARTS = register_method(
    FAIRDARTS.override(
        sharing="individual",
        discretization="edge",
        zero_one_weight=7.0,
        ablation_weight=0.5,
        arch_final_learning_rate=1e-3,
    ).named("ddarts", "D-DARTS, Heuillet et al.")
)
