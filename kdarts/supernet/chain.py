"""The search form of a part of a HyperCuboid: layers in order, such as the operations of one choice."""

import math
import re

import keras
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.ops.cost import Cost, Latencies
from kdarts.ops.device import layer_flash
from kdarts.ops.layers import model_cost
from kdarts.ops.mixed import GroupedOperation
from kdarts.supernet.parts import Placed, listed, naming


class Chain:
    """The search form of what one of the functions returned, but None.

    Args:
        made: what it returned.
        shape: of its input, without the batch.
        name: what it is, for names and messages.
        dtype: policy of `Placed` operations.
        bare: whether no layers are made, so that it knows shapes and costs alone.

    Attributes:
        layers: in order.
        shape: of the output.
        cost: in a network.
        placed: the `Placed` operations, each with the shape of its input.
        residual: for each layer whether its input is added to its output.
        passes: whether the output is the input, with that of one layer added or alone.
    """

    def __init__(self, made, shape, name: str, dtype, bare: bool = False):
        self.layers, self.shape, self.cost, self.placed = [], tuple(shape), Cost(), []
        parts = listed(made, name)
        self.residual = [isinstance(part, Placed) and part.residual for part in parts]
        self.passes = not parts or self.residual == [True]
        for number, part in enumerate(parts):
            before = self.shape
            if isinstance(part, Placed) and bare:
                cost, self.shape = part.cost(before)
                self.placed.append((part, before))
            elif isinstance(part, Placed):
                word = re.sub(r"\W+", "_", f"{name}_{number}", flags=re.ASCII)  # What TensorFlow allows in a graph.
                options = {"affine": part.affine, "name": word, "dtype": dtype}
                self.layers.append(GroupedOperation(part.operation, 1, part.filters, part.stride, **options))
                self.layers[-1].build((None, *before))
                cost, self.shape = part.cost(before)
                self.placed.append((part, before))
                if part.residual and self.shape != tuple(before):
                    raise KdartsError(f"{name}: what is residual must keep its shape {before}, and gives {self.shape}")
            else:
                with naming(name):
                    output = part(keras.KerasTensor((None, *before), dtype=part.compute_dtype))
                self.layers.append(part)
                cost, self.shape = model_cost(part), tuple(output.shape[1:])
                cost += Cost(flash=layer_flash(part), ram=math.prod(before) + math.prod(self.shape))
            self.cost += cost

    def latency_ms(self, latencies: Latencies) -> float:
        """Milliseconds of its placed operations by a table; other layers are left out."""
        return sum(
            latencies.of(part.operation, channels, part.filters, part.stride, (height, width))
            for part, (height, width, channels) in self.placed
        )

    def drawn(self, x, scale, bare):
        """As of a call in training, but nothing is computed where the scale is 0, and no running statistics move."""
        shape = (x.shape[0], *self.shape)

        def nothing():
            return tf.zeros([tf.shape(x)[0], *self.shape], x.dtype)

        output = tf.cond(tf.not_equal(scale, 0), lambda: self(x, scale, True, bare, False), nothing)
        return tf.ensure_shape(output, shape)

    def __call__(self, x, scale, training, bare=False, noted=True):
        """Its output times the scalar `scale`, None: as it is; `bare`: without the input of what `passes` it."""
        for number, (layer, residual) in enumerate(zip(self.layers, self.residual, strict=True)):
            if residual and not bare:
                x = x + layer(tf.cast(x, layer.compute_dtype), training=training, noted=noted)
                continue
            last = number == len(self.layers) - 1
            if isinstance(layer, GroupedOperation):
                x = tf.nn.relu(x) if layer.reads[0] else x
                factor = tf.fill([layer.filters], scale) if last and scale is not None else None
                x = layer(tf.cast(x, layer.compute_dtype), scale=factor, training=training, noted=noted)
                scale = None if last else scale
            else:
                x = layer(x, training=training)
        return x if scale is None else x * tf.cast(scale, x.dtype)
