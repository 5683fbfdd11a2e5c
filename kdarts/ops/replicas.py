"""A step on several replicas of a model (`tf.distribute`): what is computed on one of them is made the mean of all.

Keras leaves this to its optimizers, which sum over the replicas what each has clipped, and tested for infinities, on
its own. A bilevel step needs the mean earlier: for the virtual step, and for the step of α.
"""

import contextlib
import contextvars

import keras
import tensorflow as tf

from kdarts.ops.layers import all_layers

_together = contextvars.ContextVar("synchronized", default=False)


def replicas() -> int:
    """How many replicas compute the step at hand together; 1 outside of one."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def mean_over_replicas(tensors):
    """The mean of each tensor of a structure over all replicas, differentiable; they must ask for it in the same order.

    What is not of floating point is left as it is.
    """
    if replicas() == 1:
        return tensors
    flat = [tf.convert_to_tensor(tensor) for tensor in tf.nest.flatten(tensors)]
    for dtype in sorted({tensor.dtype for tensor in flat if tensor.dtype.is_floating}, key=str):
        places = [place for place, tensor in enumerate(flat) if tensor.dtype == dtype]
        # As one tensor: a supernet has hundreds of small weights.
        joined = tf.concat([tf.reshape(flat[place], [-1]) for place in places], 0)
        joined = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, joined)
        parts = tf.split(joined, [flat[place].shape.num_elements() for place in places])
        for place, part in zip(places, parts, strict=True):
            flat[place] = tf.reshape(part, flat[place].shape)
    return tf.nest.pack_sequence_as(tensors, flat)


@contextlib.contextmanager
def synchronized(value: bool = True):
    """Inside it, batch normalisation takes the moments of all replicas' batches together, or each its own."""
    token = _together.set(value)
    try:
        yield
    finally:
        _together.reset(token)


def is_synchronized() -> bool:
    """Whether it is now the moments of all replicas' batches."""
    return _together.get() and replicas() > 1


def moments_over_replicas(mean, variance, count):
    """Mean, variance and number of all replicas' values; `count` is how many each replica has, the same on all.

    `mean` and `variance`, `[channels]`, are of this replica's values; the results are differentiable in them.
    """
    context, number = tf.distribute.get_replica_context(), replicas()
    # Each fills a row of its own: the sum is then a table of all, and no large mean can drown a small variance.
    row = tf.one_hot(context.replica_id_in_sync_group, number, dtype=mean.dtype)[:, None]
    table = context.all_reduce(tf.distribute.ReduceOp.SUM, row * tf.concat([mean, variance], 0))
    means, variances = tf.split(table, 2, 1)
    mean = tf.reduce_mean(means, 0)
    return mean, tf.reduce_mean(variances + tf.square(means - mean), 0), count * number


def own_seed(seed):
    """The seed of a draw that each replica makes for itself, such as a dropout's, from the common seed `[2]`."""
    if replicas() == 1:
        return seed
    return tf.random.fold_in(seed, tf.distribute.get_replica_context().replica_id_in_sync_group)


def counted_once(gradients: list) -> list:
    """What each replica hands to a Keras optimizer, which sums over them, so that the sum is `gradients`.

    The first replica has them all, and clips them as they are; the others have zeros, but what is not finite, which
    makes a `LossScaleOptimizer` skip the step everywhere.
    """
    if replicas() == 1:
        return gradients
    first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
    return [tf.where(first | ~tf.math.is_finite(g), g, tf.zeros_like(g)) for g in gradients]


def if_true(condition, step, *arguments) -> None:
    """Calls `step(*arguments)`, which may take means over replicas, if a scalar is true, the same on all of them."""

    def nothing():
        return tf.constant(False)

    def across(strategy, condition, *arguments):
        def each():
            strategy.extended.call_for_each_replica(step, args=arguments)
            return tf.constant(True)

        return tf.cond(strategy.experimental_local_results(condition)[0], each, nothing)

    def alone():
        step(*arguments)
        return tf.constant(True)

    if replicas() == 1:
        tf.cond(condition, alone, nothing)
    else:
        # A replica can wait for the others only outside of branches of its own.
        tf.distribute.get_replica_context().merge_call(across, args=(condition, *arguments))


def whole_loss(loss):
    """A Keras loss, or a function, of labels and outputs as the mean over the batch of a replica, a scalar.

    Keras' own means are divided by the number of replicas, for an optimizer that sums over them.
    """
    shared = isinstance(loss, keras.losses.Loss) and str(loss.reduction) not in ("none", "None", "sum")

    def mean(y, outputs):
        value, number = tf.reduce_mean(loss(y, outputs)), tf.distribute.get_strategy().num_replicas_in_sync
        return value * number if shared and number > 1 else value

    return mean


def loss_metric(model: keras.Model) -> keras.metrics.Mean:
    """Returns the metric with which Keras reports the loss of a compiled model."""
    return next(metric for metric in model.metrics if metric.name == "loss")


def synchronize(model: keras.Model) -> None:
    """Lets the stock batch normalisations of a model take their moments over all replicas."""
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
