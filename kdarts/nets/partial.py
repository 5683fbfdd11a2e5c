"""Partial channels and edge normalisation (PC-DARTS, Xu et al., ICLR 2020).

Of the C channels of a source, the first C/K go through the candidates and the others pass by; all are then shuffled,
so that the next node's candidates see others (section 3.2, Eq. 2). Every edge into a node has a share of it, a softmax
of β over those edges (section 3.3, Eq. 3), which multiplies what goes through it and what passes by.

The shuffle is the same for every edge, and a sum of shuffled channels is the shuffled sum. So nothing is shuffled: the
two parts of a node are written where the shuffle would have put them, each by a 1x1 convolution that is there anyway or
runs once for a node.
"""

import numpy as np
import tensorflow as tf

from kdarts.genotypes.edges import node_rows
from kdarts.genotypes.errors import KdartsError
from kdarts.nets import kernels


def check_partial_channels(partial_channels: int, plan) -> int:
    """K, if it fits every cell of the plan.

    Raises:
        KdartsError: if K does not divide a cell's channels, or leaves a reduction cell an odd number of them.
    """

    def fits(k):
        return all(c.filters % k == 0 and not (c.reduction and c.filters // k % 2) for c in plan)

    if partial_channels not in (allowed := [k for k in range(1, plan[0].filters + 1) if fits(k)]):
        raise KdartsError(
            f"partial_channels {partial_channels}: allowed with {plan[0].filters} channels are "
            f"{', '.join(map(str, allowed))} (reduction cells need an even number of channels in their candidates)"
        )
    return partial_channels


def edge_shares(beta, inputs: int | None = None):
    """β as shares of a node: a softmax over its incoming edges.

    Args:
        beta: `[edges]`, node by node.
        inputs: edges that lead to a node, as of `node_rows`.
    """
    sizes = [rows.stop - rows.start for rows in node_rows(beta.shape[0], inputs).values()]
    return tf.concat([tf.nn.softmax(part) for part in tf.split(tf.convert_to_tensor(beta), sizes)], 0)


def _shuffle(channels: int, groups: int) -> np.ndarray:
    """The shuffle as a matrix `[from, to]`: channel c of group k goes to channel k of group c."""
    source = np.arange(channels)
    size = channels // groups
    return np.eye(channels)[source % size * groups + source // size]


def place(mixed, groups: int):
    """The candidates' part of a node, where the shuffle puts it; zero elsewhere.

    Args:
        mixed: `[batch, height, width, channels / groups]`.
        groups: K.

    Returns:
        `[batch, height, width, channels]`.
    """
    size = mixed.shape[-1]
    kernel = _shuffle(size * groups, groups)[:size]
    return kernels.convolution(mixed, tf.constant(kernel[None, None], mixed.dtype))


def bypass(x, shares, groups: int, stride: int = 1) -> list:
    """What passes by on each edge that leaves a node, times the edge's share, where the shuffle puts it.

    Args:
        x: `[batch, height, width, channels]`, whole.
        shares: of the edges, `[copies]`.
        groups: K; the first `channels / K` channels do not pass.
        stride: 1, or 2: the greatest of 2x2 pixels (of what there is, at the end of an odd side).

    Returns:
        For each edge `[batch, ceil(height / stride), ceil(width / stride), channels]`.
    """
    channels, copies = x.shape[-1], shares.shape[0]
    kernel = _shuffle(channels, groups)
    kernel[: channels // groups] = 0
    kernel = tf.reshape(tf.cast(shares, x.dtype), [copies, 1]) * tf.constant(kernel[:, None], x.dtype)
    if stride == 2:
        x = kernels.halved_maximum(x)
    y = kernels.convolution(x, tf.reshape(kernel, [1, 1, channels, copies * channels]))
    return tf.split(y, copies, -1)
