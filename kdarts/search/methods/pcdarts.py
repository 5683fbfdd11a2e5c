"""PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search (Xu et al., ICLR 2020).

- Partial channels: 1/K of a source's channels go through the candidates, the others pass by (Eq. 2), and a shuffle
  mixes them for the next node. K = 4 makes a batch four times as large fit; fewer channels also narrow the lead of the
  operations without weights (section 3.2). Where an edge has stride 2, what passes by is pooled (authors' program).
- Edge normalisation: which channels are sampled makes α unsteady, so each edge into a node has a share besides, a
  softmax of β over the node's edges (Eq. 3). α and β are trained by one Adam (section 3.3).
- Derived cell: DARTS' rule on the products of both softmaxes (section 3.3); β ranks edges, never operations.
- Recipe for CIFAR (section 4.2, authors' program): DARTS, first order, batch 256; weights by SGD 0.1 → 0; α and β by
  Adam 6e-4, and at rest for the first 15 of 50 epochs.
- ImageNet (section 4.3): K = 2, 10 % and 2.5 % of the images, batch 1024; weights 0.5 → 0 after a climb of 5 epochs, α
  and β 6e-3, at rest for 35 epochs, their gradient clipped at 5 (authors' program): `flags/pcdarts_imagenet.flags`.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

PCDARTS = register_method(
    DARTS.override(
        partial_channels=4,
        learning_rate=0.1,
        final_learning_rate=0.0,
        arch_learning_rate=6e-4,
        warmup_epochs=15,
        batch_size=256,
    ).named("pcdarts", "PC-DARTS, Xu et al., ICLR 2020")
)
