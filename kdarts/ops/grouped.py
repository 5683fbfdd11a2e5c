"""One operation computed for several edges at once: the search form of a definition in `operations`."""

import math

import keras
import numpy as np
import tensorflow as tf

from kdarts.ops import kernels
from kdarts.ops.layers import uniform
from kdarts.ops.operations import Conv, Halve, Norm, Operation, Pool, Reduce, Relu


@keras.saving.register_keras_serializable("kdarts")
class GroupedOperation(keras.layers.Layer):
    """An operation's weights for `copies` edges that leave one source, stacked on the channel axis.

    Args:
        operation: the definition.
        copies: number of edges, at least 1.
        filters: output channels of each edge.
        stride: 1 or 2.
        affine: whether batch normalisation has a trainable scale and offset.

    Call arguments:
        x: `[batch, height, width, channels]`, as `reads` asks for it.
        scale: `[copies * filters]` or None; multiplies the output, folded into the last normalisation.
        training: whether to normalise by the batch's statistics.

    Returns:
        `[batch, height, width, copies * filters]`, edge by edge.
    """

    def __init__(
        self, operation: Operation, copies: int, filters: int, stride: int = 1, affine: bool = False, **kwargs
    ):
        super().__init__(autocast=False, **kwargs)
        self.operation, self.copies, self.filters = operation, copies, filters
        self.stride, self.affine = stride, affine
        self.layers_in_order = operation.layers(stride)
        rectified = bool(self.layers_in_order) and isinstance(self.layers_in_order[0], Relu)
        first = self.layers_in_order[rectified] if len(self.layers_in_order) > rectified else None
        tiled = copies > 1 and isinstance(first, Conv) and first.depthwise
        self.reads = (rectified, tiled)
        """Whether the input is to come rectified, and repeated once for each edge: a source's stacks share both."""

    def build(self, input_shape):
        channels = input_shape[-1]
        if self.reads[1]:
            channels //= self.copies
        stacked = self.reads[1]
        self.step_weights = []
        for step, names in zip(self.layers_in_order, self.operation.step_names(self.stride), strict=True):
            name = "_".join(names).replace(".", "_")
            match step:
                case Conv(depthwise=True):
                    shape = (*step.kernel, 1, self.copies * channels)
                    weights = [self._filter(name, shape, math.prod(step.kernel))]
                    stacked = True
                case Conv():
                    filters = step.filters(self.filters)
                    shape = (*step.kernel, channels, self.copies * filters)
                    weights = [self._filter(name, shape, math.prod(step.kernel) * channels)]
                    channels, stacked = filters, True
                case Reduce():
                    halves = (self.filters // 2, self.filters - self.filters // 2)
                    weights = [
                        self._filter(f"{part}", (1, 1, channels, self.copies * half), channels)
                        for part, half in zip(names, halves, strict=True)
                    ]
                    channels, stacked = self.filters, True
                case Norm():
                    weights = self._statistics(name, (self.copies if stacked else 1) * channels)
                case _:
                    weights = []
            self.step_weights.append(weights)

    def _filter(self, name, shape, fan_in):
        return self.add_weight(name=f"{name}_kernel", shape=shape, initializer=uniform(fan_in))

    def _statistics(self, name, channels):
        shape = (channels,)
        mean = self.add_weight(name=f"{name}_mean", shape=shape, initializer="zeros", trainable=False, autocast=False)
        variance = self.add_weight(name=f"{name}_var", shape=shape, initializer="ones", trainable=False, autocast=False)
        if not self.affine:
            return [mean, variance]
        gamma = self.add_weight(name=f"{name}_gamma", shape=shape, initializer="ones", autocast=False)
        beta = self.add_weight(name=f"{name}_beta", shape=shape, initializer="zeros", autocast=False)
        return [mean, variance, gamma, beta]

    def call(self, x, scale=None, training=False):
        groups = self.copies if self.reads[1] else 1
        steps = self.layers_in_order[1:] if self.reads[0] else self.layers_in_order
        weights = self.step_weights[1:] if self.reads[0] else self.step_weights
        for position, (step, values) in enumerate(zip(steps, weights, strict=True)):
            match step:
                case Relu():
                    x = tf.nn.relu(x)
                case Conv(depthwise=True):
                    if groups < self.copies:
                        x, groups = tf.tile(x, [1, 1, 1, self.copies]), self.copies
                    stride = self.stride if step.strided[0] else 1
                    x = kernels.depthwise(x, tf.cast(values[0], x.dtype), stride, step.dilation)
                case Conv():
                    stride = [self.stride if along else 1 for along in step.strided]
                    x = kernels.convolution(x, tf.cast(values[0], x.dtype), groups, stride)
                    groups = self.copies
                case Reduce():
                    kernel = [tf.cast(value, x.dtype) for value in values]
                    x, groups = kernels.factorized(x, *kernel, self.copies), self.copies
                case Pool():
                    if step.kind == "max":
                        x = kernels.max_pool(x, self.stride)
                    else:
                        x = kernels.average_pool(x, self.stride, step.padded)
                case Halve():
                    x = kernels.halved_mean(x)
                case Norm():
                    last = position == len(steps) - 1
                    x = self._normalize(x, values, scale if last else None, training, step.epsilon)
                    scale = None if last else scale
        return x if scale is None else x * tf.cast(scale, x.dtype)

    def _normalize(self, x, values, scale, training, epsilon):
        mean, variance, *affine = (tf.convert_to_tensor(v) for v in values)
        gamma, offset = affine or (None, np.zeros(mean.shape, mean.dtype.as_numpy_dtype))
        if scale is not None:
            gamma, offset = (scale if gamma is None else gamma * scale), (offset * scale if affine else offset)
        elif gamma is None:
            gamma = np.ones(mean.shape, mean.dtype.as_numpy_dtype)
        y, mean, variance = kernels.normalize(x, gamma, offset, mean, variance, training, epsilon)
        if training:
            values[0].assign(mean)
            values[1].assign(variance)
        return y
