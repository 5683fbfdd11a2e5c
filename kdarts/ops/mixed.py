"""Mixed operations: one operation for several edges at once, all candidates of the edges that leave a node."""

import math

import keras
import numpy as np
import tensorflow as tf

from kdarts.ops import kernels
from kdarts.ops.layers import uniform
from kdarts.ops.operations import Conv, Halve, Norm, Operation, Pool, Reduce, Relu


@keras.saving.register_keras_serializable("kdarts")
class MixedEdges(keras.layers.Layer):
    """The mixed operations (DARTS Eq. 2) of every edge that leaves one source node.

    What has no weights (pooling and its normalisation, the identity) is computed once for the source. What has
    weights is computed once for all edges (`GroupedOperation`), and the mixing weight goes into its last normalisation.

    Args:
        operations: the candidates, in α's column order.
        copies: number of edges that leave the source.
        filters: channels, in and out.
        stride: 1 or 2, of all these edges.
        candidates: which operations each edge has, boolean `[copies, operations]`; None: all.
        affine: whether normalisations have a scale and an offset, as they have in a network.
        bare_pools: whether pools stand as they do in a network; else, as in DARTS' search, each is normalised.

    Call arguments:
        x: `[batch, height, width, filters]`; at stride 1 each of the `copies` outputs has this shape, too.
        mixing: weights after mixing, `[copies, operations]`, in float32 at any precision.
        training: whether to normalise by the batch's statistics.
        only: columns whose weights are not zero; None: all. The others cost nothing.
        dropout: rate and seed `[2]` of a dropout, element by element, on the identity; None: none.
    """

    def __init__(
        self,
        operations: tuple[Operation, ...],
        copies: int,
        filters: int,
        stride: int = 1,
        candidates=None,
        affine: bool = False,
        bare_pools: bool = False,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.operations, self.copies, self.filters, self.stride = operations, copies, filters, stride
        self.stacks: dict[int, GroupedOperation] = {}
        self.free: dict[int, GroupedOperation] = {}
        self.edges: dict[int, tuple[int, ...]] = {}
        for column, operation in enumerate(operations):
            edges = tuple(e for e in range(copies) if candidates is None or candidates[e][column])
            if operation.zero or not edges:
                continue
            self.edges[column] = edges
            if operation.parametric(stride):
                options = {"name": operation.name, "dtype": self.dtype_policy}
                self.stacks[column] = GroupedOperation(operation, len(edges), filters, stride, affine, **options)
            else:
                free = operation if bare_pools else normalized_pool(operation)
                self.free[column] = GroupedOperation(free, 1, filters, stride, dtype=self.dtype_policy)

    def build(self, input_shape):
        for stack in self.stacks.values():
            tiled = (*input_shape[:-1], input_shape[-1] * stack.copies)
            stack.build(tiled if stack.reads[1] else input_shape)
        for stack in self.free.values():
            stack.build(input_shape)

    def call(self, x, mixing, training=False, only=None, dropout=None):
        stacks = {c: stack for c, stack in self.stacks.items() if only is None or c in only}
        free = {c: stack for c, stack in self.free.items() if only is None or c in only}
        columns = tf.transpose(mixing)
        scales = tf.broadcast_to(tf.expand_dims(columns, 2), [len(self.operations), self.copies, self.filters])
        scales = tf.unstack(tf.reshape(scales, [len(self.operations), -1]))
        relu = tf.nn.relu(x)
        views = {(False, 1): x, (True, 1): relu}

        def view(rectified, times):
            if (rectified, times) not in views:
                views[rectified, times] = tf.tile(views[rectified, 1], [1, 1, 1, times])
            return views[rectified, times]

        outputs: dict[tuple[int, ...], list] = {}
        for column, stack in stacks.items():
            rectified, tiled = stack.reads
            given = view(rectified, stack.copies if tiled else 1)
            output = stack(given, scale=self._of_edges(scales[column], column), training=training)
            outputs.setdefault(self.edges[column], []).append(output)
        if dropout is not None:
            for column in [c for c in free if not self.operations[c].layers(self.stride)]:
                free.pop(column)
                given = view(False, len(self.edges[column]))
                kept = tf.nn.experimental.stateless_dropout(given, tf.cast(dropout[0], x.dtype), dropout[1])
                kept *= tf.cast(self._of_edges(scales[column], column), x.dtype)
                outputs.setdefault(self.edges[column], []).append(kept)
        if free:
            features = [stack(x, training=training) for stack in free.values()]
            edges = tuple(e for e in range(self.copies) if any(e in self.edges[c] for c in free))
            weights = tf.gather(columns, list(free))
            if len(edges) < self.copies or any(self.edges[c] != edges for c in free):
                there = np.array([[e in self.edges[c] for e in edges] for c in free])
                weights = tf.gather(weights, edges, axis=1) * tf.cast(there, weights.dtype)
            outputs.setdefault(edges, []).append(self._spread(features, weights))
        arriving = [[] for _ in range(self.copies)]
        for edges, parts in outputs.items():
            for edge, part in zip(edges, tf.split(tf.add_n(parts), len(edges), -1), strict=True):
                arriving[edge].append(part)
        nothing = None if all(arriving) else tf.zeros_like(x[:, :: self.stride, :: self.stride])
        return [(tf.add_n(parts) if len(parts) > 1 else parts[0]) if parts else nothing for parts in arriving]

    def _of_edges(self, scale, column):
        """The part of `scale`, `[copies * filters]`, of the edges that have the operation."""
        edges = self.edges[column]
        if len(edges) == self.copies:
            return scale
        return tf.reshape(tf.gather(tf.reshape(scale, [self.copies, self.filters]), edges), [-1])

    def _spread(self, features, columns):
        """Each edge's own sum of the shared features: a 1x1 convolution whose blocks are diagonal."""
        dtype, (count, edges) = features[0].dtype, columns.shape
        blocks = tf.reshape(tf.cast(columns, dtype), [count, 1, edges, 1])
        kernel = blocks * np.eye(self.filters, dtype=dtype.as_numpy_dtype)[:, None]
        shape = [1, 1, count * self.filters, edges * self.filters]
        return kernels.convolution(tf.concat(features, -1), tf.reshape(kernel, shape))


def normalized_pool(operation: Operation) -> Operation:
    """In a search, each pooling is followed by batch normalisation."""
    if not any(isinstance(step, Pool) for step in operation.steps):
        return operation
    return Operation(operation.name, (*operation.steps, Norm()), prefix=operation.prefix)


@keras.saving.register_keras_serializable("kdarts")
class GroupedOperation(keras.layers.Layer):
    """An operation's weights for `copies` edges that leave one source, stacked on the channel axis.

    Args:
        operation: the definition.
        copies: number of edges, at least 1.
        filters: output channels of each edge, so that the output has `copies * filters`, edge by edge.
        stride: 1 or 2.
        affine: whether batch normalisation has a trainable scale and offset.

    Call arguments:
        x: `[batch, height, width, channels]`, as `reads` asks for it.
        scale: `[copies * filters]` or None; multiplies the output, folded into the last normalisation.
        training: whether to normalise by the batch's statistics.
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

    @property
    def running_statistics(self) -> list[tuple]:
        """As of the function of that name."""
        norms = [w for step, w in zip(self.layers_in_order, self.step_weights, strict=True) if isinstance(step, Norm)]
        return [(w[place], float(place), 1 - kernels.DECAY) for w in norms for place in (0, 1)]

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
