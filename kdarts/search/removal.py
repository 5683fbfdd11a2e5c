"""What stands in for a cell that is removed: the weights of its edges (D-DARTS section 3.3 leaves it open)."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError, choice


@dataclass(frozen=True)
class Removed:
    """A removed cell.

    Attributes:
        weights: in place of its weights after mixing, `[edges, operations]`.
        only: the columns that are not zero; None: all of them.
        passes: whether, with partial channels, the others still pass by on its edges.
    """

    weights: tf.Tensor
    only: frozenset[int] | None = None
    passes: bool = True


def skip(operations, edges: int, seed) -> Removed:
    """Its edges pass skip_connect alone: what is left is the wiring."""
    if "skip_connect" not in operations:
        raise KdartsError(f"removal 'skip' needs skip_connect among the operations; there are {', '.join(operations)}")
    column = operations.index("skip_connect")
    weights = np.zeros((edges, len(operations)), np.float32)
    weights[:, column] = 1
    return Removed(tf.constant(weights), frozenset([column]))


def zero(operations, edges: int, seed) -> Removed:
    """Its output is zero."""
    return Removed(tf.zeros((edges, len(operations))), frozenset(), passes=False)


def half(operations, edges: int, seed) -> Removed:
    """It weighs every operation alike, as a sigmoid does at the start."""
    return Removed(tf.fill((edges, len(operations)), 0.5))


def random(operations, edges: int, seed) -> Removed:
    """It weighs the operations at random, each from 0 to 1 (the authors' program)."""
    step, cell = (tf.cast(part, tf.int32) for part in seed)
    return Removed(tf.random.stateless_uniform((edges, len(operations)), tf.stack([step, cell])))


REMOVALS = {"skip": skip, "zero": zero, "half": half, "random": random}


def get_removal(name: str):
    """The function called `name`; raises `KdartsError` with the known names otherwise."""
    return REMOVALS[choice("removal", name, REMOVALS)]
