"""Checkpoints of a run, from which the same command continues to the same result."""

import io
import json
import pathlib
import re
import shutil
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_text

_INDEX = re.compile(r"ckpt-(\d+)\.index")
# The names that TensorFlow gives to the values in a checkpoint.
_VARIABLE = "variables/{}/{}/.ATTRIBUTES/VARIABLE_VALUE"
_RECORD = "record/.ATTRIBUTES/VARIABLE_VALUE"

_DAMAGE = (tf.errors.OpError, IndexError)
"""The exceptions that TensorFlow raises for a damaged checkpoint; `IndexError` if a file ends too early."""

Record = tuple[dict, dict[str, list[np.ndarray]]]
"""The records and the arrays of a checkpoint."""


class Checkpoint(keras.callbacks.Callback):
    """Saves the complete state of a run at the end of each epoch and, on request, within epochs.

    The state consists of the variables of the model (weights, α, running statistics, states of random generators), of
    its optimizers and of its metrics, and of the record of the run. The order of the data and the augmentation are
    functions of the step and have no state. Keras' `BackupAndRestore` does not save generators, metrics and records.

    A `tf.train.CheckpointManager` writes the files and keeps the last two checkpoints, which are numbered by the steps
    of the run.

    Args:
        folder: The folder of the checkpoints.
        model: A compiled model, a `Search` or any other.
        steps: The number of steps of an epoch.
        every: The number of steps between checkpoints within an epoch. None saves only at the ends of epochs.
        more: Lists of more variables to save and restore, by the name of their group. Defaults to none.

    Attributes:
        records: The record of the run, which callbacks may add to. It has `history` (a dict for each epoch), `seconds`
            (spent in training) and `step` (within the epoch).
        arrays: The arrays of the record by name, each a list with one array for each epoch.
    """

    def __init__(self, folder, model: keras.Model, steps: int, every: int | None = None, more: dict | None = None):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.trained, self.steps, self.every = model, steps, every
        # Keras would make these variables in the first step, too late to restore them.
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        _build_metrics(model)
        self.records: dict = {"history": [], "seconds": 0.0, "step": 0}
        self.arrays: dict[str, list[np.ndarray]] = {}
        groups = {"model": model.variables, "optimizer": model.optimizer.variables, "metrics": model.metrics_variables}
        if getattr(model, "arch_optimizer", None) is not None:
            groups["arch_optimizer"] = model.arch_optimizer.variables
        groups |= more or {}
        self._variables = {_VARIABLE.format(name, i): v for name, group in groups.items() for i, v in enumerate(group)}
        with tf.device("CPU"):
            self._record = tf.Variable(b"", dtype=tf.string)
        values = {name: [variable.value for variable in group] for name, group in groups.items()}
        self._state = tf.train.Checkpoint(variables=values, record=self._record)
        self._manager: tf.train.CheckpointManager | None = None
        self._began = time.monotonic()

    def restore(self) -> int:
        """Restores the newest checkpoint that is not damaged.

        Damaged checkpoints are reported in one line each and removed.

        Returns:
            The step to continue with; 0 if there is no checkpoint.

        Raises:
            KdartsError: If all checkpoints are damaged, or if the newest one belongs to another model.
        """

        def read(prefix: str) -> Record:
            values = _values(prefix)
            there = {n: (value.shape, value.dtype.name) for n, value in values.items() if n.startswith("variables/")}
            if there != {n: (tuple(v.shape), v.value.dtype.name) for n, v in self._variables.items()}:
                raise KdartsError(f"{prefix}: belongs to another model")
            for name, variable in self._variables.items():
                variable.assign(values[name])
            return _unpacked(values[_RECORD])

        newest, damaged = _newest(self.folder, read)
        self.records, self.arrays = newest or (self.records, self.arrays)
        for prefix in damaged:
            print(f"{prefix}: damaged (checksum); going on from {_place(self.records)}", flush=True)
            _remove(prefix)
        return self._number

    @property
    def _number(self) -> int:
        return len(self.records["history"]) * self.steps + self.records["step"]

    def progress_text(self, epochs: int) -> str:
        """Returns a line that tells at which of `epochs` epochs the run continues."""
        return f"going on after {_place(self.records, f' of {epochs}')}"

    def on_train_begin(self, logs=None):
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1
        if self.every and done % self.every == 0 and done < self.steps:
            self.save_inside(done)

    def save_inside(self, done: int) -> None:
        """Saves a checkpoint within an epoch, after `done` steps of it: at least 1 and fewer than all."""
        self.records["step"] = done
        self._save()

    def on_epoch_end(self, epoch, logs=None):
        if len(self.records["history"]) <= epoch:  # A search has noted it.
            row = {key: float(value) for key, value in (logs or {}).items()}
            self.records["history"].append({"epoch": epoch, **row})
        self.records["step"] = 0
        self._save()

    def _save(self) -> None:
        now = time.monotonic()
        self.records["seconds"] += now - self._began
        self._began = now
        try:
            self._manager = self._manager or _manager(self._state, self.folder)
            self._record.assign(_packed(self.records, self.arrays))
            self._manager.save(checkpoint_number=self._number)
        except (OSError, tf.errors.OpError) as error:
            name = self.folder / f"ckpt-{self._number}"
            raise KdartsError(f"{name}: cannot be written ({getattr(error, 'message', error)})") from None


def _packed(records: dict, arrays: dict[str, list[np.ndarray]]) -> bytes:
    content = io.BytesIO()
    named = {f"a_{name}": np.stack(rows) for name, rows in arrays.items()}
    np.savez(content, records=np.array(json.dumps(records)), **named)
    return content.getvalue()


def _unpacked(content: bytes) -> Record:
    with np.load(io.BytesIO(content), allow_pickle=False) as data:
        arrays = {name.removeprefix("a_"): list(data[name]) for name in data.files if name != "records"}
        return json.loads(str(data["records"])), arrays


def _values(prefix: str) -> dict[str, np.ndarray]:
    """Returns every value of a checkpoint. TensorFlow compares each with its checksum."""
    reader = tf.train.load_checkpoint(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def notes(folder: pathlib.Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Reads the record in the newest checkpoint of a folder, without a model.

    Returns:
        `records` and `arrays` of the `Checkpoint`, each array `[epochs, ...]`.

    Raises:
        KdartsError: If there is no checkpoint, or if all are damaged.
    """

    def read(prefix: str) -> Record:
        return _unpacked(tf.train.load_checkpoint(prefix).get_tensor(_RECORD))

    newest, _ = _newest(pathlib.Path(folder), read)
    if newest is None:
        raise KdartsError(f"{folder}: holds no checkpoint")
    records, arrays = newest
    return records, {name: np.stack(rows) for name, rows in arrays.items()}


def last_is_whole(folder: pathlib.Path) -> bool:
    """Returns whether a folder has a checkpoint and the newest one is not damaged."""
    prefixes = checkpoints(folder)
    try:
        return bool(prefixes) and bool(_values(prefixes[-1]))
    except _DAMAGE:
        return False


def checkpoints(folder: pathlib.Path) -> list[str]:
    """Lists the prefixes of the checkpoints in a folder, the newest last.

    It looks for their index files, because the file `checkpoint`, in which TensorFlow lists them, may be lost.
    """
    folder = pathlib.Path(folder)
    found = [_INDEX.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return [str(folder / f"ckpt-{number}") for number in sorted(int(match[1]) for match in found if match)]


def _newest(folder: pathlib.Path, read: Callable[[str], Record]) -> tuple[Record | None, list[str]]:
    """Reads the newest checkpoint that is not damaged.

    Returns:
        The record, None if there is no checkpoint, and the prefixes of the damaged checkpoints.

    Raises:
        KdartsError: If all checkpoints are damaged. They are not removed: the user may have no other copy.
    """
    damaged = []
    for prefix in reversed(checkpoints(folder)):
        try:
            return read(prefix), damaged
        except _DAMAGE:
            damaged.append(prefix)
    # TensorFlow lists a checkpoint after writing it. Without a list the run was killed during its first save.
    if len(damaged) > 1 or (damaged and (folder / "checkpoint").exists()):
        names = " and ".join(pathlib.Path(prefix).name for prefix in reversed(damaged))
        raise KdartsError(
            f"{folder}: damaged (checksum): {names}, and there is no other checkpoint; put a copy of one there, "
            f"or remove {folder} to begin anew"
        )
    return None, damaged


def _place(records: dict, epochs: str = "") -> str:
    inside = f", step {records['step']} of the next" if records["step"] else ""
    return f"epoch {len(records['history'])}{epochs}{inside}"


def _remove(prefix: str) -> None:
    for path in pathlib.Path(prefix).parent.glob(f"{pathlib.Path(prefix).name}.*"):
        path.unlink()


def _manager(state: tf.train.Checkpoint, folder: pathlib.Path) -> tf.train.CheckpointManager:
    """Makes the manager of a folder, and removes the unfinished files of a killed process there."""
    kept = checkpoints(folder)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(("ckpt-", "checkpoint.tmp")) and str(folder / path.stem) not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kept:
        # The manager removes only checkpoints that are in this list, which may be lost or damaged.
        times = [pathlib.Path(f"{prefix}.index").stat().st_mtime for prefix in kept]
        listed = tf.compat.v1.train.generate_checkpoint_state_proto(str(folder), kept[-1], kept, times, 0.0)
        write_text(folder / "checkpoint", str(listed))
    return tf.train.CheckpointManager(state, folder, max_to_keep=2)


def _build_metrics(model: keras.Model) -> None:
    """Makes the variables of a compiled model's metrics; Keras would make them in the first step."""
    if all(metric.variables for metric in model.metrics):
        return
    with model.distribute_strategy.scope():
        label, logits = tf.zeros((1,), tf.int32), tf.zeros((1, *model.outputs[0].shape[1:]))
        model.compute_loss(None, label, logits)
        model.compute_metrics(None, label, logits)
    model.reset_metrics()
