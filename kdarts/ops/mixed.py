"""All mixed operations that leave one node, computed together."""

import keras
import numpy as np
import tensorflow as tf

from kdarts.ops import kernels
from kdarts.ops.grouped import GroupedOperation
from kdarts.ops.operations import Norm, Operation, Pool


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
        x: `[batch, height, width, filters]`.
        mixing: weights after mixing, `[copies, operations]`, in float32 at any precision.
        training: whether to normalise by the batch's statistics.
        only: columns whose weights are not zero; None: all. The others cost nothing.
        dropout: rate and seed `[2]` of a dropout, element by element, on the identity; None: none.

    Returns:
        A list of `copies` tensors `[batch, height, width, filters]`.
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
