"""keras-tuner's trials as the only state of its oracles: files that are written whole or not at all.

keras-tuner is slow to import: this module is imported only where it is used.
"""

import json
import pathlib

from keras_tuner.engine.trial import Trial, TrialStatus

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_text
from kdarts.run.files import read_json


class TrialFiles:
    """Stands before a keras-tuner `Oracle` among the bases of a class, and replaces what that leaves on disk.

    keras-tuner writes an oracle's state beside its trials, each at another moment, and a kill leaves halves behind and
    trials that never come back. Here what an oracle says next follows from its arguments and its trials alone.

    A kind of it defines `known`.
    """

    def known(self, values: dict) -> dict:
        """The hyperparameters of a trial's file; raises `KeyError`, `TypeError` or `ValueError` if they are none."""
        raise NotImplementedError

    def save(self):
        """Nothing: the trials say it all."""

    def _save_trial(self, trial):
        # keras-tuner's own way leaves half a file behind when it is killed.
        write_text(self._file(trial.trial_id), json.dumps(trial.get_state()))

    def _file(self, trial_id) -> pathlib.Path:
        return pathlib.Path(self._project_dir, f"trial_{trial_id}", "trial.json")

    def reload(self):
        """Takes up the trials that were measured, and measures again what was not finished.

        Raises:
            KdartsError: if a trial's file is damaged.
        """
        for file in sorted(pathlib.Path(self._project_dir).glob("trial_*/trial.json")):
            trial = self._read(file)
            self.trials[trial.trial_id] = trial
            self.start_order.append(trial.trial_id)
            self._record_values(trial)
            if trial.status == TrialStatus.COMPLETED:
                self.end_order.append(trial.trial_id)
        # Taken from the end.
        self._retry_queue = sorted(set(self.start_order) - set(self.end_order), reverse=True)

    def _read(self, file: pathlib.Path) -> Trial:
        data = read_json(file)
        try:
            values, done = data["hyperparameters"]["values"], data["status"] == TrialStatus.COMPLETED
            hyperparameters = self.hyperparameters.copy()
            hyperparameters.values = self.known(values)
            score = float(data["score"]) if done else None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise KdartsError(f"{file}: damaged ({error!r}); remove its folder and those after it") from None
        trial = Trial(hyperparameters, file.parent.name.removeprefix("trial_"), TrialStatus.RUNNING)
        if done:
            trial.status, trial.score = TrialStatus.COMPLETED, score
        return trial
