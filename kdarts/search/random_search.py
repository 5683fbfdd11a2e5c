"""Random search with weight sharing, and random genotypes as a baseline.

- Li and Talwalkar, UAI 2019, Algorithm 1: a random genotype trains the shared weights at each step; then many are
  compared on one batch each, and the best of those on all.
- The same without any training, by a score of each genotype's own network (`kdarts.search.zero_cost`).
- Yang, Esperança, Carlucci, "NAS evaluation is frustratingly hard", ICLR 2020: the mean of random architectures under
  the same training is what any search has to beat.
"""

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.cuboid import Architecture
from kdarts.genotypes.errors import KdartsError
from kdarts.search.building import ABSENT, PRESENT
from kdarts.search.measures import Measurement
from kdarts.search.relaxations import RandomGenotype
from kdarts.search.zero_cost import Sizes, compared, figures

FINALISTS = 10
"""How many genotypes are measured on all batches."""


def take_best(search, batches, samples: int, seed: int) -> float:
    """Sets α of a search to the best of many random genotypes, as of `best_random`; returns its accuracy, 0 to 1.

    The accuracies are taken with the statistics of the batches: the running ones are a mixture of all genotypes.
    """
    weights, accuracy = best_random(search, batches, samples, seed)
    _take(search.supernet, weights)
    return accuracy


def _take(supernet, weights) -> None:
    """Sets α to what a genotype weighs its candidates by."""
    for alpha, row in zip(supernet.alphas, weights, strict=True):
        alpha.assign(np.where(row > 0, PRESENT, ABSENT))


def best_random(search, batches, samples: int, seed: int) -> tuple[list[np.ndarray], float]:
    """The best of a number of random genotypes: for each α the weights of its candidates, 0 or 1; and its accuracy.

    Of the dataset of `(x, y)` the first batch ranks all genotypes, and all batches the ten best. The accuracy is from 0
    to 1. Nothing of the compiled search is changed.
    """
    score = Measurement(search)
    first = next(iter(batches))
    progress = keras.utils.Progbar(samples, stateful_metrics=["best"], unit_name="genotype")
    drawn, found = [], []
    for number in range(samples):
        drawn.append(_draw(search.supernet, seed, number))
        found.append(score(drawn[-1], *first) / len(first[1]))
        progress.add(1, [("best", max(found))])
    finalists = np.argsort(-np.array(found), kind="stable")[:FINALISTS]
    accuracies = []
    for index in finalists:
        right, seen = 0, 0
        for x, y in batches:
            right, seen = right + score(drawn[index], x, y), seen + len(y)
        accuracies.append(right / seen)
    best = int(np.argmax(accuracies))
    return [weights.numpy() for weights, _ in drawn[finalists[best]]], accuracies[best]


def check_untrained(method, supernet) -> None:
    """Raises `KdartsError` for a method whose random genotypes cannot be compared by its score without training."""
    score = f"score {method.score!r}"
    if not method.samples:
        raise KdartsError(f"{score}: compares random genotypes; needs samples of 1 or more")
    if supernet.grid or method.stages or method.paths:
        raise KdartsError(f"{score}: nothing is trained, so there are no grids, stages or shared paths")
    if method.score == "rule" and (supernet.space.stages or method.sharing != "shared"):
        raise KdartsError(f"{score}: it is of the normal cell, of two inputs, that sharing 'shared' has")


def take_best_untrained(search, images, samples: int, seed: int, score: str) -> float:
    """Sets α of a search to the best of many random genotypes by a score without training; returns the score.

    Args:
        search: of cells.
        images: a batch, `[batch, height, width, channels]`.
        samples: the number of genotypes.
        seed: 0 or more; the same genotypes are drawn whatever the score is.
        score: one of `SCORES`.
    """
    progress = keras.utils.Progbar(samples, unit_name="genotype")
    # All before the first is taken: a draw looks at α.
    draws = [_draw(search.supernet, seed, number) for number in range(samples)]
    drawn, rows = [[weights for weights, _ in draw] for draw in draws], []
    for weights in drawn:
        _take(search.supernet, weights)
        rows.append(figures(search.genotype(derived=False), score, Sizes.of(search.supernet), images, seed))
        progress.add(1)
    scores = compared(score, rows)
    best = int(np.argmax(scores))
    _take(search.supernet, drawn[best])
    return float(scores[best])


def _draw(supernet, seed: int, number: int) -> list:
    """Genotype `number`, as what a pass weighs by; edges have shares alike."""
    names = supernet.space.operations
    none = names.index("none") if "none" in names else None
    shares, inputs = supernet.mixture.shares(), supernet.mixture.inputs
    return [
        (RandomGenotype().draw(weights, None, none, 0.0, tf.random.fold_in([seed, number], index), inputs), share)
        for index, (weights, share) in enumerate(zip(supernet.mixing_weights(), shares, strict=True))
    ]


_SCALE = 2.0
"""Standard deviation of α: with a sigmoid one operation in five reaches a weight of 0.85."""

_DRAWS = 20


def random_found(search, seed: int, number: int) -> Architecture:
    """The genotype, or path, that the search's own rule makes of a random α, of independent normal numbers.

    By DARTS' rule every operation but `none` is equally likely on each input. A draw that leaves a node or a cell
    without input, as rules with a threshold may, is made anew with a larger spread, 20 times at most. α and β of the
    search are overwritten; `seed` and the `number` of the draw are 0 or more.
    """
    random, scale = np.random.RandomState([seed, number]), _SCALE
    for _ in range(_DRAWS):
        for alpha in (*search.supernet.alphas, *search.supernet.betas):
            alpha.assign(scale * random.standard_normal(alpha.shape))
        found = search.genotype(derived=False)
        if not found.gaps():
            break
        scale *= 1.25
    return found
