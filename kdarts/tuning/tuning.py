"""The tuning of a search's hyperparameters: its trials, in one process or several, and its table.

keras-tuner is slow to import: this module is imported only where hyperparameters are tuned.
"""

import contextlib
import os
import pathlib
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import grpc
import keras_tuner

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.training import repeats
from kdarts.training.workdir import read_json, write_json
from kdarts.tuning.oracle import EPOCHS, TuningOracle, values_of, work_of


def part_of(folder: pathlib.Path, trial_id: str, seed: int) -> pathlib.Path:
    """Returns the folder of a seed of a trial, in the folder of a tuning."""
    return folder / "trials" / trial_id / f"seed-{seed}"


class Progress:
    """Prints the events of trials and the remaining time, estimated from the trials that ended in this process.

    Args:
        folder: The folder of the tuning.
        seeds: The seeds of each trial.
        alone: Whether this process measures the trials itself.
    """

    def __init__(self, folder: pathlib.Path, seeds: Sequence[int], alone: bool):
        self._folder, self._seeds, self._alone = folder, seeds, alone
        self._began, self._done = time.monotonic(), 0
        self.oracle: TuningOracle | None = None

    def __call__(self, event: str, trial, tuner_id: str = "") -> None:
        """An oracle's `notify`."""
        head = f"trial {int(trial.trial_id) + 1} of {self.oracle.total}"
        whose = "" if self._alone or not tuner_id else f" · {tuner_id}"
        if event == "begun":
            values = " ".join(f"{name}={_short(value)}" for name, value in _values(trial).items())
            print(f"{head}{whose}: {values}", flush=True)
        elif event == "silent":
            print(f"{head}{whose} does not answer; another worker continues it", flush=True)
        else:
            self._done += work_of(trial)
            print(f"{head}{whose}: {self._result(trial)}{self._left()}", flush=True)

    def _result(self, trial) -> str:
        try:
            rows = [repeats.figures(part_of(self._folder, trial.trial_id, seed), seed) for seed in self._seeds]
        except KdartsError:  # A worker's files may become visible after its message arrives.
            return repeats.in_words(trial.score, None)
        return repeats.in_words(*repeats.spread(rows))

    def _left(self) -> str:
        ended = [trial for trial in self.oracle.trials.values() if trial.status == "COMPLETED"]
        left = self.oracle.work - sum(work_of(trial) for trial in ended)
        seconds = (time.monotonic() - self._began) / self._done * left
        return f" · about {timedelta(seconds=round(seconds))} left" if left > 0 else ""


def _values(trial) -> dict:
    """Returns the values of a trial, with Hyperband's budget."""
    budget = trial.hyperparameters.values.get(EPOCHS)
    return values_of(trial) | ({} if budget is None else {"budget": budget})


def _short(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def trial_rows(oracle: TuningOracle, measure: Callable[[str, dict, int | None], list[dict]]) -> list[dict]:
    """Returns a row of the table for every finished trial, in their order.

    A row has `trial`, each chosen value under its name, with Hyperband `budget` (epochs), and the result of `row_of`.
    `measure` is a function from a trial's number, values and budget to the figures of its seeds.
    """
    rows = []
    for trial_id, trial in sorted(oracle.trials.items()):
        if trial.status == "COMPLETED":
            parts = measure(trial_id, values_of(trial), trial.hyperparameters.values.get(EPOCHS))
            rows.append({"trial": trial_id, **_values(trial), **row_of(parts)})
    return rows


def prepare(folder: pathlib.Path, values: dict, epochs: int | None) -> None:
    """Makes the folder of a trial, and clears it if a trial of other values had this number before.

    The trials after a damaged one are drawn again, and with a Gaussian process their values depend on those before.
    """
    record, wanted = folder / "values.json", {"values": values, "epochs": epochs}
    try:
        if record.exists() and read_json(record) == wanted:
            return
    except DamageError as error:
        print(f"{error}; its trial is measured again", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    write_json(record, wanted)


def row_of(parts: Sequence[dict]) -> dict:
    """Returns the figures of one or more seeds as a part of a row.

    These are `accuracy` (the mean), `accuracy_sd`, each `seed_K`, the mean of `params`, the sum of `seconds`, and the
    number of `diverged` seeds.
    """
    mean, deviation = repeats.spread(parts)
    sizes, lost = [part["params"] for part in parts if "params" in part], sum("diverged" in part for part in parts)
    return {
        "accuracy": mean,
        "accuracy_sd": deviation,
        **{f"seed_{part['seed']}": part["accuracy"] for part in parts},
        **({"params": round(statistics.mean(sizes))} if sizes else {}),
        "seconds": round(sum(part.get("seconds", 0) for part in parts), 1),
        **({"diverged": lost} if lost else {}),
    }


def random_row(
    folder: pathlib.Path, draw: Callable[[int], object], train: Callable, seeds: Sequence[int], label: dict
) -> dict:
    """Measures random architectures like trials, unless they are measured already, and returns their row.

    Args:
        folder: Their folder, which has `seed-K` for each.
        draw: A function from a seed to a genotype.
        train: See `repeats.measured`.
        seeds: A seed for each architecture.
        label: The values in the row.
    """
    parts = []
    for seed in seeds:
        part = folder / f"seed-{seed}"
        genotype = part / "search" / "genotype.json"
        if not genotype.exists():
            draw(seed).save(genotype)
        parts.append(repeats.measured(None, train, part, seed))
    return {"trial": "random", **label, **row_of(parts)}


def best_of(rows: Sequence[dict]) -> dict:
    """Returns the row with the best accuracy, among the trials with the largest budget if they have budgets."""
    longest = max(row.get("budget", 0) for row in rows)
    longest_rows = [row for row in rows if row.get("budget", 0) == longest]
    return max(longest_rows, key=lambda row: ("params" in row, row["accuracy"]))  # A diverged trial has no `params`.


def table(rows: Sequence[dict], most: int = 10) -> list[str]:
    """Formats the `most` best trials and the random architectures as lines of a table."""
    trials = sorted((row for row in rows if row["trial"] != "random"), key=lambda row: -row["accuracy"])
    shown = [*trials[:most], *(row for row in rows if row["trial"] == "random")]
    hidden = {"accuracy", "accuracy_sd", "params", "seconds"}
    names = dict.fromkeys(name for row in shown for name in row if name not in hidden and "seed_" not in name)
    cells = [[*names, "accuracy", "weights"]]
    for row in shown:
        size = f"{row['params']:,}" if "params" in row else ""
        accuracy = repeats.in_words(row["accuracy"], row["accuracy_sd"])
        cells.append([*(_short(row.get(name, "")) for name in names), accuracy, size])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]


def held_back_examples(trial: pathlib.Path) -> int:
    """Returns the number of images that the finished seeds in a trial's folder were measured on."""
    return read_json(next(trial.glob("seed-*/train/summary.json")), ["held_back_examples"])["held_back_examples"]


IDLE = 1.0
"""Seconds between the requests of a worker without a trial."""

Measure = Callable[[str, dict, int | None], float]


class Over(keras_tuner.errors.FatalError):
    """A worker is no longer needed. keras-tuner does not catch errors of this base class."""


def role() -> str:
    """Returns `alone`, `chief` or `worker`, by keras-tuner's environment variables.

    Raises `KdartsError` if only some of them are set.
    """
    names = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        return "alone"
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise KdartsError(f"KERASTUNER_ORACLE_IP is set and {' and '.join(missing)} not: all three go together")
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


class TuningTuner(keras_tuner.Tuner):
    """Measures the trials of an oracle.

    Args:
        oracle: The oracle. A worker uses that of its chief instead.
        measure: A function from a trial's number, its values and its budget in epochs, or None, to its accuracy.
        folder: The folder of the trials' files, which has `trial_*` for each.
        over: A function that tells workers whether all trials are finished.
    """

    def __init__(self, oracle: TuningOracle, measure: Measure, folder: pathlib.Path, over: Callable[[], bool]):
        self._local, self._measure, self._over, self._waiting = oracle, measure, over, False
        super().__init__(oracle, directory=str(folder.parent), project_name=folder.name)
        if role() == "worker":
            self.oracle = _Patient(self.oracle, over)
        else:
            oracle.reload()

    def search(self):
        """Measures the trials; a chief serves until its workers are done.

        Raises `KdartsError` if a trial could not be measured, or if the chief does not answer.
        """
        if role() == "chief" and self._local.finished():
            return  # The chief would wait for workers, and there may be none any more.
        over = threading.Event()
        if role() == "chief":
            threading.Thread(target=self._local.watch, args=(over, _leave), daemon=True).start()
        try:
            super().search()
        except Over:
            return
        except keras_tuner.errors.FatalError as error:
            raise (error.__cause__ if isinstance(error.__cause__, KdartsError) else error) from None
        finally:
            over.set()

    def pre_create_trial(self):
        """Lets a worker without a trial wait before it asks again."""
        if isinstance(self.oracle, _Patient) and self._over():
            raise Over
        if self._waiting:
            time.sleep(IDLE)
        self._waiting = True

    def on_trial_begin(self, trial):
        self._waiting = False

    def run_trial(self, trial):
        """Returns the accuracy of a trial. Meanwhile a worker tells its chief that it is alive."""
        done = threading.Event()
        if isinstance(self.oracle, _Patient):
            threading.Thread(target=self._beat, args=(trial.trial_id, done), daemon=True).start()
        try:
            accuracy = self._measure(trial.trial_id, values_of(trial), trial.hyperparameters.values.get(EPOCHS))
            return {"accuracy": accuracy}
        except Exception as error:  # keras-tuner would continue with the next trial, without this one.
            raise keras_tuner.errors.FatalRuntimeError(f"a trial could not be measured: {error}") from error
        finally:
            done.set()

    def _beat(self, trial_id: str, done: threading.Event) -> None:
        while not done.wait(self._local.patience / 6):
            with contextlib.suppress(grpc.RpcError):
                self.oracle.client.update_trial(trial_id, {})

    def save(self):
        """Does nothing: the files of the trials hold the whole state."""


def _leave(error: KdartsError) -> None:
    """Ends a chief at once: its threads wait for a lock that is never released, and a normal exit waits for them."""
    print(f"kdarts: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    os._exit(2)


class _Patient:
    """A worker's client of its chief, which repeats requests if the chief is gone, because it may be restarted."""

    def __init__(self, client, over: Callable[[], bool]):
        self.client, self._over = client, over

    def __getattr__(self, name: str):
        value = getattr(self.client, name)
        return (lambda *args, **kwargs: self._ask(value, *args, **kwargs)) if callable(value) else value

    def _ask(self, call, *args, **kwargs):
        while True:
            try:
                return call(*args, **kwargs)
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise keras_tuner.errors.FatalError("chief") from KdartsError(
                        f"the chief failed: {error.details()}"
                    )
                if self._over():
                    raise Over from None
                if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                    where = ":".join(os.environ[f"KERASTUNER_ORACLE_{part}"] for part in ("IP", "PORT"))
                    raise keras_tuner.errors.FatalError("no chief") from KdartsError(f"no chief answers at {where}")
                time.sleep(IDLE)
