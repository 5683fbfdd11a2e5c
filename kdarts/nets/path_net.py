"""The networks of all paths of a path space, with shared weights."""

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.path_space import PathSpace
from kdarts.nets.cost import Cost, network_cost
from kdarts.nets.drop_path import DropPath
from kdarts.nets.frame import build_chain, make_closing, make_stems, run_stems
from kdarts.nets.head import make_head
from kdarts.nets.kernels import DECAY
from kdarts.nets.path_cell import PathCell
from kdarts.nets.plan import check_input_shape, check_reductions, choose_stem, plan_cells


@keras.saving.register_keras_serializable("kdarts")
class PathNetwork(keras.Model):
    """The pruned supernet S' of DARTS-PD (section 3.2): a path computes what `build_network` makes of its genotype.

    Args:
        space: the operations of each edge.
        input_shape: `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: number of classes, at least 2.
        channels: channels of a node before any reduction, even.
        cells: number of cells, with stages of each.
        stem: "auto" (by image size) or one of `STEMS`.
        affine: whether the cells' normalisations have a trainable scale and offset, as stand-alone networks have.
        drop_path: final drop-path rate, 0 to below 1 (see `DropPathSchedule`), of every operation but the identity.
        seed: of the drop-path masks.

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
        drop_path: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.space, self.num_classes, self.channels = space, num_classes, channels
        self.image_shape = check_input_shape(input_shape)
        if num_classes < 2:
            raise KdartsError(f"num_classes {num_classes}: needs at least 2")
        if not 0 <= drop_path < 1:
            raise KdartsError(f"drop_path {drop_path}: needs 0 <= drop_path < 1")
        chosen, self.depth, self._stem_name = choose_stem(stem, self.image_shape, space.stages), cells, stem
        reductions = () if space.stages else check_reductions(space.reductions, cells)
        self.plan = plan_cells(cells, channels, reductions, chosen.halved, stages=space.stages)
        dtype = self.dtype_policy
        self.drop_path = DropPath(drop_path, seed, dtype=dtype, name="drop_path") if drop_path else None
        self.stems = make_stems(chosen, channels, dtype)
        self.cells = [
            PathCell(
                space.cells[cell.reduction],
                space.concats[cell.reduction],
                cell.filters,
                cell.reduction,
                cell.after_reduction,
                affine,
                self.drop_path,
                cell.entry,
                name=f"cell_{index}",
                dtype=dtype,
            )
            for index, cell in enumerate(self.plan)
        ]
        self.closing = make_closing(self.cells, dtype)
        [self.classifier] = make_head((), num_classes, self.cells[-1].outputs, dtype.variable_dtype)
        self.chosen = self.add_weight(
            name="chosen", shape=(space.edges,), dtype="int32", trainable=False, autocast=False
        )
        """The path that a call computes: for each edge the index of its operation. No graph depends on it."""
        self.build()

    def build(self):
        """Makes the variables; nothing is computed."""
        build_chain(self.stems, self.cells, self.image_shape[-1], self.closing)
        if self.drop_path is not None:
            self.drop_path.build(None)
        self.built = True

    def call(self, x, training=False):
        return self._logits(x, tf.convert_to_tensor(self.chosen), training)

    def group(self, x, paths, training=True) -> tf.Tensor:
        """The logits of k paths that use every operation of every edge once.

        Args:
            x: images, channels last, float32.
            paths: `[k, edges]` integers, every column a permutation (see `FairPaths`).
            training: as of a call.

        Returns:
            `[k, batch, num_classes]`; each path's are those that it gives on its own.
        """
        paths = tf.ensure_shape(tf.cast(paths, tf.int32), (self.space.kept, self.space.edges))
        return self._logits(x, paths, training)

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

    def cost_of(self, path, channels: int | None = None, cells: int | None = None) -> Cost:
        """Cost of a path's stand-alone network, at the sizes of this one where none are given."""
        sizes = self.image_shape, self.num_classes, channels or self.channels, cells or self.depth, self._stem_name
        return network_cost(self.space.genotype(path), *sizes)

    @property
    def statistics(self) -> list[keras.Variable]:
        """The running means and variances of every normalisation."""
        stacks = [*self.stems, *([self.closing] if self.closing is not None else [])]
        for cell in self.cells:
            stacks += [*cell.preprocess, *(stack for stacks in cell.edges for stack in stacks)]
            stacks += [] if cell.residual is None else cell.residual.parts
        return [variable for stack in stacks for variable in stack.non_trainable_variables]

    def recalibrate(self, forward, batches) -> None:
        """Makes the running statistics those of the path in `chosen`, whatever they were before.

        They are taken from training batches as training takes them, with an exponential decay, here without the share
        of where they started (SPOS, Guo et al. 2020, section 3.4, starts afresh and runs long enough). Nothing is
        dropped.

        Args:
            forward: computes the model on a batch of images with `training=True`; a `tf.function`, so that one graph
                serves all paths.
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
