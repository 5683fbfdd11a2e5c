"""keras-tuner's random, Bayesian and Hyperband oracles, which lose no trial.

The next trial follows from the seed and the trials so far, so that a killed tuning continues to the same result. With
several workers it also depends on the order in which they finish. The trial of a silent worker goes to another one.

keras-tuner is slow to import: this module is imported only where hyperparameters are tuned.
"""

import math
import threading
import time
from collections.abc import Callable

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle

from kdarts.genotypes.errors import KdartsError, choice
from kdarts.training.trials import TrialFiles

PATIENCE = 30.0
"""Seconds after which a silent worker's trial is given to another."""

EPOCHS = "tuner/epochs"
"""Hyperband's name for the budget of a trial."""

FACTOR = 3
"""Hyperband's factor: the trials of the next round are so many times longer, and so many times fewer."""

Notify = Callable[[str, Trial, str], None]


class TuningOracle(TrialFiles):
    """The common part of the three oracles; a base class that is placed before keras-tuner's own.

    Attributes:
        total: The number of all trials; there are fewer if the choices are exhausted before.
        work: The work of all trials, in units of `work_of`.
        notify: Called at every event, `begun`, `ended` or `silent`, with the trial and its worker.
        patience: See `PATIENCE`.
        broken: The error if a trial could not be written. keras-tuner then answers no worker any more.
    """

    broken: KdartsError | None = None
    total: int
    work: int

    def begin(self, notify: Notify, patience: float) -> None:
        """Sets the attributes that keras-tuner's constructors do not set."""
        self.notify, self.patience, self.verbose = notify, patience, 0
        self._max_collisions = 1000  # Otherwise keras-tuner gives up before a few choices are exhausted.
        self._heard: dict[str, float] = {}

    def finished(self) -> bool:
        """Returns whether all trials are measured."""
        return sum(trial.status == TrialStatus.COMPLETED for trial in self.trials.values()) >= self.total

    def known(self, values: dict) -> dict:
        names = {parameter.name for parameter in self.hyperparameters.space}
        if {name for name in values if "/" not in name} != names:
            raise ValueError(f"needs values of {', '.join(sorted(names))}")
        for parameter in self.hyperparameters.space:
            if not _allows(parameter, values[parameter.name]):
                raise ValueError(f"{parameter.name} {values[parameter.name]!r}")
        return dict(values)

    def populate_space(self, trial_id):
        """Draws the values of a trial with a seed of its own."""
        self._seed_state = int(np.random.SeedSequence([self.seed, int(trial_id)]).generate_state(1)[0])
        self._random_state = np.random.RandomState([self.seed, int(trial_id)])
        return super().populate_space(trial_id)

    @keras_tuner.synchronized
    def create_trial(self, tuner_id):
        """Returns the next trial, or one that a silent worker had; workers wait while another may become silent."""
        self._heard[tuner_id] = time.monotonic()
        self.give_back()
        trial = super().create_trial(tuner_id)
        if trial.status == TrialStatus.RUNNING:
            self.notify("begun", trial, tuner_id)
        elif trial.status == TrialStatus.STOPPED and self.ongoing_trials:
            self.tuner_ids.add(tuner_id)
            trial.status = TrialStatus.IDLE
        elif trial.status == TrialStatus.STOPPED:
            self._heard.pop(tuner_id)
        return trial

    @keras_tuner.synchronized
    def update_trial(self, trial_id, metrics, step=0):
        """Records a result. A call without `metrics` means that the trial's worker is alive."""
        trial = self.trials[trial_id]
        if trial_id in self.end_order:
            return trial
        if metrics:
            return super().update_trial(trial_id, metrics, step)
        running = [name for name, ongoing in self.ongoing_trials.items() if ongoing.trial_id == trial_id]
        if not running:  # The trial was taken back, or the chief was restarted, and its worker continues.
            running = [f"trial {trial_id}"]
            self.ongoing_trials[running[0]] = trial
            self._retry_queue = [other for other in self._retry_queue if other != trial_id]
        self._heard[running[0]] = time.monotonic()
        return trial

    @keras_tuner.synchronized
    def end_trial(self, trial):
        """Records the end of a trial; a second worker that had the same trial changes nothing."""
        owners = [name for name, other in self.ongoing_trials.items() if other.trial_id == trial.trial_id]
        if trial.trial_id in self.end_order:
            for name in owners:
                self.ongoing_trials.pop(name)
            return
        super().end_trial(trial)
        self.notify("ended", self.trials[trial.trial_id], *owners[:1])
        self._retry_queue = [other for other in self._retry_queue if other != trial.trial_id]

    @keras_tuner.synchronized
    def give_back(self) -> None:
        """Takes back the trials of silent workers, for the next worker that asks."""
        late = time.monotonic() - self.patience
        for tuner_id in {*self.tuner_ids, *self.ongoing_trials}:
            if self._heard.get(tuner_id, math.inf) > late:
                self._heard.setdefault(tuner_id, time.monotonic())
                continue
            self.tuner_ids.discard(tuner_id)
            trial = self.ongoing_trials.pop(tuner_id, None)
            if trial is not None and trial.status == TrialStatus.RUNNING:
                self._retry_queue.append(trial.trial_id)
                self.notify("silent", trial, tuner_id)

    def _save_trial(self, trial):
        try:
            super()._save_trial(trial)
        except KdartsError as error:
            self.broken = error
            raise

    def watch(self, over: threading.Event, fail: Callable[[KdartsError], None]) -> None:
        """Takes back the trials of silent workers until `over`, also while no worker asks; calls `fail` if broken."""
        while not over.wait(min(1.0, self.patience / 4)):
            if self.broken is not None:
                return fail(self.broken)
            self.give_back()


class RandomTuning(TuningOracle, RandomSearchOracle):
    """Values drawn at random, none twice."""


class BayesianTuning(TuningOracle, BayesianOptimizationOracle):
    """Values with the best expectation of a Gaussian process; random ones if these were tried before."""

    def populate_space(self, trial_id):
        import threadpoolctl  # A dependency of scikit-learn.

        with threadpoolctl.threadpool_limits(1):  # The matrices are small: threads would only wait for each other.
            found = super().populate_space(trial_id)
        return self._random_populate_space() if self._duplicate(found["values"] or {}) else found


class HyperbandTuning(TuningOracle, HyperbandOracle):
    """Many short trials, the best of which are repeated for longer, round by round."""

    def populate_space(self, trial_id):
        """Returns the values of a trial with its own bracket, because keras-tuner writes the latest one for all."""
        found = super().populate_space(trial_id)
        for bracket in self._brackets:
            for number, entries in enumerate(bracket["rounds"]):
                if any(entry["id"] == trial_id for entry in entries):
                    found["values"] |= {"tuner/bracket": bracket["bracket_num"], "tuner/round": number}
        return found

    def reload(self):
        """Restores the trials and their places in the brackets."""
        super().reload()
        for trial in sorted(self.trials.values(), key=lambda trial: trial.trial_id):
            values = trial.hyperparameters.values
            while self._current_bracket > values["tuner/bracket"]:
                self._increment_bracket_num()
                self._start_new_bracket()
            bracket = next(b for b in self._brackets if b["bracket_num"] == values["tuner/bracket"])
            entry = {"past_id": values.get("tuner/trial_id"), "id": trial.trial_id}
            bracket["rounds"][values["tuner/round"]].append(entry)

    def known(self, values):
        place = {name: int(values[f"tuner/{name}"]) for name in ("epochs", "bracket", "round")}
        rounds = self._get_num_rounds(place["bracket"])
        if not (0 <= place["bracket"] < self._get_num_brackets() and 0 <= place["round"] < rounds):
            raise ValueError(f"bracket {place['bracket']}, round {place['round']}")
        return super().known(values)

    def sizes(self) -> list[tuple[int, int]]:
        """Returns the number of trials and their epochs for every round of every bracket."""
        brackets = [(b, r) for b in reversed(range(self._get_num_brackets())) for r in range(self._get_num_rounds(b))]
        return [(self._get_size(b, r), self._get_epochs(b, r)) for b, r in brackets]


TUNERS = ("random", "bayesian", "hyperband")


def make_oracle(
    tuner: str,
    hyperparameters: keras_tuner.HyperParameters,
    *,
    trials: int,
    epochs: int,
    seed: int,
    notify: Notify,
    patience: float = PATIENCE,
) -> TuningOracle:
    """Makes an oracle of hyperparameters.

    Args:
        tuner: One of `TUNERS`.
        hyperparameters: The choices.
        trials: The largest number of trials, at least 1; Hyperband's follows from `epochs`.
        epochs: Hyperband's largest budget, at least 1.
        seed: At least 0.
        notify, patience: See `TuningOracle`.

    Raises:
        KdartsError: If the tuner is unknown, the Bayesian one lacks scikit-learn, or Hyperband needs more values than
            the choices have.
    """
    shared = {
        "objective": keras_tuner.Objective("accuracy", "max"),
        "hyperparameters": hyperparameters,
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": seed + 1,  # keras-tuner takes 0 for no seed.
    }
    if choice("tuner", tuner, TUNERS) == "hyperband":
        oracle = HyperbandTuning(max_epochs=epochs, factor=FACTOR, **shared)
        oracle.total = sum(size for size, _ in oracle.sizes())
        oracle.work = sum(size * length for size, length in oracle.sizes())
        first = sum(oracle._get_size(bracket, 0) for bracket in range(oracle._get_num_brackets()))
        most = _combinations(hyperparameters)
        if first > most:
            raise KdartsError(
                f"--tuner=hyperband with --epochs={epochs} begins with {first} different trials, and the choices have "
                f"{most:g}: give more of them, or take --tuner=random"
            )
    else:
        if tuner == "bayesian":
            # keras-tuner's own number of initial random values may be as large as the number of trials.
            shared["num_initial_points"] = max(1, min(3 * len(hyperparameters.space), trials // 2))
        kind = RandomTuning if tuner == "random" else BayesianTuning
        try:
            oracle = kind(max_trials=trials, **shared)
        except ImportError:
            raise KdartsError("--tuner=bayesian needs scikit-learn: pip install '.[bayesian]'") from None
        oracle.total = oracle.work = trials
    oracle.begin(notify, patience)
    return oracle


def _allows(parameter, value) -> bool:
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Choice):
        return value in parameter.values
    return isinstance(value, int | float) and parameter.min_value <= value <= parameter.max_value


def _combinations(hyperparameters: keras_tuner.HyperParameters) -> float:
    """Returns the number of different values, infinity with a real number among them."""
    kinds = keras_tuner.engine.hyperparameters
    count = 1.0
    for parameter in hyperparameters.space:
        if isinstance(parameter, kinds.Choice):
            count *= len(parameter.values)
        elif isinstance(parameter, kinds.Int):
            count *= parameter.max_value - parameter.min_value + 1
        else:
            return math.inf
    return count


def work_of(trial: Trial) -> int:
    """Returns the work of a trial: its epochs with Hyperband, otherwise 1."""
    return int(trial.hyperparameters.values.get(EPOCHS, 1))


def values_of(trial: Trial) -> dict:
    """Returns the chosen values of a trial, without keras-tuner's own entries."""
    return {name: value for name, value in trial.hyperparameters.values.items() if "/" not in name}
