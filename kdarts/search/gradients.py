"""The gradient of the validation loss with respect to α (DARTS section 2.3), in three forms.

With weights w, learning rate ξ and training loss L_train, DARTS moves α along

    ∇α L_valid(w', α),   w' = w − ξ ∇w L_train(w, α)            (Eq. 6)

where the step to w' carries the optimizer's momentum and L2 as the real one does. `first` takes ξ = 0; `second`
approximates the part that goes through w' by finite differences; `exact` differentiates through it. On several replicas
each loss is the mean over them, of which each computes a part: gradients are made the mean before anything is done
with them.
"""

from dataclasses import dataclass

import tensorflow as tf

from kdarts.genotypes.errors import choice
from kdarts.ops import kernels
from kdarts.ops.replicas import mean_over_replicas
from kdarts.search.objective import Objective, scaled_gradient

RADIUS = 0.01
"""How far the finite differences of `second` reach, over all weights together (the paper's ε times the norm)."""

LOW_PRECISION_RADIUS = 0.1
"""The same where activations have 16 bits: rounding drowns a shorter reach. (A supernet of 3 cells at float32: cosine
with the exact gradient 0.990 at 0.01 and 0.999 at 0.1; in bfloat16 0.981 and 0.993, in float16 0.980 and 0.996.)"""


@dataclass(frozen=True)
class Validation:
    """The validation loss at w', and where it was taken.

    Attributes:
        gradients: of the loss, for each α.
        loss: scalar, as the gradients the mean over all replicas.
        states: what enters and leaves the cells (see `Supernet.states`).
        weights: w'.
    """

    gradients: list
    loss: tf.Tensor
    states: list
    weights: list


def first(objective: Objective, train, valid, optimizer, scale=None) -> Validation:
    """Eq. 6 at ξ = 0: the weights count as already optimal."""
    weights, alphas, statistics = objective.values()
    found = objective.gradients(weights, alphas, statistics, valid, scale)
    gradients, loss = mean_over_replicas((found["by_alphas"], found["loss"]))
    return Validation(gradients, loss, found["states"], weights)


def second(objective: Objective, train, valid, optimizer, scale=None, radius: float | None = None) -> Validation:
    """Eq. 7 and 8: ∇α L_valid(w') − ξ [∇α L_train(w⁺) − ∇α L_train(w⁻)] / 2ε, with w± = w ± ε ∇w' L_valid(w')."""
    if radius is None:
        radius = LOW_PRECISION_RADIUS if objective.low_precision else RADIUS
    weights, alphas, statistics = objective.values()
    by_weights = mean_over_replicas(objective.gradients(weights, alphas, statistics, train, scale)["by_weights"])
    unrolled = optimizer.virtual_step(by_weights, weights)
    found = objective.gradients(unrolled, alphas, statistics, valid, scale)
    direction, by_alphas, loss = mean_over_replicas((found["by_weights"], found["by_alphas"], found["loss"]))
    epsilon = radius / tf.linalg.global_norm(direction)
    sides = []
    for sign in (1, -1):
        shifted = [w + sign * epsilon * v for w, v in zip(weights, direction, strict=True)]
        sides.append(objective.gradients(shifted, alphas, statistics, train, scale)["by_alphas"])
    sides = mean_over_replicas(sides)
    rate = tf.cast(getattr(optimizer, "unrolled_rate", optimizer.learning_rate), epsilon.dtype)
    gradients = [
        tf.cast(g, epsilon.dtype) - rate * tf.cast(plus - minus, epsilon.dtype) / (2 * epsilon)
        for g, plus, minus in zip(by_alphas, *sides, strict=True)
    ]
    return Validation(gradients, loss, found["states"], unrolled)


def exact(objective: Objective, train, valid, optimizer, scale=None) -> Validation:
    """Eq. 6 itself: the true derivative through the unrolled step, a second derivative of the training loss."""
    weights, alphas, statistics = objective.values()
    with kernels.twice_differentiable(), tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(alphas)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(weights)
            loss = objective.loss(weights, alphas, statistics, train)["loss"]
        by_weights = mean_over_replicas(scaled_gradient(inner, loss, weights, scale))
        unrolled = optimizer.virtual_step(by_weights, weights)
        found = objective.loss(unrolled, alphas, statistics, valid)
    # Behind w' is what all replicas have done: each one's derivative is that of the sum of their losses.
    gradients = scaled_gradient(outer, found["loss"], alphas, scale)
    gradients, loss = mean_over_replicas((gradients, found["loss"]))
    return Validation(gradients, loss, found["states"], unrolled)


ORDERS = {"first": first, "second": second, "exact": exact}


def get_order(name: str):
    """The gradient called `name`; raises `KdartsError` with the known names otherwise."""
    return ORDERS[choice("order", name, ORDERS)]
