"""DARTOpti: D-DARTS that starts from a network people know (D-DARTS section 4.4).

- Space S_o: 12 operations, among them those that ResNets and Xceptions are made of.
- α starts from the genotype of a handcrafted network, `--start`: 10 for what is in it, 0 for the rest. Cells that are
  identical there share one α (and one Adam), and keep weights of their own.
- The weights alone are trained for 5 epochs before α moves; schedules count from there (section 5.4).
- Loss and derived cells as D-DARTS. 32 channels in search, 64 in training (section 5.1).
- The search may end once the distance M to its start is stable: within 0.001 for 5 epochs, from epoch 10 on, which is
  the fifth behind the pretraining (section 5.4). With `sparse`, too, M is of up to two operations of an edge, as in the
  authors' program.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.ddarts import DDARTS

DARTOPTI = register_method(
    DDARTS.override(
        space="dartopti",
        sharing="start",
        pretrain_epochs=5,
        stop="distance",
        stop_from=5,
        channels=32,
    ).named("dartopti", "DARTOpti, Heuillet et al. (D-DARTS)")
)
