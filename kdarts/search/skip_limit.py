"""At most so many skip connections in a cell: those that are surest.

Skip connections train fastest and spread; P-DARTS (Chen et al. 2019, section 3.3) gives up the weakest. Here an edge
keeps its skip connection by its margin, how much stronger it is than the best other operation there: an edge where both
are strong loses little by the other one.
"""

import numpy as np

from kdarts.genotypes.genotype import SKIPS


def limit_skips(weights: np.ndarray, operations: tuple[str, ...], most: int) -> np.ndarray:
    """The weights with skip connections on the `most` edges of the largest margins, and -1, less than any, on others.

    Args:
        weights: after mixing, `[edges, operations]`.
        operations: names of the columns; with none but skip connections nothing changes.
        most: 0 or more; of equal margins the earlier edge's counts.
    """
    skips = np.array([name in SKIPS for name in operations])
    others = ~skips & np.array([name != "none" for name in operations])
    if not skips.any() or not others.any():
        return weights
    margins = weights[:, skips].max(1) - weights[:, others].max(1)
    given_up = np.argsort(-margins, kind="stable")[most:]
    weights = np.array(weights, np.float64)
    weights[np.ix_(given_up, skips)] = -1
    return weights
