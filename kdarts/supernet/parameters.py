"""Architecture parameters: α and β as variables, and the weights that a pass of a supernet takes from them.

Operation attention (eDARTS, sections III-A and IV-C) is a constant for each operation, which α is given.
"""

import functools
import math
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.edges import Topology, edge_row
from kdarts.genotypes.errors import KdartsError
from kdarts.ops.operations import get_operation
from kdarts.supernet.cell import edge_shares, edge_sources
from kdarts.supernet.relaxation import Softmax, among, check_candidates, get_relaxation, get_sampling, initializer

Attention = tuple[tuple[str, float], ...]


def parse_attention(text: str) -> Attention:
    """The constants that a text such as `sep_conv_3x3:0.0006,dil_conv_5x5:-0.0006` says; none where it is empty.

    Raises `KdartsError` for another form, an operation that is unknown or stands twice, or no finite number.
    """
    found = {}
    for word in text.split(",") if text.strip() else []:
        name, _, value = word.strip().partition(":")
        try:
            constant = float(value)
        except ValueError:
            constant = math.nan
        if not math.isfinite(constant):
            raise KdartsError(f"attention {word!r}: needs operation:constant, such as sep_conv_3x3:0.0006")
        if get_operation(name).name in found:
            raise KdartsError(f"attention {word!r}: {name} stands there twice")
        found[name] = constant
    return tuple(found.items())


def attention_row(attention, operations: tuple[str, ...]) -> np.ndarray:
    """The constants of `(operation, constant)` pairs as a row of α, `[operations]`, float32: 0 for what has none.

    What is not among the operations, the names of the columns, has no effect.
    """
    constants = {get_operation(name).name: constant for name, constant in attention}
    return np.array([constants.get(name, 0) for name in operations], np.float32)


@keras.saving.register_keras_serializable("kdarts")
class Mixture(keras.layers.Layer):
    """For each distinct cell an α, and a β where edges have shares.

    Args:
        sets: number of distinct cells.
        nodes: intermediate nodes of a cell, which has 2 inputs or 1.
        operations: names of the candidates, in α's column order.
        mixing, sampling, candidates, auxiliary_skip, topology, offsets: as of `Supernet`.
        shares: whether edges have shares of their nodes, by a β.
        alpha_scale: as of `SearchSpace`.

    Attributes:
        alphas, betas: variables `[edges, operations]`, and `[edges]` in the same order, or none.
        candidates: for each α a boolean array of its shape, which operations an edge still has; None: all.
        masks: of a search that lets candidates go, for each α a variable of its shape: 1 for those left, 0 for the
            others; else empty.
        progress: variable, 0 to 1: how much of a search is done, for what changes along it.
        draws: variable, counted up to draw anew.
    """

    def __init__(
        self,
        sets: int,
        nodes: int,
        operations: tuple[str, ...],
        mixing: str = "softmax",
        sampling: str = "all",
        shares: bool = False,
        candidates=None,
        auxiliary_skip: bool = False,
        topology: Topology | None = None,
        offsets: Mapping[str, float] | None = None,
        alpha_scale: float = 1e-3,
        inputs: int = 2,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        edges = edge_sources(nodes, topology, inputs)
        self.candidates = check_candidates(candidates, sets, len(edges), len(operations))
        self.auxiliary_skip = auxiliary_skip
        self.relaxation, self.sampling = get_relaxation(mixing), get_sampling(sampling)
        self._none = operations.index("none") if "none" in operations else None
        self.inputs = 2 if topology else None
        self._incoming = np.array([[self.inputs or to - 2 + inputs] for to, _ in edges])
        self._all = [edge_row(to, source) for to, source in edges], edge_row(nodes + 2, 0)
        self._offsets = attention_row((offsets or {}).items(), operations)
        shape, start = (len(edges), len(operations)), initializer(self.relaxation, alpha_scale)
        self.alphas = [self.add_weight(name=f"alpha_{i}", shape=shape, initializer=start) for i in range(sets)]
        for alpha, present in zip(self.alphas, self.candidates or [], strict=False):
            alpha.assign(tf.where(present, alpha, 0.0))
        start = initializer(self.relaxation if self.relaxation.exponentiated else Softmax())
        count = sets if shares else 0
        self.betas = [self.add_weight(name=f"beta_{i}", shape=shape[:1], initializer=start) for i in range(count)]
        state = {"shape": (), "initializer": "zeros", "trainable": False}
        self.progress = self.add_weight(name="progress", **state)
        self.draws = self.add_weight(name="draws", dtype="int64", **state)
        self.masks: list[keras.Variable] = []
        self._divided = False
        self.built = True

    def let_go(self, divided: bool = False) -> None:
        """Makes `masks`, by which candidates leave in the course of a search; at first, and again, all are there.

        Those left share the weight of an edge, and of one operation it is exactly 1, whatever α; an edge that has lost
        all passes nothing on. If `divided`, they keep the weights that they had beside the others.
        """
        self._divided = divided
        start = self.candidates or [np.ones(alpha.shape, bool) for alpha in self.alphas]
        for index, present in enumerate(start):
            if len(self.masks) == index:
                about = {"shape": present.shape, "initializer": "ones", "trainable": False}
                self.masks.append(self.add_weight(name=f"mask_{index}", **about))
            self.masks[index].assign(present)

    @property
    def present(self) -> list:
        """For each α which operations an edge has now, boolean `[edges, operations]`; None: all."""
        if self.masks:
            return [tf.convert_to_tensor(mask) > 0 for mask in self.masks]
        return list(self.candidates or [None] * len(self.alphas))

    @property
    def _competing(self) -> list:
        """For each α what shares the weight of an edge, likewise."""
        return list(self.candidates or [None] * len(self.alphas)) if self._divided else self.present

    def _left(self, index: int, weights):
        """The weights of a pass of α number `index`, 0 for what has left, and 1 for what is the only one left."""
        if not self.masks:
            return weights
        mask = tf.cast(self.masks[index], weights.dtype)
        if self._divided:
            return weights * mask
        return mask * tf.where(tf.reduce_sum(mask, 1, keepdims=True) > 1, weights, tf.ones_like(weights))

    @property
    def draws_passes(self) -> bool:
        """Whether the passes of the training differ by a draw."""
        return self.sampling.draws or self.relaxation.draws

    @property
    def leaves(self) -> int:
        """As of the sampling, of a pass of the training."""
        return 0 if self.auxiliary_skip else self.sampling.leaves

    def weights_of_operations(self) -> list:
        """The mixing weights of each α, `[edges, operations]`; 0 for what is no candidate any more."""
        return [self._left(i, w) for i, w in enumerate(self._each(self.relaxation.weights))]

    def log_weights(self) -> list:
        """As of `Relaxation.log_weights`, for each α; -1e30 for what is no candidate any more."""
        return self._each(self.relaxation.log_weights, -1e30)

    def _each(self, function, absent: float = 0.0) -> list:
        """A function of α, over the candidates that are left, for each α."""
        return [
            among(lambda alpha: function(alpha, self.inputs), alpha, there, absent)
            for alpha, there in zip(self._given(), self._competing, strict=True)
        ]

    def _given(self) -> list:
        """α with the constants of the attention, where they are an offset."""
        alphas = [tf.convert_to_tensor(alpha) for alpha in self.alphas]
        return [alpha + tf.cast(self._offsets, alpha.dtype) for alpha in alphas] if self._offsets.any() else alphas

    def weights_of_candidates(self) -> list:
        """The same without what is no candidate any more: flat where something is not."""
        weights = self.weights_of_operations()
        if self.candidates is None:
            return weights
        return [tf.boolean_mask(w, present) for w, present in zip(weights, self.candidates, strict=True)]

    def shares(self) -> list:
        """For each α its edges' shares of their nodes, `[edges]`: β after its softmax; None each without β."""
        how = self.inputs, self.relaxation.shares
        shares = [edge_shares(beta, *how) for beta in self.betas]
        if self.masks:
            shares = [s * tf.cast(tf.reduce_max(m, 1), s.dtype) for s, m in zip(shares, self.masks, strict=False)]
        return shares or [None] * len(self.alphas)

    def selection_weights(self) -> list:
        """What a genotype is made by, `[edges, operations]` for each α: its weights, times β's shares.

        The weights are those after mixing, or under Max-W, which weighs the best of every edge alike, the softmax.

        A share counts relative to an even one, so that a threshold means the same with and without β; the order of a
        node's edges is that of PC-DARTS, section 3.3. The edges are all of the cell's: those that a topology leaves
        out have -1, less than any weight.
        """
        weights = [self._left(i, w) for i, w in enumerate(self._each(self.relaxation.ranking))]
        if self.betas:
            shares = [share[:, None] * tf.cast(self._incoming, share.dtype) for share in self.shares()]
            weights = [w * share for w, share in zip(weights, shares, strict=True)]
        if self.inputs is None:
            return weights
        rows, count = self._all
        absent = [tf.fill([count, w.shape[1]], tf.constant(-1, w.dtype)) for w in weights]
        return [tf.tensor_scatter_nd_update(a, [[r] for r in rows], w) for a, w in zip(absent, weights, strict=True)]

    def drawn(self, training=False) -> list:
        """For each α what a pass weighs by: its operations, `[edges, operations]`, and its edges, as of `shares`.

        With an auxiliary skip connection its weight is one more column. Passes draw the same until `redraw`, so those
        of one gradient, finite differences among them, compare like with like.
        """
        progress, drawn = tf.convert_to_tensor(self.progress), []
        logs = self.log_weights() if self.sampling.draws else [None] * len(self.alphas)
        for index, (alpha, there, log) in enumerate(zip(self._given(), self._competing, logs, strict=True)):
            seed = tf.stack([tf.convert_to_tensor(self.draws), index]) if training else None
            weights = among(functools.partial(self._pass, progress, seed), alpha, there)
            weights = self.sampling.draw(weights, log, self._none, progress, seed, self.inputs)
            weights = self._left(index, weights)
            if self.auxiliary_skip:
                beside = tf.fill([weights.shape[0], 1], 1 - tf.cast(progress, weights.dtype))
                weights = tf.concat([weights, beside], 1)
            drawn.append(weights)
        return list(zip(drawn, self.shares(), strict=True))

    def _pass(self, progress, seed, alpha):
        """The mixing weights of one pass; a pass without a seed measures."""
        if seed is None:
            return self.relaxation.weights(alpha, self.inputs)
        # A seed of its own: the sampling draws by the other one.
        return self.relaxation.sample(alpha, progress, tf.random.fold_in(seed, 1), self.inputs)

    def keep_bounded(self) -> None:
        """Bounds α and β after a step, as the relaxation has it."""
        _bound_alphas(self)
        for beta in self.betas if self.relaxation.exponentiated else ():
            beta.assign(edge_shares(beta, self.inputs, self.relaxation.bounded))

    def redraw(self) -> None:
        """Lets the passes to come draw anew what they go through and what they drop."""
        self.draws.assign_add(1)


class MixedModel(keras.Model):
    """What a `Supernet` and a `HyperCuboid` have in common: the architecture parameters of their `mixture`."""

    @property
    def mixing(self) -> str:
        """Name of the relaxation."""
        return self.mixture.relaxation.name

    @property
    def alphas(self) -> list[keras.Variable]:
        """The variables α, in the shapes that the class of the model gives them."""
        return list(self.mixture.alphas)

    @property
    def betas(self) -> list[keras.Variable]:
        """The variables β likewise; empty where edges have no shares."""
        return list(self.mixture.betas)

    @property
    def architecture(self) -> list[keras.Variable]:
        """α and after them β: what the search moves by the validation loss."""
        return [*self.alphas, *self.betas]

    @property
    def network_variables(self) -> list[keras.Variable]:
        """The trainable variables that are not of the architecture."""
        architecture = {id(variable) for variable in self.architecture}
        return [v for v in self.trainable_variables if id(v) not in architecture]

    def mixing_weights(self) -> list:
        """α after mixing, in the form and order of `alphas`; 0 for what is no candidate, or forbidden."""
        return self.mixture.weights_of_operations()


@keras.saving.register_keras_serializable("kdarts")
class StageMixture(keras.layers.Layer):
    """α of the stages: the transitions of one stage compete.

    Args:
        allowed: boolean `[stages, states, states, choices]`.
        mixing: a relaxation that weighs each row alone and draws nothing.
        sampling: which transitions a pass goes through; of several states all, as a path is one through all stages.

    Attributes:
        alphas: one variable `[stages, transitions]`; 0 where forbidden.
        candidates: one boolean array of its shape; None: all are allowed.
        progress: as of `Mixture`; so are the `draws` of a sampling that draws.
    """

    def __init__(self, allowed: np.ndarray, mixing: str, sampling: str = "all", **kwargs):
        super().__init__(autocast=False, **kwargs)
        rows = allowed.reshape(len(allowed), -1)
        self.candidates = None if rows.all() else (rows,)
        self.relaxation = get_relaxation(mixing)
        if self.relaxation.draws or not self.relaxation.per_row:
            raise KdartsError(f"mixing {self.relaxation.name!r} is about cells; a HyperCuboid weighs each stage alone")
        self.sampling = get_sampling(sampling)
        if self.sampling.draws and (allowed.shape[1] > 1 or not self.sampling.chains):
            what = "cells" if not self.sampling.chains else "cells and chains of choices; of states all count"
            raise KdartsError(f"sampling {self.sampling.name!r} is about {what}")
        start = initializer(self.relaxation)
        self.alphas = [self.add_weight(name="alpha", shape=rows.shape, initializer=start, autocast=False)]
        if self.candidates is not None:
            self.alphas[0].assign(tf.where(rows, self.alphas[0], 0.0))
        state = {"shape": (), "initializer": "zeros", "trainable": False}
        self.progress = self.add_weight(name="progress", **state)
        if self.sampling.draws:
            self.draws = self.add_weight(name="draws", dtype="int64", **state)
        self.built = True

    def _each(self, function, absent: float = 0.0) -> list:
        return [among(function, tf.convert_to_tensor(self.alphas[0]), self.candidates and self.candidates[0], absent)]

    @property
    def draws_passes(self) -> bool:
        """As of `Mixture`."""
        return self.sampling.draws

    @property
    def leaves(self) -> int:
        """As of `Mixture`."""
        return self.sampling.leaves

    def log_weights(self) -> list:
        """As of `Mixture`."""
        return self._each(self.relaxation.log_weights, -1e30)

    def drawn(self, training=False) -> list:
        """As of `Mixture`, of stages and transitions; no share goes with them."""
        weights = self.weights_of_operations()
        if self.sampling.draws:
            seed = tf.stack([tf.convert_to_tensor(self.draws), 0]) if training else None
            logs, progress = self.log_weights(), tf.convert_to_tensor(self.progress)
            weights = [self.sampling.draw(*each, None, progress, seed) for each in zip(weights, logs, strict=True)]
        return [(each, None) for each in weights]

    def weights_of_operations(self) -> list:
        """The mixing weights, `[stages, transitions]`; 0 for what is forbidden."""
        return self._each(self.relaxation.weights)

    def weights_of_candidates(self) -> list:
        """The same without what is forbidden: flat where something is."""
        weights = self.weights_of_operations()
        return weights if self.candidates is None else [tf.boolean_mask(weights[0], self.candidates[0])]

    def selection_weights(self) -> list:
        """What a path is found by: the weights after mixing, but for Max-W, whose scores are its softmax."""
        return self._each(self.relaxation.ranking)

    def keep_bounded(self) -> None:
        """As of `Mixture`."""
        _bound_alphas(self)

    def redraw(self) -> None:
        """As of `Mixture`."""
        if self.sampling.draws:
            self.draws.assign_add(1)


def _bound_alphas(mixture) -> None:
    for index, alpha in enumerate(mixture.alphas if mixture.relaxation.exponentiated else ()):
        present = mixture.candidates and mixture.candidates[index]
        alpha.assign(among(mixture.relaxation.bounded, tf.convert_to_tensor(alpha), present))
