"""The training loss as a pure function of the weights and of α."""

import keras
import tensorflow as tf

from kdarts.nets.supernet import Supernet


class Objective:
    """Loss and gradients of a supernet at any weights and any α, with no variable read or written.

    The bilevel step needs them at the current weights, at unrolled ones and at shifted ones; taking the values as
    arguments, one trace serves all. A caller pays only for the results it uses: the rest is pruned from its graph.

    Args:
        supernet: gives the structure; its variables' values are not used.
        loss: from labels and logits to a scalar.
    """

    def __init__(self, supernet: Supernet, loss):
        self.supernet, self._loss = supernet, loss
        places = {id(v): ("alphas", i) for i, v in enumerate(supernet.alphas)}
        places |= {id(v): ("weights", i) for i, v in enumerate(supernet.operation_weights)}
        self._places = [places[id(v)] for v in supernet.trainable_variables]
        self._gradients = tf.function(self._gradients_at, autograph=False)

    def values(self) -> tuple[list, list, list]:
        """The variables' current values: weights, α, running statistics."""
        net = self.supernet
        groups = (net.operation_weights, net.alphas, net.non_trainable_variables)
        return tuple([tf.convert_to_tensor(v) for v in group] for group in groups)

    def loss(self, weights, alphas, statistics, batch):
        """Loss, logits and new running statistics on `batch = (x, y)`, differentiable in weights and α."""
        x, y = batch
        given = {"weights": weights, "alphas": alphas}
        trainable = [given[kind][index] for kind, index in self._places]
        logits, statistics = self.supernet.stateless_call(trainable, statistics, x, training=True)
        return self._loss(y, logits), logits, statistics

    def gradients(self, weights, alphas, statistics, batch) -> dict:
        """`loss`, `logits`, `statistics` (new), and the loss's gradients `weights` and `alphas`."""
        return self._gradients(list(weights), list(alphas), list(statistics), *batch)

    def trace(self, batch) -> None:
        """Builds the graph of `gradients` for batches of this shape, ahead of its first use."""
        self._gradients.get_concrete_function(*self.values(), *batch)

    def _gradients_at(self, weights, alphas, statistics, x, y):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((weights, alphas))
            loss, logits, statistics = self.loss(weights, alphas, statistics, (x, y))
        by_weights, by_alphas = tape.gradient(loss, (weights, alphas), unconnected_gradients="zero")
        return {
            "loss": loss,
            "logits": logits,
            "statistics": statistics,
            "weights": by_weights,
            "alphas": by_alphas,
        }


def cross_entropy(dtype: str = "float32") -> keras.losses.Loss:
    """Mean cross-entropy of logits and integer labels, computed in `dtype`."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype=dtype)
