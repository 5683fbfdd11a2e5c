"""The cost that α is expected to come to: what each rule would keep, were α's choices only likely and not certain.

A rule compares strengths. Here each one's logarithm carries a Gumbel noise of a temperature τ, and what the rule keeps
is a draw. Its expected cost is exact, differentiable in every strength, and at τ = 0 the cost of what the rule keeps of
the strengths as they are. So it is not the mixture that is made cheap, most of which no rule keeps, but the network: an
operation far from being kept counts for nothing, one that is about to be kept counts most.

One draw is a softmax; the first two of several are drawn as by Plackett and Luce: the second from those that are left.
"""

import numpy as np
import tensorflow as tf

from kdarts.genotypes.edges import cell_of, node_rows

SURE = 1e-6
"""τ at which nothing is left to chance."""

_NEVER = -1e9
_LEAST = 1e-12


def _first_two(scores):
    """The probability to be among the first two of several.

    Args:
        scores: `[n]`, already over τ; `_NEVER` or so for what cannot be drawn.
    """
    first = tf.nn.softmax(scores)
    count = scores.shape[0]
    if count == 1:
        return first
    others = tf.where(np.eye(count, dtype=bool), tf.constant(2 * _NEVER, scores.dtype), scores[None, :])
    return first + tf.linalg.matvec(tf.nn.softmax(others), first, transpose_a=True)


def _best_of_two_edges(scores, passes):
    """DARTS' rule: an edge is as strong as its best operation, and the node keeps two edges."""
    edges = _first_two(tf.reduce_logsumexp(scores, 1))
    return edges[:, None] * tf.nn.softmax(scores)


def _passing(scores, passes):
    """The same where it reaches the threshold."""
    return _best_of_two_edges(scores, passes) * passes


def _two_of_all(scores, passes):
    """Two operations, whatever edge they stand on."""
    return tf.reshape(_first_two(tf.reshape(scores, [-1])), scores.shape)


def _two_of_each_edge(scores, passes):
    """Two operations of each edge, where they reach the threshold."""
    return tf.stack([_first_two(row) for row in tf.unstack(scores)]) * passes


def _all_that_pass(scores, passes):
    """Whatever reaches the threshold."""
    return passes


def _one_of_each_edge(scores, passes):
    """The strongest operation of every edge, `none` among them."""
    return tf.nn.softmax(scores)


KEPT = {
    "darts": _best_of_two_edges,
    "progressive": _best_of_two_edges,
    "sparse": _passing,
    "pairs": _two_of_all,
    "edge": _two_of_each_edge,
    "complete": _all_that_pass,
    "argmax": _one_of_each_edge,
    "residual": _best_of_two_edges,
}
"""For each rule of cells the probability that a node keeps an operation of an edge, from the logarithms over τ and the
probability that it reaches the threshold. That two of them count skip connections is left out."""


def expected_cell_cost(strengths, costs: np.ndarray, rule: str, threshold: float, temperature):
    """The expected cost of the edges of a cell; a scalar.

    Args:
        strengths: as of `Mixture.strengths`, `[edges, operations]`, without the column of `none` where the rule never
            keeps it; 0 or less for what the edge has not.
        costs: of the same, `[edges, operations]`, for all cells that share them.
        rule: one of `KEPT`.
        threshold: of the rule.
        temperature: τ, a scalar.
    """
    there = strengths > 0
    logs = tf.math.log(tf.where(there, strengths, tf.ones_like(strengths)))
    bar = float(np.log(max(threshold, _LEAST)))
    passes = tf.where(there, tf.sigmoid((logs - bar) / temperature), tf.zeros_like(logs))
    if cell_of(strengths.shape[0])[1] == 1 and rule == "residual":
        rule = "argmax"
    total = []
    for rows in node_rows(strengths.shape[0]).values():
        part, held = logs[rows], there[rows]
        best = tf.reduce_max(tf.where(held, part, tf.constant(_NEVER, part.dtype)))
        scores = tf.where(held, (part - best) / temperature, tf.constant(_NEVER, part.dtype))
        kept = KEPT[rule](scores, passes[rows])
        total.append(tf.reduce_sum(tf.where(held, kept, tf.zeros_like(kept)) * tf.constant(costs[rows], kept.dtype)))
    return tf.add_n(total)


def expected_path_cost(strengths, costs: np.ndarray, allowed: np.ndarray, rule: str, temperature):
    """The same of a path through a HyperCuboid; a scalar.

    The best path is drawn with a probability in proportion to exp(score / τ), the greedy ones step by step.

    Args:
        strengths: of the transitions, `[stages, transitions]`.
        costs: of the transitions, `[stages, states before, states after, choices]`.
        allowed: boolean of that shape.
        rule: "best_path", "greedy_forward" or "greedy_backward".
        temperature: τ, a scalar.
    """
    scores = tf.reshape(strengths, costs.shape)
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
        if state is None:
            taken = tf.reshape(tf.nn.softmax(tf.reshape(score, [-1])), score.shape)
        else:
            taken = state[:, None, None] * tf.reshape(
                tf.nn.softmax(tf.reshape(score, [score.shape[0], -1])), score.shape
            )
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
