"""A cell of the supernet: every edge mixes every candidate."""

import keras
import tensorflow as tf

from kdarts.genotypes.topology import Topology
from kdarts.nets import kernels, partial
from kdarts.nets.fan_out import FanOut
from kdarts.nets.operations import Operation, adapter
from kdarts.nets.replicas import own_seed
from kdarts.nets.residual import ResidualBlock
from kdarts.nets.stack import Stack


def edge_sources(nodes: int, topology: Topology | None = None, inputs: int = 2) -> list[tuple[int, int]]:
    """`(to, from)` of each edge in α's row order: node by node, sources ascending.

    Args:
        nodes: intermediate nodes of the cell.
        topology: the two inputs that each of them reads; None: every earlier one.
        inputs: of the cell, nodes 0 and 1, or node 1 alone.
    """
    earlier = [topology[to - 2] if topology else range(2 - inputs, to) for to in range(2, nodes + 2)]
    return [(to, source) for to, sources in enumerate(earlier, 2) for source in sources]


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
        topology: the two inputs that each node reads; None: every earlier one.
        affine: as of `FanOut`; the input's adapters too have scales and offsets.
        epsilon: of the normalisations that adapt the inputs.
        entry: how it takes its inputs, as of `CellPlan`; all but "adapted" have one.

    Attributes:
        sources: nodes that edges leave, ascending; `fan_outs` has an item for each, and `rows` their edges.

    Call arguments:
        s0, s1: outputs of the cell before last and of the last one.
        mixing: for each of `sources` the weights after mixing, `[edges that leave it, operations]`.
        training: whether to normalise by the batch's statistics.
        only: columns whose weights are not zero; None: all. The others cost nothing.
        dropout: rate and seed `[2]` of a dropout on the edges that pass their input on; None: none.
        shares: with partial channels, for each of `sources` those of its edges, `[edges that leave it]`, which
            `mixing` is already multiplied by.
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
        topology: Topology | None = None,
        affine: bool = False,
        epsilon: float = 1e-5,
        entry: str = "adapted",
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.operations, self.filters, self.nodes, self.multiplier = operations, filters, nodes, multiplier
        self.reduction, self.after_reduction = reduction, after_reduction
        self.partial_channels, self.width = partial_channels, filters // partial_channels
        dtype = self.dtype_policy
        self.preprocess, self.entry = [], entry
        for number, halving in enumerate((after_reduction, False) if entry == "adapted" else ()):
            operation, stride = adapter(halving, epsilon)
            name = f"preprocess{number}"
            self.preprocess.append(Stack(operation, 1, filters, stride, affine, name=name, dtype=dtype))
        self.residual = ResidualBlock(filters, name="residual", dtype=dtype) if entry == "residual" else None
        self.edges = edge_sources(nodes, topology, 2 if entry == "adapted" else 1)
        self.sources = sorted({source for _, source in self.edges})
        self.rows = [[e for e, (_, start) in enumerate(self.edges) if start == source] for source in self.sources]
        self.fan_outs = []
        for source, rows in zip(self.sources, self.rows, strict=True):
            stride = 2 if reduction and source < 2 else 1
            left = None if candidates is None else candidates[rows]
            size, name = (len(rows), self.width), f"from_{source}"
            options = {"bare_pools": affine or entry != "adapted", "name": name, "dtype": dtype}
            self.fan_outs.append(FanOut(operations, *size, stride, left, affine, **options))

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return self.multiplier * self.filters

    def build(self, s0_shape, s1_shape):
        for stack, shape in zip(self.preprocess, (s0_shape, s1_shape), strict=False):
            stack.build(shape)
        if self.residual is not None:
            self.residual.build(s1_shape)
        for fan_out in self.fan_outs:
            fan_out.build((None, None, None, self.width))

    def call(self, s0, s1, mixing, training=False, only=None, shares=None, dropout=None):
        states = [None, s1 if self.residual is None else self.residual(s1, training=training)]
        if self.preprocess:
            states = [p(tf.nn.relu(s), training=training) for p, s in zip(self.preprocess, (s0, s1), strict=True)]
        arriving, passing = ([[] for _ in range(self.nodes)] for _ in range(2))
        for place, (source, fan_out) in enumerate(zip(self.sources, self.fan_outs, strict=True)):
            while len(states) <= source:
                states.append(self._node(arriving[len(states) - 2], passing[len(states) - 2]))
            x, targets = states[source], [to - 2 for to, start in self.edges if start == source]
            seen = x if self.partial_channels == 1 else kernels.first_channels(x, self.width)
            drop = dropout and (dropout[0], own_seed(tf.random.fold_in(dropout[1], source)))
            edges = fan_out(seen, mixing=mixing[place], training=training, only=only, dropout=drop)
            for to, edge in zip(targets, edges, strict=True):
                arriving[to].append(edge)
            if self.partial_channels > 1:
                edges = partial.bypass(x, shares[place], self.partial_channels, fan_out.stride)
                for to, edge in zip(targets, edges, strict=True):
                    passing[to].append(edge)
        while len(states) < self.nodes + 2:
            states.append(self._node(arriving[len(states) - 2], passing[len(states) - 2]))
        return tf.concat(states[-self.multiplier :], -1)

    def _node(self, arriving, passing):
        mixed = tf.add_n(arriving)
        return tf.add_n([partial.place(mixed, self.partial_channels), *passing]) if passing else mixed
