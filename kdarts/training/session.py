"""A run in a folder: restored from its checkpoints, and measured, reported and written as it continues."""

import time

import keras

from kdarts.genotypes.errors import KdartsError
from kdarts.search.session import Session
from kdarts.training.checkpoint import Checkpoint
from kdarts.training.files import write_json, write_table
from kdarts.training.progress import Progress, StepTime, loggers, verbosity
from kdarts.training.workdir import STOPPED, Workdir


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
        write_json(self.workdir / STOPPED, {"stopped_by": "divergence", "what": what, **place})
        raise Divergence(
            f"epoch {epoch + 1}, step {step + 1}: {what}; the state before that step is kept in "
            f"{self.checkpoint.folder}. {self._advice(what)} in a new --workdir"
        )

    def _advice(self, what: str) -> str:
        if "float16" in what:
            return f"Try --precision=mixed_bfloat16 or float32, or a lower {self.rate}"
        if "α" in what or "β" in what:
            return f"Try a lower {self.rate} or --arch_learning_rate, or --arch_clip=5"
        return f"Try a lower {self.rate} or --clip"

    def finish(self, model):
        (self.workdir / STOPPED).unlink(missing_ok=True)


def skipped_steps(history: list[dict]) -> dict[str, int]:
    """The number of skipped steps of a run's epochs, for its summary; {} where none could be skipped."""
    counts = [int(row["skipped_steps"]) for row in history if "skipped_steps" in row]
    return {"skipped_steps": sum(counts)} if counts else {}
