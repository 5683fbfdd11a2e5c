"""Relaxations and samplings of the papers beyond the mixture of all candidates.

TensorFlow is imported where it is used: commands that only read settings do not wait for it.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from kdarts.genotypes.edges import cell_of, node_rows
from kdarts.genotypes.settings import setting
from kdarts.supernet.relaxation import Relaxation, Sampling, Softmax, register_relaxation, register_sampling

LEAST = 1e-5
"""The least mixing weight under exponentiated gradient, as in GAEA's program: from 0 no factor leads back."""


def free_softmax(logits):
    """The softmax over the last axis, whose gradient is handed to the logits as if they were the weights themselves."""
    import tensorflow as tf

    @tf.custom_gradient
    def weights(logits):
        return tf.nn.softmax(logits, -1), lambda upstream: upstream

    return weights(tf.convert_to_tensor(logits))


@register_relaxation
@dataclass(frozen=True)
class Concentration(Relaxation):
    """The mean of a Dirichlet distribution of concentrations c = elu(α) + 1 (DrNAS, Chen et al. 2021).

    c is 1 + α where α is not negative, else e^α; `log_weights` is its logarithm, which sampling "dirichlet" draws by. A
    genotype is derived from softmax(α), as in the authors' program.
    """

    name: ClassVar[str] = "concentration"

    def weights(self, alpha, inputs=None):
        return Softmax().weights(self.log_weights(alpha))

    def log_weights(self, alpha, inputs=None):
        from keras import ops

        return ops.where(alpha > 0, ops.log1p(ops.maximum(alpha, 0)), alpha)

    def ranking(self, alpha, inputs=None):
        return Softmax().weights(alpha)


@register_relaxation
@dataclass(frozen=True)
class ExponentiatedSoftmax(Relaxation):
    """A softmax whose gradient is handed to α as that of the mixing weights (GAEA, Li et al. 2021).

    With plain descent, `arch_optimizer` "sgd" without a penalty, a step of rate η is exponentiated gradient on the
    weights, p ← p exp(−η ∂L/∂p) / Σ. After it weights below 1e-5 are raised to that. β of partial channels likewise.
    """

    name: ClassVar[str] = "softmax_eg"
    zero_start: ClassVar[bool] = True
    exponentiated: ClassVar[bool] = True

    def weights(self, alpha, inputs=None):
        return free_softmax(alpha)

    def shares(self, beta):
        return free_softmax(beta)

    def bounded(self, logits):
        import tensorflow as tf

        return tf.maximum(logits, tf.reduce_logsumexp(logits, -1, keepdims=True) + math.log(LEAST))


def gumbel_noise(like, seed):
    """Standard Gumbel noise in the shape of a tensor, drawn by a seed."""
    import tensorflow as tf

    uniform = tf.random.stateless_uniform(tf.shape(like), seed, 1e-20, 1.0, like.dtype)
    return -tf.math.log(-tf.math.log(uniform))


@register_sampling
@dataclass(frozen=True)
class Gumbel(Sampling):
    """One candidate of each edge, drawn with its probability (GDAS, Dong and Yang 2019, Eq. 4 to 6).

    The weights are 0 but for a single 1. What is drawn passes its gradient on to all of the edge's α, by the softmax of
    (log p + g) / τ with Gumbel noise g; what is not drawn has no gradient of its own. A pass that measures takes the
    most probable candidate. The mixing weights of an edge are normalised to probabilities.
    """

    name: ClassVar[str] = "gumbel"
    leaves: ClassVar[int] = 1
    temperature: float = setting(
        10.0, "τ at the start of the search", least=0, most=1e4, open=True, source="GDAS' program"
    )
    final_temperature: float = setting(
        0.1, "τ at the end of the search; it falls linearly", least=0, most=1e4, open=True
    )

    def draw(self, weights, logs, none, progress, seed, inputs=None):
        import tensorflow as tf

        if seed is None:
            return tf.one_hot(tf.argmax(logs, -1), tf.shape(logs)[-1], dtype=logs.dtype)
        temperature = self.temperature + (self.final_temperature - self.temperature) * tf.cast(progress, logs.dtype)
        soft = tf.nn.softmax((tf.nn.log_softmax(logs, -1) + gumbel_noise(logs, seed)) / temperature, -1)
        drawn = tf.one_hot(tf.argmax(soft, -1), tf.shape(soft)[-1], dtype=soft.dtype)
        return drawn * (1 + soft - tf.stop_gradient(soft))


@register_sampling
@dataclass(frozen=True)
class TwoPaths(Sampling):
    """Two candidates of each edge, drawn by their probabilities without replacement (ProxylessNAS, Cai et al. 2019).

    They weigh as their probabilities make up between themselves; no other is computed (section 3.2.1). A step moves the
    α of these two alone and shifts both, so that together they keep their probability: that of every other candidate
    stays. A pass that measures takes the most probable candidate. The mixing is "softmax".
    """

    name: ClassVar[str] = "two_paths"
    leaves: ClassVar[int] = 2
    confines: ClassVar[bool] = True

    def draw(self, weights, logs, none, progress, seed, inputs=None):
        import tensorflow as tf

        if seed is None:
            return tf.one_hot(tf.argmax(logs, -1), tf.shape(logs)[-1], dtype=logs.dtype)
        count = min(2, logs.shape[-1])
        best = tf.math.top_k(logs + gumbel_noise(logs, seed), count).indices
        drawn = tf.reduce_max(tf.one_hot(best, logs.shape[-1], dtype=logs.dtype), -2) > 0
        return tf.nn.softmax(tf.where(drawn, logs, logs.dtype.min), -1)

    def moved(self, before, after, drawn, logs):
        import tensorflow as tf

        pair, lowest = drawn > 0, logs.dtype.min
        mass, now = (
            tf.reduce_logsumexp(tf.where(pair, values, lowest), -1, keepdims=True)
            for values in (logs, logs + after - before)
        )
        return tf.where(pair, after + mass - now, before)


@register_sampling
@dataclass(frozen=True)
class Concrete(Sampling):
    """Relaxed one-hot weights of each edge, drawn from the concrete distribution (SNAS, Xie et al. 2019, Eq. 4).

    z = softmax((log p + g) / τ) with Gumbel noise g: the largest entry is that of candidate k with probability p_k, and
    the colder, the closer z is to one candidate. Nothing is rounded, so that the gradient is that of z itself. A pass
    that measures takes p. The mixing weights of an edge are normalised to probabilities.
    """

    name: ClassVar[str] = "concrete"
    temperature: float = setting(
        1.0, "τ at the start of the search", least=0, most=1e4, open=True, source="SNAS' program"
    )
    final_temperature: float = setting(
        0.03, "τ at the end of the search; it falls linearly", least=0, most=1e4, open=True
    )

    def draw(self, weights, logs, none, progress, seed, inputs=None):
        import tensorflow as tf

        if seed is None:
            return weights
        temperature = self.temperature + (self.final_temperature - self.temperature) * tf.cast(progress, logs.dtype)
        return tf.nn.softmax((tf.nn.log_softmax(logs, -1) + gumbel_noise(logs, seed)) / temperature, -1)


@register_sampling
@dataclass(frozen=True)
class ReinMax(Sampling):
    """One candidate of each edge, drawn with its probability, with a gradient of second order (Liu et al. 2023).

    The weights are 0 but for a single 1; `reinmax` says what the gradient is. It needs the outputs of all candidates,
    so that, unlike with "gumbel", all are computed. A pass that measures takes the most probable candidate. The mixing
    weights of an edge are normalised to probabilities.
    """

    name: ClassVar[str] = "reinmax"
    gradient_temperature: float = setting(
        1.0, "τ of the drawn candidates' gradient", least=1, most=1e4, source="ReinMax, Liu et al. 2023"
    )

    def draw(self, weights, logs, none, progress, seed, inputs=None):
        import tensorflow as tf

        noise = 0.0 if seed is None else gumbel_noise(logs, seed)
        drawn = tf.one_hot(tf.argmax(logs + noise, -1), logs.shape[-1], dtype=logs.dtype)
        return drawn if seed is None else reinmax(logs, drawn, self.gradient_temperature)


def reinmax(logs, drawn, temperature: float = 1.0):
    """A draw with ReinMax's gradient with respect to the logits.

    With π = softmax(θ), m = (softmax(θ / τ) + D) / 2 and J(q) v = q v − q (q · v), the gradient g that arrives at the
    draw D goes on to θ as 2 J(m) g − J(π) g / 2. At τ = 1 its mean over D is the gradient of E f(D) for every quadratic
    f; that of the straight-through J(π) g is for a linear one alone.

    Args:
        logs: θ, `[edges, operations]`.
        drawn: D, one-hot rows of the same shape.
        temperature: τ, at least 1.
    """
    import tensorflow as tf

    def projected(q, v):
        return q * (v - tf.reduce_sum(q * v, -1, keepdims=True))

    @tf.custom_gradient
    def passing(logs):
        def gradient(arriving):
            middle = (tf.nn.softmax(logs / temperature, -1) + drawn) / 2
            return 2 * projected(middle, arriving) - projected(tf.nn.softmax(logs, -1), arriving) / 2

        return tf.identity(drawn), gradient

    return passing(logs)


@register_sampling
@dataclass(frozen=True)
class Dirichlet(Sampling):
    """Weights of each edge, drawn from a Dirichlet distribution (DrNAS, Chen et al. 2021).

    The concentrations are those of mixing "concentration", else the mixing weights. p = y / Σ y with y drawn from Gamma
    distributions, whose gradient is TensorFlow's implicit one; it has no gradient of its own. A pass that measures
    takes the mean.
    """

    name: ClassVar[str] = "dirichlet"
    twice_differentiable: ClassVar[bool] = False

    def draw(self, weights, logs, none, progress, seed, inputs=None):
        import tensorflow as tf

        if seed is None:
            return weights
        # What is drawn is at least the smallest normal number.
        drawn = tf.random.stateless_gamma(logs.shape, seed, tf.exp(logs), dtype=logs.dtype)
        return tf.nn.softmax(tf.where(weights > 0, tf.math.log(drawn), logs.dtype.min), -1)


@register_sampling
@dataclass(frozen=True)
class RandomGenotype(Sampling):
    """Two inputs of each node with one operation each, all equally likely (Li and Talwalkar 2019); α does not count.

    `none` is never drawn, nor what weighs 0. In cells of one input every edge has an operation, `none` as likely as any
    (NAS-Bench-201). A pass that measures takes the weights as they are.
    """

    name: ClassVar[str] = "random"
    leaves: ClassVar[int] = 1
    chains: ClassVar[bool] = False
    moves_alpha: ClassVar[bool] = False

    def draw(self, weights, logs, none, progress, seed, inputs=None):
        import tensorflow as tf

        if seed is None:
            return weights
        edges, operations = weights.shape
        draw = tf.random.stateless_uniform((edges, operations + 1), seed, dtype=weights.dtype)
        every = not inputs and cell_of(edges)[1] == 1
        columns = tf.constant([every or k != none for k in range(operations)]) & (weights > 0)
        best = tf.argmax(tf.where(columns, draw[:, :-1], -1), -1)
        if every:
            return tf.one_hot(best, operations, dtype=weights.dtype)
        kept = []
        for rows in node_rows(edges, inputs).values():
            chosen = tf.math.top_k(draw[rows, -1], 2).indices
            kept.append(tf.reduce_max(tf.one_hot(chosen, rows.stop - rows.start, dtype=weights.dtype), 0))
        return tf.concat(kept, 0)[:, None] * tf.one_hot(best, operations, dtype=weights.dtype)


@register_sampling
@dataclass(frozen=True)
class UniformPath(Sampling):
    """One candidate of each edge, all equally likely, `none` among them (SPOS, Guo et al. 2020); α does not count.

    What weighs 0 is never drawn. A pass that measures takes the weights as they are.
    """

    name: ClassVar[str] = "path"
    leaves: ClassVar[int] = 1
    moves_alpha: ClassVar[bool] = False

    def draw(self, weights, logs, none, progress, seed, inputs=None):
        import tensorflow as tf

        if seed is None:
            return weights
        draw = tf.random.stateless_uniform(weights.shape, seed, dtype=weights.dtype)
        return tf.one_hot(tf.argmax(tf.where(weights > 0, draw, -1), -1), weights.shape[-1], dtype=weights.dtype)


@register_sampling
@dataclass(frozen=True)
class FairDraws(Sampling):
    """As many paths in a step as an edge has candidates, which take each of them once (FairNAS, Chu et al. 2021).

    On each edge the candidates come in a random order, drawn anew for each step; the weights move once, along the sum
    of the gradients. α does not count. What weighs 0 passes nothing on. A pass that measures takes the weights as they
    are.
    """

    name: ClassVar[str] = "fair_paths"
    leaves: ClassVar[int] = 1
    chains: ClassVar[bool] = False
    moves_alpha: ClassVar[bool] = False

    def paths(self, operations):
        return operations

    def draw(self, weights, logs, none, progress, seed, inputs=None):
        import tensorflow as tf

        if seed is None:
            return weights
        count = weights.shape[-1]
        group, place = seed[0] // count, seed[0] % count
        order = tf.argsort(tf.random.stateless_uniform(weights.shape, tf.stack([group, seed[1]])), -1)
        return tf.one_hot(tf.gather(order, place, axis=-1), count, dtype=weights.dtype) * tf.cast(
            weights > 0, weights.dtype
        )
