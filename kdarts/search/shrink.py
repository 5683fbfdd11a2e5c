"""IS-DARTS' statistic of every candidate of a supernet (He, Liu, Zhang, Zheng, AAAI 2024).

With μ and σ the mean and the standard deviation, without bias, of a candidate's output y over its C channels at a
pixel, I is the mean of 3 (y − μ)² / σ⁶ over images, pixels and channels. As the mean of (y − μ)² over the channels is
(C − 1) / C σ², I = 3 (C − 1) / C times the mean of σ⁻⁴ over images and pixels.
"""

import numpy as np
import tensorflow as tf

from kdarts.ops import kernels


def information(y):
    """I of outputs `[batch, height, width, channels]`, a scalar; infinite where a pixel has equal channels."""
    y = tf.cast(y, tf.float32)
    count = y.shape[-1]
    variance = tf.math.reduce_variance(y, -1) * count / (count - 1)
    return 3 * (count - 1) / count * tf.reduce_mean(1 / tf.square(variance))


def statistics(search, batches) -> list[np.ndarray]:
    """I of every candidate under the mixing weights of now, for each α `[edges, operations]`, float64.

    It is the mean over the batches `(x, y)` and the cells of an α; infinite for `none` and for what an edge has not.
    Normalisations take the statistics of the batch, and no variable changes.
    """
    net, objective = search.supernet, search.objective

    @tf.function(autograph=False, reduce_retracing=True)
    def of_batch(x):
        with objective.at(*objective.values()):
            return _of_cells(net, x)

    found = np.mean([[cell.numpy() for cell in of_batch(x)] for x, _ in batches], 0, np.float64)
    sequence = np.array(net.sequence)
    return [found[sequence == index].mean(0) for index in range(len(net.alphas))]


def _of_cells(net, x) -> list:
    """For each cell I of its candidates."""
    mixtures, found = net.mixture.drawn(), []
    before = net.states(x, training=True, mixtures=mixtures)
    for index, cell in enumerate(net.cells):
        found.append(_of_cell(cell, *before[index : index + 2], mixtures[net.sequence[index]][0]))
    return found


def _of_cell(cell, s0, s1, mixing):
    """I of the candidates of a cell, `[edges, operations]`, from its inputs and mixing weights."""
    values = [[tf.constant(np.inf)] * len(cell.operations) for _ in cell.edges]
    states = [None, s1 if cell.residual is None else cell.residual(s1, training=True)]
    if cell.preprocess:
        states = [p(tf.nn.relu(s), training=True) for p, s in zip(cell.preprocess, (s0, s1), strict=True)]
    arriving = [[] for _ in range(cell.nodes)]
    for source, rows, mixed in zip(cell.sources, cell.rows, cell.mixed_edges, strict=True):
        while len(states) <= source:
            states.append(tf.add_n(arriving[len(states) - 2]))
        for column, having in mixed.edges.items():
            edges = having if column in mixed.stacks else mixed.free_edges
            ones = {column: kernels.constant(np.ones(len(edges) * mixed.filters), mixing.dtype)}
            outputs = mixed.mix(states[source], ones, True, only=[column])
            for edge in having:
                row = rows[edge]
                values[row][column] = information(outputs[edge])
                weight = tf.cast(mixing[row, column], outputs[edge].dtype)
                arriving[cell.edges[row][0] - 2].append(weight * outputs[edge])
    return tf.stack([tf.stack(row) for row in values])
