"""Candidates, such as the paths of an evolution, that are measured one by one as keras-tuner's trials.

The files of the trials are the only state of an oracle, so that a run can be interrupted or shared among workers.

keras-tuner is slow to import: this module is imported only where candidates are measured.
"""

import pathlib
import shutil
import time
from collections.abc import Hashable

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.paths.prune import Evolution, Path
from kdarts.training.workdir import measures_for_chief, read_json, write_json


def reports() -> bool:
    """Returns whether this process knows all results: not if it only measures for keras-tuner's chief."""
    return not measures_for_chief()


class TrialError(KdartsError, keras_tuner.errors.FatalRuntimeError):
    """Ends the run: keras-tuner would continue after any other error, without the candidate."""


class TrialFiles:
    """A base class, placed before a keras-tuner `Oracle`, that replaces the files of the oracle.

    keras-tuner writes the state of an oracle and its trials at different moments, so that a killed run leaves
    incomplete files and loses trials. Here the next trial follows from the oracle's arguments and its trials alone.
    """

    def known(self, values: dict) -> dict:
        """Checks the hyperparameters in a trial's file; raises `KeyError`, `TypeError` or `ValueError`."""
        raise NotImplementedError

    def save(self):
        """Does nothing: the files of the trials hold the whole state."""

    def _save_trial(self, trial):
        try:  # keras-tuner's own method leaves an incomplete file when it is killed.
            write_json(self._file(trial.trial_id), {**trial.get_state(), "seconds": self._seconds(trial)})
        except KdartsError as error:
            raise TrialError(str(error)) from error

    def _seconds(self, trial) -> float:
        """Returns how long a trial took, 0 if that is unknown."""
        history = trial.metrics.get_history("seconds") if trial.metrics.exists("seconds") else []
        return float(history[0].value[0]) if history else self._times.get(trial.trial_id, 0.0)

    def seconds(self) -> float:
        """Returns how long all trials took, including those of earlier processes."""
        return sum(map(self._seconds, self.trials.values()))

    @property
    def _times(self) -> dict[str, float]:
        """Seconds of the trials of earlier processes."""
        return self.__dict__.setdefault("_earlier_times", {})

    def _file(self, trial_id) -> pathlib.Path:
        return pathlib.Path(self._project_dir, f"trial_{trial_id}", "trial.json")

    def reload(self):
        """Restores the finished trials; the others are measured again.

        A damaged trial is reported. It and all trials after it, which may depend on it, are measured again. Raises
        `KdartsError` if a trial belongs to another run.
        """
        files = sorted(pathlib.Path(self._project_dir).glob("trial_*/trial.json"))
        for index, file in enumerate(files):
            try:
                trial = self._read(file)
            except DamageError as error:
                if reports():
                    print(f"{error}; measured again, as is what came after it", flush=True)
                    for later in reversed(files[index:]):
                        shutil.rmtree(later.parent, ignore_errors=True)
                break
            self.trials[trial.trial_id] = trial
            self.start_order.append(trial.trial_id)
            self._record_values(trial)
            if trial.status == TrialStatus.COMPLETED:
                self.end_order.append(trial.trial_id)
        # keras-tuner takes them from the end.
        self._retry_queue = sorted(set(self.start_order) - set(self.end_order), reverse=True)

    def _read(self, file: pathlib.Path) -> Trial:
        data = read_json(file)
        try:
            values, done = data["hyperparameters"]["values"], data["status"] == TrialStatus.COMPLETED
            hyperparameters = self.hyperparameters.copy()
            hyperparameters.values = self.known(values)
            score = float(data["score"]) if done else None
            seconds = float(data.get("seconds", 0.0))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            text = f"{file}: no trial of this run ({error!r}); remove its folder and those after it"
            raise KdartsError(text) from None
        status = TrialStatus.COMPLETED if done else TrialStatus.RUNNING
        trial = Trial(hyperparameters, file.parent.name.removeprefix("trial_"), status)
        trial.score = score
        self._times[trial.trial_id] = seconds
        return trial


class TrialOracle(TrialFiles, keras_tuner.Oracle):
    """Chooses the candidate that is measured next, round by round.

    The choice depends only on the arguments and on the accuracies so far, however often the run was interrupted and
    however many workers share it. Workers wait at the end of a round until all of its candidates are measured.

    Args:
        hyperparameters: The hyperparameters whose values describe a candidate.
        max_trials: The largest number of candidates.
        seed: 0 to 2**32 - 2.
    """

    def __init__(self, hyperparameters: keras_tuner.HyperParameters, max_trials: int, seed: int = 0):
        super().__init__(
            objective=keras_tuner.Objective("accuracy", "max"),
            max_trials=max_trials,
            hyperparameters=hyperparameters,
            allow_new_entries=False,
            tune_new_entries=False,
            seed=seed + 1,  # keras-tuner takes 0 for no seed.
        )
        self.candidates: list[Hashable] = []
        """The candidates of all rounds so far, in the order of the trials."""
        self.verbose = 0

    def candidate(self, values: dict) -> Hashable:
        """Returns the candidate of hyperparameters; raises `KeyError` or `ValueError` if there is none."""
        raise NotImplementedError

    def values(self, candidate: Hashable) -> dict:
        """Returns the hyperparameters of a candidate."""
        raise NotImplementedError

    def next_round(self) -> list:
        """Returns the candidates that follow once all of `candidates` are measured; [] at the end."""
        raise NotImplementedError

    def measured(self) -> list[tuple]:
        """Returns every candidate measured so far and its accuracy, in the order of the trials."""
        done = [t for _, t in sorted(self.trials.items()) if t.status == TrialStatus.COMPLETED]
        return [(self.candidate(trial.hyperparameters.values), float(trial.score)) for trial in done]

    def populate_space(self, trial_id):
        """Returns the next candidate, or that there is none, or that a round is not measured yet."""
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
        return self.values(self.candidate(values))


class TrialTuner(keras_tuner.Tuner):
    """Measures the candidates of an oracle.

    Args:
        oracle: The oracle.
        measure: A function from a candidate to its accuracy.
        folder: The folder of the trials, which has `trial_*` for each.
    """

    def __init__(self, oracle: TrialOracle, measure, folder: pathlib.Path):
        self._local, self._measure = oracle, measure
        try:
            super().__init__(oracle, directory=str(folder.parent), project_name=folder.name)
        except OSError as error:
            raise KdartsError(f"{folder}: cannot be written ({error.strerror or error})") from None
        oracle.reload()

    def run_trial(self, trial):
        began = time.monotonic()
        try:
            accuracy = self._measure(self._local.candidate(trial.hyperparameters.values))
            return {"accuracy": accuracy, "seconds": time.monotonic() - began}
        except Exception as error:
            kind = TrialError if isinstance(error, KdartsError) else keras_tuner.errors.FatalRuntimeError
            raise kind(f"a candidate could not be measured: {error}") from error

    def save(self):
        """Does nothing: the files of the trials hold the whole state."""


class PathOracle(TrialOracle):
    """An evolution of paths, whose rounds are its generations. The hyperparameters are the operations of its space."""

    def __init__(self, evolution: Evolution):
        hyperparameters = keras_tuner.HyperParameters()
        self.evolution, self.space, self.population = evolution, evolution.space, evolution.population
        self._named = self.space.named
        for name, operations in self._named.items():
            hyperparameters.Choice(name, list(operations))
        super().__init__(hyperparameters, evolution.limit, evolution.seed)

    def candidate(self, values: dict) -> Path:
        return tuple(operations.index(values[name]) for name, operations in self._named.items())

    def values(self, candidate: Path) -> dict:
        pairs = zip(self._named.items(), candidate, strict=True)
        return {name: operations[choice] for (name, operations), choice in pairs}

    def next_round(self) -> list[Path]:
        return self.evolution.next_round(self.measured()[: len(self.candidates)])


class PathTuner(TrialTuner):
    """Measures the paths of a `PathOracle`, and prints a line for each generation."""

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        count = int(trial.trial_id) + 1
        if count % self._local.population == 0:
            best = self.oracle.get_best_trials(1)[0].score
            print(f"{count} of {self._local.max_trials} candidates: best accuracy {best:.4f}", flush=True)
