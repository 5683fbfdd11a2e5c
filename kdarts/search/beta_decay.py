"""The beta-decay loss: it keeps α from growing apart (beta-DARTS, Ye et al. 2022, Eq. 12)."""

import tensorflow as tf


def beta_decay(alphas, candidates=None):
    """The mean over all edges of log Σ exp α; a scalar.

    Args:
        alphas: `[edges, operations]` each.
        candidates: for each α a boolean array of its shape, which operations an edge still has; None: all.
    """
    values = [tf.convert_to_tensor(alpha) for alpha in alphas]
    if candidates is not None:
        values = [tf.where(left, v, v.dtype.min) for left, v in zip(candidates, values, strict=True)]
    return tf.reduce_mean(tf.reduce_logsumexp(tf.concat(values, 0), -1))
