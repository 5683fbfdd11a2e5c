"""The residual block between two stages of NAS-Bench-201's supernet."""

import keras
import tensorflow as tf

from kdarts.nets.operations import RESIDUAL
from kdarts.nets.stack import Stack


@keras.saving.register_keras_serializable("kdarts")
class ResidualBlock(keras.layers.Layer):
    """Halves the image and changes the channels: two convolutions, and beside them a mean and one of single pixels.

    Args:
        filters: channels of the output.

    Call arguments:
        x: `[batch, height, width, channels]`.
        training: whether to normalise by the batch's statistics.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.filters = filters
        self.parts = [
            Stack(operation, 1, filters, stride, affine=True, name=operation.name, dtype=self.dtype_policy)
            for operation, stride in zip(RESIDUAL, (2, 1, 2), strict=True)
        ]

    def build(self, input_shape):
        for part, channels in zip(self.parts, (input_shape[-1], self.filters, input_shape[-1]), strict=True):
            part.build((None, None, None, channels))

    def call(self, x, training=False):
        first, second, beside = self.parts
        y = first(tf.nn.relu(x), training=training)
        return second(tf.nn.relu(y), training=training) + beside(x, training=training)
