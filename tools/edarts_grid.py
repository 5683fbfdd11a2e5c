"""The trials of a study's grid as keras-tuner's, which `edarts_study.py` measures alone or among workers.

keras-tuner is slow to import: this module is imported only where trials are measured.
"""

from collections.abc import Callable, Sequence

import keras_tuner

from kdarts.training.trials import TrialOracle

_MOST = 9999
"""Trials; their numbers have as many digits, so that a grid that grows finds its trials again."""


class GridOracle(TrialOracle):
    """Says which candidate of a grid is to be measured next, and then which of a second one that depends on the first.

    A grid may have grown since it was left: what was measured then counts, what is new comes after it.

    Args:
        names: of the candidates, in their order; each becomes a hyperparameter's value.
        then: from the accuracy of every candidate of `names` to the names of a second round; None: there is none.
    """

    def __init__(self, names: Sequence[str], then: Callable[[dict[str, float]], list[str]] | None = None):
        hyperparameters = keras_tuner.HyperParameters()
        hyperparameters.Choice("candidate", list(names))
        super().__init__(hyperparameters, _MOST)
        self._names, self._then = list(names), then

    def candidate(self, values: dict) -> str:
        """The name that hyperparameters stand for."""
        name = values["candidate"]
        if not isinstance(name, str):
            raise ValueError(name)
        return name

    def values(self, candidate: str) -> dict:
        """The hyperparameters that stand for a name."""
        return {"candidate": candidate}

    def reload(self):
        """Restores the trials, whatever the grid was when they began."""
        super().reload()
        begun = [self.candidate(self.trials[number].hyperparameters.values) for number in self.start_order]
        self.candidates = begun + [name for name in self._names if name not in begun]

    def next_round(self) -> list[str]:
        """The grid; after it, what is left of the second round."""
        if not self.candidates:
            return self._names
        if self._then is None:
            return []
        accuracies = dict(self.measured())
        second = self._then({name: accuracies[name] for name in self._names})
        return [name for name in second if name not in self.candidates]
