"""P-DARTS: Progressive Differentiable Architecture Search (Chen, Xie, Wu, Tian; ICCV 2019).

- Three stages bridge the depth gap between the searched and the trained network (section 3.2): supernets of 5, 11 and
  17 cells, each with fresh weights and fresh α. An edge has 8, 5 and 3 operations in turn, always those with the
  largest weights in the stage before, so that the deeper supernets fit in memory.
- Skip dropout (section 3.3): what skip connections pass on is dropped element by element, lest α fall for what trains
  fastest. The rate decays within a stage; its peaks are 0, 0.4 and 0.7 on CIFAR-10, 0.1, 0.2 and 0.3 on CIFAR-100.
- Skip restriction (section 3.3): the weakest skip connections of the normal cell are given up until 2 are left.
- Derived cell: of each edge the strongest operation but `none`, of each node the two strongest edges.
- Each stage as DARTS in first order, but 25 epochs, of which the first 10 train the weights alone; batch 96; the
  weights' rate falls from 0.025 to 0; α by Adam 6e-4, its gradient, too, clipped at norm 5 (authors' program).
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS
from kdarts.search.stages import Stage

PDARTS = register_method(
    DARTS.override(
        discretization="progressive",
        stages=(Stage(5, 8), Stage(11, 5, 0.4), Stage(17, 3, 0.7)),
        final_learning_rate=0.0,
        arch_learning_rate=6e-4,
        arch_clip=5.0,
        warmup_epochs=10,
        epochs=25,
        batch_size=96,
    ).named("pdarts", "P-DARTS, Chen et al., ICCV 2019")
)
