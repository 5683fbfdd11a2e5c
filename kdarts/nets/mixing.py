"""How α becomes the weights of a mixed operation. α is `[edges, operations]`, and so is the result."""

import keras
from keras import ops

from kdarts.genotypes.edges import node_rows
from kdarts.genotypes.errors import choice


def softmax(alpha):
    """DARTS Eq. 2: the candidates of an edge compete."""
    return ops.softmax(alpha, axis=-1)


def sigmoid(alpha):
    """FairDARTS Eq. 3: each candidate stands for itself."""
    return ops.sigmoid(alpha)


def max_w(alpha):
    """sharpDARTS Eq. 3: the strongest candidate passes whole, the others by their distance to it.

    Its gradient goes through the maximum too, as in the authors' program: the weight of the strongest is always 1, so
    that it gains nothing by its own output, and every other one pushes against it.
    """
    weights = ops.softmax(alpha, axis=-1)
    return 1 - ops.max(weights, axis=-1, keepdims=True) + weights


def max_w_stopped(alpha):
    """The same with no gradient through the maximum: the strongest goes on gaining by its own output."""
    weights = ops.softmax(alpha, axis=-1)
    return 1 - ops.stop_gradient(ops.max(weights, axis=-1, keepdims=True)) + weights


def node_softmax(alpha):
    """I-DARTS (Jiang et al. 2019): all candidates of all edges that lead to a node compete."""
    parts = [alpha[rows] for rows in node_rows(alpha.shape[0]).values()]
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


def initializer(name: str, seed=None) -> keras.initializers.Initializer:
    """α at the start, as the papers have it: zero under a sigmoid, else 1e-3 N(0, 1)."""
    return keras.initializers.Zeros() if name == "sigmoid" else keras.initializers.RandomNormal(0.0, 1e-3, seed)
