"""Mixed operations: one operation for several edges at once, all candidates of the edges that leave a node."""

import math

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.ops import kernels
from kdarts.ops.drawn import Drawing, by_edge, drawings, inputs
from kdarts.ops.layers import uniform
from kdarts.ops.operations import Conv, Gate, Halve, Norm, Operation, Pool, Reduce, Relu, Relu6


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
        drawn: how many weights of an edge at most are not zero, if that is 1 or 2; 0: any. The other candidates cost
            nothing, where the device has the kernels for it (`kdarts.ops.drawn`), and running statistics stay.
        noise: seed `[2]` of what draws noise; None: always the same.
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
        self.noises: list[int] = []
        self.edges: dict[int, tuple[int, ...]] = {}
        for column, operation in enumerate(operations):
            edges = tuple(e for e in range(copies) if candidates is None or candidates[e][column])
            if operation.zero or not edges:
                continue
            self.edges[column] = edges
            if operation.noisy:
                self.noises.append(column)
            elif operation.parametric(stride):
                options = {"name": operation.name, "dtype": self.dtype_policy}
                self.stacks[column] = GroupedOperation(operation, len(edges), filters, stride, affine, **options)
            else:
                free = operation if bare_pools else normalized_pool(operation)
                self.free[column] = GroupedOperation(free, 1, filters, stride, dtype=self.dtype_policy)
        self.free_edges = tuple(e for e in range(copies) if any(e in self.edges[column] for column in self.free))
        """The edges that have any operation without weights."""

    def build(self, input_shape):
        for stack in self.stacks.values():
            tiled = (*input_shape[:-1], input_shape[-1] * stack.copies)
            stack.build(tiled if stack.reads[1] else input_shape)
        for stack in self.free.values():
            stack.build(input_shape)

    def call(self, x, mixing, training=False, only=None, dropout=None, drawn=0, noise=None):
        drawn = drawn if dropout is None and not self.noises else 0
        (weights,) = edge_weights(mixing, [self], [range(self.copies)], x, drawn)
        return self.mix(x, weights, training, only, dropout, noise)

    def _mix_drawn(self, x, drawn: dict, order, channels) -> list:
        """The outputs of a call in training, from what `drawings` gives."""
        if not drawn:
            return [self._nothing(x)] * self.copies
        stacks = [self.stacks.get(column) or self.free[column] for column in drawn]
        # Without weights one copy serves all edges; here each that drew it has the result of its own.
        readers = [
            (drawing, int(stack.reads[0]), stack.reads[1] or (column in self.free and self.copies > 1))
            for (column, drawing), stack in zip(drawn.items(), stacks, strict=True)
        ]
        given = inputs([x, tf.nn.relu(x)], readers)
        results = [s.of_drawn(seen, d) for s, seen, d in zip(stacks, given, drawn.values(), strict=True)]
        return by_edge(results, list(drawn.values()), order, channels, self.copies, self.filters, x.shape[0])

    def _nothing(self, x):
        return tf.zeros_like(x[:, :: self.stride, :: self.stride])

    def mix(self, x, weights, training=False, only=None, dropout=None, noise=None) -> list:
        """The outputs of a call, from weights as of `edge_weights`; the other arguments are those of the call."""
        if isinstance(weights, tuple):
            return self._mix_drawn(x, *weights)
        if isinstance(weights, list):
            return [total(parts) for parts in zip(*(self._mix_drawn(x, *each) for each in weights), strict=True)]
        stacks = {c: stack for c, stack in self.stacks.items() if only is None or c in only}
        free = {c: stack for c, stack in self.free.items() if only is None or c in only}
        views, even = Views(x), not any(side % 2 for side in x.shape[1:3])
        outputs: dict[tuple[int, ...], list] = {}
        in_phases: dict[tuple[int, ...], list] = {}
        for column, stack in stacks.items():
            phased = even and stack.keeps_phases
            given = views.get(stack.reads[0], stack.copies if stack.reads[1] else 1, phased)
            output = stack(given, scale=weights[column], training=training, phased=phased)
            (in_phases if phased else outputs).setdefault(self.edges[column], []).append(output)
        for column in [column for column in self.noises if only is None or column in only]:
            edges = self.edges[column]
            shape = [tf.shape(x)[0], *(-(-side // self.stride) for side in x.shape[1:3]), len(edges) * self.filters]
            seed = tf.random.fold_in(kernels.constant([0, 0]) if noise is None else noise, column)
            drawn = tf.cast(tf.random.stateless_normal(shape, seed), x.dtype)
            outputs.setdefault(edges, []).append(drawn * tf.cast(weights[column], x.dtype))
        for edges, parts in in_phases.items():
            outputs.setdefault(edges, []).append(kernels.from_phases(total(parts), x.shape[1:3]))
        if dropout is not None:
            for column in [c for c in free if not self.operations[c].layers(self.stride)]:
                free.pop(column)
                given = views.get(False, len(self.free_edges))
                kept = tf.nn.experimental.stateless_dropout(given, tf.cast(dropout[0], x.dtype), dropout[1])
                outputs.setdefault(self.free_edges, []).append(kept * tf.cast(weights[column], x.dtype))
        if free:
            features = [stack(x, training=training) for stack in free.values()]
            outputs.setdefault(self.free_edges, []).append(self._spread(features, [weights[c] for c in free]))
        arriving = [[] for _ in range(self.copies)]
        for edges, parts in outputs.items():
            whole = total(parts)
            shares = tf.split(whole, len(edges), kernels.constant(-1)) if len(edges) > 1 else [whole]
            for edge, part in zip(edges, shares, strict=True):
                arriving[edge].append(part)
        nothing = None if all(arriving) else self._nothing(x)
        return [total(parts) if parts else nothing for parts in arriving]

    def _spread(self, features, weights):
        """Each edge's own sum of the shared features: a 1x1 convolution whose blocks are diagonal."""
        dtype, (count, edges) = features[0].dtype, (len(features), len(self.free_edges))
        blocks = tf.reshape(tf.cast(tf.stack(weights), dtype), kernels.constant([count, 1, edges, self.filters]))
        kernel = blocks * kernels.constant(np.eye(self.filters)[:, None], dtype)
        shape = kernels.constant([1, 1, count * self.filters, edges * self.filters])
        together = kernels.joined(*features) if count > 1 else features[0]
        return kernels.convolution(together, tf.reshape(kernel, shape))


def edge_weights(mixing, layers: list[MixedEdges], rows: list, x, drawn: int) -> list:
    """What `MixedEdges.mix` of each source of a cell weighs by.

    Args:
        mixing, layers, rows: as of `channel_weights`; the first layer reads an input of the cell.
        x: what it reads.
        drawn: as of `MixedEdges`.

    Returns:
        For each layer what `drawings` gives, if the weights are drawn and the device has the kernels for it, of two a
        list of it for the larger and the smaller; else what `channel_weights` gives.
    """
    if not drawn or not kernels.grouped(x):
        return channel_weights(mixing, layers, rows)
    sides = [-(-side // layers[0].stride) for side in x.shape[1:3]]
    if drawn == 1:
        return drawings(mixing, layers, rows, tf.shape(x)[0], sides)
    larger = mixing * tf.one_hot(tf.argmax(mixing, -1), mixing.shape[-1], dtype=mixing.dtype)
    both = [drawings(each, layers, rows, tf.shape(x)[0], sides) for each in (larger, mixing - larger)]
    return [list(pair) for pair in zip(*both, strict=True)]


def channel_weights(mixing, layers: list[MixedEdges], rows: list) -> list[dict[int, tf.Tensor]]:
    """The weights of a cell's edges after mixing, one for each channel of what they multiply.

    They are gathered and split once for the whole cell: for each layer alone it would be hundreds of small operations.

    Args:
        mixing: `[edges, operations]`.
        layers: the edges, by their source; all of the same number of filters.
        rows: for each layer those of `mixing` that are its edges.

    Returns:
        For each layer and column `[edges * filters]`, of the edges that have the operation; of what has no weights, of
        all `free_edges`.
    """
    count, columns = mixing.shape
    places, sizes = [], []
    for layer, own in zip(layers, rows, strict=True):
        for column, having in layer.edges.items():
            edges = layer.free_edges if column in layer.free else having
            places += [own[e] * columns + column if e in having else count * columns for e in edges]
            sizes.append(len(edges))
    flat = tf.reshape(mixing, kernels.constant([-1]))
    if count * columns in places:
        flat = tf.pad(flat, kernels.constant([[0, 1]]))
    filters = layers[0].filters
    chosen = tf.reshape(tf.gather(flat, kernels.constant(places)), kernels.constant([-1, 1]))
    wide = tf.matmul(chosen, kernels.constant(np.ones((1, filters)), mixing.dtype))
    lengths = kernels.constant([filters * size for size in sizes])
    parts = iter(tf.split(tf.reshape(wide, kernels.constant([-1])), lengths, num=len(sizes)) if sizes else [])
    return [{column: next(parts) for column in layer.edges} for layer in layers]


def total(parts: list):
    """The sum of tensors, at least one."""
    return tf.add_n(parts) if len(parts) > 1 else parts[0]


class Views:
    """A tensor as operations read it, each form computed once."""

    def __init__(self, x):
        self._made = {(False, 1, False): x}

    def get(self, rectified: bool, times: int, phased: bool = False):
        """The tensor, rectified or not, `times` times side by side, as it is or in phases (`kernels.to_phases`)."""
        key = rectified, times, phased
        if key not in self._made:
            if times > 1:
                made = tf.tile(self.get(rectified, 1, phased), kernels.constant([1, 1, 1, times]))
            elif phased:
                made = kernels.to_phases(self.get(rectified, 1))
            else:
                made = tf.nn.relu(self.get(False, 1))
            self._made[key] = made
        return self._made[key]


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
        phased: whether input and output are in phases (`kernels.to_phases`), if it `keeps_phases`.
        noted: whether training moves the running statistics.
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
        convolutions = [step for step in self.layers_in_order if isinstance(step, Conv)]
        self.keeps_phases = (
            stride == 1
            and [step.dilation for step in convolutions[:1]] == [2]
            and all(step.kernel == (1, 1) for step in convolutions[1:])
            and all(isinstance(step, Relu | Conv | Norm) for step in self.layers_in_order)
        )
        """Whether it can be computed in phases, as its first convolution is: what follows takes pixel by pixel."""

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
                case Gate():
                    weights = self._gate(name, channels, step.width)
                case Norm():
                    weights = self._statistics(name, (self.copies if stacked else 1) * channels)
                case _:
                    weights = []
            self.step_weights.append(weights)

    def _filter(self, name, shape, fan_in):
        return self.add_weight(name=f"{name}_kernel", shape=shape, initializer=uniform(fan_in))

    def _gate(self, name, channels, width):
        if self.copies > 1:
            raise KdartsError(f"operation {self.operation.name!r}: a gate is about blocks that follow one another")
        sizes = {"squeeze": (channels, width), "excite": (width, channels)}
        weights = []
        for part, size in sizes.items():
            weights.append(self._filter(f"{name}_{part}", (1, 1, *size), size[0]))
            weights.append(self.add_weight(name=f"{name}_{part}_bias", shape=size[1:], initializer="zeros"))
        return weights

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

    @property
    def own_weights(self) -> list:
        """The trainable variables whose last axis is edge by edge; a normalisation of what all edges read has none."""
        own, found = self.reads[1], []
        for step, values in zip(self.layers_in_order, self.step_weights, strict=True):
            own = own or isinstance(step, Conv | Reduce)
            found += [v for v in values if v.trainable and (own or self.copies == 1)]
        return found

    def call(self, x, scale=None, training=False, phased=False, noted=True):
        return self._run(x, self.step_weights, self.copies, scale, training, phased, noted)

    def of_drawn(self, x, drawing: Drawing):
        """The output in training for the edges that drew the operation alone, from what `inputs` gives."""
        statistics = [2 if isinstance(step, Norm) else 0 for step in self.layers_in_order]
        own = [w[n:] for w, n in zip(self.step_weights, statistics, strict=True)]
        picked = iter(drawing.pick([tf.convert_to_tensor(v) for values in own for v in values]))
        weights = [[None] * n + [next(picked) for _ in w] for w, n in zip(own, statistics, strict=True)]
        return self._run(x, weights, 1 if self.copies == 1 else drawing.edges, drawing.scale, True)

    def _run(self, x, step_weights, copies, scale, training, phased=False, noted=True):
        groups = copies if self.reads[1] else 1
        steps = self.layers_in_order[1:] if self.reads[0] else self.layers_in_order
        weights = step_weights[1:] if self.reads[0] else step_weights
        for position, (step, values) in enumerate(zip(steps, weights, strict=True)):
            match step:
                case Relu():
                    x = tf.nn.relu(x)
                case Relu6():
                    x = tf.nn.relu6(x)
                case Gate():
                    x = kernels.gate(x, *(tf.cast(value, x.dtype) for value in values))
                case Conv(depthwise=True):
                    if groups is not copies:
                        x, groups = tf.tile(x, [1, 1, 1, copies]), copies
                    stride = self.stride if step.strided[0] else 1
                    kernel = tf.cast(values[0], x.dtype)
                    x = kernels.depthwise(x, kernel, stride, 1 if phased else step.dilation, step.same)
                case Conv():
                    stride = [self.stride if along else 1 for along in step.strided]
                    x = kernels.convolution(x, tf.cast(values[0], x.dtype), groups, stride, step.same)
                    groups = copies
                case Reduce():
                    kernel = [tf.cast(value, x.dtype) for value in values]
                    x, groups = kernels.factorized(x, *kernel, copies), copies
                case Pool():
                    if step.kind == "max":
                        x = kernels.max_pool(x, self.stride)
                    else:
                        x = kernels.average_pool(x, self.stride, step.padded)
                case Halve():
                    x = kernels.halved_mean(x)
                case Norm():
                    last = position == len(steps) - 1
                    x = self._normalize(x, values, scale if last else None, training, step.epsilon, noted)
                    scale = None if last else scale
        return x if scale is None else x * tf.cast(scale, x.dtype)

    def _normalize(self, x, values, scale, training, epsilon, noted):
        mean, variance, *affine = (v if v is None else tf.convert_to_tensor(v) for v in values)
        gamma, offset = affine or (None, None)
        if scale is not None:
            gamma, offset = (scale if gamma is None else gamma * scale), (offset * scale if affine else None)
        y, *after = kernels.normalize(x, gamma, offset, mean, variance, training, epsilon)
        if training and noted and mean is not None:
            for variable, value in zip(values, after, strict=False):
                variable.assign(value)
        return y
