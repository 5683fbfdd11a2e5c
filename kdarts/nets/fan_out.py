"""All mixed operations that leave one node, computed together."""

import keras
import numpy as np
import tensorflow as tf

from kdarts.nets import kernels
from kdarts.nets.operations import Norm, Operation, Pool
from kdarts.nets.stack import Stack


@keras.saving.register_keras_serializable("kdarts")
class FanOut(keras.layers.Layer):
    """The mixed operations (DARTS Eq. 2) of every edge that leaves one source node.

    What has no weights (pooling and its normalisation, the identity) is computed once for the source. What has
    weights is computed once for all edges (`Stack`), and the mixing weight is folded into its last normalisation.

    Args:
        operations: the candidates, in α's column order.
        copies: number of edges that leave the source.
        filters: channels, in and out.
        stride: 1 or 2, of all these edges.

    Call arguments:
        x: `[batch, height, width, filters]`.
        mixing: weights after mixing, `[copies, operations]`, in float32 at any precision.
        training: whether to normalise by the batch's statistics.
        only: columns whose weights are not zero; None: all. The others cost nothing.

    Returns:
        A list of `copies` tensors `[batch, height, width, filters]`.
    """

    def __init__(self, operations: tuple[Operation, ...], copies: int, filters: int, stride: int = 1, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.operations, self.copies, self.filters, self.stride = operations, copies, filters, stride
        self.stacks: dict[int, Stack] = {}
        self.free: dict[int, Stack] = {}
        for column, operation in enumerate(operations):
            if operation.parametric(stride):
                name = operation.name
                self.stacks[column] = Stack(operation, copies, filters, stride, name=name, dtype=self.dtype_policy)
            elif not operation.zero:
                self.free[column] = Stack(normalized_pool(operation), 1, filters, stride, dtype=self.dtype_policy)

    def build(self, input_shape):
        tiled = (*input_shape[:-1], input_shape[-1] * self.copies)
        for stack in self.stacks.values():
            stack.build(tiled if stack.reads[1] else input_shape)
        for stack in self.free.values():
            stack.build(input_shape)

    def call(self, x, mixing, training=False, only=None):
        stacks = {c: stack for c, stack in self.stacks.items() if only is None or c in only}
        free = {c: stack for c, stack in self.free.items() if only is None or c in only}
        if not stacks and not free:
            return [tf.zeros_like(x[:, :: self.stride, :: self.stride])] * self.copies
        columns = tf.transpose(mixing)
        scales = tf.broadcast_to(tf.expand_dims(columns, 2), [len(self.operations), self.copies, self.filters])
        scales = tf.unstack(tf.reshape(scales, [len(self.operations), -1]))
        relu = tf.nn.relu(x)
        views = {(False, False): x, (True, False): relu}
        for rectified, tiled in {stack.reads for stack in stacks.values()}:
            if tiled:
                views[rectified, True] = tf.tile(views[rectified, False], [1, 1, 1, self.copies])
        outputs = [
            stack(views[stack.reads], scale=scales[column], training=training) for column, stack in stacks.items()
        ]
        if free:
            features = [stack(x, training=training) for stack in free.values()]
            outputs.append(self._spread(features, tf.gather(columns, list(free))))
        return tf.split(tf.add_n(outputs), self.copies, -1)

    def _spread(self, features, columns):
        """Each edge's own sum of the shared features: a 1x1 convolution whose blocks are diagonal."""
        dtype, count = features[0].dtype, len(features)
        blocks = tf.reshape(tf.cast(columns, dtype), [count, 1, self.copies, 1])
        kernel = blocks * np.eye(self.filters, dtype=dtype.as_numpy_dtype)[:, None]
        shape = [1, 1, count * self.filters, self.copies * self.filters]
        return kernels.convolution(tf.concat(features, -1), tf.reshape(kernel, shape))


def normalized_pool(operation: Operation) -> Operation:
    """In a search, each pooling is followed by batch normalisation."""
    if not any(isinstance(step, Pool) for step in operation.steps):
        return operation
    return Operation(operation.name, (*operation.steps, Norm()), prefix=operation.prefix)
