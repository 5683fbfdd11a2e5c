"""The best choice at each of several stages that keeps limits of costs which add up: a multiple-choice knapsack.

It is solved exactly, by branch and bound. Of any multipliers λ ≥ 0 of the limits T the Lagrangian

    Σ over stages of max over choices of (value − λ · cost)  +  λ · T

is at least the value of every selection within them; subgradient steps bring it near the best one. A branch whose own
bound, or whose cheapest continuation, shows that nothing better lies there is left.
"""

import numpy as np

_STEPS = 100
"""Subgradient steps."""

_CLOSE = 1e-12
"""The part of the values' range by which a better selection must be better: sums are rounded."""


def best_within(values, costs, limits) -> list[int] | None:
    """The selection of the greatest sum of values whose costs are within all limits.

    Of selections of equal sums it is one of them, the same each time.

    Args:
        values: of the choices of each stage, `[stages, choices]`; NaN: not allowed.
        costs: of the same for each limit, `[limits, stages, choices]`, 0 or more.
        limits: the greatest sum of each, `[limits]`.

    Returns:
        The index of a choice for each stage; None if no selection is within the limits.
    """
    values, limits = np.asarray(values, np.float64), np.asarray(limits, np.float64)
    allowed = ~np.isnan(values)
    # As shares of their limits, so that the multipliers are of one size. A limit of 0 allows what costs nothing.
    scale = np.where(limits > 0, limits, 1.0)
    costs = np.where(allowed, np.asarray(costs, np.float64).reshape(len(limits), *values.shape), 0.0)
    costs, limits = costs / scale[:, None, None], limits / scale
    values = np.where(allowed, values, -np.inf)
    free = values.argmax(1)
    stages = np.arange(len(values))
    if (costs[:, stages, free].sum(1) <= limits).all():
        return free.tolist()
    return _Branches(values, costs, limits).best()


class _Branches:
    """The search for the best selection, stage by stage; arguments as of `best_within`, in shares of the limits."""

    def __init__(self, values, costs, limits):
        self.values, self.costs, self.limits = values, costs, limits
        self.multipliers = self._multipliers()
        reduced = values - np.tensordot(self.multipliers, costs, 1)
        self.order = np.argsort(-reduced, axis=1, kind="stable")
        zero = np.zeros(1)
        self.onward = np.concatenate([np.cumsum(reduced.max(1)[::-1])[::-1], zero])
        """The greatest sum of reduced values from each stage on."""
        least = np.where(np.isfinite(values), costs, np.inf).min(2)
        self.cheapest = np.concatenate([np.cumsum(least[:, ::-1], axis=1)[:, ::-1], np.zeros((len(limits), 1))], 1)
        """The least cost from each stage on, for each limit alone."""
        finite = values[np.isfinite(values)]
        self.margin = _CLOSE * max(1.0, float(np.abs(finite).max()) * len(values))
        # What rounding leaves of a sum that equals its limit.
        self.slack = limits + 1e-12
        self.found, self.reached = None, -np.inf

    def _multipliers(self) -> np.ndarray:
        """λ of about the least bound, by subgradient steps of decreasing length."""
        values, costs, limits = self.values, self.costs, self.limits
        stages = np.arange(len(values))
        spread = np.ptp(values[np.isfinite(values)]) or 1.0
        now = best = np.zeros(len(limits))
        least = np.inf
        for step in range(_STEPS):
            reduced = values - np.tensordot(now, costs, 1)
            chosen = reduced.argmax(1)
            bound = reduced[stages, chosen].sum() + now @ limits
            if bound < least:
                least, best = bound, now
            over = costs[:, stages, chosen].sum(1) - limits
            now = np.maximum(0.0, now + len(values) * spread / (step + 1) * over / max(np.linalg.norm(over), 1e-12))
        return best

    def best(self) -> list[int] | None:
        """The choices, or None."""
        self._branch(0, 0.0, np.zeros(len(self.limits)), [])
        return self.found

    def _branch(self, stage: int, value: float, cost: np.ndarray, chosen: list[int]) -> None:
        if stage == len(self.values):
            if value > self.reached and (cost <= self.slack).all():
                self.found, self.reached = list(chosen), value
            return
        for choice in self.order[stage].tolist():
            own = self.values[stage, choice]
            if own == -np.inf:
                break
            total, spent = value + own, cost + self.costs[:, stage, choice]
            bound = total + self.onward[stage + 1] + self.multipliers @ (self.limits - spent)
            if bound <= self.reached + self.margin:
                break  # The choices behind it have a lower bound still.
            if (spent + self.cheapest[:, stage + 1] <= self.slack).all():
                chosen.append(choice)
                self._branch(stage + 1, total, spent, chosen)
                chosen.pop()
