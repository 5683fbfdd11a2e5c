"""Whether TensorFlow computes with oneDNN here."""

import functools

import numpy as np
import tensorflow as tf


@functools.cache
def has_grouped_gradients() -> bool:
    """Whether grouped `conv2d` kernels have gradients on this CPU: only oneDNN's have.

    TensorFlow uses oneDNN by itself on processors with AVX-512 VNNI, and on others where `TF_ENABLE_ONEDNN_OPTS` is 1
    when it is imported, as it is if kdarts is imported first.
    """
    image = np.ones((1, 2, 2, 2), np.float32)
    sizes = {"filter_sizes": [1, 1, 1, 2], "strides": [1, 1, 1, 1], "padding": "SAME"}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        try:
            session.run(tf.raw_ops.Conv2DBackpropFilter(input=image, out_backprop=image, **sizes))
        except tf.errors.InvalidArgumentError:
            return False
    return True
