"""Random search with weight sharing: the baseline of a search (Li and Talwalkar, UAI 2019).

- Each step trains the weights by a genotype drawn at random: two inputs of each node, one operation on each. α rests.
- After the last epoch 1,000 random genotypes are compared on one validation batch in those weights, the ten best on all
  of them, and the best is kept (Algorithm 1; section 4.2.2).
- Otherwise as DARTS.
"""

from kdarts.search.method import register_method
from kdarts.search.methods.darts import DARTS

RANDOM = register_method(
    DARTS.override(sampling="random", update="frozen", samples=1000).named(
        "random", "random search with weight sharing, Li and Talwalkar, UAI 2019"
    )
)
