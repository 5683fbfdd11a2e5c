"""keras-tuner's trials as the only state of its oracles: files that are written whole or not at all.

keras-tuner is slow to import: this module is imported only where it is used.
"""

import json
import pathlib
import shutil

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.genotypes.files import write_sealed
from kdarts.run.files import read_json
from kdarts.run.lock import measures_for_chief


def reports() -> bool:
    """Whether this process knows the results: not if it only measures for keras-tuner's chief."""
    return not measures_for_chief()


class TrialError(KdartsError, keras_tuner.errors.FatalRuntimeError):
    """Ends the measuring: keras-tuner would go on after any other error, without the candidate."""


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
        try:
            write_sealed(self._file(trial.trial_id), json.dumps(trial.get_state()))
        except KdartsError as error:
            raise TrialError(str(error)) from error

    def _file(self, trial_id) -> pathlib.Path:
        return pathlib.Path(self._project_dir, f"trial_{trial_id}", "trial.json")

    def reload(self):
        """Takes up the trials that were measured, and measures again what was not finished.

        A damaged one is named; it and all after it, which may depend on it, are measured again.

        Raises:
            KdartsError: if a trial is not one of this oracle's.
        """
        files = sorted(pathlib.Path(self._project_dir).glob("trial_*/trial.json"))
        for index, file in enumerate(files):
            try:
                trial = self._read(file)
            except DamageError:
                if reports():
                    print(f"{file}: damaged (checksum); measured again, as is what came after it", flush=True)
                    for later in reversed(files[index:]):
                        shutil.rmtree(later.parent, ignore_errors=True)
                break
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
            raise KdartsError(
                f"{file}: no trial of this run ({error!r}); remove its folder and those after it"
            ) from None
        trial = Trial(hyperparameters, file.parent.name.removeprefix("trial_"), TrialStatus.RUNNING)
        if done:
            trial.status, trial.score = TrialStatus.COMPLETED, score
        return trial
