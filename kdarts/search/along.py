"""The validation loss of a supernet along single genotypes, in the weights that it has.

Where these losses rank genotypes as their own trainings do, the weights that they share say what a search needs to know
(Yu et al., "Evaluating the search phase of NAS", ICLR 2020, found that they often do not).
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype


def mixtures_along(supernet, genotype: Genotype) -> list[np.ndarray]:
    """What a pass along a genotype weighs by: 1 for what stands on an edge and 0 elsewhere.

    Args:
        supernet: a `Supernet`.
        genotype: of a normal and a reduction cell, or with stages of one cell.

    Returns:
        For each α `[edges, operations]`.

    Raises:
        KdartsError: if the supernet lacks an operation or an edge.
    """
    rows = {edge: row for row, edge in enumerate(supernet.edges)}
    found = [np.zeros(alpha.shape, np.float32) for alpha in supernet.alphas]
    for index, plan in zip(supernet.sequence, supernet.plan, strict=True):
        for operation, to, source in genotype.cells[int(plan.reduction)]:
            if operation not in supernet.operation_names or (to, source) not in rows:
                raise KdartsError(f"the supernet has no {operation} from node {source} to node {to}")
            found[index][rows[to, source], supernet.operation_names.index(operation)] = 1
    return found


def losses_along(search, genotypes: Sequence[Genotype], batches) -> list[float]:
    """The mean loss of each genotype on a dataset of `(x, y)`, normalised by the statistics of its batches.

    Nothing of the compiled `search` changes.
    """
    net, values = search.supernet, search.objective.values()

    @tf.function(autograph=False, reduce_retracing=True)
    def loss(mixtures, x, y):
        mixtures = list(zip(mixtures, net.mixture.shares(), strict=True))
        with search.objective.at(*values):
            logits = net.classify(net.states(x, training=True, mixtures=mixtures)[-1])
        return search.objective.loss_of(y, logits)

    progress, means = keras.utils.Progbar(len(genotypes), unit_name="cell", verbose=1), []
    batches = [(tf.convert_to_tensor(x), tf.convert_to_tensor(y)) for x, y in batches]
    for genotype in genotypes:
        mixtures = [tf.constant(weights) for weights in mixtures_along(net, genotype)]
        sums = [float(loss(mixtures, x, y)) * len(y) for x, y in batches]
        means.append(sum(sums) / sum(len(y) for _, y in batches))
        progress.add(1)
    return means
