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
from kdarts.search.measures import Measurement


def mixtures_along(supernet, genotype: Genotype) -> list[np.ndarray]:
    """The mixing weights of a pass along a genotype: 1 for the operations of its edges and 0 for all others.

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
    net, loss = search.supernet, Measurement(search, "loss")
    progress, means = keras.utils.Progbar(len(genotypes), unit_name="cell", verbose=1), []
    batches = [(tf.convert_to_tensor(x), tf.convert_to_tensor(y)) for x, y in batches]
    for genotype in genotypes:
        mixtures = list(zip(mixtures_along(net, genotype), net.mixture.shares(), strict=True))
        means.append(sum(loss(mixtures, x, y) for x, y in batches) / sum(len(y) for _, y in batches))
        progress.add(1)
    return means
