"""Candidates measured one by one as keras-tuner's trials, so that they resume and may be shared among workers.

keras-tuner is slow to import: this module is imported only where candidates are measured.
"""

import pathlib
from collections.abc import Hashable

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from kdarts.genotypes.errors import KdartsError
from kdarts.run.trial_files import TrialError, TrialFiles


class TrialOracle(TrialFiles, keras_tuner.Oracle):
    """Says which candidate is to be measured next, round by round.

    What it says depends on its arguments and the accuracies measured so far and on nothing else, however often it was
    interrupted and however many workers measure; so its trials' files, each written whole or not at all, are its only
    state. Workers wait at the end of a round until all of it is measured.

    A kind of it defines `candidate`, `values` and `next_round`.

    Args:
        hyperparameters: that candidates are values of.
        max_trials: the most candidates.
        seed: 0 to 2**32 - 2.
    """

    def __init__(self, hyperparameters: keras_tuner.HyperParameters, max_trials: int, seed: int = 0):
        super().__init__(
            objective=keras_tuner.Objective("accuracy", "max"),
            max_trials=max_trials,
            hyperparameters=hyperparameters,
            allow_new_entries=False,
            tune_new_entries=False,
            seed=seed + 1,  # keras-tuner takes a 0 for none.
        )
        self.candidates: list[Hashable] = []
        """Of all rounds so far, in the order of the trials."""
        self.verbose = 0

    def candidate(self, values: dict) -> Hashable:
        """The candidate that hyperparameters stand for; raises `KeyError` or `ValueError` if they stand for none."""
        raise NotImplementedError

    def values(self, candidate: Hashable) -> dict:
        """The hyperparameters that stand for a candidate."""
        raise NotImplementedError

    def next_round(self) -> list:
        """The candidates that follow once all of `candidates` are measured; [] at the end."""
        raise NotImplementedError

    def measured(self) -> list[tuple]:
        """Every candidate measured so far, and its accuracy, in the order of the trials."""
        done = [t for _, t in sorted(self.trials.items()) if t.status == TrialStatus.COMPLETED]
        return [(self.candidate(trial.hyperparameters.values), float(trial.score)) for trial in done]

    def populate_space(self, trial_id):
        """The next candidate, or that there is none, or that a round is still being measured."""
        index = int(trial_id)
        while index >= len(self.candidates):
            if any(trial.status == TrialStatus.RUNNING for trial in list(self.trials.values())[: len(self.candidates)]):
                return {"status": TrialStatus.IDLE}
            new = self.next_round()
            if not new:
                return {"status": TrialStatus.STOPPED}
            self.candidates += new
        return {"status": TrialStatus.RUNNING, "values": self.values(self.candidates[index])}

    def known(self, values: dict) -> dict:
        """The hyperparameters of a candidate, from those in its trial's file."""
        return self.values(self.candidate(values))


class TrialTuner(keras_tuner.Tuner):
    """Measures the candidates that an oracle names.

    Args:
        oracle: names them.
        measure: from a candidate to its accuracy.
        folder: where the trials lie, `trial_*` in it.
    """

    def __init__(self, oracle: TrialOracle, measure, folder: pathlib.Path):
        self._local, self._measure = oracle, measure
        try:
            super().__init__(oracle, directory=str(folder.parent), project_name=folder.name)
        except OSError as error:
            raise KdartsError(f"{folder}: cannot be written ({error.strerror or error})") from None
        oracle.reload()

    def run_trial(self, trial):
        """The accuracy of a trial's candidate."""
        try:
            return {"accuracy": self._measure(self._local.candidate(trial.hyperparameters.values))}
        except KdartsError as error:
            raise TrialError(f"a candidate could not be measured: {error}") from error
        except Exception as error:
            # keras-tuner would go on with the next candidate, without this one.
            raise keras_tuner.errors.FatalRuntimeError(f"a candidate could not be measured: {error}") from error

    def save(self):
        """Nothing: the trials say it all."""
