"""Trying in the supernet where a cell's skip connections are worth most.

How strong a skip connection is in the mixture says little of what it is worth in the network, where an edge has one
operation: there it is the way around all others. So the networks themselves are compared, as random search with weight
sharing compares its own (Li and Talwalkar 2019): each in the weights of the supernet, on images of α.
"""

import keras
import numpy as np

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.genotype import SKIPS
from kdarts.search.search import Search
from kdarts.search.start import PRESENT, alphas_from
from kdarts.search.trial import make_trial

BATCHES = 20
"""On how many each is tried, at most."""


class SkipTrial(keras.callbacks.Callback):
    """After the last epoch, gives the skip connections of normal cells the places where the loss is least.

    It is for the rule `residual`, and stands before whatever notes α: on the edges that are chosen, α of the skip
    connection rises 10 above all others.

    Args:
        batches: `(x, y)`, on which the networks are tried.
        epochs: of the whole run.
    """

    def __init__(self, batches, epochs: int):
        super().__init__()
        self.batches, self.epochs = batches, epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 < self.epochs:
            return
        _, accuracy = place_by_trial(self.model, self.batches)
        if logs is not None and accuracy is not None:
            logs["val_accuracy"] = accuracy  # That of the mixture tells nothing of what α has become.


def place_by_trial(search: Search, batches) -> tuple[list[float], float | None]:
    """Chooses the places, cell by cell and one after another; α keeps the best of each.

    Args:
        search: a compiled search by the rule `residual`.
        batches: `(x, y)`, of which the first 20 count.

    Returns:
        The mean loss of each network that was tried, in order, and the accuracy of the last one chosen, 0 to 1 (None
        where no skip connection has a place).
    """
    net, trial, tried = search.supernet, make_trial(search), list(batches.take(BATCHES))
    skip = next((column for column, name in enumerate(net.space.operations) if name in SKIPS), None)
    if skip is None:
        return [], None
    normal = sorted({index for index, cell in zip(net.sequence, net.plan, strict=True) if not cell.reduction})
    count = min(search.method.max_skips, len(net.edges))
    progress = keras.utils.Progbar(
        sum(len(net.edges) - k for k in range(count)) * len(normal), stateful_metrics=["loss"], unit_name="network"
    )
    losses, accuracy = [], None
    for index in normal:
        taken = []
        for _ in range(count):
            start, found = net.alphas[index].numpy(), {}
            for row in (row for row in range(len(start)) if row not in taken):
                raised = start.copy()
                raised[row, skip] = start[row].max() + PRESENT
                net.alphas[index].assign(raised)
                mixtures = _mixtures(search)
                results = [[float(value) for value in trial(mixtures, x, y)] for x, y in tried]
                found[row], right = np.mean(results, 0)
                if found[row] == min(found.values()):
                    accuracy = float(right / np.mean([len(y) for _, y in tried]))
                progress.add(1, [("loss", min(found.values()))])
            taken.append(min(found, key=found.get))
            start[taken[-1], skip] = start[taken[-1]].max() + PRESENT
            net.alphas[index].assign(start)
            losses += found.values()
    return losses, accuracy


def _mixtures(search: Search) -> list:
    """What a pass weighs by that is the network of what α stands for now; edges have shares alike."""
    net = search.supernet
    rows = [edge_row(*edge, net.space.inputs) for edge in net.edges]
    cells = alphas_from(search.genotype(), net.space, net.nodes)
    return [
        (np.asarray(cell[rows] / PRESENT, net.alphas[0].dtype), share)
        for cell, share in zip(cells, net.mixture.shares(), strict=True)
    ]
