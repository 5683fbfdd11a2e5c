"""What happens where a run diverges: it stops with one line, and leaves the last good state behind."""

import contextlib

import keras

from kdarts.genotypes.errors import KdartsError
from kdarts.run.checkpoint import Checkpoint
from kdarts.run.files import write_json
from kdarts.run.step import NotFinite, Step
from kdarts.run.workdir import STOPPED, Workdir


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
