"""Whether TensorFlow computes with oneDNN here."""

import functools

import tensorflow as tf


@functools.cache
def has_grouped_gradients(dtype: tf.DType) -> bool:
    """Whether grouped `conv2d` kernels of a type have gradients on this CPU: only oneDNN's have.

    TensorFlow uses oneDNN by itself on processors with AVX-512 VNNI, and on others where `TF_ENABLE_ONEDNN_OPTS` is 1
    when it is imported, as it is if kdarts is imported first. For bfloat16 it needs AVX-512 in any case.
    """
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        image = tf.ones((1, 2, 2, 2), dtype)
        sizes = {"filter_sizes": [1, 1, 1, 2], "strides": [1, 1, 1, 1], "padding": "SAME"}
        try:
            session.run(tf.cast(tf.raw_ops.Conv2DBackpropFilter(input=image, out_backprop=image, **sizes), tf.float32))
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True
