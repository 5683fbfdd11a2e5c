"""The supernet: all networks of a space at once, with α (and β) as trainable variables."""

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.edges import Topology, check_topology, parse_topology
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, thirds
from kdarts.genotypes.settings import MOST_NODES
from kdarts.ops.cost import Cost
from kdarts.ops.layers import make_head, run_head
from kdarts.ops.operations import FACTORIZED_REDUCE, Operation
from kdarts.ops.replicas import own_seed
from kdarts.supernet.cell import (
    SearchCell,
    build_chain,
    check_partial_channels,
    edge_sources,
    make_closing,
    make_stems,
    recomputed,
    run_stems,
)
from kdarts.supernet.cost import candidate_costs, network_cost, supernet_cost
from kdarts.supernet.expected_cost import CellCosts
from kdarts.supernet.macro import (
    MacroConfig,
    check_input_shape,
    check_reductions,
    choose_stem,
    head_inputs,
    plan_cells,
    share_cells,
)
from kdarts.supernet.parameters import MixedModel, Mixture
from kdarts.supernet.relaxation import Relaxation, Sampling, configuration
from kdarts.supernet.spaces import SearchSpace, get_space

AUXILIARY_SKIP = Operation("auxiliary_skip", (), FACTORIZED_REDUCE.strided_steps)
"""Stands beside the candidates, so it is none that a genotype could name."""

_KEPT = ("num_classes", "channels", "reductions", "sharing", "nodes", "multiplier", "recompute")
_KEPT += ("partial_channels", "skip_dropout", "auxiliary_skip", "topology", "offsets", "search_drop_path")
"""Arguments that a supernet keeps as they are."""


@keras.saving.register_keras_serializable("kdarts")
class Supernet(MixedModel):
    """Every candidate of every edge of every cell, mixed by α.

    Args:
        space: a `SearchSpace` or the name of one.
        input_shape: `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: number of classes, at least 2.
        channels: channels of a node in the first cells, before any reduction, even.
        cells: number of cells; in a space with stages, of each.
        reductions: positions of the reduction cells; None: a third and two thirds of the way.
        sharing: which cells share an α: "shared" (normal and reduce), "individual", or one index for each cell.
        mixing: how α weighs the candidates: a `Relaxation` or the name of one, such as "softmax" or "sigmoid".
        partial_channels: K: one of K channels goes through the candidates, and β weighs the edges (see `partial`);
            1: all of them, and there is no β.
        nodes: intermediate nodes of a cell; None: the space's.
        multiplier: nodes in a cell's output, counted from the last; None: the space's, or all where a cell has fewer.
        stem: "auto" (the space's, or by image size) or one of `STEMS`: "none", "cifar", "small", "imagenet",
            "imagenet_wide", "imagenet_quarter".
        recompute: whether a cell's activations are forgotten and made again for its gradient: less memory, more time.
        candidates: for each α which operations an edge still has, boolean `[edges, operations]`; None: all. The
            others have no weights and cost nothing; their α is 0 and their weight after mixing too.
        skip_dropout: rate, 0 to below 1, of a dropout while training on what skip connections of stride 1 pass on,
            element by element (P-DARTS section 3.3); held in the variable `skip_dropout_rate`. 0: none at all.
        sampling: which candidates a pass goes through, a `Sampling` or the name of one: "all", or by a draw "gumbel" or
            "random".
        auxiliary_skip: whether every edge has one more skip connection beside its candidates, whose weight falls from
            1 to 0 along the search (DARTS-, Chu et al. 2021).
        topology: the two inputs that each node reads, as pairs or in the text form of `parse_topology`: only these
            edges exist, and α has a row for each (eDARTS, section III-B); None: every earlier node.
        offsets: constants by operation that α is given before mixing (see `attention`); None: none.
        search_drop_path: rate at which the output of an edge is dropped for an image of a batch that trains (R-DARTS,
            Zela et al. 2020); a search changes it by epochs.
        frame: the macro structure around the cells, a `MacroConfig` or a dictionary of its fields; None: the space's.

    Attributes:
        alphas: variables `[edges, operations]`, one for each distinct cell.
        betas: variables `[edges]` in the same order; empty at K = 1.
        edges: `(to, from)` of each row of α.
        mixture: what holds them and says what a pass weighs by.
        updates: variable, how often the running statistics were updated.

    It and a `HyperCuboid` answer to the same names: `alphas`, `betas`, `architecture`, `network_variables`, `mixture`,
    `states`, `classify`, `read_out`, `cost`, `cost_of`, `costs`, `choices`, `sizes` and `setting`.

    Call arguments:
        x: images, channels last, float32.
        training: whether to normalise by the batch's statistics; with a sampling that is always so, as the running
            ones are a mixture of all that was drawn.

    Returns:
        Logits `[batch, num_classes]`, float32.
    """

    grid = False

    def __init__(
        self,
        space: SearchSpace | str,
        input_shape: Sequence[int],
        num_classes: int,
        channels: int = 16,
        cells: int = 8,
        reductions: Sequence[int] | None = None,
        sharing: str | Sequence[int] = "shared",
        mixing: Relaxation | str = "softmax",
        partial_channels: int = 1,
        nodes: int | None = None,
        multiplier: int | None = None,
        stem: str = "auto",
        recompute: bool = False,
        candidates: Sequence[np.ndarray] | None = None,
        skip_dropout: float = 0.0,
        sampling: Sampling | str = "all",
        auxiliary_skip: bool = False,
        topology: Topology | str | None = None,
        offsets: Mapping[str, float] | None = None,
        frame: MacroConfig | dict | None = None,
        search_drop_path: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.space = get_space(space)
        self.image_shape = check_input_shape(input_shape)
        if num_classes < 2:
            raise KdartsError(f"num_classes {num_classes}: needs at least 2")
        self.num_classes, self.channels, self.recompute = num_classes, channels, recompute
        self.nodes = nodes or self.space.nodes
        if not 1 <= self.nodes <= MOST_NODES:
            raise KdartsError(f"nodes {nodes}: allowed is 1 to {MOST_NODES}; edges grow with the square of the nodes")
        self.multiplier = multiplier or min(self.space.multiplier, self.nodes)
        if not 1 <= self.multiplier <= self.nodes:
            raise KdartsError(f"multiplier {self.multiplier}: allowed is 1 to the {self.nodes} nodes of a cell")
        self.stem_name = self.space.stem if stem == "auto" else stem
        self.stem = choose_stem(self.stem_name, self.image_shape, self.space.stages)
        self.frame = MacroConfig(**frame) if isinstance(frame, dict) else frame or self.space.frame
        if self.space.stages and (reductions or topology):
            raise KdartsError(f"space {self.space.name!r}: has stages, and no reductions nor a topology of its own")
        self.depth = cells
        self.reductions = () if self.space.stages else check_reductions(reductions, cells)
        around = self.stem.halved, self.frame.widen, self.space.stages
        self.plan = plan_cells(cells, channels, self.reductions, *around)
        self.partial_channels = check_partial_channels(partial_channels, self.plan)
        self.sequence = share_cells(sharing, self.plan)
        self.sharing = sharing
        if not 0 <= skip_dropout < 1:
            raise KdartsError(f"skip_dropout {skip_dropout}: needs 0 <= skip_dropout < 1")
        if not 0 <= search_drop_path < 1:
            raise KdartsError(f"search_drop_path {search_drop_path}: needs 0 <= search_drop_path < 1")
        self.skip_dropout, self.auxiliary_skip, self.search_drop_path = skip_dropout, auxiliary_skip, search_drop_path
        if topology is not None:
            read = parse_topology if isinstance(topology, str) else check_topology
            topology = read(topology, self.nodes)
        self.topology, self.edges = topology, edge_sources(self.nodes, topology, self.space.inputs)
        self.offsets = dict(offsets or {})
        self._operations = (*self.space.candidates, *([AUXILIARY_SKIP] if auxiliary_skip else []))
        dtype = self.dtype_policy
        how = mixing, sampling, partial_channels > 1, candidates, auxiliary_skip, topology, self.offsets
        self.mixture = Mixture(
            max(self.sequence) + 1,
            self.nodes,
            self.space.operations,
            *how,
            self.space.alpha_scale,
            self.space.inputs,
            name="mixture",
            dtype="float64" if dtype.variable_dtype == "float64" else "float32",
        )
        self.stems = make_stems(self.stem, channels, dtype)

        def make_cell(index, plan):
            sizes = plan.filters, self.nodes, self.multiplier, plan.reduction, plan.after_reduction
            how = self._candidates_of(index), partial_channels, topology, self.space.affine, self.frame.epsilon
            return SearchCell(self._operations, *sizes, *how, plan.entry, name=f"cell_{index}", dtype=dtype)

        self.cells = [make_cell(index, plan) for index, plan in enumerate(self.plan)]
        self.closing = make_closing(self.cells, dtype)
        head = self.frame.head
        inputs = head_inputs(head, self.cells[-1].outputs, self.image_shape[:2], self.stem, self.plan)
        *self.hidden, self.classifier = make_head(head, num_classes, inputs, dtype.variable_dtype)
        for name, rate in (("skip_dropout_rate", skip_dropout), ("search_drop_path_rate", search_drop_path)):
            if rate:
                state = {"shape": (), "dtype": "float32", "trainable": False, "autocast": False}
                start = keras.initializers.Constant(rate)
                setattr(self, name, self.add_weight(name=name, initializer=start, **state))
        count = {"dtype": "int64", "initializer": "zeros", "trainable": False, "autocast": False}
        self.updates = self.add_weight(name="updates", shape=(), **count)
        self.build()

    def build(self):
        """Makes the variables; nothing is computed."""
        build_chain(self.stems, self.cells, self.image_shape[-1], self.closing)
        self.built = True

    def _candidates_of(self, index: int):
        """Which of its operations the edges of cell `index` have; None: all."""
        if self.mixture.candidates is None:
            return None
        present = self.mixture.candidates[self.sequence[index]]
        return np.pad(present, [(0, 0), (0, len(self._operations) - present.shape[1])], constant_values=True)

    @property
    def operation_names(self) -> tuple[str, ...]:
        """Names of the columns of α."""
        return self.space.operations

    @property
    def sampling(self) -> str:
        """Name of the sampling."""
        return self.mixture.sampling.name

    @property
    def alpha_names(self) -> tuple[str, ...]:
        """Names of the α: "normal" and "reduce" where they are shared so, "cell" in a space with stages or if no cell
        reduces, else "cell_0" and on."""
        if self.sharing == "shared" and len(self.alphas) == 2:
            return "normal", "reduce"
        if self.sharing == "shared" and len(self.alphas) == 1:
            return ("reduce" if self.reductions_only else "cell",)
        return tuple(f"cell_{index}" for index in range(len(self.alphas)))

    @property
    def reductions_only(self) -> bool:
        """Whether all cells are reductions, as of one or two cells, so that there is no normal cell to search."""
        return self.sharing == "shared" and all(plan.reduction for plan in self.plan)

    @property
    def sizes(self) -> dict[str, int]:
        """Its sizes, for a summary."""
        return {"cells": self.depth, "channels": self.channels}

    @property
    def choices(self) -> dict:
        """What it embodies of a method, by the method's names."""
        return {
            "mixing": self.mixture.relaxation,
            "sampling": self.mixture.sampling,
            "sharing": self.sharing,
            "partial_channels": self.partial_channels,
            "auxiliary_skip": self.auxiliary_skip,
            "topology": self.topology,
            "skip_dropout": self.skip_dropout,
            "search_drop_path": self.search_drop_path,
            "attention": self.offsets,
        }

    def read_out(self, selection, selection_weights=None) -> Genotype:
        """The genotype that a selection of cells derives.

        The `selection_weights` are `[edges, operations]` for each α; None: those of α and β now. Without a normal cell
        the genotype has the reduction cell in its place, as D-DARTS' Algorithm 1 has it.
        """
        usual = self.reductions == (() if self.space.stages else thirds(len(self.plan)))
        weights = self.selection_weights() if selection_weights is None else self._of_cells(selection_weights)
        usual = usual and self.sharing == "shared" and len(weights) == (1 if self.space.stages else 2)
        own = (None, None) if usual else (self.reductions, self.sequence)
        found = selection.genotype([np.asarray(w) for w in weights], self.space, *own, self.multiplier)
        if usual and self.reductions_only:
            return dataclasses.replace(found, cells=found.cells[1:] * 2)
        return found

    def selection_weights(self) -> list:
        """What a selection chooses by, `[edges, operations]` for each distinct cell of a genotype, from α and β now."""
        return self._of_cells(self.mixture.selection_weights())

    def _of_cells(self, weights) -> list:
        return [*weights] * (2 if self.reductions_only else 1)

    def costs(self, kind: str, latencies=None) -> CellCosts:
        """What its choices cost, for a target; arguments as of `CellCosts`."""
        return CellCosts(self, kind, latencies)

    def setting(self) -> dict:
        """What the rows and columns of α stand for, and what is around the cells, as plain data."""
        return {
            "space": self.space.name,
            "operations": list(self.space.operations),
            "edges": [list(edge) for edge in self.edges],
            "topology": self.topology is not None,
            "offsets": self.offsets,
            "stem": self.stem_name,
            "frame": dataclasses.asdict(self.frame),
        }

    def cost_of(self, genotype: Genotype, latencies=None) -> Cost:
        """Cost of a genotype's network at the sizes of this supernet; `latencies` as of `network_cost`."""
        size = self.image_shape, self.num_classes, self.channels, self.depth
        return network_cost(genotype, *size, self.stem_name, self.frame, latencies=latencies)

    def candidate_costs(self, latencies=None) -> list[list[list[Cost]]]:
        """What each candidate costs in such a network: for each cell its edges, for each edge its operations."""
        cells = self.space.candidates, self.plan, self.edges, self.multiplier
        return candidate_costs(*cells, self.stem, self.image_shape, self.channels, latencies)

    def cost(self) -> Cost:
        """Trainable weights without α, and MACs of a forward pass for one image."""
        outside = self.stem, self.image_shape, self.num_classes, self.channels
        left = self.mixture.candidates and [self._candidates_of(index) for index in range(len(self.cells))]
        more = left, self.partial_channels, self.space.affine, self.frame.head
        return supernet_cost(self._operations, self.plan, self.edges, self.multiplier, *outside, *more)

    def call(self, x, training=False):
        if training:
            self.mixture.redraw()
        elif self.mixture.draws_passes:
            with keras.StatelessScope():  # What training adds to the running statistics stays inside.
                return self.classify(self.states(x, training=True, mixtures=self.mixture.drawn())[-1], training=True)
        return self.classify(self.states(x, training)[-1], training)

    def states(self, x, training=False, mixtures=None, shifts=None) -> list:
        """What enters and leaves the cells: cell `i` reads items `i` and `i + 1`, and its output is item `i + 2`.

        The `mixtures` take the place of `Mixture.drawn`: for each α what its cells weigh by. The `shifts` are added to
        that, for each cell `[edges, operations]`.
        """
        if training:
            self.updates.assign_add(1)
        states = run_stems(self.stems, tf.cast(x, self.compute_dtype), training)
        drawn = self.mixture.leaves if training and mixtures is None and shifts is None else 0
        mixtures = self.mixture.drawn(training) if mixtures is None else mixtures
        for index in range(len(self.cells)):
            weights, shares = mixtures[self.sequence[index]]
            if shifts is not None:
                weights += tf.pad(shifts[index], [[0, 0], [0, weights.shape[1] - shifts[index].shape[1]]])
            states.append(self.run_cell(index, *states[-2:], weights, shares, training, drawn=drawn))
        return states

    def run_cell(self, index: int, s0, s1, weights, shares=None, training=False, only=None, drawn=0):
        """The output of cell `index` under any weights.

        Args:
            index: of the cell.
            s0, s1: its inputs.
            weights: of the operations, `[edges, operations]`; an auxiliary skip connection may be left out.
            shares: of the edges, `[edges]`; None without partial channels.
            training: as of the call.
            only: the columns of `weights` that count; None: all.
            drawn: as of `MixedEdges`.
        """
        cell, options = self.cells[index], {"training": training, "only": only, "drawn": drawn}
        if shares is not None:
            options["shares"] = shares
        if weights.shape[1] < len(self._operations):
            weights = tf.pad(weights, [[0, 0], [0, 1]])
        if training and self.skip_dropout:
            seed = tf.stack([tf.convert_to_tensor(self.mixture.draws), index])
            options["dropout"] = tf.convert_to_tensor(self.skip_dropout_rate), seed
        if training and self.search_drop_path:
            seed = tf.random.fold_in(tf.stack([tf.convert_to_tensor(self.mixture.draws), index]), 3)
            options["drop_path"] = tf.convert_to_tensor(self.search_drop_path_rate), own_seed(seed)
        if any(operation.noisy for operation in self._operations):
            options["noise"] = tf.stack([tf.convert_to_tensor(self.mixture.draws), -1 - index])
        if self.recompute and training:
            return recomputed(cell, s0, s1, weights, **options)
        return cell(s0, s1, mixing=weights, **options)

    def classify(self, x, training=True):
        """Logits from the last cell's output `x`."""
        if self.closing is not None:
            x = tf.nn.relu(self.closing(x, training=training))
        return run_head([*self.hidden, self.classifier], tf.cast(x, self.variable_dtype))

    def get_config(self):
        config = super().get_config()
        config.update(
            space=self.space.config(),
            input_shape=self.image_shape,
            cells=self.depth,
            stem=self.stem_name,
            candidates=self.mixture.candidates and [present.tolist() for present in self.mixture.candidates],
            frame=dataclasses.asdict(self.frame),
            mixing=configuration(self.mixture.relaxation),
            sampling=configuration(self.mixture.sampling),
            **{name: getattr(self, name) for name in _KEPT},
        )
        return config
