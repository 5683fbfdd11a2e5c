"""Which paths each step of DARTS-PD's second stage trains: path-wise strict fairness (section 3.2, Eq. 4), exactly.

A path is a vector p of one digit of base k for each of E edges. The paths fall into k^(E-1) groups of k paths
{p + j (1, ..., 1) mod k : j = 0 .. k-1}: a group uses every operation of every edge once, and every path is in one
group. A step trains a group (Algorithm 1), a cycle of k^(E-1) steps each group once, in a random order; so after every
cycle all paths were trained equally often, and at any time no path more than once more than another.
"""

import functools

import numpy as np

_SHUFFLED = 2**20
"""Up to so many groups, a cycle's order is a true permutation, drawn whole; of more, an affine one."""


class FairPaths:
    """The groups of every step, as a function of the seed and the step alone.

    Args:
        edges: E, at least 1.
        kept: k, operations on each edge, at least 1.
        seed: 0 to 2**32 - 1.
    """

    def __init__(self, edges: int, kept: int, seed: int = 0):
        self.edges, self.kept, self.seed = edges, kept, seed
        self.cycle = kept ** (edges - 1)
        """Steps after which every path was trained equally often again."""
        self._order_of = functools.lru_cache(maxsize=2)(self._order)

    def group(self, step: int) -> np.ndarray:
        """The paths of a step, counted from 0.

        Returns:
            `[kept, edges]`, a path in each row: the index of its operation on each edge. Every column holds every
            index once.
        """
        cycle, position = divmod(step, self.cycle)
        representative, labels = self._order_of(cycle)
        number, digits = representative(position), np.zeros(self.edges, np.int64)
        for edge in range(1, self.edges):  # The representative has a 0 on the first edge.
            number, digits[edge] = divmod(number, self.kept)
        shifted = (digits + np.arange(self.kept)[:, np.newaxis]) % self.kept
        return np.take_along_axis(labels, shifted, 0)

    def groups(self, first: int, last: int) -> np.ndarray:
        """The groups of steps `first` to before `last`, `[last - first, kept, edges]`, uint8."""
        found = np.zeros((last - first, self.kept, self.edges), np.uint8)
        for step in range(first, last):
            found[step - first] = self.group(step)
        return found

    def _order(self, cycle: int):
        """From a position in a cycle to the number of the group there; and, for each edge, what its digits stand for.

        For k = 2 a group is a path and its opposite, whatever the digits stand for; from k = 3 on, new meanings in
        each cycle make new groups.
        """
        # A legacy generator: its stream is the same in every version of NumPy.
        random = np.random.RandomState([self.seed, cycle])
        labels = np.arange(self.kept)[:, np.newaxis].repeat(self.edges, 1)
        if self.kept > 2:
            labels = np.stack([random.permutation(self.kept) for _ in range(self.edges)], 1)
        if self.cycle <= _SHUFFLED:
            order = random.permutation(self.cycle)
            return lambda position: int(order[position]), labels
        # i -> a i + b modulo k^(E-1), one-to-one as a = 1 modulo k has no divisor in common with k.
        factor, offset = (
            functools.reduce(
                lambda number, digit: number * self.kept + int(digit), random.randint(0, self.kept, self.edges)
            )
            for _ in range(2)
        )
        factor = factor * self.kept + 1
        return lambda position: (factor * position + offset) % self.cycle, labels
