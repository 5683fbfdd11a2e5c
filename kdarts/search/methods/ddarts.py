"""D-DARTS: Distributed Differentiable Architecture Search (Heuillet et al.).

- Every cell has an α, a loss and an Adam of its own (section 4.1). One backward pass gives each its gradient, and Adam
  works element by element, so one optimizer over all α is one for each cell.
- FairDARTS' sigmoid mixing and space. The loss of cell i (Eq. 10): cross-entropy, plus 7 times the zero-one loss of
  its own α (Eq. 4), plus 0.5 times the ablation loss (Eq. 8). The paper names both 7 (section 5.2.1, by experiment)
  and 8 (section 5.1) for the first; 7 is what its published genotypes were searched with.
- Derived cells: `edge`, up to two operations on every edge, each with a weight of at least 0.85 (section 5.1; `sparse`,
  one on the two strongest edges, is the paper's smaller choice). `kdarts deepen` makes 14 or 20 cells of 8.
- Recipe: as FairDARTS; α's rate falls from 3e-3 to 1e-3 by half a cosine (authors' program).

DARTOpti: D-DARTS that starts from a network people know (D-DARTS section 4.4).

- Space S_o: 12 operations, among them those that ResNets and Xceptions are made of.
- α starts from the genotype of a handcrafted network, `--start`: 10 for what is in it, 0 for the rest. Cells that are
  identical there share one α (and one Adam), and keep weights of their own.
- The weights alone are trained for 5 epochs before α moves; schedules count from there (section 4.4).
- Loss and derived cells as D-DARTS. 32 channels in search, 64 in training (section 5.1).
- The search may end once the distance M to its start is stable: within 0.001 for 5 epochs, from epoch 10 on, which is
  the fifth behind the pretraining (section 5.4). With `sparse`, too, M is of up to two operations of an edge, as in the
  authors' program.
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


DARTOPTI = register_method(
    DDARTS.override(
        space="dartopti", sharing="start", pretrain_epochs=5, stop="distance", stop_from=5, channels=32
    ).named("dartopti", "DARTOpti, Heuillet et al. (D-DARTS)")
)
