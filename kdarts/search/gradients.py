"""The gradient with respect to α (DARTS section 2.3).

With weights w, learning rate ξ and training loss L_train, DARTS moves α along

    ∇α L_valid(w', α),   w' = w − ξ ∇w L_train(w, α)            (Eq. 6)

where the virtual step to w' carries the optimizer's momentum and L2 as the real one does. On several replicas each loss
is the mean over them, of which each computes a part: gradients are averaged before anything is done with them.

Keras and TensorFlow are imported where they are used: commands that only read settings do not wait for them.
"""

from dataclasses import dataclass
from typing import ClassVar

from kdarts.genotypes.settings import Axis, Registry

RADIUS = 0.01
"""How far the finite differences reach, over all weights together (the paper's ε times the norm)."""

LOW_PRECISION_RADIUS = 0.1
"""The same where activations have 16 bits: rounding drowns a shorter reach. (A supernet of 3 cells at float32: cosine
with the exact gradient 0.990 at 0.01 and 0.999 at 0.1; in bfloat16 0.981 and 0.993, in float16 0.980 and 0.996.)"""

GRADIENTS = Registry("order")


@dataclass(frozen=True)
class Validation:
    """The loss that α descends, and where it was taken.

    Attributes:
        gradients: of the loss, for each α.
        loss: scalar; like the gradients the mean over all replicas.
        states: what enters and leaves the cells (see `Supernet.states`).
        weights: those that the loss was taken at, w' where the step is unrolled.
    """

    gradients: list
    loss: object
    states: list
    weights: list


@dataclass(frozen=True)
class Gradient(Axis):
    """A form of ∇α. A kind of it defines a call.

    Attributes:
        passes: gradients that it takes, in units of one of the supernet's loss, for estimates of cost.
        unrolls: whether it asks the optimizer of the weights for a virtual step.
        joint: whether α and the weights descend one loss in one step, on the training batch (one level).
    """

    passes: ClassVar[int] = 1
    unrolls: ClassVar[bool] = False
    joint: ClassVar[bool] = False

    def __call__(self, objective, train, valid, optimizer, scale=None) -> Validation:
        """The gradient at the current values.

        Args:
            objective: an `Objective`.
            train, valid: batches `(x, y)`.
            optimizer: of the weights.
            scale: as of `scaled_gradient`.
        """
        raise NotImplementedError


def register_gradient(kind: type[Gradient]) -> type[Gradient]:
    """Makes a form of the gradient known by its `name`, to `--order` and to `order=`."""
    return GRADIENTS.add(kind)


@register_gradient
@dataclass(frozen=True)
class FirstOrder(Gradient):
    """Eq. 6 at ξ = 0: the weights count as already optimal."""

    name: ClassVar[str] = "first"

    def __call__(self, objective, train, valid, optimizer, scale=None) -> Validation:
        from kdarts.ops.replicas import mean_over_replicas

        weights, alphas, statistics = objective.values()
        found = objective.gradients(weights, alphas, statistics, valid, scale)
        gradients, loss = mean_over_replicas((found["by_alphas"], found["loss"]))
        return Validation(gradients, loss, found["states"], weights)


@register_gradient
@dataclass(frozen=True)
class FiniteDifference(Gradient):
    """Eq. 7 and 8: ∇α L_valid(w') − ξ [∇α L_train(w⁺) − ∇α L_train(w⁻)] / 2ε, with w± = w ± ε ∇w' L_valid(w')."""

    name: ClassVar[str] = "second"
    passes: ClassVar[int] = 4
    unrolls: ClassVar[bool] = True
    sides: ClassVar[tuple[int, int]] = (1, -1)
    """Where the difference is taken, in units of ε along ∇w' L_valid(w')."""

    def __call__(self, objective, train, valid, optimizer, scale=None, radius: float | None = None) -> Validation:
        import tensorflow as tf

        from kdarts.ops.replicas import mean_over_replicas

        if radius is None:
            radius = LOW_PRECISION_RADIUS if objective.low_precision else RADIUS
        weights, alphas, statistics = objective.values()
        here = objective.gradients(weights, alphas, statistics, train, scale)
        unrolled = optimizer.virtual_step(mean_over_replicas(here["by_weights"]), weights)
        found = objective.gradients(unrolled, alphas, statistics, valid, scale)
        direction, by_alphas, loss = mean_over_replicas((found["by_weights"], found["by_alphas"], found["loss"]))
        epsilon = radius / tf.linalg.global_norm(direction)
        sides = []
        for sign in self.sides:
            shifted = [w + sign * epsilon * v for w, v in zip(weights, direction, strict=True)]
            at_side = objective.gradients(shifted, alphas, statistics, train, scale) if sign else here
            sides.append(at_side["by_alphas"])
        sides = mean_over_replicas(sides)
        rate = tf.cast(getattr(optimizer, "unrolled_rate", optimizer.learning_rate), epsilon.dtype)
        reach = (self.sides[0] - self.sides[1]) * epsilon
        gradients = [
            tf.cast(g, epsilon.dtype) - rate * tf.cast(plus - minus, epsilon.dtype) / reach
            for g, plus, minus in zip(by_alphas, *sides, strict=True)
        ]
        return Validation(gradients, loss, found["states"], unrolled)


@register_gradient
@dataclass(frozen=True)
class ForwardDifference(FiniteDifference):
    """Eq. 7 with the difference on one side: ∇α L_valid(w') − ξ [∇α L_train(w⁺) − ∇α L_train(w)] / ε.

    ∇α L_train(w) comes with ∇w L_train(w), which the virtual step needs anyway, so that one pass less is computed than
    in Eq. 8. In return the error falls with ε and not with its square.
    """

    name: ClassVar[str] = "second_forward"
    passes: ClassVar[int] = 3
    sides: ClassVar[tuple[int, int]] = (1, 0)


@register_gradient
@dataclass(frozen=True)
class Exact(Gradient):
    """Eq. 6 itself: the true derivative through the virtual step, a second derivative of the training loss."""

    name: ClassVar[str] = "exact"
    passes: ClassVar[int] = 4
    unrolls: ClassVar[bool] = True

    def __call__(self, objective, train, valid, optimizer, scale=None) -> Validation:
        import tensorflow as tf

        from kdarts.ops import kernels
        from kdarts.ops.replicas import mean_over_replicas
        from kdarts.search.objective import scaled_gradient

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


@register_gradient
@dataclass(frozen=True)
class Joint(Gradient):
    """One level: ∇α L_train(w, α) on the batch and in the pass that train the weights (SNAS, Xie et al. 2019).

    The batches come from all images, as with the level "single"; those of α are not used.
    """

    name: ClassVar[str] = "joint"
    passes: ClassVar[int] = 0
    joint: ClassVar[bool] = True

    def __call__(self, objective, train, valid, optimizer, scale=None) -> Validation:
        return FirstOrder()(objective, train, train, optimizer, scale)


def get_order(name: str) -> Gradient:
    """The gradient called `name`; raises `KdartsError` with the known names otherwise."""
    return GRADIENTS.get(name)()
