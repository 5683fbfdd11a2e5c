"""A run in a folder, which is restored from its checkpoints, measured and reported."""

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
from kdarts.search.session import Session
from kdarts.search.step import ArchitectureNotFinite, LossScaleCollapsed
from kdarts.training.checkpoint import Checkpoint
from kdarts.training.workdir import STOPPED, Workdir, write_json, write_table


class Divergence(KdartsError):
    """A run diverged; the message has the place, the step and a suggestion."""


class RunSession(Session):
    """Keeps a run in a folder, so that the same command continues it after any interruption to the same result.

    Args:
        workdir: The locked folder.
        checkpoint_every: The number of steps between checkpoints within an epoch; None saves only at its end.
        prefix: The prefix of the names of its files, such as "path_".
        rate: The flag of the learning rate, for error messages.
        began: `time.monotonic()` when the run began. Defaults to now.
        verbose: Whether to print progress.

    Attributes:
        checkpoint: The checkpoints of the run; None before `begin`.
        clock: The times of the steps of this process.
        first_step: The first step of this process.
    """

    progress_bar = False

    def __init__(
        self,
        workdir: Workdir,
        checkpoint_every: int | None = None,
        prefix: str = "",
        rate: str = "--learning_rate",
        began: float | None = None,
        verbose: bool = True,
    ):
        self.workdir, self.prefix, self.rate, self._every = workdir, prefix, rate, checkpoint_every
        self.began = time.monotonic() if began is None else began
        # Keras' progress bar on a terminal, else a line for each epoch.
        self.verbose = 0 if not verbose else 1 if sys.stdout.isatty() else 2
        self.clock, self.checkpoint, self.first_step, self._skipped = StepTime(), None, 0, 0

    @property
    def history(self) -> list[dict]:
        """The rows of the epochs so far."""
        return self.checkpoint.records["history"]

    def begin(self, model, steps, epochs, record):
        self.steps, self.epochs = steps, epochs
        folder, more = self.workdir / f"{self.prefix}backup", self.more_variables(model)
        self.checkpoint = Checkpoint(folder, model, steps, self._every, more)
        self.first_step = self.checkpoint.restore()
        if record is not None:
            record.notes, record.arrays = self.checkpoint.records, self.checkpoint.arrays
        self.write(model)
        if 0 < self.first_step < epochs * steps and (record is None or not record.stopped):
            self.say(self.checkpoint.progress_text(epochs))
        return self.first_step

    def more_variables(self, model) -> dict[str, list]:
        """Returns variables besides the model's that the checkpoints hold, by the name of their group."""
        return {}

    def ready(self, model, step, batches, steps, first_step):
        self.checkpoint.records["seconds"] += time.monotonic() - self.began

    def callbacks(self, model):
        callbacks = [
            self.checkpoint,
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self.write(model)),
        ]
        if importlib.util.find_spec("tensorboard") is not None:
            callbacks.append(Events(str(self.workdir / f"{self.prefix}events"), write_graph=False))
        return [*callbacks, Progress()]

    def write(self, model) -> None:
        """Writes the files of all epochs so far from the record of the checkpoint."""
        if self.history:
            write_table(self.workdir / f"{self.prefix}history.csv", self.history)

    def took(self, waited, computed):
        self.clock.add(waited, computed)

    def skipped(self, count):
        records = self.checkpoint.records
        records["skipped_steps"] = records.get("skipped_steps", 0) + count - self._skipped
        self._skipped = count

    def epoch_logs(self):
        records = self.checkpoint.records
        return {"skipped_steps": records.pop("skipped_steps")} if "skipped_steps" in records else {}

    def diverged(self, epoch, step, what):
        if step:  # Otherwise it is the state after the last epoch, which is saved.
            self.checkpoint.save_inside(step)
        place = {"epoch": epoch + 1, "step": step + 1}
        write_json(self.workdir / STOPPED, {"stopped_by": "divergence", "what": str(what), **place})
        advice = f"a lower {self.rate} or --clip"
        if isinstance(what, LossScaleCollapsed):
            advice = f"--precision=mixed_bfloat16 or float32, or a lower {self.rate}"
        elif isinstance(what, ArchitectureNotFinite):
            advice = f"a lower {self.rate} or --arch_learning_rate, or --arch_clip=5"
        raise Divergence(
            f"epoch {epoch + 1}, step {step + 1}: {what}; the state before that step is kept in "
            f"{self.checkpoint.folder}. Try {advice} in a new --workdir"
        )

    def finish(self, model):
        (self.workdir / STOPPED).unlink(missing_ok=True)


def skipped_steps(history: list[dict]) -> dict[str, int]:
    """Returns the number of skipped steps of a run for its summary; {} if none could be skipped."""
    counts = [int(row["skipped_steps"]) for row in history if "skipped_steps" in row]
    return {"skipped_steps": sum(counts)} if counts else {}


@contextlib.contextmanager
def telling(folder):
    """A context that raises `KdartsError` with the folder if events cannot be written there."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise KdartsError(f"{folder}: cannot be written ({error})") from None


class Events(keras.callbacks.TensorBoard):
    """TensorBoard's callback, which reports its folder if it cannot write there, for example on a full disk."""

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
    """Returns the peak memory of this process, in 10^6 bytes."""
    # Linux has the figure of this process alone; `getrusage` also counts the memory of the process that started it.
    with contextlib.suppress(OSError, StopIteration):
        lines = pathlib.Path("/proc/self/status").read_text("utf-8", "replace").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def resident_memory_mb() -> float:
    """Returns the present memory of this process, in 10^6 bytes; its peak if the present one cannot be read."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return peak_memory_mb()
    return pages * resource.getpagesize() / 1e6


def clock(seconds: float) -> str:
    """Formats seconds as `1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class StepTime:
    """Records the time of each step, without the first, which also builds the graph.

    Attributes:
        steps: The computing time of each step, in milliseconds.
        waits: The time that each step waited for its batch, in milliseconds.
    """

    def __init__(self):
        self.steps: list[float] = []
        self.waits: list[float] = []
        self._first = True

    def add(self, waited: float, computed: float) -> None:
        """Records a step, with times in seconds."""
        if not self._first:
            self.waits.append(1000 * waited)
            self.steps.append(1000 * computed)
        self._first = False

    @property
    def wait_share(self) -> float | None:
        """The fraction of the time spent waiting for data, 0 to 1; None before the second step."""
        spent = sum(self.waits) + sum(self.steps)
        return sum(self.waits) / spent if spent else None

    @property
    def median_ms(self) -> float | None:
        """The median computing time of a step in milliseconds; None before the second step."""
        return statistics.median(self.steps) if self.steps else None


class Progress(keras.callbacks.ProgbarLogger):
    """Keras' progress with the estimated remaining time, from the latest epochs, at the start of each epoch."""

    def __init__(self):
        super().__init__()
        self._began = 0.0
        self._spent: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        epochs, self.epochs = self.epochs, 1  # For several epochs Keras would print its own line here.
        super().on_epoch_begin(epoch, logs)
        self.epochs = epochs
        self._began = time.monotonic()
        # The first epoch of a process takes longer, because it also builds the graph.
        recent = self._spent[1:][-5:]
        left = f" · {clock((self.epochs - epoch) * statistics.mean(recent))} left" if recent else ""
        if self.verbose:
            print(f"Epoch {epoch + 1}/{self.epochs}{left}", flush=True)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self._spent.append(time.monotonic() - self._began)
