"""Relaxations: the weights of the candidates in one pass, from α, the progress of the search and a seed.

A `Relaxation` makes mixing weights of α. A `Sampling` says which candidates a pass goes through under these weights.
Both are open: a program registers a class of its own, by `register_relaxation` or `register_sampling`.

α and its weights are `[edges, operations]`, edges node by node. `inputs` is the number of edges that lead to a node, as
of `node_rows`. Keras and TensorFlow are imported where they are used: commands that only read settings do not wait.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kdarts.genotypes.edges import node_rows
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import Axis, Registry, settings_of

RELAXATIONS = Registry("mixing", "kdarts.search.relaxations")
SAMPLINGS = Registry("sampling", "kdarts.search.relaxations")


@dataclass(frozen=True)
class Relaxation(Axis):
    """How α becomes the mixing weights of the candidates.

    A kind of it defines `weights`, and `sample` where a pass of the training draws its weights.

    Attributes:
        zero_start: whether α starts at 0, not at small random numbers.
        draws: whether `sample` draws.
        per_row: whether each row of α is weighed alone.
        exponentiated: whether a step of α (and of β) is one of the mixing weights themselves, as exponentiated
            gradient has it: then β starts at 0, too, and `bounded` follows each step.
    """

    zero_start: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    per_row: ClassVar[bool] = True
    exponentiated: ClassVar[bool] = False

    def weights(self, alpha, inputs=None):
        """The mixing weights, without any draw: what is measured, drawn and derived.

        Args:
            alpha: `[edges, operations]`.
            inputs: edges that lead to a node.

        Returns:
            A tensor of the same shape.
        """
        raise NotImplementedError

    def log_weights(self, alpha, inputs=None):
        """The logarithm of `weights`, finite however far α are apart; it may lack a constant of each edge."""
        import tensorflow as tf

        return tf.math.log(tf.maximum(self.weights(alpha, inputs), 1e-30))

    def ranking(self, alpha, inputs=None):
        """What a genotype is derived from; the mixing weights, unless a kind of it says otherwise."""
        return self.weights(alpha, inputs)

    def shares(self, beta):
        """The shares that the edges into one node have of it, `[edges]`, from their β."""
        import tensorflow as tf

        return tf.nn.softmax(beta)

    def bounded(self, logits):
        """What α, or the β of a node, is kept at after a step; rows are weighed alone."""
        return logits

    def sample(self, alpha, progress, seed, inputs=None):
        """The weights of one pass of the training.

        Args:
            alpha, inputs: as of `weights`.
            progress: scalar, 0 to 1, how much of the search is done.
            seed: integers `[2]`; the same seed gives the same draw.
        """
        return self.weights(alpha, inputs)


@dataclass(frozen=True)
class Softmax(Relaxation):
    """DARTS Eq. 2: the candidates of an edge compete."""

    name: ClassVar[str] = "softmax"

    def weights(self, alpha, inputs=None):
        from keras import ops

        return ops.softmax(alpha, axis=-1)

    def log_weights(self, alpha, inputs=None):
        from keras import ops

        return ops.log_softmax(alpha, axis=-1)


@dataclass(frozen=True)
class Sigmoid(Relaxation):
    """FairDARTS Eq. 3: each candidate has a weight of its own, whatever the others have."""

    name: ClassVar[str] = "sigmoid"
    zero_start: ClassVar[bool] = True

    def weights(self, alpha, inputs=None):
        from keras import ops

        return ops.sigmoid(alpha)

    def log_weights(self, alpha, inputs=None):
        from keras import ops

        return ops.log_sigmoid(alpha)


@dataclass(frozen=True)
class MaxW(Relaxation):
    """sharpDARTS Eq. 3: the strongest candidate passes whole, the others by their distance to it.

    Its gradient goes through the maximum too, as in the authors' program: the weight of the strongest is always 1, so
    that it gains nothing by its own output, and every other one pushes against it. A genotype is derived from the
    softmax: under Max-W the strongest candidate of every edge weighs 1, which says nothing about the edge.
    """

    name: ClassVar[str] = "max_w"

    def weights(self, alpha, inputs=None):
        from keras import ops

        weights = ops.softmax(alpha, axis=-1)
        return 1 - ops.max(weights, axis=-1, keepdims=True) + weights

    def ranking(self, alpha, inputs=None):
        return Softmax().weights(alpha)


@dataclass(frozen=True)
class MaxWStopped(MaxW):
    """Max-W with no gradient through the maximum: the strongest goes on gaining by its own output."""

    name: ClassVar[str] = "max_w_stopped"

    def weights(self, alpha, inputs=None):
        from keras import ops

        weights = ops.softmax(alpha, axis=-1)
        return 1 - ops.stop_gradient(ops.max(weights, axis=-1, keepdims=True)) + weights


@dataclass(frozen=True)
class NodeSoftmax(Relaxation):
    """I-DARTS (Jiang et al. 2019): all candidates of all edges that lead to a node compete."""

    name: ClassVar[str] = "node_softmax"
    per_row: ClassVar[bool] = False

    def weights(self, alpha, inputs=None):
        from keras import ops

        return self._by_node(ops.softmax, alpha, inputs)

    def log_weights(self, alpha, inputs=None):
        from keras import ops

        return self._by_node(ops.log_softmax, alpha, inputs)

    def _by_node(self, function, alpha, inputs):
        from keras import ops

        parts = [alpha[rows] for rows in node_rows(alpha.shape[0], inputs).values()]
        return ops.concatenate([ops.reshape(function(ops.reshape(p, (-1,))), p.shape) for p in parts], axis=0)


@dataclass(frozen=True)
class Uniform(Relaxation):
    """All candidates of an edge weigh the same, whatever α; the loss does not depend on it."""

    name: ClassVar[str] = "uniform"
    zero_start: ClassVar[bool] = True

    def weights(self, alpha, inputs=None):
        from keras import ops

        lowest = np.finfo(alpha.dtype if isinstance(alpha.dtype, str) else alpha.dtype.name).min
        return ops.softmax(ops.where(alpha == lowest, alpha, ops.zeros_like(alpha)), axis=-1)


@dataclass(frozen=True)
class Sampling(Axis):
    """Which candidates a pass goes through. A kind of it defines `draw`.

    Attributes:
        draws: whether passes differ; such a supernet normalises by the statistics of the batch, also when measured,
            as its running statistics are a mixture of all that was drawn.
        moves_alpha: whether the loss depends on α.
        leaves: how many candidates, 1 or 2, a draw leaves an edge, if no others are to be computed; 0: all are.
        chains: whether it is for a chain of choices, too, which draws a candidate at each place.
        confines: whether a step of α is confined to what was drawn (see `moved`).
        twice_differentiable: whether a draw has a second derivative with respect to α.
    """

    draws: ClassVar[bool] = True
    leaves: ClassVar[int] = 0
    chains: ClassVar[bool] = True
    confines: ClassVar[bool] = False
    moves_alpha: ClassVar[bool] = True
    twice_differentiable: ClassVar[bool] = True

    def paths(self, operations: int) -> int:
        """How many passes, each with a draw of its own, a step of the weights takes the sum of the gradients of.

        Their draws have successive numbers as the first of their seeds, from a multiple of that many on. `operations`
        is the number of candidates.
        """
        return 1

    def draw(self, weights, logs, none, progress, seed, inputs=None):
        """The weights of one pass.

        Args:
            weights: after mixing, `[edges, operations]`.
            logs: their logarithms.
            none: column of `none`, or None.
            progress: scalar, 0 to 1, how much of the search is done.
            seed: integers `[2]`; None: nothing is drawn, the pass measures.
            inputs: edges that lead to a node.

        Returns:
            A tensor of the same shape.
        """
        raise NotImplementedError

    def moved(self, before, after, drawn, logs):
        """What a step of α comes to, where it is confined to what was drawn.

        Args:
            before, after: α before the step, and where the optimizer would take it, `[edges, operations]`.
            drawn: what `draw` gave for the pass that the step is of.
            logs: the logarithms of the weights before the step.

        Returns:
            A tensor of the same shape.
        """
        return after


@dataclass(frozen=True)
class AllCandidates(Sampling):
    """Every candidate with its weight (DARTS Eq. 2)."""

    name: ClassVar[str] = "all"
    draws: ClassVar[bool] = False

    def draw(self, weights, logs, none, progress, seed, inputs=None):
        return weights


def register_relaxation(kind: type[Relaxation]) -> type[Relaxation]:
    """Makes a relaxation known by its `name`, to `--mixing` and to `mixing=`."""
    return RELAXATIONS.add(kind)


def register_sampling(kind: type[Sampling]) -> type[Sampling]:
    """Makes a sampling known by its `name`, to `--sampling` and to `sampling=`."""
    return SAMPLINGS.add(kind)


for _kind in (Softmax, Sigmoid, MaxW, MaxWStopped, NodeSoftmax, Uniform):
    register_relaxation(_kind)
register_sampling(AllCandidates)


def get_relaxation(given) -> Relaxation:
    """The relaxation that a name, a configuration or an object says; raises `KdartsError` for an unknown name."""
    return _made(given, RELAXATIONS, Relaxation)


def get_sampling(given) -> Sampling:
    """The sampling that a name, a configuration or an object says; raises `KdartsError` for an unknown name."""
    return _made(given, SAMPLINGS, Sampling)


def _made(given, registry: Registry, kind: type):
    if isinstance(given, kind):
        return given
    if isinstance(given, dict):
        return registry.get(given["name"])(**{k: v for k, v in given.items() if k != "name"})
    return registry.get(given)()


def configuration(axis: Axis) -> str | dict:
    """What `get_relaxation` and `get_sampling` make an equal object of: its name, or with it the fields that differ."""
    usual = {name: field.default for name, field in settings_of(type(axis)).items()}
    own = {name: value for name, value in axis.config().items() if value != usual[name]}
    return {"name": axis.name, **own} if own else axis.name


def initializer(relaxation: Relaxation, scale: float = 1e-3, seed=None):
    """α at the start, as the papers have it: zero under a sigmoid, else `scale` N(0, 1)."""
    import keras

    still = relaxation.zero_start or not scale
    return keras.initializers.Zeros() if still else keras.initializers.RandomNormal(0.0, scale, seed)


def check_candidates(candidates, alphas: int, edges: int, operations: int) -> tuple[np.ndarray, ...] | None:
    """For each α a boolean array `[edges, operations]`, or None where every edge has every operation.

    A single array is for every α: a stage of two cells leaves one, and the next stage may have a normal cell, too.
    Raises `KdartsError` if their number or a shape is another, one is not boolean, or an edge has none left.
    """
    if candidates is None:
        return None
    arrays = tuple(np.asarray(given) for given in candidates)
    arrays *= alphas if len(arrays) == 1 else 1
    wrong = [a for a in arrays if a.dtype != bool or a.shape != (edges, operations) or not a.any(1).all()]
    if len(arrays) != alphas or wrong:
        given = ", ".join(f"{a.dtype} {list(a.shape)}" for a in arrays)
        raise KdartsError(
            f"candidates: got {given}; needs {alphas} boolean arrays [{edges}, {operations}], one or more in each row"
        )
    return arrays


def among(function, alpha, present: np.ndarray | None, absent: float = 0.0):
    """A function of α, such as `relaxation.weights`, over the candidates that an edge still has, the `present` ones.

    The others take no part, and have the value `absent`. α and `present` (None: all) are `[edges, operations]`.
    """
    import tensorflow as tf

    if present is None:
        return function(alpha)
    values = function(tf.where(present, alpha, alpha.dtype.min))
    return tf.where(present, values, tf.constant(absent, values.dtype))
