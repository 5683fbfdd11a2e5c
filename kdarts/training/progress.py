"""How a run reports: progress and time left, TensorBoard's events, times of steps, memory."""

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
