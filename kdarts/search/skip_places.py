"""So many skip connections in a cell, where they are surest.

Skip connections train fastest and spread, or are overtaken one by one until none is left. P-DARTS (Chen et al. 2019,
section 3.3) gives up the weakest of too many. Here a cell has a fixed number, on the edges of the largest margins: how
much stronger the skip connection is there than the best other operation. An edge where both are strong loses little by
the other one.
"""

import numpy as np

from kdarts.genotypes.genotype import SKIPS


def place_skips(weights: np.ndarray, operations: tuple[str, ...], count: int) -> np.ndarray:
    """The weights with nothing but skip connections on the `count` edges of the largest margins, and none elsewhere.

    Args:
        weights: after mixing, `[edges, operations]`.
        operations: names of the columns; if none or all of them are skip connections nothing changes.
        count: 0 or more; of equal margins the earlier edge's counts.

    Returns:
        A copy, -1, less than any weight, in place of what an edge loses.
    """
    skips = np.array([name in SKIPS for name in operations])
    others = ~skips & np.array([name != "none" for name in operations])
    weights = np.array(weights, np.float64)
    if skips.any() and others.any():
        edges = np.argsort(weights[:, others].max(1) - weights[:, skips].max(1), kind="stable")
        weights[np.ix_(edges[count:], skips)] = -1
        weights[np.ix_(edges[:count], ~skips)] = -1
    return weights
