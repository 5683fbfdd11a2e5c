"""The exponential moving average of a network's weights, which is often better than the last weights are."""

import contextlib

import keras
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.ops.layers import all_layers, running_statistics, unbiased_statistics
from kdarts.search.replicas import is_spread, spread

CALIBRATION = 10
"""Batches that the running statistics of the average are measured on."""


class WeightAverage:
    """The running average of a network's trained weights, and the running statistics that belong to it.

    After step t, counted from 0, the average is `m * average + (1 - m) * weights` with `m = min(ema, t / (9 + t))`. It
    begins with the weights after the first step, and as long as m is below `ema` it lags behind by a tenth of the steps
    so far: the initial weights have no part in it, however short the training is. Keras' optimizers average with `ema`
    from the first step on.

    The running means and variances of a training are those of its last weights, and neither they nor their average are
    those of the average weights. Before a measurement they are measured anew, by passes over training images.

    Args:
        model: A built and compiled model.
        ema: The momentum of the average, in (0, 1).
        batches: A dataset of the batches `(x, y)` for the running statistics.

    Raises:
        KdartsError: If `ema` is out of its range.
    """

    def __init__(self, model: keras.Model, ema: float, batches: tf.data.Dataset | None = None):
        if not 0 < ema < 1:
            raise KdartsError(f"ema {ema}: allowed is above 0 and below 1")
        self.model, self.ema, self._batches = model, ema, batches
        measured = [variable for variable, _, _ in running_statistics(model)]
        with model.distribute_strategy.scope():
            self._weights = [(v, _like(v)) for v in model.trainable_variables]
            self._statistics = [(v, _like(v)) for v in measured]
        self._pass = tf.function(self._run, autograph=False, reduce_retracing=True)

    @property
    def variables(self) -> list[keras.Variable]:
        """The average and its statistics, which the checkpoints of a run hold."""
        return [average for _, average in self.values()]

    def update(self) -> None:
        """Adds the weights after a step, which the optimizer has counted. Call it outside of the replicas."""
        before = tf.cast(tf.maximum(tf.convert_to_tensor(self.model.optimizer.iterations) - 1, 0), tf.float32)
        new = 1 - tf.minimum(tf.constant(self.ema), before / (9 + before))
        for weight, average in self._weights:
            average.assign(average + tf.cast(new, average.dtype) * (weight - average))

    def values(self) -> list[tuple]:
        """Returns `(variable, average)` for each weight and each running statistic, those of the last `calibrate`."""
        return [*self._weights, *self._statistics]

    def calibrate(self) -> None:
        """Measures the running statistics of the average weights. The model itself stays as it is."""
        strategy, model, count = self.model.distribute_strategy, self.model, 0
        with restored(strategy, model.variables):
            for weight, average in self._weights:
                weight.assign(average)
            for variable, start, _ in running_statistics(model):
                variable.assign(tf.fill(variable.shape, tf.cast(start, variable.dtype)))
            for state in (g.state for layer in all_layers(model) if (g := getattr(layer, "seed_generator", None))):
                state.assign(state)  # Replicas that train draw apart, and a run that goes on after its end does not.
            for batch in spread(self._batches, strategy) if is_spread(model) else self._batches:
                self._pass(batch)
                count += 1
            found = [tf.identity(value) for _, value in unbiased_statistics(model, count)]
        for (_, average), value in zip(self._statistics, found, strict=True):
            average.assign(value)

    def _run(self, batch) -> None:
        def each(x):
            self.model(x, training=True)

        self.model.distribute_strategy.run(each, (batch[0],))


def _like(variable: keras.Variable) -> keras.Variable:
    return keras.Variable(tf.zeros(variable.shape), trainable=False, dtype=variable.dtype)


@contextlib.contextmanager
def restored(strategy: tf.distribute.Strategy, variables):
    """A context after which variables are what they were before, on each replica."""
    parts = [part for variable in variables for part in strategy.experimental_local_results(variable.value)]
    own = [tf.identity(part) for part in parts]
    try:
        yield
    finally:
        for part, value in zip(parts, own, strict=True):
            part.assign(value)
