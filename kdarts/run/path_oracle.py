"""The evolution of paths as keras-tuner's oracle, so that it resumes and may be shared among a chief and workers.

keras-tuner is slow to import: this module is imported only where an evolution runs.
"""

import json
import pathlib

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_text
from kdarts.genotypes.path_space import PathSpace
from kdarts.run.files import read_json
from kdarts.search.evolution import Path, new_generation

PARENTS = 5
"""One of so many candidates of a generation may be a parent of the next: the ten best at a population of fifty."""


class PathOracle(keras_tuner.Oracle):
    """Says which path is to be measured next.

    What it says depends on its arguments and the accuracies measured so far and on nothing else, however often it was
    interrupted and however many workers measure; so its trials' files, each written whole or not at all, are its only
    state. Workers wait at the end of a generation until all of it is measured.

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
            for kind, cell in zip(("normal", "reduce"), space.cells, strict=True)
            for to, source, _ in cell
        ]
        for name, (_, _, operations) in zip(self._names, space.slots, strict=True):
            hyperparameters.Choice(name, list(operations))
        super().__init__(
            objective=keras_tuner.Objective("accuracy", "max"),
            max_trials=population * generations,
            hyperparameters=hyperparameters,
            allow_new_entries=False,
            tune_new_entries=False,
            seed=seed + 1,  # keras-tuner takes a 0 for none.
        )
        self.space, self.population, self._allowed, self._seed = space, population, allowed, seed
        self.candidates: list[Path] = []
        """Of all generations so far, in the order of the trials."""
        self._generation = 0
        self.verbose = 0

    def path(self, values: dict) -> Path:
        """The path that hyperparameters stand for."""
        pairs = zip(self._names, self.space.slots, strict=True)
        return tuple(operations.index(values[name]) for name, (_, _, operations) in pairs)

    def measured(self) -> list[tuple[Path, float]]:
        """Every path measured so far, and its accuracy, in the order of the trials."""
        done = [t for _, t in sorted(self.trials.items()) if t.status == TrialStatus.COMPLETED]
        return [(self.path(trial.hyperparameters.values), float(trial.score)) for trial in done]

    def populate_space(self, trial_id):
        """The next path, or that there is none, or that a generation is still being measured."""
        index = int(trial_id)
        while index >= len(self.candidates):
            if any(trial.status == TrialStatus.RUNNING for trial in list(self.trials.values())[: len(self.candidates)]):
                return {"status": TrialStatus.IDLE}
            accuracies = self.measured()[: len(self.candidates)]
            best = sorted(accuracies, key=lambda pair: -pair[1])[: max(1, self.population // PARENTS)]
            random = np.random.RandomState([self._seed, self._generation])
            seen = set(self.candidates)
            parents = [path for path, _ in best]
            new = new_generation(self.space, parents, self.population, seen, self._allowed, random)
            if not new:
                return {"status": TrialStatus.STOPPED}
            self._generation += 1
            self.candidates += new
        return {"status": TrialStatus.RUNNING, "values": self._values(self.candidates[index])}

    def _values(self, path: Path) -> dict:
        pairs = zip(self._names, self.space.slots, path, strict=True)
        return {name: operations[choice] for name, (_, _, operations), choice in pairs}

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
            hyperparameters.values = self._values(self.path(values))
            score = float(data["score"]) if done else None
        except (KeyError, TypeError, ValueError) as error:
            raise KdartsError(f"{file}: damaged ({error!r}); remove its folder and those after it") from None
        trial = Trial(hyperparameters, file.parent.name.removeprefix("trial_"), TrialStatus.RUNNING)
        if done:
            trial.status, trial.score = TrialStatus.COMPLETED, score
        return trial


class PathTuner(keras_tuner.Tuner):
    """Measures the paths that an oracle names.

    Args:
        oracle: names them.
        measure: from a path to its accuracy.
        folder: where the trials lie, `trial_*` in it.
    """

    def __init__(self, oracle: PathOracle, measure, folder: pathlib.Path):
        self._local, self._measure = oracle, measure
        super().__init__(oracle, directory=str(folder.parent), project_name=folder.name)
        oracle.reload()

    def run_trial(self, trial):
        """The accuracy of a trial's path."""
        try:
            return {"accuracy": self._measure(self._local.path(trial.hyperparameters.values))}
        except Exception as error:
            # keras-tuner would go on with the next path, without this one.
            raise keras_tuner.errors.FatalRuntimeError(f"a path could not be measured: {error}") from error

    def on_trial_end(self, trial):
        """Tells the oracle, and once for each generation the user."""
        super().on_trial_end(trial)
        count = int(trial.trial_id) + 1
        if count % self._local.population == 0:
            best = self.oracle.get_best_trials(1)[0].score
            print(f"{count} of {self._local.max_trials} candidates: best accuracy {best:.4f}", flush=True)

    def save(self):
        """Nothing: the trials say it all."""
