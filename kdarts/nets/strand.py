"""The search form of what the functions of a HyperCuboid return."""

import re

import keras
import tensorflow as tf

from kdarts.nets.cost import Cost
from kdarts.nets.model_cost import model_cost
from kdarts.nets.parts import listed, naming
from kdarts.nets.placed import Placed
from kdarts.nets.stack import Stack


class Strand:
    """The search form of what one of the functions returned.

    Args:
        made: what it returned, but None.
        shape: of its input, without the batch.
        name: what it is, for names and messages.
        dtype: policy of `Placed` operations.

    Attributes:
        layers: in order.
        shape: of the output.
        cost: of all.
    """

    def __init__(self, made, shape, name: str, dtype):
        self.layers, self.shape, self.cost = [], tuple(shape), Cost()
        for number, part in enumerate(listed(made, name)):
            if isinstance(part, Placed):
                self.layers.append(_stacked(part, self.shape, f"{name}_{number}", dtype))
                cost, self.shape = part.cost(self.shape)
            else:
                with naming(name):
                    output = part(keras.KerasTensor((None, *self.shape), dtype=part.compute_dtype))
                self.layers.append(part)
                cost, self.shape = model_cost(part), tuple(output.shape[1:])
            self.cost += cost

    def __call__(self, x, scale, training):
        """Its output times the scalar `scale`; None: as it is."""
        for number, layer in enumerate(self.layers):
            last = number == len(self.layers) - 1
            if isinstance(layer, Stack):
                x = tf.nn.relu(x) if layer.reads[0] else x
                factor = tf.fill([layer.filters], scale) if last and scale is not None else None
                x = layer(tf.cast(x, layer.compute_dtype), scale=factor, training=training)
                scale = None if last else scale
            else:
                x = layer(x, training=training)
        return x if scale is None else x * tf.cast(scale, x.dtype)


def _stacked(placed: Placed, shape, name: str, dtype) -> Stack:
    name = re.sub(r"\W+", "_", name, flags=re.ASCII)  # What TensorFlow allows in a graph.
    stack = Stack(placed.operation, 1, placed.filters, placed.stride, affine=True, name=name, dtype=dtype)
    stack.build((None, *shape))
    return stack
