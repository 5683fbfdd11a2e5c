"""How a run reports while it goes on.

How long steps take, how much is left, and how much memory was used.

What happens where a run diverges: it stops with one line, and leaves the last good state behind.
"""

import contextlib
import importlib.util
import pathlib
import resource
import statistics
import sys
import time

import keras
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.step import NotFinite, Step
from kdarts.training.checkpoint import Checkpoint
from kdarts.training.files import write_json
from kdarts.training.workdir import STOPPED, Workdir


def verbosity() -> int:
    """Keras' `verbose`: a progress bar on a terminal, a line an epoch elsewhere."""
    return 1 if sys.stdout.isatty() else 2


def loggers(folder) -> list[keras.callbacks.Callback]:
    """TensorBoard's callback, writing to `folder`, where TensorBoard is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return []
    return [Events(str(folder), write_graph=False)]


@contextlib.contextmanager
def telling(folder):
    """Around what writes events: raises `KdartsError` naming their folder where the system refuses."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise KdartsError(f"{folder}: cannot be written ({error})") from None


class Events(keras.callbacks.TensorBoard):
    """TensorBoard's, which names its folder where the system refuses to write, as on a full disk."""

    def set_model(self, model):
        with telling(self.log_dir):
            super().set_model(model)

    def on_epoch_end(self, epoch, logs=None):
        with telling(self.log_dir):
            super().on_epoch_end(epoch, logs)

    def on_test_end(self, logs=None):
        with telling(self.log_dir):
            super().on_test_end(logs)

    def on_train_end(self, logs=None):
        with telling(self.log_dir):
            super().on_train_end(logs)


def peak_memory_mb() -> float:
    """The most memory this process has held so far, in 10^6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def resident_memory_mb() -> float:
    """The memory this process holds now, in 10^6 bytes; where that cannot be read, the most it has held."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return peak_memory_mb()
    return pages * resource.getpagesize() / 1e6


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class StepTime:
    """Takes down the time of each step, without the first, which also builds the graph.

    Attributes:
        steps: milliseconds of computing of each step so far.
        waits: milliseconds that each of them waited for its batch.
    """

    def __init__(self):
        self.steps: list[float] = []
        self.waits: list[float] = []
        self._first = True

    def add(self, waited: float, computed: float) -> None:
        """Takes down a step that waited and computed for so many seconds."""
        if not self._first:
            self.waits.append(1000 * waited)
            self.steps.append(1000 * computed)
        self._first = False

    @property
    def wait_share(self) -> float | None:
        """The part of the time that went into waiting for data, 0 to 1; None before the second step."""
        spent = sum(self.waits) + sum(self.steps)
        return sum(self.waits) / spent if spent else None

    @property
    def median_ms(self) -> float | None:
        """Median time of a step's computing in milliseconds; None before the second step."""
        return statistics.median(self.steps) if self.steps else None


class Progress(keras.callbacks.ProgbarLogger):
    """Keras' progress, and at the start of each epoch how long the rest will take, going by the latest epochs."""

    def __init__(self):
        super().__init__()
        self._began = 0.0
        self._spent: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self._reset_progbar()
        self._began = time.monotonic()
        # The first epoch of a process builds the graph as well; it tells little about the others.
        recent = self._spent[1:][-5:]
        left = f" · {clock((self.epochs - epoch) * statistics.mean(recent))} left" if recent else ""
        if self.verbose:
            print(f"Epoch {epoch + 1}/{self.epochs}{left}", flush=True)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self._spent.append(time.monotonic() - self._began)


class Divergence(KdartsError):
    """A run diverged; the message says what, where and when, and what to try."""


class Watch(keras.callbacks.Callback):
    """Stops a run that diverges, and counts the steps that float16 skipped.

    It stands before the `Checkpoint` in the list of callbacks. `skipped_steps` of the epoch come into the logs where
    the loss is scaled.

    Args:
        step: the run's.
        checkpoint: holds the state, and the count.
        workdir: where `stopped.json` goes.
        rate: the flag of the weights' learning rate.
    """

    def __init__(self, step: Step, checkpoint: Checkpoint, workdir: Workdir, rate: str = "--learning_rate"):
        super().__init__()
        self.step, self.checkpoint, self.workdir, self.rate = step, checkpoint, workdir, rate
        self._counted = step.skipped

    def on_train_batch_end(self, batch, logs=None):
        if self.step.scaled:
            records = self.checkpoint.records
            records["skipped_steps"] = records.get("skipped_steps", 0) + self.step.skipped - self._counted
            self._counted = self.step.skipped
            if logs is not None:
                logs["skipped_steps"] = records["skipped_steps"]

    def on_epoch_end(self, epoch, logs=None):
        if self.step.scaled and logs is not None:
            logs["skipped_steps"] = self.checkpoint.records.pop("skipped_steps", 0)

    def on_train_end(self, logs=None):
        (self.workdir / STOPPED).unlink(missing_ok=True)

    @contextlib.contextmanager
    def over(self, epoch: int, step: int):
        """Around one step, counted from 0.

        Raises:
            Divergence: if the step is not finite; the state before it is saved.
        """
        try:
            yield
        except NotFinite as found:
            if step:  # else it is the state of the epoch before, which is saved
                self.checkpoint.save_inside(step)
            place = {"epoch": epoch + 1, "step": step + 1}
            write_json(self.workdir / STOPPED, {"stopped_by": "divergence", "what": str(found), **place})
            raise Divergence(
                f"epoch {epoch + 1}, step {step + 1}: {found}; the state before that step is kept in "
                f"{self.checkpoint.folder}. {self._advice(str(found))} in a new --workdir"
            ) from None

    def _advice(self, what: str) -> str:
        if "float16" in what:
            return f"Try --precision=mixed_bfloat16 or float32, or a lower {self.rate}"
        if "α" in what or "β" in what:
            return f"Try a lower {self.rate} or --arch_learning_rate, or --arch_clip=5"
        return f"Try a lower {self.rate} or --clip"


def skipped_steps(history: list[dict]) -> dict[str, int]:
    """What a summary says of the skipped steps of a run's epochs; nothing where none could be."""
    counts = [int(row["skipped_steps"]) for row in history if "skipped_steps" in row]
    return {"skipped_steps": sum(counts)} if counts else {}
