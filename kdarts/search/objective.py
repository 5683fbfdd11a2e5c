"""How the graph of a step is made.

One step of an optimizer from gradients that may have to be scaled, so that they survive float16.

The training loss as a pure function of the weights and of α (and β, wherever α is said here).
"""

import contextlib

import keras
import tensorflow as tf
from keras.optimizers import LossScaleOptimizer

from kdarts.ops.replicas import counted_once, replicas, synchronized
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
        """The variables' current values: weights, α, running statistics."""
        net = self.supernet
        groups = (net.network_variables, net.architecture, net.non_trainable_variables)
        return tuple([tf.convert_to_tensor(v) for v in group] for group in groups)

    @contextlib.contextmanager
    def at(self, weights, alphas, statistics):
        """Inside it, the supernet's variables have these values; what is assigned to them stays in its scope."""
        net = self.supernet
        variables = (*net.network_variables, *net.architecture, *net.non_trainable_variables)
        values = list(zip(variables, (*weights, *alphas, *statistics), strict=True))
        with synchronized(self.sync_batch_norm), keras.StatelessScope(state_mapping=values) as scope:
            yield scope

    def loss(self, weights, alphas, statistics, batch) -> dict:
        """`loss`, `logits`, `statistics` (new) and `states` (see `Supernet.states`) on `batch = (x, y)`.

        All are differentiable in weights and α.
        """
        x, y = batch
        with self.at(weights, alphas, statistics) as scope:
            states = self.supernet.states(x, training=True)
            logits = self.supernet.classify(states[-1])
            loss = self.loss_of(y, logits)
        statistics = [scope.get_current_value(v) for v in self.supernet.non_trainable_variables]
        return {"loss": loss, "logits": logits, "statistics": statistics, "states": states}

    def gradients(self, weights, alphas, statistics, batch, scale=None) -> dict:
        """As `loss`, with the loss's gradients `by_weights` and `by_alphas`; on several replicas each has its own.

        Args:
            weights, alphas, statistics, batch: as of `loss`.
            scale: see `scaled_gradient`.
        """
        # Replicas that wait for one another inside it cannot share a trace.
        compute = self._gradients_at if self.sync_batch_norm and replicas() > 1 else self._gradients
        return compute(list(weights), list(alphas), list(statistics), *batch, scale)

    def trace(self, batch, scale=None) -> None:
        """Builds the graph of `gradients` for batches of this shape, ahead of its first use."""
        self._gradients.get_concrete_function(*self.values(), *batch, scale)

    def _gradients_at(self, weights, alphas, statistics, x, y, scale):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((weights, alphas))
            results = self.loss(weights, alphas, statistics, (x, y))
        by_weights, by_alphas = scaled_gradient(tape, results["loss"], (weights, alphas), scale)
        return {**results, "by_weights": by_weights, "by_alphas": by_alphas}


def scaled_gradient(tape, loss, sources, scale=None):
    """The gradient of `loss`, zeros where it does not reach.

    Args:
        tape: that recorded it.
        loss: scalar.
        sources: nested structure of tensors.
        scale: None, or a factor that the loss is multiplied by on the way back and the gradients are divided by, so
            that they survive float16; where they do not, they are not finite.
    """
    if scale is None:
        return tape.gradient(loss, sources, unconnected_gradients="zero")
    factor = tf.cast(scale, loss.dtype)
    gradients = tape.gradient(loss, sources, output_gradients=factor, unconnected_gradients="zero")
    return tf.nest.map_structure(lambda g: g / tf.cast(factor, g.dtype), gradients)


def cross_entropy(dtype: str = "float32") -> keras.losses.Loss:
    """Mean cross-entropy of logits and integer labels, computed in `dtype`."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype=dtype)
