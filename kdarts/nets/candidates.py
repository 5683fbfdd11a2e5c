"""Which candidates an edge still has, where a search has dropped some."""

import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError


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
