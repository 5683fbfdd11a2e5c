"""The evolution of paths as keras-tuner's oracle (see `kdarts.run.trial_oracle`)."""

import keras_tuner
import numpy as np

from kdarts.genotypes.path_space import PathSpace
from kdarts.run.trial_oracle import TrialOracle, TrialTuner
from kdarts.search.evolution import Path, new_generation

PARENTS = 5
"""One of so many candidates of a generation may be a parent of the next: the ten best at a population of fifty."""


class PathOracle(TrialOracle):
    """Says which path is to be measured next; a round is a generation.

    Args:
        space: what a path may be; its operations are the hyperparameters' values.
        population: candidates of a generation.
        generations: how many, the first of which is random.
        seed: 0 to 2**32 - 1.
        allowed: whether a path is within the budget.
    """

    def __init__(self, space: PathSpace, population: int, generations: int, seed: int, allowed):
        hyperparameters = keras_tuner.HyperParameters()
        self._names = [
            f"{kind}_{source}_to_{to}"
            for kind, cell in zip(("normal", "reduce"), space.cells, strict=False)
            for to, source, _ in cell
        ]
        for name, (_, _, operations) in zip(self._names, space.slots, strict=True):
            hyperparameters.Choice(name, list(operations))
        super().__init__(hyperparameters, population * generations, seed)
        self.space, self.population, self._allowed, self._seed = space, population, allowed, seed
        self._generation = 0

    def candidate(self, values: dict) -> Path:
        """The path that hyperparameters stand for."""
        pairs = zip(self._names, self.space.slots, strict=True)
        return tuple(operations.index(values[name]) for name, (_, _, operations) in pairs)

    def values(self, candidate: Path) -> dict:
        """The hyperparameters that stand for a path."""
        pairs = zip(self._names, self.space.slots, candidate, strict=True)
        return {name: operations[choice] for name, (_, _, operations), choice in pairs}

    def next_round(self) -> list[Path]:
        """The next generation, from the best paths so far."""
        accuracies = self.measured()[: len(self.candidates)]
        best = sorted(accuracies, key=lambda pair: -pair[1])[: max(1, self.population // PARENTS)]
        random = np.random.RandomState([self._seed, self._generation])
        parents = [path for path, _ in best]
        new = new_generation(self.space, parents, self.population, set(self.candidates), self._allowed, random)
        if new:
            self._generation += 1
        return new


class PathTuner(TrialTuner):
    """Measures the paths that a `PathOracle` names."""

    def on_trial_end(self, trial):
        """Tells the oracle, and once for each generation the user."""
        super().on_trial_end(trial)
        count = int(trial.trial_id) + 1
        if count % self._local.population == 0:
            best = self.oracle.get_best_trials(1)[0].score
            print(f"{count} of {self._local.max_trials} candidates: best accuracy {best:.4f}", flush=True)
