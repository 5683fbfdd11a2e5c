"""A tuning of a search's hyperparameters: its trials, in one process or several, and its table.

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
    """Where a seed of a trial has its search and its training, in the folder of a tuning."""
    return folder / "trials" / trial_id / f"seed-{seed}"


class Progress:
    """Says what happens to trials, and how long the rest will take, going by those that ended since it began.

    Args:
        folder: of the tuning.
        seeds: of each trial.
        alone: whether this process measures them itself.
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
            print(f"{head}{whose}: {told(trial)}", flush=True)
        elif event == "silent":
            print(f"{head}{whose} has fallen silent; another goes on with it", flush=True)
        else:
            self._done += work_of(trial)
            print(f"{head}{whose}: {self._result(trial)}{self._left()}", flush=True)

    def _result(self, trial) -> str:
        try:
            rows = [repeats.figures(part_of(self._folder, trial.trial_id, seed), seed) for seed in self._seeds]
        except KdartsError:  # A worker's files may be seen later than its message comes.
            return repeats.in_words(trial.score, None)
        return repeats.in_words(*repeats.spread(rows))

    def _left(self) -> str:
        ended = [trial for trial in self.oracle.trials.values() if trial.status == "COMPLETED"]
        left = self.oracle.work - sum(work_of(trial) for trial in ended)
        seconds = (time.monotonic() - self._began) / self._done * left
        return f" · about {timedelta(seconds=round(seconds))} left" if left > 0 else ""


def told(trial) -> str:
    """`zero_one_weight=5 method=darts`, with Hyperband's budget."""
    return " ".join(f"{name}={_short(value)}" for name, value in _values(trial).items())


def _values(trial) -> dict:
    budget = trial.hyperparameters.values.get(EPOCHS)
    return values_of(trial) | ({} if budget is None else {"budget": budget})


def _short(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def trial_rows(oracle: TuningOracle, measure: Callable[[str, dict, int | None], list[dict]]) -> list[dict]:
    """A row of the table for every finished trial, in their order.

    Args:
        oracle: knows them.
        measure: from a trial's number, values and budget to the figures of its seeds; what is damaged is made again.

    Returns:
        `trial`, each chosen value under its own name, with Hyperband `budget` (epochs); then as of `row_of`.
    """
    rows = []
    for trial_id, trial in sorted(oracle.trials.items()):
        if trial.status == "COMPLETED":
            parts = measure(trial_id, values_of(trial), trial.hyperparameters.values.get(EPOCHS))
            rows.append({"trial": trial_id, **_values(trial), **row_of(parts)})
    return rows


def prepare(folder: pathlib.Path, values: dict, epochs: int | None) -> None:
    """Makes the folder of a trial, and clears it where a trial of other values had this number before.

    Trials are numbered anew behind a damaged one, and with a Gaussian process what they are depends on those before.
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
    """What seeds came to together, a part of a row.

    Args:
        parts: the figures of each, 1 or more.

    Returns:
        `accuracy` (their mean), `accuracy_sd`, each `seed_K`; mean `params`; `seconds` in all; how many `diverged`.
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
    """Measures random architectures as trials are, as far as they are not measured, and gives their row.

    Args:
        folder: of theirs, `seed-K` in it.
        draw: from a seed to a genotype.
        train: as of `repeats.measured`.
        seeds: one architecture for each.
        label: the values that the row is about.
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
    """The row of the best trial: the greatest accuracy; where trials have budgets, among those of the greatest.

    Args:
        rows: of trials, 1 or more.
    """
    longest = max(row.get("budget", 0) for row in rows)
    longest_rows = [row for row in rows if row.get("budget", 0) == longest]
    return max(longest_rows, key=lambda row: ("params" in row, row["accuracy"]))  # One that diverged has none.


def table(rows: Sequence[dict], most: int = 10) -> list[str]:
    """The best trials and the baselines as lines of text.

    Args:
        rows: of trials and of random architectures.
        most: trials that are shown.
    """
    trials = sorted((row for row in rows if row["trial"] != "random"), key=lambda row: -row["accuracy"])
    shown = [*trials[:most], *(row for row in rows if row["trial"] == "random")]
    hidden = {"accuracy", "accuracy_sd", "params", "seconds"}
    names = [
        name for name in dict.fromkeys(n for row in shown for n in row) if name not in hidden and "seed_" not in name
    ]
    heads = [*names, "accuracy", "M weights"]
    cells = [heads] + [
        [
            *(_short(row.get(name, "")) for name in names),
            repeats.in_words(row["accuracy"], row["accuracy_sd"]),
            f"{row['params'] / 1e6:.3f}" if "params" in row else "",
        ]
        for row in shown
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]


def held_back_examples(trial: pathlib.Path) -> int:
    """The number of images that the finished seeds in a trial's folder were measured on."""
    return read_json(next(trial.glob("seed-*/train/summary.json")))["held_back_examples"]


IDLE = 1.0
"""Seconds between the questions of a worker that has nothing to do."""

Measure = Callable[[str, dict, int | None], float]


class Over(keras_tuner.errors.FatalError):
    """A worker is no longer needed; of a kind that keras-tuner lets through."""


def role() -> str:
    """`alone`, `chief` or `worker`, by keras-tuner's environment variables.

    Raises:
        KdartsError: if only some of them are set.
    """
    names = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        return "alone"
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise KdartsError(f"KERASTUNER_ORACLE_IP is set and {' and '.join(missing)} not: all three go together")
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


class TuningTuner(keras_tuner.Tuner):
    """Measures the trials that an oracle names.

    Args:
        oracle: names them; a worker's own takes no part, its chief's is asked.
        measure: from a trial's number, its values and its budget in epochs (None: as the values say) to its accuracy.
        folder: where the trials' files lie, `trial_*` in it.
        over: whether all trials are known to be finished; asked by workers.
    """

    def __init__(self, oracle: TuningOracle, measure: Measure, folder: pathlib.Path, over: Callable[[], bool]):
        self._local, self._measure, self._over, self._waiting = oracle, measure, over, False
        super().__init__(oracle, directory=str(folder.parent), project_name=folder.name)
        if role() == "worker":
            self.oracle = _Patient(self.oracle, over)
        else:
            oracle.reload()

    def search(self):
        """Carries out what there is; a chief serves until its workers are done.

        Raises:
            KdartsError: if a trial could not be measured, or the chief is not there.
        """
        if role() == "chief" and self._local.finished():
            return  # There may be no worker left to say so to.
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
        """Lets a worker that has nothing to do wait a little before it asks again."""
        if isinstance(self.oracle, _Patient) and self._over():
            raise Over
        if self._waiting:
            time.sleep(IDLE)
        self._waiting = True

    def on_trial_begin(self, trial):
        """There is something to do."""
        self._waiting = False

    def run_trial(self, trial):
        """The accuracy of a trial; meanwhile the chief hears that this worker is alive."""
        done = threading.Event()
        if isinstance(self.oracle, _Patient):
            threading.Thread(target=self._beat, args=(trial.trial_id, done), daemon=True).start()
        try:
            accuracy = self._measure(trial.trial_id, values_of(trial), trial.hyperparameters.values.get(EPOCHS))
            return {"accuracy": accuracy}
        except Exception as error:
            # keras-tuner would go on with the next trial, without this one.
            raise keras_tuner.errors.FatalRuntimeError(f"a trial could not be measured: {error}") from error
        finally:
            done.set()

    def _beat(self, trial_id: str, done: threading.Event) -> None:
        while not done.wait(self._local.patience / 6):
            with contextlib.suppress(grpc.RpcError):
                self.oracle.client.update_trial(trial_id, {})

    def save(self):
        """Nothing: the trials say it all."""


def _leave(error: KdartsError) -> None:
    # The threads that serve workers wait for a lock that none gives back, and an exit in order waits for them.
    print(f"kdarts: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    os._exit(2)


class _Patient:
    """A worker's line to its chief, which asks again where the chief is gone: it may be started anew."""

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
                    told = KdartsError(f"the chief failed: {error.details()}")
                    raise keras_tuner.errors.FatalError("chief") from told
                if self._over():
                    raise Over from None
                if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                    where = ":".join(os.environ[f"KERASTUNER_ORACLE_{part}"] for part in ("IP", "PORT"))
                    raise keras_tuner.errors.FatalError("no chief") from KdartsError(f"no chief answers at {where}")
                time.sleep(IDLE)
