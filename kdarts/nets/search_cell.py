"""A cell of the supernet: every edge mixes every candidate."""

import keras
import tensorflow as tf

from kdarts.nets import kernels, partial
from kdarts.nets.fan_out import FanOut
from kdarts.nets.operations import Operation, adapter
from kdarts.nets.stack import Stack


def edge_sources(nodes: int) -> list[tuple[int, int]]:
    """`(to, from)` of each edge in α's row order: node by node, sources ascending."""
    return [(to, source) for to in range(2, nodes + 2) for source in range(to)]


@keras.saving.register_keras_serializable("kdarts")
class SearchCell(keras.layers.Layer):
    """DARTS' cell (section 2.1 of the paper) with all its candidate edges.

    Args:
        operations: the candidates, in α's column order.
        filters: channels of each node.
        nodes: number of intermediate nodes.
        multiplier: the output is the concatenation of the last `multiplier` nodes.
        reduction: whether edges from the two inputs have stride 2.
        after_reduction: whether the first input comes from before a reduction and must be halved.
        candidates: which operations each edge has, boolean `[edges, operations]`; None: all.
        partial_channels: K: one of K channels goes through the candidates, the others pass by (see `partial`).
        affine: as of `FanOut`; the input's adapters too have scales and offsets.
        epsilon: of the normalisations that adapt the inputs.

    Call arguments:
        s0, s1: outputs of the cell before last and of the last one.
        mixing: for each source node the weights after mixing, `[edges that leave it, operations]`.
        training: whether to normalise by the batch's statistics.
        only: columns whose weights are not zero; None: all. The others cost nothing.
        dropout: rate and seed `[2]` of a dropout on the edges that pass their input on; None: none.
        shares: with partial channels, for each source node those of its edges, `[edges that leave it]`, which `mixing`
            is already multiplied by.
    """

    def __init__(
        self,
        operations: tuple[Operation, ...],
        filters: int,
        nodes: int = 4,
        multiplier: int = 4,
        reduction: bool = False,
        after_reduction: bool = False,
        candidates=None,
        partial_channels: int = 1,
        affine: bool = False,
        epsilon: float = 1e-5,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.operations, self.filters, self.nodes, self.multiplier = operations, filters, nodes, multiplier
        self.reduction, self.after_reduction = reduction, after_reduction
        self.partial_channels, self.width = partial_channels, filters // partial_channels
        dtype = self.dtype_policy
        self.preprocess = []
        for number, halving in enumerate((after_reduction, False)):
            operation, stride = adapter(halving, epsilon)
            name = f"preprocess{number}"
            self.preprocess.append(Stack(operation, 1, filters, stride, affine, name=name, dtype=dtype))
        self.fan_outs = []
        for source in range(nodes + 1):
            copies = nodes - max(0, source - 1)
            stride = 2 if reduction and source < 2 else 1
            rows = [e for e, (_, start) in enumerate(edge_sources(nodes)) if start == source]
            left = None if candidates is None else candidates[rows]
            name = f"from_{source}"
            self.fan_outs.append(FanOut(operations, copies, self.width, stride, left, affine, name=name, dtype=dtype))

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return self.multiplier * self.filters

    def build(self, s0_shape, s1_shape):
        for stack, shape in zip(self.preprocess, (s0_shape, s1_shape), strict=True):
            stack.build(shape)
        for fan_out in self.fan_outs:
            fan_out.build((None, None, None, self.width))

    def call(self, s0, s1, mixing, training=False, only=None, shares=None, dropout=None):
        states = [stack(tf.nn.relu(s), training=training) for stack, s in zip(self.preprocess, (s0, s1), strict=True)]
        arriving, passing = ([[] for _ in range(self.nodes)] for _ in range(2))
        for source, fan_out in enumerate(self.fan_outs):
            if source >= 2:
                states.append(self._node(arriving[source - 2], passing[source - 2]))
            x, first = states[source], max(0, source - 1)
            seen = x if self.partial_channels == 1 else kernels.first_channels(x, self.width)
            drop = dropout and (dropout[0], tf.random.fold_in(dropout[1], source))
            edges = fan_out(seen, mixing=mixing[source], training=training, only=only, dropout=drop)
            for to, edge in zip(arriving[first:], edges, strict=True):
                to.append(edge)
            if self.partial_channels > 1:
                edges = partial.bypass(x, shares[source], self.partial_channels, fan_out.stride)
                for to, edge in zip(passing[first:], edges, strict=True):
                    to.append(edge)
        states.append(self._node(arriving[-1], passing[-1]))
        return tf.concat(states[-self.multiplier :], -1)

    def _node(self, arriving, passing):
        mixed = tf.add_n(arriving)
        return tf.add_n([partial.place(mixed, self.partial_channels), *passing]) if passing else mixed
