"""Carries out a tuning's trials: alone, or as a worker of keras-tuner's chief, or as that chief.

keras-tuner is slow to import: this module is imported only where hyperparameters are tuned.
"""

import contextlib
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable

import grpc
import keras_tuner

from kdarts.genotypes.errors import KdartsError
from kdarts.tuning.oracle import EPOCHS, TuningOracle, values_of

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
