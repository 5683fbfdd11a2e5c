"""Random genotypes of what a search might find: the baseline that any search has to beat.

Yang, Esperança, Carlucci, "NAS evaluation is frustratingly hard", ICLR 2020: the mean of random architectures under the
same training protocol.
"""

import numpy as np

from kdarts.genotypes.found import Found
from kdarts.genotypes.genotype import Genotype
from kdarts.search.search import Search

_SCALE = 2.0
"""Standard deviation of α: with a sigmoid one operation in five reaches a weight of 0.85."""

_DRAWS = 20


def random_found(search: Search, seed: int, number: int) -> Found:
    """What the search's own rule makes of a random α, of independent normal numbers.

    By DARTS' rule every operation but `none` is equally likely on each input. A draw that leaves a node or a cell
    without input, as rules with a threshold may, is made anew with a larger spread, 20 times at most.

    Args:
        search: α and β of it are overwritten.
        seed, number: of the draw, 0 or more each.

    Returns:
        A genotype, or a path of a HyperCuboid.
    """
    random, scale = np.random.RandomState([seed, number]), _SCALE
    for _ in range(_DRAWS):
        for alpha in (*search.supernet.alphas, *search.supernet.betas):
            alpha.assign(scale * random.standard_normal(alpha.shape))
        found = search.genotype()
        if not isinstance(found, Genotype) or not found.gaps():
            break
        scale *= 1.25
    return found
