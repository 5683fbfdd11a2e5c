"""One step of an optimizer from gradients that may have to be scaled, so that they survive float16."""

import tensorflow as tf
from keras.optimizers import LossScaleOptimizer

from kdarts.nets.replicas import counted_once


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
