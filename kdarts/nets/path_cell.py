"""A cell whose edges hold a few operations each, of which every path takes one."""

import keras
import tensorflow as tf

from kdarts.genotypes.path_space import Slot
from kdarts.nets.drop_path import DropPath
from kdarts.nets.operations import adapter, get_operation
from kdarts.nets.residual import ResidualBlock
from kdarts.nets.stack import Stack


@keras.saving.register_keras_serializable("kdarts")
class PathCell(keras.layers.Layer):
    """A cell of DARTS-PD's pruned supernet S' (section 3.2): one path through it, or a fair group of paths at once.

    In a group of k paths every operation of an edge serves one path. The operation of each path is data, so one graph
    serves all groups, in which each operation is computed once: on an edge the paths are put in the order of the
    operations that they take, and back again.

    Args:
        slots: the edges and their operations.
        concat: nodes whose concatenation is the output.
        filters: channels of each node.
        reduction: whether edges from the two inputs have stride 2.
        after_reduction: whether the first input comes from before a reduction and must be halved.
        affine: whether batch normalisations have a trainable scale and offset.
        entry: how it takes its inputs, as of `CellPlan`.
        drop_path: layer that drops paths of each operation but the identity, or None.

    Call arguments:
        s0, s1: outputs of the cell before last and of the last one, `[batch, height, width, channels]`; for a group
            `[k, batch, height, width, channels]`, or without k where all its paths see the same.
        choice: `[edges]`, the index of a path's operation on each edge; for a group `[k, edges]`, every column a
            permutation.
        training: whether to normalise by the statistics of the batch, which are those of each path on its own.
    """

    def __init__(
        self,
        slots: tuple[Slot, ...],
        concat: tuple[int, ...],
        filters: int,
        reduction: bool = False,
        after_reduction: bool = False,
        affine: bool = True,
        drop_path: DropPath | None = None,
        entry: str = "adapted",
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.slots, self.concat, self.filters, self.drop_path = slots, concat, filters, drop_path
        options = {"affine": affine, "dtype": self.dtype_policy}
        self.preprocess, self.entry = [], entry
        residual = entry == "residual"
        self.residual = ResidualBlock(filters, name="residual", dtype=self.dtype_policy) if residual else None
        for number, halving in enumerate((after_reduction, False) if entry == "adapted" else ()):
            operation, stride = adapter(halving)
            self.preprocess.append(Stack(operation, 1, filters, stride, name=f"preprocess{number}", **options))
        self.edges = []
        for to, source, names in slots:
            stride = 2 if reduction and source < 2 else 1
            name = f"from_{source}_to_{to}"
            self.edges.append(
                [Stack(get_operation(n), 1, filters, stride, name=f"{name}_{n}", **options) for n in names]
            )

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return len(self.concat) * self.filters

    def build(self, s0_shape, s1_shape):
        for stack, shape in zip(self.preprocess, (s0_shape, s1_shape), strict=False):
            stack.build(shape)
        if self.residual is not None:
            self.residual.build(s1_shape)
        for stacks in self.edges:
            for stack in stacks:
                stack.build((None, None, None, self.filters))

    def call(self, s0, s1, choice, training=False):
        one = choice.shape.rank == 1
        states = {1: self._adapt(1, s1, choice, training)}
        if self.preprocess:
            states[0] = self._adapt(0, s0, choice, training)
        arriving = {}
        # A node is complete before an edge leaves it, as edges come node by node.
        for stacks, chosen, (to, source, _) in zip(self.edges, tf.unstack(choice, axis=-1), self.slots, strict=True):
            if source not in states:
                states[source] = tf.add_n(arriving[source])
            edge = (self._edge_of_one if one else self._edge_of_all)(stacks, chosen, states[source], training)
            arriving.setdefault(to, []).append(edge)
        states |= {node: tf.add_n(edges) for node, edges in arriving.items() if node not in states}
        return tf.concat([states[node] for node in self.concat], -1)

    def _adapt(self, position, state, choice, training):
        """An input as a node; the paths of a group share the adapter's weights, each with its own batch."""

        def adapted_one(x):
            if self.preprocess:
                return self.preprocess[position](tf.nn.relu(x), training=training)
            return x if self.residual is None else self.residual(x, training=training)

        if choice.shape.rank == 1:
            return adapted_one(state)
        states = tf.unstack(state) if state.shape.rank == 5 else [state]
        adapted = [adapted_one(s) for s in states]
        return tf.stack(adapted * (choice.shape[0] // len(adapted)))

    def _edge_of_one(self, stacks, chosen, state, training):
        return tf.switch_case(chosen, [lambda stack=stack: self._apply(stack, state, training) for stack in stacks])

    def _edge_of_all(self, stacks, chosen, states, training):
        places = tf.math.invert_permutation(chosen)
        inputs = tf.unstack(_rearranged(states, places, chosen))
        outputs = [self._apply(stack, x, training) for stack, x in zip(stacks, inputs, strict=True)]
        return _rearranged(tf.stack(outputs), chosen, places)

    def _apply(self, stack, state, training):
        operation = stack.operation
        if operation.zero:
            return tf.zeros_like(state[:, :: stack.stride, :: stack.stride])
        y = stack(tf.nn.relu(state) if stack.reads[0] else state, training=training)
        identity = not operation.layers(stack.stride)
        return y if identity or self.drop_path is None else self.drop_path(y, training=training)


@tf.custom_gradient
def _rearranged(x, order, inverse):
    """`x[order]` along the first axis; its gradient is gathered as well, where TensorFlow's own would scatter."""
    return tf.gather(x, order), lambda dy: (tf.gather(dy, inverse), None, None)
