"""Scores of networks that are not trained.

- NASWOT (Mellor, Turner, Storkey and Crowley, ICML 2021): how differently the ReLUs of a network see the images of one
  batch. It takes a forward pass; labels do not count.
- AZ-NAS (Lee and Ham, CVPR 2024): E, P and T of the feature maps that a batch of noise leads to, and the MACs; the
  product of the ranks among all networks compared decides.

`naswot` takes any function of images, such as a Keras model, or a supernet under mixtures that leave one candidate on
each of its edges. Running statistics stay as they are, although all is normalised by the statistics of the batch.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError

_SEED = 20210608, 0
"""Of the directions in which NASWOT asks what reaches the logits."""


def naswot(forward: Callable, *inputs) -> float:
    """NASWOT of a network: ln det K, where K_ij counts the ReLU units that are on for both images i and j or off for
    both (Mellor et al. 2021, Eq. 2).

    A unit counts if it is part of a channel whose gradient is not zero: what a weight of 0 cuts off does not. In a
    supernet the ReLU that a node's operations share counts once.

    Args:
        forward: from images to logits `[batch, num_classes]`. A Keras model, which is called with `training=True`, or
            any function of `inputs`.
        *inputs: `[batch, height, width, channels]`, and what else `forward` takes.

    Returns:
        The score, -inf where K is singular, as for two equal images.

    Raises:
        KdartsError: if there is no ReLU.
    """
    return log_determinant(activation_kernel(forward)(*inputs).numpy())


def activation_kernel(forward: Callable) -> Callable:
    """A function that is traced once and gives K of `naswot`, `[batch, batch]` float64, for each of its calls.

    With a supernet, the mixtures are best given as arguments: so one trace serves all of its genotypes.
    """

    @tf.function(autograph=False)
    def kernel(*inputs):
        with keras.StatelessScope():
            logits = forward(*inputs, training=True) if isinstance(forward, keras.Model) else forward(*inputs)
        operations = tf.compat.v1.get_default_graph().get_operations()
        units = [operation.outputs[0] for operation in operations if operation.type == "Relu"]
        # Under a batch normalisation the gradient of a plain sum would be zero.
        direction = tf.random.stateless_normal(tf.shape(logits), _SEED, dtype=logits.dtype)
        gradients = tf.gradients(logits, units, direction) if units else []
        reached = [pair for pair in zip(units, gradients, strict=True) if pair[1] is not None]
        if not reached:
            raise KdartsError("naswot: the network has no ReLU")
        return tf.add_n([_agreement(unit, gradient) for unit, gradient in reached])

    # Traced also where functions run eagerly: the operations are found in the graph.
    return lambda *inputs: kernel.get_concrete_function(*inputs)(*inputs)


def _agreement(unit, gradient):
    """How many units of one ReLU agree on each two images: N - (those on for the one) - (for the other) + 2 (both)."""
    axes = list(range(len(unit.shape) - 1))
    counts = tf.cast(tf.reduce_any(tf.not_equal(gradient, 0), axes), tf.float32)
    on = tf.cast(unit > 0, tf.float32)
    batch, size = tf.shape(unit)[0], tf.size(unit) // tf.shape(unit)[0]
    counted = tf.reshape(on * counts, [batch, size])
    both = tf.cast(tf.matmul(counted, tf.reshape(on, [batch, size]), transpose_b=True), tf.float64)
    each = tf.linalg.diag_part(both)
    units = tf.cast(tf.reduce_sum(counts), tf.float64) * tf.cast(size // tf.shape(unit)[-1], tf.float64)
    return units - each[:, None] - each[None, :] + 2 * both


def log_determinant(kernel: np.ndarray) -> float:
    """ln det of a positive semidefinite matrix, -inf where it is singular to the precision of float64."""
    values = np.linalg.eigvalsh(kernel)
    if values[0] <= len(values) * np.finfo(np.float64).eps * values[-1]:
        return -np.inf
    return float(np.log(values).sum())
