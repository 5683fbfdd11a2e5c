"""What a supernet comes to on a batch under any mixing weights: right answers, the loss, the score of NASWOT."""

import math

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import choice
from kdarts.search.zero_cost import activation_kernel, log_determinant

MEASURES = ("accuracy", "loss", "naswot")
"""Of the loss less is better, of the others more."""


class Measurement:
    """Measures a supernet as a function of its mixing weights; nothing of it changes.

    One trace serves all weights, which are arguments, and the variables' values are read at each call. Normalisations
    take the statistics of the batch, and nothing is dropped.

    Args:
        search: a compiled `Search`.
        kind: "accuracy" (right answers), "loss" (the sum over the examples) or "naswot" (see `naswot`).

    Attributes:
        traces: how often the function was traced, once for each form of a batch.
    """

    def __init__(self, search, kind: str = "accuracy"):
        self.search, self.kind, self.traces = search, choice("measure", kind, MEASURES), 0
        self._function = tf.function(self._measured, autograph=False, reduce_retracing=True)
        self._kernel = activation_kernel(self._logits)

    def _logits(self, x, mixtures):
        net = self.search.supernet
        with keras.StatelessScope() as scope:
            if net.skip_dropout:
                scope.add_update((net.skip_dropout_rate, tf.zeros(())))
            return net.classify(net.states(x, training=True, mixtures=mixtures)[-1])

    def _measured(self, x, y, mixtures):
        self.traces += 1
        logits, y = self._logits(x, mixtures), tf.reshape(y, [-1])
        if self.kind == "accuracy":
            return tf.math.count_nonzero(tf.argmax(logits, -1, tf.int32) == tf.cast(y, tf.int32))
        return self.search.objective.loss_of(y, logits) * tf.cast(tf.shape(y)[0], logits.dtype)

    def __call__(self, mixtures, x, y) -> float:
        """The measure on a batch.

        Args:
            mixtures: for each α weights `[edges, operations]` and shares `[edges]` or None, as of `Mixture.drawn`.
            x, y: images and labels.
        """
        mixtures = [(tf.convert_to_tensor(w), None if s is None else tf.convert_to_tensor(s)) for w, s in mixtures]
        if self.kind == "naswot":
            return log_determinant(self._kernel(x, mixtures).numpy())
        return float(self._function(x, y, mixtures))

    def badness(self, mixtures, batches) -> float:
        """How bad the supernet is on batches: minus the right answers, or the loss, or minus the score; never NaN."""
        total = sum(self(mixtures, x, y) for x, y in batches)
        found = total if self.kind == "loss" else -total
        return math.inf if np.isnan(found) else found
