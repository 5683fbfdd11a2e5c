"""How α becomes the weights of a mixed operation. α is `[edges, operations]`, and so is the result.

`inputs` is the number of edges that lead to a node, as of `node_rows`.

Which candidates an edge still has, where a search has dropped some.

Which candidates a pass goes through: all of them, or some that are drawn anew for every pass.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kdarts.genotypes.edges import cell_of, node_rows
from kdarts.genotypes.errors import KdartsError, choice


def softmax(alpha, inputs=None):
    """DARTS Eq. 2: the candidates of an edge compete."""
    return ops.softmax(alpha, axis=-1)


def sigmoid(alpha, inputs=None):
    """FairDARTS Eq. 3: each candidate stands for itself."""
    return ops.sigmoid(alpha)


def max_w(alpha, inputs=None):
    """sharpDARTS Eq. 3: the strongest candidate passes whole, the others by their distance to it.

    Its gradient goes through the maximum too, as in the authors' program: the weight of the strongest is always 1, so
    that it gains nothing by its own output, and every other one pushes against it.
    """
    weights = ops.softmax(alpha, axis=-1)
    return 1 - ops.max(weights, axis=-1, keepdims=True) + weights


def max_w_stopped(alpha, inputs=None):
    """The same with no gradient through the maximum: the strongest goes on gaining by its own output."""
    weights = ops.softmax(alpha, axis=-1)
    return 1 - ops.stop_gradient(ops.max(weights, axis=-1, keepdims=True)) + weights


def node_softmax(alpha, inputs=None):
    """I-DARTS (Jiang et al. 2019): all candidates of all edges that lead to a node compete."""
    parts = [alpha[rows] for rows in node_rows(alpha.shape[0], inputs).values()]
    return ops.concatenate([ops.reshape(ops.softmax(ops.reshape(p, (-1,))), p.shape) for p in parts], axis=0)


MIXINGS = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "max_w": max_w,
    "max_w_stopped": max_w_stopped,
    "node_softmax": node_softmax,
}

_RANKINGS = {"max_w": softmax, "max_w_stopped": softmax}


def get_mixing(name: str):
    """The function called `name`; raises `KdartsError` with the known names otherwise."""
    return MIXINGS[choice("mixing", name, MIXINGS)]


def get_ranking(name: str):
    """What a genotype is made by under the mixing `name`: a function likewise.

    Under Max-W the strongest of every edge has the weight 1, which says nothing about the edge; its softmax does.
    """
    return _RANKINGS.get(name) or get_mixing(name)


def initializer(name: str, scale: float = 1e-3, seed=None) -> keras.initializers.Initializer:
    """α at the start, as the papers have it: zero under a sigmoid, else `scale` N(0, 1)."""
    still = name == "sigmoid" or not scale
    return keras.initializers.Zeros() if still else keras.initializers.RandomNormal(0.0, scale, seed)


def check_candidates(candidates, alphas: int, edges: int, operations: int) -> tuple[np.ndarray, ...] | None:
    """For each α a boolean array `[edges, operations]`, or None where every edge has every operation.

    Raises:
        KdartsError: if their number or a shape is another, one is not boolean, or an edge has none left.
    """
    if candidates is None:
        return None
    arrays = tuple(np.asarray(given) for given in candidates)
    wrong = [a for a in arrays if a.dtype != bool or a.shape != (edges, operations) or not a.any(1).all()]
    if len(arrays) != alphas or wrong:
        given = ", ".join(f"{a.dtype} {list(a.shape)}" for a in arrays)
        raise KdartsError(
            f"candidates: got {given}; needs {alphas} boolean arrays [{edges}, {operations}], one or more in each row"
        )
    return arrays


def mix_candidates(mix, alpha, present: np.ndarray | None, inputs: int | None = None):
    """α after mixing over the candidates that are left; the others weigh 0 and take no part.

    Args:
        mix: one of `MIXINGS`.
        alpha: `[edges, operations]`.
        present: boolean of that shape; None: all are left.
        inputs: edges that lead to a node, as of `node_rows`.
    """
    if present is None:
        return mix(alpha, inputs)
    weights = mix(tf.where(present, alpha, alpha.dtype.min), inputs)
    return tf.where(present, weights, tf.zeros_like(weights))


HOTTEST, COLDEST = 10.0, 0.1
"""GDAS' temperature at the start and at the end of a search; between them it falls in a straight line."""


def all_candidates(weights, none, progress, seed, inputs=None):
    """Every candidate with its weight (DARTS Eq. 2).

    Args:
        weights: after mixing, `[edges, operations]`.
        none: column of `none`, or None.
        progress: 0 to 1, how much of the search is done.
        seed: `[2]`, integer; None: nothing is drawn, the pass measures.
        inputs: edges that lead to a node, as of `node_rows`.
    """
    return weights


def gumbel(weights, none, progress, seed, inputs=None):
    """One candidate of each edge, drawn with its probability (GDAS, Dong and Yang 2019, Eq. 4 to 6).

    The weights are 0 but for a single 1, and what is drawn passes its gradient on to all of the edge's α, by the
    softmax of log p + g over the temperature, g a Gumbel noise. What is not drawn has no gradient of its own. A pass
    that measures takes the most probable one. The arguments are those of `all_candidates`; the weights of an edge are
    its odds.
    """
    if seed is None:
        return tf.one_hot(tf.argmax(weights, -1), tf.shape(weights)[-1], dtype=weights.dtype)
    uniform = tf.random.stateless_uniform(tf.shape(weights), seed, 1e-20, 1.0, weights.dtype)
    temperature = HOTTEST + (COLDEST - HOTTEST) * tf.cast(progress, weights.dtype)
    odds = tf.nn.log_softmax(tf.math.log(weights), -1)
    soft = tf.nn.softmax((odds - tf.math.log(-tf.math.log(uniform))) / temperature, -1)
    drawn = tf.one_hot(tf.argmax(soft, -1), tf.shape(soft)[-1], dtype=soft.dtype)
    return drawn * (1 + soft - tf.stop_gradient(soft))


def random_genotype(weights, none, progress, seed, inputs=None):
    """Two inputs of each node with one operation each, all equally likely (Li and Talwalkar 2019); α does not count.

    `none` is never drawn, nor what weighs 0. In cells of one input every edge has an operation, `none` as likely as any
    (NAS-Bench-201). A pass that measures takes the weights as they are. The arguments are
    those of `all_candidates`.
    """
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


SAMPLINGS = {"all": all_candidates, "gumbel": gumbel, "random": random_genotype}


def get_sampling(name: str):
    """The function called `name`; raises `KdartsError` with the known names otherwise."""
    return SAMPLINGS[choice("sampling", name, SAMPLINGS)]
