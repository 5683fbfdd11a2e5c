"""Candidates measured one by one as keras-tuner's trials: the paths of an evolution, and those of a grid.

The trials' files are the only state of an oracle, so that a measuring may be interrupted or shared among workers.

keras-tuner is slow to import: this module is imported only where candidates are measured.
"""

import pathlib
import shutil
import time
from collections.abc import Callable, Hashable, Sequence

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.paths.prune import Evolution, Path
from kdarts.training.workdir import measures_for_chief, read_json, write_json


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
            write_json(self._file(trial.trial_id), {**trial.get_state(), "seconds": self._seconds(trial)})
        except KdartsError as error:
            raise TrialError(str(error)) from error

    def _seconds(self, trial) -> float:
        """How long a trial took, as far as it is known."""
        history = trial.metrics.get_history("seconds") if trial.metrics.exists("seconds") else []
        return float(history[0].value[0]) if history else self._times.get(trial.trial_id, 0.0)

    def seconds(self) -> float:
        """How long all trials took, those of earlier processes among them."""
        return sum(map(self._seconds, self.trials.values()))

    @property
    def _times(self) -> dict[str, float]:
        """Seconds of the trials of earlier processes."""
        return self.__dict__.setdefault("_earlier_times", {})

    def _file(self, trial_id) -> pathlib.Path:
        return pathlib.Path(self._project_dir, f"trial_{trial_id}", "trial.json")

    def reload(self):
        """Restores the trials that were measured; those that were not finished are measured again.

        A damaged one is named; it and all after it, which may depend on it, are measured again.

        Raises:
            KdartsError: if a trial is not one of this oracle's.
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
        # Taken from the end.
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
            raise KdartsError(
                f"{file}: no trial of this run ({error!r}); remove its folder and those after it"
            ) from None
        trial = Trial(hyperparameters, file.parent.name.removeprefix("trial_"), TrialStatus.RUNNING)
        self._times[trial.trial_id] = seconds
        if done:
            trial.status, trial.score = TrialStatus.COMPLETED, score
        return trial


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
        began = time.monotonic()
        try:
            accuracy = self._measure(self._local.candidate(trial.hyperparameters.values))
            return {"accuracy": accuracy, "seconds": time.monotonic() - began}
        except KdartsError as error:
            raise TrialError(f"a candidate could not be measured: {error}") from error
        except Exception as error:
            # keras-tuner would go on with the next candidate, without this one.
            raise keras_tuner.errors.FatalRuntimeError(f"a candidate could not be measured: {error}") from error

    def save(self):
        """Nothing: the trials say it all."""


class PathOracle(TrialOracle):
    """An evolution of paths; a round is a generation.

    Args:
        evolution: says which paths are measured next. The operations of its space are the hyperparameters' values.
    """

    def __init__(self, evolution: Evolution):
        hyperparameters = keras_tuner.HyperParameters()
        self.evolution, self.space, self.population = evolution, evolution.space, evolution.population
        self._names = [
            f"{kind}_{source}_to_{to}"
            for kind, cell in zip(("normal", "reduce"), self.space.cells, strict=False)
            for to, source, _ in cell
        ]
        for name, (_, _, operations) in zip(self._names, self.space.slots, strict=True):
            hyperparameters.Choice(name, list(operations))
        super().__init__(hyperparameters, evolution.limit, evolution.seed)

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
        return self.evolution.next_round(self.measured()[: len(self.candidates)])


class PathTuner(TrialTuner):
    """Measures the paths that a `PathOracle` names."""

    def on_trial_end(self, trial):
        """Tells the oracle, and once for each generation the user."""
        super().on_trial_end(trial)
        count = int(trial.trial_id) + 1
        if count % self._local.population == 0:
            best = self.oracle.get_best_trials(1)[0].score
            print(f"{count} of {self._local.max_trials} candidates: best accuracy {best:.4f}", flush=True)


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
