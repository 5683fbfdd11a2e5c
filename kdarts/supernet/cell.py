"""A cell of the supernet, in which every edge mixes every candidate.

With partial channels (PC-DARTS, Xu et al., ICLR 2020), the first C/K of a source's C channels go through the
candidates and the others pass by; all are then shuffled (section 3.2, Eq. 2). A softmax of β over the edges into a
node multiplies both (section 3.3, Eq. 3). The shuffle is the same for every edge, and a sum of shuffled channels is
the shuffled sum. So nothing is shuffled: the two parts of a node are written where the shuffle would have put them,
each by a 1x1 convolution that is there anyway or runs once for a node.

Here are also the residual block between two stages of NAS-Bench-201's supernet, and cells that are computed a second
time for their gradient, which saves memory.
"""

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.edges import Topology, node_rows
from kdarts.genotypes.errors import KdartsError
from kdarts.ops import kernels
from kdarts.ops.mixed import GroupedOperation, MixedEdges, edge_weights, total
from kdarts.ops.operations import CLOSING, RESIDUAL, Operation, adapter
from kdarts.ops.replicas import is_synchronized, own_seed, synchronized
from kdarts.supernet.macro import Stem


def check_partial_channels(partial_channels: int, plan) -> int:
    """K, if it fits every cell of the plan.

    Raises `KdartsError` if K does not divide a cell's channels, or leaves a reduction cell an odd number of them.
    """

    def fits(k):
        return all(c.filters % k == 0 and not (c.reduction and c.filters // k % 2) for c in plan)

    if partial_channels not in (allowed := [k for k in range(1, plan[0].filters + 1) if fits(k)]):
        raise KdartsError(
            f"partial_channels {partial_channels}: allowed with {plan[0].filters} channels are "
            f"{', '.join(map(str, allowed))} (reduction cells need an even number of channels in their candidates)"
        )
    return partial_channels


def edge_shares(beta, inputs: int | None = None, of_node=tf.nn.softmax):
    """β `[edges]`, node by node, as shares of a node: a softmax over its incoming edges; `inputs` as of `node_rows`.

    `of_node` is the function of the β of one node, in place of the softmax.
    """
    sizes = [rows.stop - rows.start for rows in node_rows(beta.shape[0], inputs).values()]
    return tf.concat([of_node(part) for part in tf.split(tf.convert_to_tensor(beta), sizes)], 0)


def _shuffle(channels: int, groups: int) -> np.ndarray:
    """The shuffle as a matrix `[from, to]`: channel c of group k goes to channel k of group c."""
    source = np.arange(channels)
    size = channels // groups
    return np.eye(channels)[source % size * groups + source // size]


def place(mixed, groups: int):
    """The candidates' part of a node, where the shuffle puts it, `[batch, height, width, channels]`; zero elsewhere.

    `mixed` is `[batch, height, width, channels / groups]`; `groups` is K.
    """
    size = mixed.shape[-1]
    kernel = _shuffle(size * groups, groups)[:size]
    return kernels.convolution(mixed, tf.constant(kernel[None, None], mixed.dtype))


def bypass(x, shares, groups: int, stride: int = 1) -> list:
    """What passes by on each edge that leaves a node, times the edge's share, where the shuffle puts it.

    Args:
        x: `[batch, height, width, channels]`, whole; at stride 1 the result for each edge has this shape, too.
        shares: of the edges, `[copies]`.
        groups: K; the first `channels / K` channels do not pass.
        stride: 1, or 2: the greatest of 2x2 pixels (of what there is, at the end of an odd side).
    """
    channels, copies = x.shape[-1], shares.shape[0]
    kernel = _shuffle(channels, groups)
    kernel[: channels // groups] = 0
    kernel = tf.reshape(tf.cast(shares, x.dtype), [copies, 1]) * tf.constant(kernel[:, None], x.dtype)
    if stride == 2:
        x = kernels.halved_maximum(x)
    y = kernels.convolution(x, tf.reshape(kernel, [1, 1, channels, copies * channels]))
    return tf.split(y, copies, -1)


@keras.saving.register_keras_serializable("kdarts")
class ResidualBlock(keras.layers.Layer):
    """Halves the image: two convolutions to `filters` channels, and beside them a mean and one of single pixels."""

    def __init__(self, filters: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.filters = filters
        self.parts = [
            GroupedOperation(operation, 1, filters, stride, affine=True, name=operation.name, dtype=self.dtype_policy)
            for operation, stride in zip(RESIDUAL, (2, 1, 2), strict=True)
        ]

    def build(self, input_shape):
        for part, channels in zip(self.parts, (input_shape[-1], self.filters, input_shape[-1]), strict=True):
            part.build((None, None, None, channels))

    def call(self, x, training=False):
        first, second, beside = self.parts
        y = first(tf.nn.relu(x), training=training)
        return second(tf.nn.relu(y), training=training) + beside(x, training=training)


def edge_sources(nodes: int, topology: Topology | None = None, inputs: int = 2) -> list[tuple[int, int]]:
    """`(to, from)` of each edge in α's row order: node by node, sources ascending.

    With a topology each intermediate node reads two nodes, else every earlier one; the `inputs` of the cell are nodes 0
    and 1, or node 1 alone.
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
        affine: as of `MixedEdges`; the input's adapters too have scales and offsets.
        epsilon: of the normalisations that adapt the inputs.
        entry: how it takes its inputs, as of `CellPlan`; all but "adapted" have one.

    Attributes:
        sources: nodes that edges leave, ascending; `mixed_edges` has an item for each, and `rows` their edges.

    Call arguments:
        s0, s1: outputs of the cell before last and of the last one.
        mixing: the weights after mixing, `[edges, operations]`.
        training: whether to normalise by the batch's statistics.
        only: columns whose weights are not zero; None: all. The others cost nothing.
        dropout: rate and seed `[2]` of a dropout on the edges that pass their input on; None: none.
        shares: with partial channels those of the edges, `[edges]`, which multiply both parts.
        drawn, noise: as of `MixedEdges`.
        drop_path: rate and seed `[2]` at which the output of an edge is dropped for an image; None: never.
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
            self.preprocess.append(GroupedOperation(operation, 1, filters, stride, affine, name=name, dtype=dtype))
        self.residual = ResidualBlock(filters, name="residual", dtype=dtype) if entry == "residual" else None
        self.edges = edge_sources(nodes, topology, 2 if entry == "adapted" else 1)
        self.sources = sorted({source for _, source in self.edges})
        self.rows = [[e for e, (_, start) in enumerate(self.edges) if start == source] for source in self.sources]
        self.mixed_edges = []
        for source, rows in zip(self.sources, self.rows, strict=True):
            stride = 2 if reduction and source < 2 else 1
            left = None if candidates is None else candidates[rows]
            size, name = (len(rows), self.width), f"from_{source}"
            options = {"bare_pools": affine or entry != "adapted", "name": name, "dtype": dtype}
            self.mixed_edges.append(MixedEdges(operations, *size, stride, left, affine, **options))

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return self.multiplier * self.filters

    def build(self, s0_shape, s1_shape):
        for stack, shape in zip(self.preprocess, (s0_shape, s1_shape), strict=False):
            stack.build(shape)
        if self.residual is not None:
            self.residual.build(s1_shape)
        for mixed in self.mixed_edges:
            mixed.build((None, None, None, self.width))

    def call(
        self,
        s0,
        s1,
        mixing,
        training=False,
        only=None,
        shares=None,
        dropout=None,
        drawn=0,
        drop_path=None,
        noise=None,
    ):
        kept = None if drop_path is None else self._kept(*drop_path, s1)
        states = [None, s1 if self.residual is None else self.residual(s1, training=training)]
        if self.preprocess:
            states = [p(tf.nn.relu(s), training=training) for p, s in zip(self.preprocess, (s0, s1), strict=True)]
        if shares is not None:
            mixing *= shares[:, None]
        drawn = drawn if dropout is None and noise is None else 0
        weights = edge_weights(mixing, self.mixed_edges, self.rows, states[1], drawn)
        arriving, passing = ([[] for _ in range(self.nodes)] for _ in range(2))
        for place, (source, mixed) in enumerate(zip(self.sources, self.mixed_edges, strict=True)):
            while len(states) <= source:
                states.append(self._node(arriving[len(states) - 2], passing[len(states) - 2]))
            x, targets = states[source], [to - 2 for to, start in self.edges if start == source]
            seen = x if self.partial_channels == 1 else kernels.first_channels(x, self.width)
            drop = dropout and (dropout[0], own_seed(tf.random.fold_in(dropout[1], source)))
            seed = None if noise is None else own_seed(tf.random.fold_in(noise, source))
            parts = [(arriving, mixed.mix(seen, weights[place], training, only, drop, seed))]
            if self.partial_channels > 1:
                edges = bypass(x, tf.gather(shares, self.rows[place]), self.partial_channels, mixed.stride)
                parts.append((passing, edges))
            for taken, edges in parts:
                for to, row, edge in zip(targets, self.rows[place], edges, strict=True):
                    taken[to].append(edge if kept is None else edge * kept[row])
        while len(states) < self.nodes + 2:
            states.append(self._node(arriving[len(states) - 2], passing[len(states) - 2]))
        return kernels.joined(*states[-self.multiplier :])

    def _kept(self, rate, seed, like) -> list:
        """For each edge 0 where its output is dropped, by images `[batch, 1, 1, 1]`, else what makes up for it."""
        shape = [len(self.edges), tf.shape(like)[0], 1, 1, 1]
        drawn = tf.random.stateless_uniform(shape, seed, dtype=rate.dtype) >= rate
        return tf.unstack(tf.where(drawn, tf.cast(1 / (1 - rate), like.dtype), 0))

    def _node(self, arriving, passing):
        mixed = total(arriving)
        return tf.add_n([place(mixed, self.partial_channels), *passing]) if passing else mixed


def recomputed(cell, s0, s1, mixing, shares=None, **options):
    """The output of a `SearchCell` in training, of which no more than the inputs is kept for the gradient.

    The arguments are those of its call, and like there running statistics are updated. The derivatives with respect to
    s0, s1, mixing and shares (None: there are none), the second ones included, are those of the cell.
    """
    trainable = [tf.convert_to_tensor(v) for v in cell.trainable_variables]
    statistics = [tf.convert_to_tensor(v) for v in cell.non_trainable_variables]
    weights = [mixing] if shares is None else [mixing, shares]
    count, together = len(weights), is_synchronized()

    def forward(s0, s1, *rest):
        given = dict(zip(("mixing", "shares"), rest[:count], strict=False)) | options
        with synchronized(together):
            output, after = cell.stateless_call(list(rest[count:]), statistics, s0, s1, **given)
        return output, *after

    @tf.custom_gradient
    def call(*inputs):
        def backward(*gradients):
            # Without the dependency the second computation would start at once, and keep what the first forgot.
            with tf.control_dependencies(gradients):
                again = [tf.identity(x) for x in inputs]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(again)
                outputs = forward(*again)
            return tape.gradient(outputs, again, output_gradients=gradients, unconnected_gradients="zero")

        return forward(*inputs), backward

    output, *after = call(s0, s1, *weights, *trainable)
    for variable, value in zip(cell.non_trainable_variables, after, strict=True):
        variable.assign(value)
    return output


def make_stems(stem: Stem, channels: int, dtype) -> list[GroupedOperation]:
    """The stem's parts, for `channels` of a node before any reduction; the cells read the first and the last."""
    return [
        GroupedOperation(operation, 1, int(width * channels), stride, affine=True, name=name, dtype=dtype)
        for name, operation, stride, width in stem.parts
    ]


def run_stems(stems: list[GroupedOperation], x, training) -> list:
    """The first cell's two inputs: what the first and the last stem give, or the images themselves without any."""
    outputs = [x]
    for stem in stems:
        x = stem(tf.nn.relu(x) if stem.reads[0] else x, training=training)
        outputs.append(x)
    outputs = outputs[1:] or outputs
    return [outputs[0], outputs[-1]]


def make_closing(cells, dtype) -> GroupedOperation | None:
    """Returns the operation between the last cell and the head if no cell adapts its inputs, else None."""
    if cells[-1].entry == "adapted":
        return None
    return GroupedOperation(CLOSING, 1, cells[-1].outputs, affine=True, name=CLOSING.name, dtype=dtype)


def build_chain(stems, cells, channels: int, closing: GroupedOperation | None = None) -> None:
    """Makes the variables of stems, cells and closing, each behind the one before; nothing is computed.

    `channels` is that of an image; a cell has two inputs, and the number of its `outputs`.
    """
    widths = [channels]
    for stem in stems:
        stem.build((None, None, None, widths[-1]))
        widths.append(stem.filters)
    before, last = (widths[1:] or widths)[0], widths[-1]
    for cell in cells:
        cell.build((None, None, None, before), (None, None, None, last))
        before, last = last, cell.outputs
    if closing is not None:
        closing.build((None, None, None, last))
