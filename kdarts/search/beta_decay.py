"""The beta-decay loss: it keeps α from growing apart (beta-DARTS, Ye et al. 2022, Eq. 12)."""

import tensorflow as tf


def beta_decay(supernet):
    """The mean over all edges of log Σ exp α, over the candidates that an edge still has; a scalar."""
    present = supernet.candidates or [True] * len(supernet.alphas)
    rows = [
        tf.reduce_logsumexp(tf.where(left, tf.convert_to_tensor(alpha), alpha.value.dtype.min), -1)
        for alpha, left in zip(supernet.alphas, present, strict=True)
    ]
    return tf.reduce_mean(tf.concat(rows, 0))
