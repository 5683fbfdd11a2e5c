"""The networks of all paths, with shared weights: each edge holds a few operations, a path takes one."""

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.path_space import PathSpace, Slot
from kdarts.networks.trunk import DropPath
from kdarts.ops.cost import Cost, Latencies
from kdarts.ops.kernels import DECAY
from kdarts.ops.layers import make_head
from kdarts.ops.mixed import GroupedOperation, normalized_pool
from kdarts.ops.operations import adapter, get_operation
from kdarts.supernet.cell import ResidualBlock, build_chain, make_closing, make_stems, run_stems
from kdarts.supernet.cost import network_cost
from kdarts.supernet.macro import CellPlan, check_input_shape, check_reductions, choose_stem, plan_cells


@keras.saving.register_keras_serializable("kdarts")
class PathCell(keras.layers.Layer):
    """A cell of DARTS-PD's pruned supernet S' (section 3.2): one path through it, or a fair group of paths at once.

    In a group of k paths every operation of an edge serves one path. The operation of each path is data, so one graph
    serves all groups, in which each operation is computed once: on an edge the paths are put in the order of the
    operations that they take, and back again.

    Args:
        slots: the edges and their operations.
        concat: nodes whose concatenation is the output.
        plan: its `CellPlan`.
        affine: whether batch normalisations have a trainable scale and offset.
        drop_path: layer that drops paths of each operation but the identity, or None.
        bare_pools: as of `MixedEdges`.

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
        plan: CellPlan,
        affine: bool = True,
        drop_path: DropPath | None = None,
        bare_pools: bool = True,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.slots, self.concat, self.filters, self.drop_path = slots, concat, plan.filters, drop_path
        self.entry = plan.entry

        def grouped(operation, stride, name):
            dtype = self.dtype_policy
            return GroupedOperation(operation, 1, plan.filters, stride, affine=affine, dtype=dtype, name=name)

        residual = self.entry == "residual"
        self.residual = ResidualBlock(plan.filters, name="residual", dtype=self.dtype_policy) if residual else None
        halved = (plan.after_reduction, False) if self.entry == "adapted" else ()
        self.preprocess = [grouped(*adapter(halving), f"preprocess{k}") for k, halving in enumerate(halved)]
        self.edges = []
        for to, source, names in slots:
            stride = 2 if plan.reduction and source < 2 else 1
            path = f"from_{source}_to_{to}"
            found = [get_operation(name) for name in names]
            found = found if bare_pools or self.entry != "adapted" else [normalized_pool(each) for each in found]
            self.edges.append([grouped(each, stride, f"{path}_{each.name}") for each in found])

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
        states = {1: self._adapt(1, s1, choice, training)}
        if self.preprocess:
            states[0] = self._adapt(0, s0, choice, training)
        arriving = {}
        # A node is complete before an edge leaves it, as edges come node by node.
        for stacks, chosen, (to, source, _) in zip(self.edges, tf.unstack(choice, axis=-1), self.slots, strict=True):
            if source not in states:
                states[source] = tf.add_n(arriving[source])
            edge = along(stacks, chosen, states[source], lambda stack, x: self._apply(stack, x, training))
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

    def _apply(self, stack, state, training):
        operation = stack.operation
        if operation.zero:
            return tf.zeros_like(state[:, :: stack.stride, :: stack.stride])
        y = stack(tf.nn.relu(state) if stack.reads[0] else state, training=training)
        identity = not operation.layers(stack.stride)
        return y if identity or self.drop_path is None else self.drop_path(y, training=training)


@tf.custom_gradient
def rearranged(x, order, inverse):
    """`x[order]` along the first axis; its gradient is gathered as well, where TensorFlow's own would scatter."""
    return tf.gather(x, order), lambda dy: (tf.gather(dy, inverse), None, None)


def along(candidates: list, chosen: tf.Tensor, x: tf.Tensor, apply) -> tf.Tensor:
    """What the chosen candidates give: of one path, or of a group whose paths use each candidate once.

    Args:
        candidates: what may be applied.
        chosen: the index of one; or for each path of a group its own, a permutation.
        x: the input of the path; of a group those of all paths, stacked.
        apply: from a candidate and an input to its output.
    """
    if chosen.shape.rank == 0:
        return tf.switch_case(chosen, [lambda each=each: apply(each, x) for each in candidates])
    places = tf.math.invert_permutation(chosen)
    inputs = tf.unstack(rearranged(x, places, chosen))
    outputs = [apply(each, one) for each, one in zip(candidates, inputs, strict=True)]
    return rearranged(tf.stack(outputs), chosen, places)


class SharedNetwork(keras.Model):
    """What the networks of all paths have in common: which path a call computes, and its running statistics.

    Args:
        space: the paths: a `PathSpace` or a `ChainSpace`.
        input_shape: `(height, width, channels)` of an image.
        num_classes: number of classes, at least 2.
        drop_path: rate at the end of the training, 0 or more and less than 1.
        seed: of what is dropped.

    A kind of it makes the layers, and defines `_logits` of images, the choice of a path or a group, and `training`;
    `normalised`, `family_cost` and `family_flags`.
    """

    def __init__(self, space, input_shape, num_classes: int, drop_path: float = 0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.space, self.num_classes = space, num_classes
        self.image_shape = check_input_shape(input_shape)
        if num_classes < 2:
            raise KdartsError(f"num_classes {num_classes}: needs at least 2")
        if not 0 <= drop_path < 1:
            raise KdartsError(f"drop_path {drop_path}: needs 0 <= drop_path < 1")
        self.drop_path = DropPath(drop_path, seed, dtype=self.dtype_policy, name="drop_path") if drop_path else None
        self.chosen = self.add_weight(
            name="chosen", shape=(space.edges,), dtype="int32", trainable=False, autocast=False
        )
        """The path that a call computes: for each edge the index of its operation. No graph depends on it."""

    def call(self, x, training=False):
        return self._logits(x, tf.convert_to_tensor(self.chosen), training)

    def group(self, x, paths, training=True) -> tf.Tensor:
        """The logits `[k, batch, num_classes]` of a group of paths, each as the path gives them on its own.

        `paths` are integers `[k, edges]`, every column a permutation (see `FairPaths`): the k paths use every operation
        of every edge once. Or they are one path, `[1, edges]`.
        """
        paths = tf.cast(paths, tf.int32)
        if paths.shape[0] == 1:
            return self._logits(x, paths[0], training)[None]
        paths = tf.ensure_shape(paths, (self.space.kept, self.space.edges))
        return self._logits(x, paths, training)

    @property
    def statistics(self) -> list[keras.Variable]:
        """The running means and variances of every normalisation."""
        return [variable for layer in self.normalised for variable in layer.non_trainable_variables]

    def recalibrate(self, forward, batches) -> None:
        """Makes the running statistics those of the path in `chosen`, whatever they were before.

        They are taken from training batches as training takes them, with an exponential decay, here without the share
        of where they started (SPOS, Guo et al. 2020, section 3.4, starts afresh and runs long enough). Nothing is
        dropped.

        Args:
            forward: a `tf.function` that computes the model on a batch with `training=True`: one graph for all paths.
            batches: images, at least one batch.
        """
        for variable in self.statistics:
            variable.assign(tf.zeros_like(variable.value))
        count, rate = 0, self.drop_path and self.drop_path.rate.numpy()
        if self.drop_path:
            self.drop_path.rate.assign(0.0)
        for x in batches:
            forward(x)
            count += 1
        if self.drop_path:
            self.drop_path.rate.assign(rate)
        for variable in self.statistics:
            variable.assign(variable.value / np.asarray(1 - (1 - DECAY) ** count, variable.dtype))


@keras.saving.register_keras_serializable("kdarts")
class PathNetwork(SharedNetwork):
    """The pruned supernet S' of DARTS-PD (section 3.2): a path computes what `build_network` makes of its genotype.

    Args:
        space: the operations of each edge.
        affine: whether the cells' normalisations have a trainable scale and offset, as stand-alone networks have.
        bare_pools: whether pools stand alone, as there; else each is normalised, as in a supernet of DARTS' cells.
        input_shape, num_classes, channels, cells, stem, drop_path, seed: as of `build_network`.

    Call arguments:
        x: images, channels last, float32.
        training: whether to normalise by the batch's statistics.

    Returns:
        Logits `[batch, num_classes]`, float32, of the path in `chosen`.
    """

    def __init__(
        self,
        space: PathSpace,
        input_shape,
        num_classes: int,
        channels: int = 16,
        cells: int = 8,
        stem: str = "auto",
        affine: bool = True,
        bare_pools: bool = True,
        drop_path: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(space, input_shape, num_classes, drop_path, seed, **kwargs)
        self.channels = channels
        chosen, self.depth, self._stem_name = choose_stem(stem, self.image_shape, space.stages), cells, stem
        reductions = () if space.stages else check_reductions(space.reductions, cells)
        self.plan = plan_cells(cells, channels, reductions, chosen.halved, stages=space.stages)
        dtype = self.dtype_policy
        self.stems = make_stems(chosen, channels, dtype)
        of_kind = list(zip(space.cells, space.concats, strict=True))
        self.cells = [
            PathCell(
                *of_kind[plan.reduction], plan, affine, self.drop_path, bare_pools, name=f"cell_{index}", dtype=dtype
            )
            for index, plan in enumerate(self.plan)
        ]
        self.closing = make_closing(self.cells, dtype)
        [self.classifier] = make_head((), num_classes, self.cells[-1].outputs, dtype.variable_dtype)
        self.build()

    def build(self):
        """Makes the variables; nothing is computed."""
        build_chain(self.stems, self.cells, self.image_shape[-1], self.closing)
        if self.drop_path is not None:
            self.drop_path.build(None)
        self.built = True

    def _logits(self, x, choice, training):
        s0, s1 = run_stems(self.stems, tf.cast(x, self.compute_dtype), training)
        parts = self.space.parts(choice)
        for cell, plan in zip(self.cells, self.plan, strict=True):
            s0, s1 = s1, cell(s0, s1, parts[plan.reduction], training=training)
        if self.closing is not None:
            several = s1.shape.rank == 5
            s1 = [tf.nn.relu(self.closing(s, training=training)) for s in (tf.unstack(s1) if several else [s1])]
            s1 = tf.stack(s1) if several else s1[0]
        return self.classifier(tf.reduce_mean(tf.cast(s1, self.variable_dtype), [-3, -2]))

    def cost_of(
        self,
        path,
        channels: int | None = None,
        cells: int | None = None,
        stem: str | None = None,
        latencies: Latencies | None = None,
    ) -> Cost:
        """Cost of a path's stand-alone network, at the sizes and with the stem of this one where none are given."""
        sizes = channels or self.channels, cells or self.depth, stem or self._stem_name
        genotype = self.space.genotype(path)
        return network_cost(genotype, self.image_shape, self.num_classes, *sizes, latencies=latencies)

    def family_cost(self, path, choice, latencies: Latencies | None = None) -> Cost:
        """Cost of a path at the sizes of a family.

        Args:
            path: `[edges]`, the index of its operation on each edge.
            choice: of the shared paths, with `family_channels`, `family_cells` and `family_stem`.
            latencies: a table for milliseconds.
        """
        stem = None if choice.family_stem == "search" else choice.family_stem
        return self.cost_of(path, choice.family_channels, choice.family_cells, stem, latencies)

    def family_flags(self, choice) -> str:
        """The flags of the sizes that `family_cost` counts by."""
        stem = "" if choice.family_stem == "search" else f" --stem={choice.family_stem}"
        return f"--channels={choice.family_channels} --cells={choice.family_cells}{stem}"

    @property
    def normalised(self) -> list:
        """The layers with running statistics."""
        stacks = [*self.stems, *([self.closing] if self.closing is not None else [])]
        for cell in self.cells:
            stacks += [*cell.preprocess, *(stack for stacks in cell.edges for stack in stacks)]
            stacks += [] if cell.residual is None else cell.residual.parts
        return stacks
