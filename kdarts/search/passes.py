"""How much a step computes, counted in forward passes of the supernet."""

from kdarts.search.method import Method

GRADIENT = 3
"""Forward passes that a pass and its gradient are worth: the way back, to inputs and to weights, counts as two."""


def passes_of_step(method: Method, sets: int, searching: bool = True, recompute: bool = False) -> float:
    """Forward passes that one step is worth; times the MACs of a pass, its MACs.

    The weights take one gradient. α takes, of first order, one; unrolled by finite differences four (the training
    loss's for the step, the validation loss's there, and two beside it); unrolled exactly the same as four, for the two
    passes and the step between them count again twice on the way back. Each of D-DARTS' ablated networks takes one pass
    of the cells from the ablated one on, half of them on average, or with `exact` a gradient of these, and the way back
    through the whole. What is recomputed is one more forward pass for each gradient.

    Args:
        method: gives order, update and ablation; with the update "epoch" a step leaves α as it is, but for the last.
        sets: number of distinct cells.
        searching: whether the step moves α.
        recompute: whether cells are recomputed.
    """
    gradient = GRADIENT + recompute
    passes = gradient
    if searching and method.update == "step":
        passes += gradient * (1 if method.order == "first" else 4)
        if method.ablation_weight:
            part = (sets + 1) / 2
            passes += part * gradient + gradient if method.ablation == "exact" else part
    return passes
