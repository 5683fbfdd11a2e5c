"""The gradient of the validation loss with respect to α (DARTS section 2.3), in three forms.

With weights w, learning rate ξ and training loss L_train, DARTS moves α along

    ∇α L_valid(w', α),   w' = w − ξ ∇w L_train(w, α)            (Eq. 6)

where the step to w' carries the optimizer's momentum and L2 as the real one does. `first` takes ξ = 0; `second`
approximates the part that goes through w' by finite differences; `exact` differentiates through it.
"""

import tensorflow as tf

from kdarts.genotypes.errors import choice
from kdarts.nets import kernels
from kdarts.search.objective import Objective

RADIUS = 0.01
"""How far the finite differences of `second` reach, over all weights together (the paper's ε times the norm)."""


def first(objective: Objective, train, valid, optimizer) -> list:
    """Eq. 6 at ξ = 0: the weights count as already optimal."""
    return objective.gradients(*objective.values(), valid)["alphas"]


def second(objective: Objective, train, valid, optimizer, radius: float = RADIUS) -> list:
    """Eq. 7 and 8: ∇α L_valid(w') − ξ [∇α L_train(w⁺) − ∇α L_train(w⁻)] / 2ε, with w± = w ± ε ∇w' L_valid(w')."""
    weights, alphas, statistics = objective.values()
    by_weights = objective.gradients(weights, alphas, statistics, train)["weights"]
    unrolled = optimizer.virtual_step(by_weights, weights)
    at_unrolled = objective.gradients(unrolled, alphas, statistics, valid)
    direction = at_unrolled["weights"]
    epsilon = radius / tf.linalg.global_norm(direction)
    sides = []
    for sign in (1, -1):
        shifted = [w + sign * epsilon * v for w, v in zip(weights, direction, strict=True)]
        sides.append(objective.gradients(shifted, alphas, statistics, train)["alphas"])
    rate = tf.cast(getattr(optimizer, "unrolled_rate", optimizer.learning_rate), epsilon.dtype)
    return [
        tf.cast(g, epsilon.dtype) - rate * tf.cast(plus - minus, epsilon.dtype) / (2 * epsilon)
        for g, plus, minus in zip(at_unrolled["alphas"], *sides, strict=True)
    ]


def exact(objective: Objective, train, valid, optimizer) -> list:
    """Eq. 6 itself: the true derivative through the unrolled step, a second derivative of the training loss."""
    weights, alphas, statistics = objective.values()
    with kernels.twice_differentiable(), tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(alphas)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(weights)
            loss, *_ = objective.loss(weights, alphas, statistics, train)
        by_weights = inner.gradient(loss, weights, unconnected_gradients="zero")
        unrolled = optimizer.virtual_step(by_weights, weights)
        loss, *_ = objective.loss(unrolled, alphas, statistics, valid)
    return outer.gradient(loss, alphas)


ORDERS = {"first": first, "second": second, "exact": exact}


def get_order(name: str):
    """The gradient called `name`; raises `KdartsError` with the known names otherwise."""
    return ORDERS[choice("order", name, ORDERS)]
