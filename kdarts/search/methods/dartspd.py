"""DARTS-PD: Differentiable Architecture Search with Path-wise Weight Sharing Derivation (Cai et al.).

- PC-DARTS' search (stage 1, Algorithm 1), of which soft pruning keeps the two best operations on each of the two
  strongest edges of a node, `none` not counted (`prune`). A path takes one of them on each of 16 edges: 65,536 paths.
- Their shared weights are trained from scratch, without α, with path-wise strict fairness (stage 2, Eq. 4): every step
  trains two paths that use every operation of every edge once, and sums their gradients (`fair_paths`).
- Evolution looks for the best paths by accuracy (stage 3, Eq. 6; `evolution`), each with running statistics of its own.
  It measures on the validation half: Algorithm 1 says test data, section 3.2 validation. The best of each size are a
  family; of weights, as stand-alone networks.
- Recipe of stage 2 (section 4.1): 600 epochs, batch 256, SGD 0.0025 → 0 (cosine), L2 3e-4, "dropout" 0.3, read as
  drop-path, cutout 16. Gradients are clipped as in the search. The evolution's numbers are SPOS' (Guo et al. 2020).
"""

from kdarts.search.method import register_method
from kdarts.search.methods.pcdarts import PCDARTS

DARTSPD = register_method(PCDARTS.override(paths=2).named("dartspd", "DARTS-PD, Cai et al."))
