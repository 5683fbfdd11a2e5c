"""The supernet: all networks of a space at once, with α as trainable variables."""

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.nets import mixing as mixings
from kdarts.nets.candidates import check_candidates, mix_candidates
from kdarts.nets.cost import Cost, supernet_cost
from kdarts.nets.initializers import uniform
from kdarts.nets.operations import FACTORIZED_REDUCE, Operation
from kdarts.nets.plan import check_input_shape, check_reductions, choose_stem, plan_cells
from kdarts.nets.recompute import recomputed
from kdarts.nets.sampling import get_sampling
from kdarts.nets.search_cell import SearchCell, edge_sources
from kdarts.nets.spaces import SearchSpace, get_space
from kdarts.nets.stack import Stack

AUXILIARY_SKIP = Operation("auxiliary_skip", (), FACTORIZED_REDUCE.strided_steps)
"""Stands beside the candidates, so it is none that a genotype could name."""


def share_cells(sharing, plan) -> list[int]:
    """For each cell the index of its α: normal and reduce, one for each cell, or as given.

    Raises:
        KdartsError: if `sharing` is no known word and no list of one index a cell, counted from 0 without gaps.
    """
    if sharing == "shared":
        return [int(cell.reduction) for cell in plan]
    if sharing == "individual":
        return list(range(len(plan)))
    listed = isinstance(sharing, list | tuple) and all(isinstance(i, int) for i in sharing)
    if listed and len(sharing) == len(plan) and set(sharing) == set(range(max(sharing) + 1)):
        return list(sharing)
    raise KdartsError(
        f"sharing {sharing!r}: allowed are 'shared', 'individual', or {len(plan)} indices counted from 0 without gaps"
    )


@keras.saving.register_keras_serializable("kdarts")
class Supernet(keras.Model):
    """Every candidate of every edge of every cell, mixed by α.

    Args:
        space: a `SearchSpace` or the name of one.
        input_shape: `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: number of classes, at least 2.
        channels: channels of a node before any reduction, even.
        cells: number of cells.
        reductions: positions of the reduction cells; None: a third and two thirds of the way.
        sharing: which cells share an α: "shared" (normal and reduce), "individual", or one index for each cell.
        mixing: how α weighs the candidates: "softmax", "sigmoid" or "max_w".
        nodes: intermediate nodes of a cell; None: the space's.
        multiplier: nodes in a cell's output, counted from the last; None: the space's, or all where a cell has fewer.
        stem: "auto" (by image size) or one of `STEMS`: "cifar", "small", "imagenet", "imagenet_quarter".
        recompute: whether a cell's activations are forgotten and made again for its gradient: less memory, more time.
        candidates: for each α which operations an edge still has, boolean `[edges, operations]`; None: all. The
            others have no weights and cost nothing; their α is 0 and their weight after mixing too.
        skip_dropout: rate, 0 to below 1, of a dropout while training on what skip connections of stride 1 pass on,
            element by element (P-DARTS section 3.3); held in the variable `skip_dropout_rate`. 0: none at all.
        sampling: which candidates a pass goes through: "all", or by a draw "gumbel" or "random" (see `sampling`).
        auxiliary_skip: whether every edge has one more skip connection beside its candidates, whose weight falls from
            1 to 0 with `progress` (DARTS-, Chu et al. 2021).

    Attributes:
        progress: variable, 0 to 1: how much of a search is done, for what changes along it.

    Call arguments:
        x: images, channels last, float32.
        training: whether to normalise by the batch's statistics.

    Returns:
        Logits `[batch, num_classes]`, float32.
    """

    def __init__(
        self,
        space: SearchSpace | str,
        input_shape,
        num_classes: int,
        channels: int = 16,
        cells: int = 8,
        reductions=None,
        sharing="shared",
        mixing: str = "softmax",
        nodes: int | None = None,
        multiplier: int | None = None,
        stem: str = "auto",
        recompute: bool = False,
        candidates=None,
        skip_dropout: float = 0.0,
        sampling: str = "all",
        auxiliary_skip: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.space = get_space(space) if isinstance(space, str) else space
        self.image_shape = check_input_shape(input_shape)
        if num_classes < 2:
            raise KdartsError(f"num_classes {num_classes}: needs at least 2")
        self.num_classes, self.channels, self.mixing, self.recompute = num_classes, channels, mixing, recompute
        self.nodes = nodes or self.space.nodes
        self.multiplier = multiplier or min(self.space.multiplier, self.nodes)
        if not 1 <= self.multiplier <= self.nodes:
            raise KdartsError(f"multiplier {self.multiplier}: allowed is 1 to the {self.nodes} nodes of a cell")
        self.reductions = check_reductions(reductions, cells)
        self._stem_name, self._mix = stem, mixings.get_mixing(mixing)
        self._stem = choose_stem(stem, self.image_shape)
        self.plan = plan_cells(cells, channels, self.reductions, self._stem.halved)
        self.sequence = share_cells(sharing, self.plan)
        self.sharing = sharing
        rows, alphas = edge_sources(self.nodes), max(self.sequence) + 1
        self.candidates = check_candidates(candidates, alphas, len(rows), len(self.space.operations))
        if not 0 <= skip_dropout < 1:
            raise KdartsError(f"skip_dropout {skip_dropout}: needs 0 <= skip_dropout < 1")
        self.skip_dropout, self.sampling, self.auxiliary_skip = skip_dropout, sampling, auxiliary_skip
        self._sample = get_sampling(sampling)
        self._operations = (*self.space.candidates, *([AUXILIARY_SKIP] if auxiliary_skip else []))
        dtype = self.dtype_policy
        self.stems = [
            Stack(operation, 1, int(width * channels), stride, affine=True, name=name, dtype=dtype)
            for name, operation, stride, width in self._stem.parts
        ]
        self.cells = [
            SearchCell(
                self._operations,
                cell.filters,
                self.nodes,
                self.multiplier,
                cell.reduction,
                cell.after_reduction,
                self._candidates_of(index),
                name=f"cell_{index}",
                dtype=dtype,
            )
            for index, cell in enumerate(self.plan)
        ]
        self.pool = keras.layers.GlobalAveragePooling2D(dtype=dtype.variable_dtype)
        fan_in = uniform(self.multiplier * self.plan[-1].filters)
        self.classifier = keras.layers.Dense(
            num_classes,
            kernel_initializer=fan_in,
            bias_initializer=fan_in,
            name="classifier",
            dtype=dtype.variable_dtype,
        )
        self._rows = [[e for e, (_, source) in enumerate(rows) if source == j] for j in range(self.nodes + 1)]
        shape = (len(rows), len(self.space.operations))
        self.alphas = [
            self.add_weight(
                name=f"alpha_{index}",
                shape=shape,
                initializer=mixings.initializer(mixing),
                dtype="float64" if dtype.variable_dtype == "float64" else "float32",
                autocast=False,
            )
            for index in range(alphas)
        ]
        if self.candidates is not None:
            for alpha, present in zip(self.alphas, self.candidates, strict=True):
                alpha.assign(tf.where(present, alpha, 0.0))
        state = {"shape": (), "trainable": False, "autocast": False}
        self.progress = self.add_weight(name="progress", initializer="zeros", dtype="float32", **state)
        if skip_dropout or sampling != "all":
            self.draws = self.add_weight(name="draws", initializer="zeros", dtype="int64", **state)
        if skip_dropout:
            self.skip_dropout_rate = self.add_weight(
                name="skip_dropout_rate",
                initializer=keras.initializers.Constant(skip_dropout),
                dtype="float32",
                **state,
            )
        self.build()

    def build(self):
        """Makes the variables; nothing is computed."""
        widths = [self.image_shape[-1]]
        for stem in self.stems:
            stem.build((None, None, None, widths[-1]))
            widths.append(stem.filters)
        before, last = widths[1], widths[-1]
        for cell in self.cells:
            cell.build((None, None, None, before), (None, None, None, last))
            before, last = last, self.multiplier * cell.filters
        self.classifier.build((None, last))
        self.built = True

    def _candidates_of(self, index: int):
        """Which of its operations the edges of cell `index` have; None: all."""
        if self.candidates is None:
            return None
        present = self.candidates[self.sequence[index]]
        return np.pad(present, [(0, 0), (0, len(self._operations) - present.shape[1])], constant_values=True)

    @property
    def operation_weights(self) -> list[keras.Variable]:
        """The trainable variables that are not α."""
        alphas = {id(alpha) for alpha in self.alphas}
        return [v for v in self.trainable_variables if id(v) not in alphas]

    def mixing_weights(self) -> list:
        """α after mixing, `[edges, operations]` each, in the order of `alphas`."""
        present = self.candidates or [None] * len(self.alphas)
        return [
            mix_candidates(self._mix, tf.convert_to_tensor(a), p) for a, p in zip(self.alphas, present, strict=True)
        ]

    def drawn_weights(self, training=False) -> list:
        """What a pass weighs the candidates by, in the order of `alphas`: those of `mixing_weights` that are drawn."""
        names = self.space.operations
        none = names.index("none") if "none" in names else None
        drawn = []
        for index, weights in enumerate(self.mixing_weights()):
            seed = tf.stack([tf.convert_to_tensor(self.draws), index]) if training and self.sampling != "all" else None
            drawn.append(self._sample(weights, none, tf.convert_to_tensor(self.progress), seed))
        return drawn

    def redraw(self) -> None:
        """Lets the passes to come draw anew what they drop and go through; until then all of them draw the same.

        So the passes of one gradient, finite differences among them, compare like with like.
        """
        if self.skip_dropout or self.sampling != "all":
            self.draws.assign_add(1)

    def candidate_weights(self) -> list:
        """The same without what is no candidate any more: flat where something is not, else as `mixing_weights`."""
        weights = self.mixing_weights()
        if self.candidates is None:
            return weights
        return [tf.boolean_mask(w, present) for w, present in zip(weights, self.candidates, strict=True)]

    def cost(self) -> Cost:
        """Trainable weights without α, and MACs of a forward pass for one image."""
        return supernet_cost(
            self._operations,
            self.plan,
            edge_sources(self.nodes),
            self.multiplier,
            self._stem,
            self.image_shape,
            self.num_classes,
            self.channels,
            self.candidates and [self._candidates_of(index) for index in range(len(self.cells))],
        )

    def call(self, x, training=False):
        if training:
            self.redraw()
        return self.classify(self.states(x, training)[-1])

    def states(self, x, training=False, weights=None) -> list:
        """What enters and leaves the cells: cell `i` reads items `i` and `i + 1`, and its output is item `i + 2`.

        Args:
            x, training: as of the call.
            weights: of the candidates, in place of `drawn_weights`.
        """
        x, stems = tf.cast(x, self.compute_dtype), []
        for stem in self.stems:
            x = stem(tf.nn.relu(x) if stem.reads[0] else x, training=training)
            stems.append(x)
        states, weights = [stems[0], stems[-1]], self.drawn_weights(training) if weights is None else weights
        for index in range(len(self.cells)):
            states.append(self.run_cell(index, *states[-2:], weights[self.sequence[index]], training))
        return states

    def run_cell(self, index: int, s0, s1, weights, training=False, only=None):
        """The output of cell `index` under any weights `[edges, operations]`, of which only columns `only` count."""
        if self.auxiliary_skip:
            beside = tf.fill([weights.shape[0], 1], 1 - tf.cast(tf.convert_to_tensor(self.progress), weights.dtype))
            weights = tf.concat([weights, beside], 1)
        cell, mixing = self.cells[index], [tf.gather(weights, rows) for rows in self._rows]
        options = {"training": training, "only": only}
        if training and self.skip_dropout:
            seed = tf.stack([tf.convert_to_tensor(self.draws), index])
            options["dropout"] = tf.convert_to_tensor(self.skip_dropout_rate), seed
        if self.recompute and training:
            return recomputed(cell, s0, s1, mixing, **options)
        return cell(s0, s1, mixing=mixing, **options)

    def classify(self, x):
        """Logits from the last cell's output."""
        return self.classifier(self.pool(x))

    def get_config(self):
        config = super().get_config()
        config.update(
            space=self.space.name,
            input_shape=self.image_shape,
            num_classes=self.num_classes,
            channels=self.channels,
            cells=len(self.plan),
            reductions=self.reductions,
            sharing=self.sharing,
            mixing=self.mixing,
            nodes=self.nodes,
            multiplier=self.multiplier,
            stem=self._stem_name,
            recompute=self.recompute,
            candidates=self.candidates and [present.tolist() for present in self.candidates],
            skip_dropout=self.skip_dropout,
            sampling=self.sampling,
            auxiliary_skip=self.auxiliary_skip,
        )
        return config
