"""The training loss as a pure function of the weights and of α (with β), its gradients, and its curvature in α.

The curvature is a sign of a collapse: where the dominant eigenvalue of the Hessian ∇²α L_valid(w, α) grows, the derived
networks generalise worse (Zela et al., ICLR 2020, section 4).
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import LossScaleOptimizer

from kdarts.ops import kernels
from kdarts.ops.replicas import counted_once, replicas, synchronized
from kdarts.search.step import value_of
from kdarts.supernet.supernet import Supernet


@contextlib.contextmanager
def without_graph_rewriting():
    """Leaves the step's graph as it is built: rewriting it costs more time at the start than it ever gives back.

    The setting belongs to the whole process, so it is put back afterwards.
    """
    before = tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})


def loss_scale(optimizer):
    """The factor by which an optimizer wants the loss scaled; None for most."""
    return optimizer.scale_loss(tf.constant(1.0)) if isinstance(optimizer, LossScaleOptimizer) else None


def apply_gradients(optimizer, gradients, variables) -> None:
    """One step from gradients as they are; a `LossScaleOptimizer` expects them scaled, and skips what is not finite.

    On several replicas they are the mean over all.
    """
    scale, gradients = loss_scale(optimizer), counted_once(gradients)
    if scale is not None:
        gradients = [g * tf.cast(scale, g.dtype) for g in gradients]
    optimizer.apply(gradients, variables)


class Objective:
    """Loss and gradients of a supernet at any weights and any α, with no variable read or written.

    The bilevel step needs them at the current weights, at unrolled ones and at shifted ones; taking the values as
    arguments, one trace serves all. A caller pays only for the results it uses: the rest is pruned from its graph.

    Args:
        supernet: gives the structure; its variables' values are not used.
        loss: from labels and logits to a scalar.
        sync_batch_norm: whether normalisations take the moments of all replicas' batches together; else each its own.
    """

    def __init__(self, supernet: Supernet, loss, sync_batch_norm: bool = False):
        self.supernet, self.loss_of, self.sync_batch_norm = supernet, loss, sync_batch_norm
        self.low_precision = supernet.compute_dtype in ("float16", "bfloat16")
        self._gradients = tf.function(self._gradients_at, autograph=False)

    def values(self) -> tuple[list, list, list]:
        """The variables' current values: weights, α, running statistics and other state.

        Inside a step those of α and of the draws are read anew, the others where the step has not read them yet.
        """
        net = self.supernet
        changed = {id(variable) for variable in net.mixture.variables}
        groups = (net.network_variables, net.architecture, net.non_trainable_variables)
        return tuple([tf.convert_to_tensor(v) if id(v) in changed else value_of(v) for v in group] for group in groups)

    @contextlib.contextmanager
    def at(self, weights, alphas, statistics):
        """Inside it, the supernet's variables have these values; what is assigned to them stays in its scope."""
        net = self.supernet
        variables = (*net.network_variables, *net.architecture, *net.non_trainable_variables)
        values = list(zip(variables, (*weights, *alphas, *statistics), strict=True))
        with synchronized(self.sync_batch_norm), keras.StatelessScope(state_mapping=values) as scope:
            yield scope

    def loss(self, weights, alphas, statistics, batch, shifts=None) -> dict:
        """`loss`, `logits`, `statistics` (new) and `states` (see `Supernet.states`) on `batch = (x, y)`.

        All are differentiable in weights and α, and in the `shifts` of the mixing weights of each cell, if there are
        any (see `Supernet.states`).
        """
        x, y = batch
        shifted = {} if shifts is None else {"shifts": shifts}
        with self.at(weights, alphas, statistics) as scope:
            states = self.supernet.states(x, training=True, **shifted)
            logits = self.supernet.classify(states[-1])
            loss = self.loss_of(y, logits)
        statistics = [scope.get_current_value(v) for v in self.supernet.non_trainable_variables]
        return {"loss": loss, "logits": logits, "statistics": statistics, "states": states}

    def gradients(self, weights, alphas, statistics, batch, scale=None, shifts=None) -> dict:
        """As `loss`, with the loss's gradients `by_weights` and `by_alphas`; on several replicas each has its own.

        `scale` is as of `scaled_gradient`. With `shifts` there is `by_shifts`, too: for each cell the gradient by its
        own mixing weights.
        """
        # Replicas that wait for one another inside it cannot share a trace.
        compute = self._gradients_at if self.sync_batch_norm and replicas() > 1 else self._gradients
        shifted = () if shifts is None else (list(shifts),)
        return compute(list(weights), list(alphas), list(statistics), *batch, scale, *shifted)

    def trace(self, batch, scale=None) -> None:
        """Builds the graph of `gradients` for batches of this shape, ahead of its first use."""
        self._gradients.get_concrete_function(*self.values(), *batch, scale)

    def _gradients_at(self, weights, alphas, statistics, x, y, scale, shifts=None):
        sources = {"by_weights": weights, "by_alphas": alphas} | ({} if shifts is None else {"by_shifts": shifts})
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            results = self.loss(weights, alphas, statistics, (x, y), shifts)
        return results | scaled_gradient(tape, results["loss"], sources, scale)


def scaled_gradient(tape, loss, sources, scale=None):
    """The gradient of the scalar `loss` with respect to a structure of tensors, zeros where it does not reach.

    With a `scale` the loss is multiplied by it on the way back and the gradients are divided by it, so that they
    survive float16; where they do not, they are not finite.
    """
    if scale is None:
        return tape.gradient(loss, sources, unconnected_gradients="zero")
    factor = tf.cast(scale, loss.dtype)
    gradients = tape.gradient(loss, sources, output_gradients=factor, unconnected_gradients="zero")
    return tf.nest.map_structure(lambda g: g / tf.cast(factor, g.dtype), gradients)


def cross_entropy(dtype: str = "float32") -> keras.losses.Loss:
    """Mean cross-entropy of logits and integer labels, computed in `dtype`."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype=dtype)


PRODUCTS = 40
"""Most products with the Hessian in one measurement."""

TOLERANCE = 1e-3
"""The eigenvalue is known once what is left of its vector is so small, relative to it; its own error is far smaller."""


class Curvature:
    """The Hessian of the validation loss in α (not in β) at the current weights.

    Its products with vectors are exact, by differentiating twice. β and the weights stand still, running statistics and
    draws too: measuring changes nothing.
    """

    def __init__(self, objective: Objective):
        self.objective = objective
        self._product = tf.function(self._product_with, autograph=False)

    def product(self, batch, vector: np.ndarray) -> np.ndarray:
        """H v on a batch `(x, y)`; v is as long as all α together, in their order, rows first."""
        shapes = [alpha.shape for alpha in self.objective.supernet.alphas]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        parts = [p.reshape(s) for p, s in zip(np.split(np.asarray(vector), ends[:-1]), shapes, strict=True)]
        dtype = self.objective.supernet.alphas[0].dtype
        found = self._product(*batch, [tf.constant(part, dtype) for part in parts])
        return np.concatenate([np.asarray(part, np.float64).ravel() for part in found])

    def _product_with(self, x, y, direction):
        weights, architecture, statistics = self.objective.values()
        alphas, others = architecture[: len(direction)], architecture[len(direction) :]
        with kernels.twice_differentiable(), tf.GradientTape(watch_accessed_variables=False) as outer:
            outer.watch(alphas)
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                inner.watch(alphas)
                loss = self.objective.loss(weights, [*alphas, *others], statistics, (x, y))["loss"]
            slopes = inner.gradient(loss, alphas, unconnected_gradients="zero")
            along = tf.add_n([tf.reduce_sum(g * v) for g, v in zip(slopes, direction, strict=True)])
        return outer.gradient(along, alphas, unconnected_gradients="zero")

    def eigenvalue(self, batch, seed: int = 0) -> float:
        """The dominant eigenvalue on a batch `(x, y)`: that of the greatest size, with its sign.

        The powers of H at a random vector, drawn by `seed`, each made orthogonal to those before it (Lanczos): the
        vector that the last power alone leads to lies in their span, and is found there after far fewer products.
        """
        size = sum(int(np.prod(alpha.shape)) for alpha in self.objective.supernet.alphas)
        vector = np.random.default_rng(seed).normal(size=size)
        basis, beside, diagonal = [vector / np.linalg.norm(vector)], [], []
        while True:
            image = self.product(batch, basis[-1])
            if not np.isfinite(image).all():
                return float("nan")
            diagonal.append(basis[-1] @ image)
            for _ in range(2):  # Once leaves a rest of rounding that grows.
                image = image - np.stack(basis).T @ (np.stack(basis) @ image)
            left = np.linalg.norm(image)
            values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
            best = np.argmax(np.abs(values))
            known = left * abs(vectors[-1, best]) <= TOLERANCE * abs(values[best])
            if known or len(diagonal) >= min(PRODUCTS, size):
                return float(values[best])
            basis.append(image / left)
            beside.append(left)
