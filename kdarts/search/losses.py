"""The beta-decay loss: it keeps α from growing apart (beta-DARTS, Ye et al. 2022, Eq. 12).

The zero-one loss: it drives each mixing weight to a clear yes or no (FairDARTS Eq. 4, D-DARTS Eq. 4).
"""

import tensorflow as tf

from kdarts.genotypes.errors import choice


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


def l2(weights):
    """−mean (w − ½)²."""
    return -tf.reduce_mean(tf.square(weights - 0.5))


def l1(weights):
    """−mean |w − ½|: the same pull at any distance."""
    return -tf.reduce_mean(tf.abs(weights - 0.5))


FORMS = {"l2": l2, "l1": l1}


def zero_one_loss(weights, form: str = "l2", joint: bool = False):
    """The sum of the cells' losses, each of which depends on its own α alone.

    Args:
        weights: for each α the weights after mixing, `[edges, operations]`, 0 to 1.
        form: "l2" or "l1".
        joint: whether all α have one loss together, the mean over all of them (FairDARTS), instead of one each
            (D-DARTS).

    Returns:
        A scalar, at most 0.
    """
    loss = FORMS[choice("zero_one", form, FORMS)]
    return loss(tf.concat(weights, 0)) if joint else tf.add_n([loss(w) for w in weights])
