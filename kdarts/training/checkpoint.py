"""The state of a run at its latest steps, from which the same command goes on to the same result."""

import json
import pathlib
import re
import time

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.training.files import read_arrays, write_arrays

_NAME = re.compile(r"epoch-(\d{6})(-step-\d{6})?\.npz")
_KEPT = 2


class Checkpoint(keras.callbacks.Callback):
    """Saves everything that the rest of a run depends on, in one file: at the end of each epoch, and within it.

    That is every variable of the model (weights, α, running statistics, states of random generators), of its
    optimizers and of its metrics, and the records of the epochs so far. Data order and augmentation are functions of
    the step and need no state. Keras' `BackupAndRestore` leaves out the generators, the metrics and the records, and
    writes several files one by one.

    Args:
        folder: where the states lie, `epoch-000002.npz` after two epochs, `epoch-000002-step-000150.npz` within the
            third; the last two are kept.
        model: a compiled model, `Search` or any other.
        steps: of an epoch.
        every: steps of an epoch from one state to the next; None: only at the ends of epochs.

    Attributes:
        records: what has been noted so far: `history`, one dict for each epoch, `seconds` spent in training,
            and what other callbacks add.
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
        self._began = time.monotonic()

    def _variables(self) -> list:
        optimizers = [self.trained.optimizer, getattr(self.trained, "arch_optimizer", None)]
        of_optimizers = (v for o in optimizers if o is not None for v in o.variables)
        return [*self.trained.variables, *of_optimizers, *self.trained.metrics_variables]

    def restore(self) -> int:
        """Takes up the latest state that is not damaged; returns the step to go on with, 0 if there is no state.

        Raises:
            KdartsError: if there are only damaged ones, or the state belongs to another model.
        """
        found = latest(self.folder)
        if found is None:
            return 0
        path, records, content = found
        variables = self._variables()
        names = [f"v{i:05d}" for i in range(len(variables))]
        fits = all(n in content and content[n].shape == tuple(v.shape) for n, v in zip(names, variables, strict=True))
        if not fits or f"v{len(variables):05d}" in content:
            raise KdartsError(f"{path}: belongs to another model")
        for name, variable in zip(names, variables, strict=True):
            variable.assign(content[name])
        self.records, self.arrays = records, _noted(content)
        return len(records["history"]) * self.steps + records["step"]

    def said(self, epochs: int) -> str:
        """Where a run of so many epochs goes on, in words."""
        step = f", step {self.records['step']} of the next" if self.records["step"] else ""
        return f"going on after epoch {len(self.records['history'])} of {epochs}{step}"

    def on_train_begin(self, logs=None):
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1
        if self.every and done % self.every == 0 and done < self.steps:
            self.save_inside(done)

    def save_inside(self, done: int) -> None:
        """Saves the state after `done` of an epoch's steps, from 1 and fewer than all."""
        self.records["step"] = done
        self._save(f"epoch-{len(self.records['history']):06d}-step-{done:06d}.npz")

    def on_epoch_end(self, epoch, logs=None):
        self.records["history"].append({"epoch": epoch, **{key: float(value) for key, value in (logs or {}).items()}})
        self.records["step"] = 0
        self._save(f"epoch-{epoch + 1:06d}.npz")

    def _save(self, name: str) -> None:
        now = time.monotonic()
        self.records["seconds"] += now - self._began
        self._began = now
        content = {f"v{i:05d}": variable.numpy() for i, variable in enumerate(self._variables())}
        content |= {f"a_{name}": np.stack(rows) for name, rows in self.arrays.items()}
        write_arrays(self.folder / name, content | {"records": np.array(json.dumps(self.records))})
        for old in _files(self.folder)[:-_KEPT]:
            old.unlink()


def latest(folder: pathlib.Path) -> tuple[pathlib.Path, dict, dict[str, np.ndarray]] | None:
    """The latest state in a folder that is not damaged.

    One that is damaged is named and taken away, but not the last one of all: it may be all that is left.

    Returns:
        Its file, the records in it and its arrays; None if there is none.

    Raises:
        KdartsError: if all are damaged.
    """
    files, broken = _files(pathlib.Path(folder)), []
    for path in reversed(files):
        try:
            content = read_arrays(path)
            records = json.loads(str(content.pop("records")))
        except DamageError as error:
            broken.append((path, error))
            continue
        for other, error in broken:
            print(f"{error}; going on from {_place(records)}", flush=True)
            other.unlink()
        return path, records, content
    if broken:
        names = " and ".join(path.name for path, _ in reversed(broken))
        raise KdartsError(
            f"{folder}: damaged (checksum): {names}, and there is no other state; put a copy of one there, "
            f"or remove {folder} to begin anew"
        )
    return None


def notes(folder: pathlib.Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The records in the latest state in a folder, which has one, and the arrays noted there, `[epochs, ...]` each."""
    _, records, content = latest(folder)
    return records, {name: np.stack(rows) for name, rows in _noted(content).items()}


def last_is_whole(folder: pathlib.Path) -> bool:
    """Whether the last state in a folder is there and not damaged."""
    files = _files(pathlib.Path(folder))
    try:
        return bool(files) and bool(read_arrays(files[-1]))
    except DamageError:
        return False


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """States, the latest last."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=lambda path: path.stem)


def _noted(content: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    return {name.removeprefix("a_"): list(rows) for name, rows in content.items() if name.startswith("a_")}


def _place(records: dict) -> str:
    inside = f", step {records['step']} of the next" if records["step"] else ""
    return f"epoch {len(records['history'])}{inside}"


def _build_metrics(model: keras.Model) -> None:
    """Makes the variables of a compiled model's metrics, which come with the first batch otherwise."""
    if all(metric.variables for metric in model.metrics):
        return
    with model.distribute_strategy.scope():
        label, logits = tf.zeros((1,), tf.int32), tf.zeros((1, *model.outputs[0].shape[1:]))
        model.compute_loss(None, label, logits)
        model.compute_metrics(None, label, logits)
    model.reset_metrics()
