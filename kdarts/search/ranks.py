"""Ranks, and how far two orders agree."""

import numpy as np


def ranks(values) -> np.ndarray:
    """The rank of each value, from 1 for the least; equal ones have the mean of theirs. -inf is less than all."""
    _, place, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def spearman(first, second) -> float:
    """Spearman's rank correlation of two sequences of numbers, -1 to 1; NaN if one of them is constant."""
    a, b = (each - each.mean() for each in (ranks(first), ranks(second)))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else np.nan


def kendall(first, second) -> float:
    """Kendall's τ-b of two sequences of numbers, -1 to 1; NaN if one of them is constant.

    Discordant pairs are counted bit by bit of the ranks, in O(n log² n) time: two numbers differ first in one bit, and
    are in the wrong order if the one that comes first has it.
    """
    x, y = (np.unique(np.asarray(v, np.float64), return_inverse=True)[1].ravel() for v in (first, second))
    count = len(x)
    y = y[np.lexsort((y, x))]  # Of equal x none is in the wrong order.
    discordant = 0
    for bit in range(int(y.max(initial=0)).bit_length()):
        order = np.argsort(y >> (bit + 1), kind="stable")
        ones, group = (y[order] >> bit) & 1, y[order] >> (bit + 1)
        before = np.cumsum(ones) - ones
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        within = before - np.repeat(before[starts], np.diff([*starts, count]))
        discordant += int(within[ones == 0].sum())

    def pairs(values):
        counts = np.unique(values, return_counts=True)[1].astype(np.int64)
        return int((counts * (counts - 1) // 2).sum())

    total, in_x, in_y = count * (count - 1) // 2, pairs(first), pairs(second)
    in_both = pairs(np.rec.fromarrays([np.asarray(first, np.float64), np.asarray(second, np.float64)]))
    scale = np.sqrt(float(total - in_x) * float(total - in_y))
    return float((total - in_x - in_y + in_both - 2 * discordant) / scale) if scale else np.nan
