"""SPOS: Single Path One-Shot Neural Architecture Search with Uniform Sampling (Guo et al., ECCV 2020).

- Each step trains one path, with weight 1 on one operation of each edge, all operations equally likely (section 3.2). α
  rests.
- Evolution then looks for the best path in the supernet's weights (section 3.4): 20 generations of 50, the first
  random, the others by mutation of each gene with probability 0.1 and by uniform crossover of the ten best so far;
  never a path twice. Each is measured on the images of α, with running statistics of its own, of 200 batches of 128.
- The paper's networks are chains of blocks; here a path goes through the edges of a cell, the same in all cells of a
  kind. With `none` on an edge a node has one input less: the derived cell has any number of them.
- Otherwise as DARTS. Of ImageNet the paper has 150,000 steps of batch 1024.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

SPOS = register_method(
    DARTS.override(
        sampling="path",
        update="frozen",
        path_choice="evolution",
        paths=100,
        path_batch_size=128,
        calibration_batches=200,
    ).named("spos", "SPOS, Guo et al., ECCV 2020")
)
