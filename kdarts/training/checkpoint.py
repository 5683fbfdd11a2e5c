"""Checkpoints of a run, from which the same command goes on to the same result."""

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
# As TensorFlow names the values in a checkpoint.
_VARIABLE = "variables/{}/{}/.ATTRIBUTES/VARIABLE_VALUE"
_RECORD = "record/.ATTRIBUTES/VARIABLE_VALUE"

_DAMAGE = (tf.errors.OpError, IndexError)
"""What TensorFlow raises for a damaged checkpoint, the latter where a file ends too early."""

Record = tuple[dict, dict[str, list[np.ndarray]]]
"""The records and the arrays of a checkpoint."""


class Checkpoint(keras.callbacks.Callback):
    """Saves everything that the rest of a run depends on: at the end of each epoch, and within it.

    That is every variable of the model (weights, α, running statistics, states of random generators), of its
    optimizers and of its metrics, and the records of the epochs so far. Data order and augmentation are functions of
    the step and need no state. Keras' `BackupAndRestore` leaves out the generators, the metrics and the records.

    The files are those of a `tf.train.CheckpointManager`, numbered by the steps of the run; the last two checkpoints
    are kept.

    Args:
        folder: where the checkpoints go.
        model: a compiled model, `Search` or any other.
        steps: of an epoch.
        every: steps of an epoch from one checkpoint to the next; None: only at the ends of epochs.

    Attributes:
        records: notes of the run so far: `history`, one dict for each epoch, `seconds` spent in training, `step` of the
            epoch, and what other callbacks add.
        arrays: arrays noted so far, one for each epoch, by name.
    """

    def __init__(self, folder, model: keras.Model, steps: int, every: int | None = None):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.trained, self.steps, self.every = model, steps, every
        # Else these variables would come only with the first step, too late to be restored.
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        _build_metrics(model)
        self.records: dict = {"history": [], "seconds": 0.0, "step": 0}
        self.arrays: dict[str, list[np.ndarray]] = {}
        groups = {"model": model.variables, "optimizer": model.optimizer.variables, "metrics": model.metrics_variables}
        if getattr(model, "arch_optimizer", None) is not None:
            groups["arch_optimizer"] = model.arch_optimizer.variables
        self._variables = {_VARIABLE.format(name, i): v for name, group in groups.items() for i, v in enumerate(group)}
        with tf.device("CPU"):
            self._record = tf.Variable(b"", dtype=tf.string)
        values = {name: [variable.value for variable in group] for name, group in groups.items()}
        self._state = tf.train.Checkpoint(variables=values, record=self._record)
        self._manager: tf.train.CheckpointManager | None = None
        self._began = time.monotonic()

    def restore(self) -> int:
        """Restores the newest checkpoint that is not damaged; a damaged one is named and removed.

        Returns:
            The step to go on with, 0 without a checkpoint.

        Raises:
            KdartsError: if all checkpoints are damaged, or the newest belongs to another model.
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
        """Says where a run of so many epochs goes on."""
        return f"going on after {_place(self.records, f' of {epochs}')}"

    def on_train_begin(self, logs=None):
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1
        if self.every and done % self.every == 0 and done < self.steps:
            self.save_inside(done)

    def save_inside(self, done: int) -> None:
        """Saves a checkpoint after `done` of an epoch's steps, from 1 and fewer than all."""
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
    """Every value of a checkpoint; TensorFlow checks each as it is read."""
    reader = tf.train.load_checkpoint(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def notes(folder: pathlib.Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Reads the records and the arrays, `[epochs, ...]` each, of the newest checkpoint in a folder, without a model.

    Raises:
        KdartsError: if there is none, or all are damaged.
    """

    def read(prefix: str) -> Record:
        return _unpacked(tf.train.load_checkpoint(prefix).get_tensor(_RECORD))

    newest, _ = _newest(pathlib.Path(folder), read)
    if newest is None:
        raise KdartsError(f"{folder}: holds no checkpoint")
    records, arrays = newest
    return records, {name: np.stack(rows) for name, rows in arrays.items()}


def last_is_whole(folder: pathlib.Path) -> bool:
    """Whether there is a checkpoint in a folder and every value of the newest one can be read."""
    prefixes = checkpoints(folder)
    try:
        return bool(prefixes) and bool(_values(prefixes[-1]))
    except _DAMAGE:
        return False


def checkpoints(folder: pathlib.Path) -> list[str]:
    """The prefixes of the checkpoints in a folder, the newest last.

    They are known by their index files: the file `checkpoint`, in which TensorFlow lists them, may be lost.
    """
    folder = pathlib.Path(folder)
    found = [_INDEX.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return [str(folder / f"ckpt-{number}") for number in sorted(int(match[1]) for match in found if match)]


def _newest(folder: pathlib.Path, read: Callable[[str], Record]) -> tuple[Record | None, list[str]]:
    """Reads the newest checkpoint that is not damaged, None without one; gives the prefixes of the damaged ones, too.

    Raises:
        KdartsError: if all are damaged: they are left as they are, since they may be all that there is.
    """
    damaged = []
    for prefix in reversed(checkpoints(folder)):
        try:
            return read(prefix), damaged
        except _DAMAGE:
            damaged.append(prefix)
    # TensorFlow lists a checkpoint once it is written: without a list the run was killed within its first save.
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
    """The manager of a folder's checkpoints, without what a killed process left half written there."""
    kept = checkpoints(folder)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(("ckpt-", "checkpoint.tmp")) and str(folder / path.stem) not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kept:
        # The manager removes only what it finds in this list, which may be damaged or name others.
        times = [pathlib.Path(f"{prefix}.index").stat().st_mtime for prefix in kept]
        listed = tf.compat.v1.train.generate_checkpoint_state_proto(str(folder), kept[-1], kept, times, 0.0)
        write_text(folder / "checkpoint", str(listed))
    return tf.train.CheckpointManager(state, folder, max_to_keep=2)


def _build_metrics(model: keras.Model) -> None:
    """Makes the variables of a compiled model's metrics, which come with the first batch otherwise."""
    if all(metric.variables for metric in model.metrics):
        return
    with model.distribute_strategy.scope():
        label, logits = tf.zeros((1,), tf.int32), tf.zeros((1, *model.outputs[0].shape[1:]))
        model.compute_loss(None, label, logits)
        model.compute_metrics(None, label, logits)
    model.reset_metrics()
