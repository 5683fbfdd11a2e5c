"""A run in a folder: restored from its checkpoints, measured, written and reported as it continues."""

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
from kdarts.search.step import ArchitectureNotFinite, LossScaleCollapsed, NotFinite
from kdarts.training.checkpoint import Checkpoint
from kdarts.training.workdir import STOPPED, Workdir, write_json, write_table


class Divergence(KdartsError):
    """A run diverged; the message says what, where and when, and what to try."""


class RunSession(Session):
    """Keeps a run in a folder, so that the same command continues it after any interruption to the same result.

    Args:
        workdir: the folder, locked for this run.
        checkpoint_every: steps of an epoch from one checkpoint to the next; None: only at the ends of epochs.
        prefix: of the names of its files, such as "path_".
        rate: the flag of the learning rate, for advice.
        began: `time.monotonic()` when the run began; None: now.

    Attributes:
        checkpoint: the checkpoints of the run, from `begin` on.
        clock: times of the steps of this process.
        first_step: the step that this process began with.
    """

    progress_bar = False

    def __init__(
        self,
        workdir: Workdir,
        checkpoint_every: int | None = None,
        prefix: str = "",
        rate: str = "--learning_rate",
        began: float | None = None,
    ):
        self.workdir, self.prefix, self.rate, self._every = workdir, prefix, rate, checkpoint_every
        self.began = time.monotonic() if began is None else began
        self.verbose = verbosity()
        self.clock, self.checkpoint, self.first_step, self._skipped = StepTime(), None, 0, 0

    @property
    def history(self) -> list[dict]:
        """A row for each epoch so far."""
        return self.checkpoint.records["history"]

    def begin(self, model, steps, epochs, record):
        self.steps, self.epochs = steps, epochs
        self.checkpoint = Checkpoint(self.workdir / f"{self.prefix}backup", model, steps, self._every)
        self.first_step = self.checkpoint.restore()
        if record is not None:
            record.notes, record.arrays = self.checkpoint.records, self.checkpoint.arrays
        self.write(model)
        if 0 < self.first_step < epochs * steps and (record is None or not record.stopped):
            self.say(self.checkpoint.progress_text(epochs))
        return self.first_step

    def ready(self, model, step, batches, steps, first_step):
        self.checkpoint.records["seconds"] += time.monotonic() - self.began

    def callbacks(self, model):
        writing = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self.write(model))
        return [self.checkpoint, writing, *loggers(self.workdir / f"{self.prefix}events"), Progress()]

    def write(self, model) -> None:
        """Writes the files of all epochs so far, from the record of the checkpoint alone."""
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
        if step:  # Else it is the state of the epoch before, which is saved.
            self.checkpoint.save_inside(step)
        place = {"epoch": epoch + 1, "step": step + 1}
        write_json(self.workdir / STOPPED, {"stopped_by": "divergence", "what": str(what), **place})
        raise Divergence(
            f"epoch {epoch + 1}, step {step + 1}: {what}; the state before that step is kept in "
            f"{self.checkpoint.folder}. {self._advice(what)} in a new --workdir"
        )

    def _advice(self, what: NotFinite) -> str:
        if isinstance(what, LossScaleCollapsed):
            return f"Try --precision=mixed_bfloat16 or float32, or a lower {self.rate}"
        if isinstance(what, ArchitectureNotFinite):
            return f"Try a lower {self.rate} or --arch_learning_rate, or --arch_clip=5"
        return f"Try a lower {self.rate} or --clip"

    def finish(self, model):
        (self.workdir / STOPPED).unlink(missing_ok=True)


def skipped_steps(history: list[dict]) -> dict[str, int]:
    """The number of skipped steps of a run's epochs, for its summary; {} where none could be skipped."""
    counts = [int(row["skipped_steps"]) for row in history if "skipped_steps" in row]
    return {"skipped_steps": sum(counts)} if counts else {}


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
        epochs, self.epochs = self.epochs, 1  # Of several epochs Keras prints a line of its own here.
        super().on_epoch_begin(epoch, logs)
        self.epochs = epochs
        self._began = time.monotonic()
        # The first epoch of a process builds the graph as well; it tells little about the others.
        recent = self._spent[1:][-5:]
        left = f" · {clock((self.epochs - epoch) * statistics.mean(recent))} left" if recent else ""
        if self.verbose:
            print(f"Epoch {epoch + 1}/{self.epochs}{left}", flush=True)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self._spent.append(time.monotonic() - self._began)
