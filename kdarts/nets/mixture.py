"""The architecture's variables, α and β, and what a pass of the supernet weighs its candidates and its edges by."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.topology import Topology
from kdarts.nets import mixing as mixings
from kdarts.nets.attention import attention_row
from kdarts.nets.candidates import check_candidates, mix_candidates
from kdarts.nets.partial import edge_shares
from kdarts.nets.sampling import get_sampling
from kdarts.nets.search_cell import edge_sources


@keras.saving.register_keras_serializable("kdarts")
class Mixture(keras.layers.Layer):
    """For each distinct cell an α, and a β where edges have shares.

    Args:
        sets: number of distinct cells.
        nodes: intermediate nodes of a cell.
        operations: names of the candidates, in α's column order.
        mixing, sampling, candidates, auxiliary_skip, topology, offsets: as of `Supernet`.
        shares: whether edges have shares of their nodes, by a β.
        alpha_scale: as of `SearchSpace`.
        inputs: of a cell, 2 or 1.

    Attributes:
        alphas: variables `[edges, operations]`.
        betas: variables `[edges]` in the same order, or none.
        candidates: for each α a boolean array of its shape, which operations an edge still has; None: all.
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
        self._mix, self._sample = mixings.get_mixing(mixing), get_sampling(sampling)
        self._rank = mixings.get_ranking(mixing)
        self._none = operations.index("none") if "none" in operations else None
        self.inputs = 2 if topology else None
        self._incoming = np.array([[self.inputs or to - 2 + inputs] for to, _ in edges])
        self._all = [edge_row(to, source) for to, source in edges], edge_row(nodes + 2, 0)
        self._offsets = attention_row((offsets or {}).items(), operations)
        shape, start = (len(edges), len(operations)), mixings.initializer(mixing, alpha_scale)
        self.alphas = [self.add_weight(name=f"alpha_{i}", shape=shape, initializer=start) for i in range(sets)]
        for alpha, present in zip(self.alphas, self.candidates or [], strict=False):
            alpha.assign(tf.where(present, alpha, 0.0))
        start = mixings.initializer("softmax")
        count = sets if shares else 0
        self.betas = [self.add_weight(name=f"beta_{i}", shape=shape[:1], initializer=start) for i in range(count)]
        state = {"shape": (), "initializer": "zeros", "trainable": False}
        self.progress = self.add_weight(name="progress", **state)
        self.draws = self.add_weight(name="draws", dtype="int64", **state)
        self.built = True

    def weights_of_operations(self) -> list:
        """α after mixing, `[edges, operations]` each; 0 for what is no candidate any more."""
        return self._mixed(self._mix)

    def _mixed(self, mix) -> list:
        present = self.candidates or [None] * len(self.alphas)
        alphas = [tf.convert_to_tensor(alpha) for alpha in self.alphas]
        if self._offsets.any():
            alphas = [alpha + tf.cast(self._offsets, alpha.dtype) for alpha in alphas]
        return [mix_candidates(mix, a, p, self.inputs) for a, p in zip(alphas, present, strict=True)]

    def weights_of_candidates(self) -> list:
        """The same without what is no candidate any more: flat where something is not."""
        weights = self.weights_of_operations()
        if self.candidates is None:
            return weights
        return [tf.boolean_mask(w, present) for w, present in zip(weights, self.candidates, strict=True)]

    def shares(self) -> list:
        """For each α its edges' shares of their nodes, `[edges]`: β after its softmax; None each without β."""
        return [edge_shares(beta, self.inputs) for beta in self.betas] or [None] * len(self.alphas)

    def strengths(self) -> list:
        """What a genotype is made by, `[edges, operations]` for each α: its weights, times β's shares.

        The weights are those after mixing, or under Max-W, which weighs the best of every edge alike, the softmax.

        A share counts relative to an even one, so that a threshold means the same with and without β; the order of a
        node's edges is that of PC-DARTS, section 3.3. The edges are all of the cell's: those that a topology leaves
        out have -1, less than any weight.
        """
        weights = self._mixed(self._rank)
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
        for index, weights in enumerate(self.weights_of_operations()):
            seed = tf.stack([tf.convert_to_tensor(self.draws), index]) if training else None
            weights = self._sample(weights, self._none, progress, seed, self.inputs)
            if self.auxiliary_skip:
                beside = tf.fill([weights.shape[0], 1], 1 - tf.cast(progress, weights.dtype))
                weights = tf.concat([weights, beside], 1)
            drawn.append(weights)
        return list(zip(drawn, self.shares(), strict=True))

    def redraw(self) -> None:
        """Lets the passes to come draw anew what they go through and what they drop."""
        self.draws.assign_add(1)
