"""The supernet: all networks of a space at once, with α (and β) as trainable variables."""

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.nets import mixing as mixings
from kdarts.nets.cost import Cost, supernet_cost
from kdarts.nets.initializers import uniform
from kdarts.nets.partial import check_partial_channels, edge_shares
from kdarts.nets.plan import check_input_shape, check_reductions, choose_stem, plan_cells
from kdarts.nets.recompute import recomputed
from kdarts.nets.search_cell import SearchCell, edge_sources
from kdarts.nets.spaces import SearchSpace, get_space
from kdarts.nets.stack import Stack


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
        partial_channels: K: one of K channels goes through the candidates, and β weighs the edges (see `partial`);
            1: all of them, and there is no β.
        nodes: intermediate nodes of a cell; None: the space's.
        multiplier: nodes in a cell's output, counted from the last; None: the space's, or all where a cell has fewer.
        stem: "auto" (by image size) or one of `STEMS`: "cifar", "small", "imagenet", "imagenet_wide",
            "imagenet_quarter".
        recompute: whether a cell's activations are forgotten and made again for its gradient: less memory, more time.

    Attributes:
        alphas: variables `[edges, operations]`, one for each distinct cell.
        betas: variables `[edges]` in the same order; empty at K = 1.

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
        partial_channels: int = 1,
        nodes: int | None = None,
        multiplier: int | None = None,
        stem: str = "auto",
        recompute: bool = False,
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
        self.partial_channels = check_partial_channels(partial_channels, self.plan)
        self.sequence = share_cells(sharing, self.plan)
        self.sharing = sharing
        dtype = self.dtype_policy
        self.stems = [
            Stack(operation, 1, int(width * channels), stride, affine=True, name=name, dtype=dtype)
            for name, operation, stride, width in self._stem.parts
        ]
        self.cells = [
            SearchCell(
                self.space.candidates,
                cell.filters,
                self.nodes,
                self.multiplier,
                cell.reduction,
                cell.after_reduction,
                partial_channels,
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
        rows = edge_sources(self.nodes)
        self._rows = [[e for e, (_, source) in enumerate(rows) if source == j] for j in range(self.nodes + 1)]
        count, sets = len(rows), max(self.sequence) + 1
        shape = (count, len(self.space.operations))
        self.alphas = [self._variable(f"alpha_{i}", shape, mixings.initializer(mixing)) for i in range(sets)]
        self.betas = []
        if partial_channels > 1:
            start = mixings.initializer("softmax")
            self.betas = [self._variable(f"beta_{i}", (count,), start) for i in range(sets)]
        self.build()

    def _variable(self, name, shape, initializer):
        dtype = "float64" if self.dtype_policy.variable_dtype == "float64" else "float32"
        return self.add_weight(name=name, shape=shape, initializer=initializer, dtype=dtype, autocast=False)

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

    @property
    def architecture(self) -> list[keras.Variable]:
        """α and after them β: what the search moves by the validation loss."""
        return [*self.alphas, *self.betas]

    @property
    def operation_weights(self) -> list[keras.Variable]:
        """The trainable variables that are not of the architecture."""
        architecture = {id(variable) for variable in self.architecture}
        return [v for v in self.trainable_variables if id(v) not in architecture]

    def mixing_weights(self) -> list:
        """α after mixing, `[edges, operations]` each, in the order of `alphas`."""
        return [self._mix(tf.convert_to_tensor(alpha)) for alpha in self.alphas]

    def edge_weights(self) -> list:
        """For each α the shares of its edges, `[edges]`: β after its softmax; None each where there is no β."""
        return [edge_shares(beta) for beta in self.betas] or [None] * len(self.alphas)

    def strengths(self) -> list:
        """What a genotype is made by, `[edges, operations]` for each α: its weights after mixing, times β's shares.

        A share counts relative to an even one, so that a threshold means the same with and without β; the order of a
        node's edges is that of PC-DARTS, section 3.3.
        """
        weights = self.mixing_weights()
        if not self.betas:
            return weights
        even = np.array([[to] for to, _ in edge_sources(self.nodes)])  # node `to` has as many incoming edges
        shares = self.edge_weights()
        return [w * share[:, None] * tf.cast(even, w.dtype) for w, share in zip(weights, shares, strict=True)]

    def cost(self) -> Cost:
        """Trainable weights without α, and MACs of a forward pass for one image."""
        return supernet_cost(
            self.space.candidates,
            self.plan,
            edge_sources(self.nodes),
            self.multiplier,
            self._stem,
            self.image_shape,
            self.num_classes,
            self.channels,
            self.partial_channels,
        )

    def call(self, x, training=False):
        return self.classify(self.states(x, training)[-1])

    def states(self, x, training=False) -> list:
        """What enters and leaves the cells: cell `i` reads items `i` and `i + 1`, and its output is item `i + 2`."""
        x, stems = tf.cast(x, self.compute_dtype), []
        for stem in self.stems:
            x = stem(tf.nn.relu(x) if stem.reads[0] else x, training=training)
            stems.append(x)
        states, mixtures = [stems[0], stems[-1]], list(zip(self.mixing_weights(), self.edge_weights(), strict=True))
        for index in range(len(self.cells)):
            weights, shares = mixtures[self.sequence[index]]
            states.append(self.run_cell(index, *states[-2:], weights, training, shares=shares))
        return states

    def run_cell(self, index: int, s0, s1, weights, training=False, only=None, shares=None):
        """The output of cell `index` under any weights.

        Args:
            index: of the cell.
            s0, s1: its inputs.
            weights: of the operations, `[edges, operations]`.
            training: as of the call.
            only: the columns of `weights` that count; None: all.
            shares: of the edges, `[edges]`; None without partial channels.
        """
        cell = self.cells[index]
        if shares is not None:
            weights, shares = weights * shares[:, None], [tf.gather(shares, rows) for rows in self._rows]
        mixing = [tf.gather(weights, rows) for rows in self._rows]
        if self.recompute and training:
            return recomputed(cell, s0, s1, mixing, only, shares)
        return cell(s0, s1, mixing=mixing, training=training, only=only, shares=shares)

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
            partial_channels=self.partial_channels,
            nodes=self.nodes,
            multiplier=self.multiplier,
            stem=self._stem_name,
            recompute=self.recompute,
        )
        return config
