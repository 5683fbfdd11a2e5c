"""The expected cost of the network that a selection derives, differentiable in α and β.

A selection compares weights; here the logarithm of each carries Gumbel noise of a temperature τ. At τ = 0 it is the
cost of the derived network itself. The cost of the mixture, most of which is never kept, plays no part.
"""

import numpy as np
import tensorflow as tf

from kdarts.genotypes.edges import cell_of, edge_count, edge_row, node_rows
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.path_space import best_path

SURE = 1e-6
"""τ at which nothing is left to chance."""

LEAST = 1e-4
"""The least τ of a soft choice."""

_NEVER = -1e9
_LEAST_WEIGHT = 1e-12


class CellCosts:
    """What the operations of a `Supernet` cost in all cells that share them.

    `kind` is "macs", "params" or "latency_ms", the last by a table of latencies.
    """

    def __init__(self, net, kind: str, latencies=None):
        self.net = net
        names = net.space.operations
        self.named = [k for k, name in enumerate(names) if name != "none" or net.space.stages]
        rows = [edge_row(*edge, net.space.inputs) for edge in net.edges]
        shape = edge_count(net.nodes, net.space.inputs), len(names)
        summed = [np.zeros(shape) for _ in net.alphas]
        for index, cell in zip(net.sequence, net.candidate_costs(latencies), strict=True):
            summed[index][rows] += np.array([[getattr(cost, kind) for cost in edge] for edge in cell], np.float64)
        self.costs = [costs[:, self.named] for costs in summed]
        """For each α the cost of what a selection may keep, `[edges of a whole cell, operations]`."""

    def expected(self, selection, softness: float):
        """The expected cost of the edges under a selection; a scalar.

        `softness` is τ in multiples of the spread of α; 0: the cost of what is kept now.
        """
        total = []
        for selection_weights, costs in zip(self.net.mixture.selection_weights(), self.costs, strict=True):
            selection_weights = tf.gather(selection_weights, self.named, axis=1)
            tau = _temperature(tf.math.log(tf.boolean_mask(selection_weights, selection_weights > 0)), softness)
            total.append(expected_cell_cost(selection_weights, costs, selection, tau))
        return tf.add_n(total)

    def extreme(self, selection, sign: int):
        """The genotype that costs least (-1) or most (1), as the selection sees it, edge by edge."""
        span = max(costs.max() for costs in self.costs) or 1.0
        bar = getattr(selection, "threshold", 0.5)
        selection_weights = [np.asarray(w, np.float64) for w in self.net.mixture.selection_weights()]
        for weights, costs in zip(selection_weights, self.costs, strict=True):
            there = weights > 0
            ranks = np.zeros_like(weights)
            ranks[:, self.named] = 0.5 + sign * 0.4 * costs / span
            # Beyond a threshold where most is wanted, and short of it where least is.
            ranks = bar + max(1 - bar, 1e-6) * ranks if sign > 0 else (bar or 1.0) * ranks
            weights[there] = ranks[there]
        return self.net.read_out(selection, selection_weights)

    def of_alphas(self) -> list[np.ndarray]:
        """The costs in the shapes of α, as shares of the greatest."""
        span = max(costs.max() for costs in self.costs) or 1.0
        rows, shares = [edge_row(*edge, self.net.space.inputs) for edge in self.net.edges], []
        for alpha, costs in zip(self.net.alphas, self.costs, strict=True):
            shares.append(np.zeros(alpha.shape))
            shares[-1][:, self.named] = costs[rows] / span
        return shares


class GridCosts:
    """What the transitions of a `HyperCuboid` cost, with the stem before the first and the head behind the last.

    `kind` is "macs", "params", "flash" or "latency_ms", the last by a table of latencies. Raises `KdartsError` for
    milliseconds of layers that are not placed operations, which no table has.
    """

    def __init__(self, net, kind: str, latencies=None):
        if latencies is not None and not net.placed:
            raise KdartsError("latency_table: has no rows for Keras layers, only for placed operations")
        self.net = net
        self.costs = np.zeros(net.allowed.shape)
        for index, cost in net.transition_costs(latencies).items():
            self.costs[index] = getattr(cost, kind)

    def expected(self, selection, softness: float):
        """As of `CellCosts.expected`."""
        [selection_weights], allowed = self.net.mixture.selection_weights(), self.net.allowed
        tau = _temperature(tf.boolean_mask(selection_weights, allowed.reshape(len(allowed), -1)), softness)
        return expected_path_cost(selection_weights, self.costs, allowed, selection.name, tau)

    def extreme(self, selection, sign: int):
        """The path that costs least (-1) or most (1), whatever the selection sees."""
        states, choices, _ = best_path(np.where(self.net.allowed, sign * self.costs, np.nan))
        return self.net.path(states, choices)

    def of_alphas(self) -> list[np.ndarray]:
        """As of `CellCosts.of_alphas`."""
        return [self.costs.reshape(self.net.alphas[0].shape) / (self.costs.max() or 1.0)]


def expected_cell_cost(selection_weights, costs: np.ndarray, selection, temperature):
    """The expected cost of the edges of a cell; a scalar.

    Args:
        selection_weights: as of `Mixture.selection_weights`, `[edges, operations]`, without the column of `none` where
            the selection never keeps it; 0 or less for what the edge has not.
        costs: of the same, `[edges, operations]`, for all cells that share them.
        selection: derives the genotype; its `keeps` gives the probabilities.
        temperature: τ, a scalar.
    """
    there = selection_weights > 0
    logs = tf.math.log(tf.where(there, selection_weights, tf.ones_like(selection_weights)))
    bar = float(np.log(max(getattr(selection, "threshold", 1.0), _LEAST_WEIGHT)))
    passes = tf.where(there, tf.sigmoid((logs - bar) / temperature), tf.zeros_like(logs))
    selection, total = selection.in_cells_of(cell_of(selection_weights.shape[0])[1]), []
    for rows in node_rows(selection_weights.shape[0]).values():
        part, held = logs[rows], there[rows]
        best = tf.reduce_max(tf.where(held, part, tf.constant(_NEVER, part.dtype)))
        scores = tf.where(held, (part - best) / temperature, tf.constant(_NEVER, part.dtype))
        kept = selection.keeps(scores, passes[rows])
        total.append(tf.reduce_sum(tf.where(held, kept, tf.zeros_like(kept)) * tf.constant(costs[rows], kept.dtype)))
    return tf.add_n(total)


def expected_path_cost(selection_weights, costs: np.ndarray, allowed: np.ndarray, rule: str, temperature):
    """The same of a path through a HyperCuboid; a scalar.

    The best path is drawn with a probability in proportion to exp(score / τ), the greedy ones step by step.

    Args:
        selection_weights: of the transitions, `[stages, transitions]`.
        costs, allowed: of the transitions, `[stages, states before, states after, choices]`; the latter is boolean.
        rule: "best_path", "greedy_forward" or "greedy_backward".
        temperature: τ, a scalar.
    """
    scores = tf.reshape(selection_weights, costs.shape)
    scores = (scores - tf.reduce_max(scores)) / temperature
    scores = tf.where(allowed, scores, tf.constant(_NEVER, scores.dtype))
    costs = tf.constant(np.where(allowed, costs, 0.0), scores.dtype)
    if rule == "greedy_backward":
        scores, costs = (tf.transpose(x[::-1], (0, 2, 1, 3)) for x in (scores, costs))
    stages = list(zip(tf.unstack(scores), tf.unstack(costs), strict=True))
    if rule == "best_path":
        return _best_path(stages)
    total, state = 0.0, None
    for score, cost in stages:
        rows = tf.reshape(score, [1 if state is None else score.shape[0], -1])
        taken = tf.reshape(tf.nn.softmax(rows), score.shape)
        taken = taken if state is None else state[:, None, None] * taken
        total, state = total + tf.reduce_sum(taken * cost), tf.reduce_sum(taken, (0, 2))
    return total


def _best_path(stages):
    """From the first stage to the last: for each state the sum over the paths there, and their expected cost."""
    states = stages[0][0].shape[0]
    sums, spent = tf.zeros([states], stages[0][0].dtype), tf.zeros([states], stages[0][0].dtype)
    for score, cost in stages:
        arriving = tf.reshape(tf.transpose(sums[:, None, None] + score, (1, 0, 2)), [states, -1])
        costs = tf.reshape(tf.transpose(spent[:, None, None] + cost, (1, 0, 2)), [states, -1])
        spent = tf.reduce_sum(tf.nn.softmax(arriving) * costs, 1)
        sums = tf.reduce_logsumexp(arriving, 1)
    return tf.reduce_sum(tf.nn.softmax(sums) * spent)


def _temperature(scores, softness):
    """τ of scores that spread as they do."""
    if not softness:
        return tf.constant(SURE, scores.dtype)
    return tf.maximum(softness * tf.math.reduce_std(tf.stop_gradient(scores)), LEAST)
