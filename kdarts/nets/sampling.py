"""Which candidates a pass goes through: all of them, or some that are drawn anew for every pass."""

import tensorflow as tf

from kdarts.genotypes.edges import cell_of, node_rows
from kdarts.genotypes.errors import choice

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
