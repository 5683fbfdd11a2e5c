"""The state of a run after each epoch, from which the same command goes on to the same result."""

import json
import pathlib
import re
import time
import zipfile

import keras
import numpy as np

from kdarts.genotypes.errors import KdartsError
from kdarts.run.files import write_arrays

_NAME = re.compile(r"epoch-(\d{6})\.npz")
_KEPT = 2


class Checkpoint(keras.callbacks.Callback):
    """Saves everything that the rest of a run depends on at the end of each epoch, in one file.

    That is every variable of the model (weights, α, running statistics, states of random generators) and of its
    optimizers, and the records of the epochs so far. Data order and augmentation are functions of the epoch and need no
    state. Keras' `BackupAndRestore` leaves out the generators and the records, and writes several files one by one.

    Args:
        folder: where the states lie; the last two are kept.
        model: a compiled model, `Search` or any other.

    Attributes:
        records: what has been noted so far: `history`, one dict for each epoch, `seconds` spent in training,
            and what other callbacks add.
        arrays: arrays noted so far, one for each epoch, by name.
    """

    def __init__(self, folder, model: keras.Model):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.trained = model
        if not model.optimizer.built:
            # Else its variables would come only with the first step, too late to be restored.
            model.optimizer.build(model.trainable_variables)
        self.records: dict = {"history": [], "seconds": 0.0}
        self.arrays: dict[str, list[np.ndarray]] = {}
        self._began = time.monotonic()

    def _variables(self) -> list:
        optimizers = [self.trained.optimizer, getattr(self.trained, "arch_optimizer", None)]
        return [*self.trained.variables, *(v for o in optimizers if o is not None for v in o.variables)]

    def restore(self) -> int:
        """Takes up the latest state; returns the epoch to go on with, 0 if there is none.

        Raises:
            KdartsError: if the state is damaged or belongs to another model.
        """
        files = self._files()
        if not files:
            return 0
        path = files[-1]
        try:
            with np.load(path, allow_pickle=False) as data:
                content = {name: data[name] for name in data.files}
            self.records = json.loads(str(content.pop("records")))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise KdartsError(f"{path}: damaged ({error}); remove it to go on from the state before") from None
        variables = self._variables()
        names = [f"v{i:05d}" for i in range(len(variables))]
        fits = all(n in content and content[n].shape == tuple(v.shape) for n, v in zip(names, variables, strict=True))
        if not fits or f"v{len(variables):05d}" in content:
            raise KdartsError(f"{path}: belongs to another model")
        for name, variable in zip(names, variables, strict=True):
            variable.assign(content.pop(name))
        self.arrays = {name.removeprefix("a_"): list(rows) for name, rows in content.items()}
        return len(self.records["history"])

    def on_train_begin(self, logs=None):
        self._began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.records["history"].append({"epoch": epoch, **{key: float(value) for key, value in (logs or {}).items()}})
        now = time.monotonic()
        self.records["seconds"] += now - self._began
        self._began = now
        content = {f"v{i:05d}": variable.numpy() for i, variable in enumerate(self._variables())}
        content |= {f"a_{name}": np.stack(rows) for name, rows in self.arrays.items()}
        write_arrays(
            self.folder / f"epoch-{epoch + 1:06d}.npz", content | {"records": np.array(json.dumps(self.records))}
        )
        for old in self._files()[:-_KEPT]:
            old.unlink()

    def _files(self) -> list[pathlib.Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
