"""The bilevel problem of two numbers on which unrolling can be watched (DARTS section 2.3 and Figure 2).

    L_train(w, α) = w² − 2αw + α²,   L_valid(w, α) = αw − 2α + 1

Its solution is α = w = 1. Here w* = α, and w' = w − ξ ∇w L_train is w* at ξ = 1/2: there the approximation is exact,
and the search ends at the solution. At another ξ it ends on the line w = α, at 2 / (1 + 2ξ).
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.gradients import get_order
from kdarts.search.objective import scaled_gradient
from kdarts.search.optimizers import SGD

SOLUTION = (1.0, 1.0)
"""α and w where both levels are solved."""

START = (2.0, -2.0)
"""α and w at the beginning, as the paper has it."""


def train_loss(w, alpha):
    """The lower level: w shall follow α."""
    return w**2 - 2 * alpha * w + alpha**2


def valid_loss(w, alpha):
    """The upper level."""
    return alpha * w - 2 * alpha + 1


def fixed_point(xi: float) -> float:
    """Where α and w come to rest, both: there w = α, and ∇α L_valid(w', α) = α − 2 + 2ξα is zero."""
    return 2 / (1 + 2 * xi)


class ToyObjective:
    """Stands for an `Objective` where a loss takes the place of a batch; weights and α are lists of one scalar each."""

    low_precision = False

    def __init__(self, weights, alphas):
        self._values = weights, alphas

    def values(self):
        """As of `Objective.values`; there are no running statistics."""
        return *self._values, []

    def loss(self, weights, alphas, statistics, batch) -> dict:
        """As of `Objective.loss`; `batch` is `train_loss` or `valid_loss`, and no state enters or leaves a cell."""
        return {"loss": batch(*weights, *alphas), "states": []}

    def gradients(self, weights, alphas, statistics, batch, scale=None) -> dict:
        """As of `Objective.gradients`."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((weights, alphas))
            results = self.loss(weights, alphas, statistics, batch)
        by_weights, by_alphas = scaled_gradient(tape, results["loss"], (weights, alphas), scale)
        return {**results, "by_weights": by_weights, "by_alphas": by_alphas}


@dataclass(frozen=True)
class ToyRun:
    """One search: ξ, α and w before each iteration and after the last (`path`, `[iterations + 1, 2]`).

    `converged` says whether both stood still in the end, not merely the iterations were over.
    """

    xi: float
    path: np.ndarray
    converged: bool

    @property
    def iterations(self) -> int:
        """How many steps of both."""
        return len(self.path) - 1


def run_toy(
    xi: float, order=None, learning_rate: float = 0.01, threshold: float = 1e-4, start=START, limit: int = 10_000
) -> ToyRun:
    """Searches by plain gradient descent: a step of α, then one of w at the new α, until both are below `threshold`.

    Args:
        xi: learning rate of the unrolled step of w, from 0; α's gradient is the search's own (`get_order`).
        order: "first", "second" or "exact"; None: first at ξ = 0, else second.
        learning_rate: of the steps of α and of w, above 0.
        threshold: length of a step, above 0.
        start: α and w.
        limit: most iterations, from 1.

    Raises:
        KdartsError: if a number is out of its range, or a step leads out of all bounds.
    """
    numbers = {"xi": xi, "learning_rate": learning_rate, "threshold": threshold, "start": start, "limit": limit}
    for name, number in numbers.items():
        if not np.isfinite(number).all():
            raise KdartsError(f"toy: {name} {number}: needs finite numbers")
    if xi < 0 or not learning_rate > 0 or not threshold > 0 or limit < 1:
        raise KdartsError(
            f"toy: xi {xi}, learning_rate {learning_rate}, threshold {threshold}, limit {limit}: "
            "needs xi from 0, learning_rate and threshold above 0, limit from 1"
        )
    unrolled, plain = SGD(float(xi), momentum=0.0, l2=0.0), SGD(float(learning_rate), momentum=0.0, l2=0.0)
    gradient = get_order(order or ("second" if xi else "first"))

    def iterate(alpha, w):
        objective = ToyObjective([w], [alpha])
        [moved] = plain.virtual_step(gradient(objective, train_loss, valid_loss, unrolled).gradients, [alpha])
        [step] = objective.gradients([w], [moved], [], train_loss)["by_weights"]
        return moved, plain.virtual_step([step], [w])[0]

    path, still = _descend(iterate, start, threshold, limit)
    path = path.numpy()
    if not np.isfinite(path).all():
        raise KdartsError(f"toy: xi {xi} at learning rate {learning_rate} leads out of all bounds; take a lower one")
    return ToyRun(xi, path, bool(still))


def _descend(iterate, start, threshold, limit):
    """The points from `start` on, and whether the last step was a short one; one graph, whatever the iterations."""

    @tf.function(autograph=False)
    def descend(point):
        def going_on(count, point, moved, points):
            return tf.reduce_any(moved >= threshold)

        def step(count, point, moved, points):
            after = tf.stack(iterate(*tf.unstack(point)))
            return count + 1, after, tf.abs(after - point), points.write(count, after)

        points = tf.TensorArray(point.dtype, 1, dynamic_size=True, element_shape=[2]).write(0, point)
        far = tf.fill([2], tf.constant(np.inf, point.dtype))
        _, _, moved, points = tf.while_loop(going_on, step, (1, point, far, points), maximum_iterations=limit)
        return points.stack(), tf.reduce_all(moved < threshold)

    point = tf.constant(start, tf.float64)
    return descend.get_concrete_function(point)(point)
