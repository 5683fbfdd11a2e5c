"""Random genotypes compared without any training: a bar for every search.

- 1,000 genotypes are drawn as in random search with weight sharing: two inputs of each node, one operation on each; in
  NAS-Bench-201's space one operation on every edge. None is trained, and the best by `score` is kept.
- `params`, `macs`: of the live part of the network, the operations on a path from input to output without `none`.
- `naswot`: Mellor, Turner, Storkey and Crowley, "Neural architecture search without training", ICML 2021, Eq. 2.
- `az_nas`: Lee and Ham, "AZ-NAS: assembling zero-cost proxies for network architecture search", CVPR 2024: the ranks of
  expressivity, progressivity, trainability and MACs among the genotypes drawn.
- `rule`: the score of `kdarts.genotypes.rule`, of DARTS' space, which was set by looking at trained cells there.
- Networks have the sizes of the search, which trains nothing: a single batch of its images is looked at.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

ZERO_COST = register_method(
    DARTS.override(sampling="random", update="frozen", samples=1000, score="params", epochs=1).named(
        "zero_cost", "scores without training: NASWOT, Mellor et al., ICML 2021; AZ-NAS, Lee and Ham, CVPR 2024"
    )
)
