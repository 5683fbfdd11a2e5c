"""What TensorBoard is shown of a search beside its figures: α as histograms, and what was found as a picture."""

import importlib.util
import pathlib
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.genotype import Genotype
from kdarts.search.record import alphas_by_name
from kdarts.training.progress import telling
from kdarts.views.drawing import draw_genotype
from kdarts.views.trellis import draw_path

_SHARE = 20
"""A picture may take so many times less than the search since the one before it."""


class CellEvents(keras.callbacks.Callback):
    """Writes after each epoch a histogram of every α and of its weights after mixing, and what was found as a picture.

    There is a picture where something else was found, at most as often as takes a twentieth of the search's time, and
    one of the end, where the search was not over within seconds; of cells there are their network's cost, too. The
    other figures are written by Keras' own callback (see `run.logs`); TensorBoard shows both as one run's.

    Args:
        folder: of the run's events.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self._writer, self._drawn, self._epoch = None, None, 0
        self._since, self._cost = 0.0, 1.0  # When it last drew, and how long that took, in seconds.

    def on_train_begin(self, logs=None):
        with telling(self.folder):
            self._writer = tf.summary.create_file_writer(str(self.folder / "search"))
        self._since = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch
        with telling(self.folder), self._writer.as_default(step=epoch):
            for kind, mixed in (("alpha", False), ("weight", True)):
                for name, values in alphas_by_name(self.model, mixed).items():
                    tf.summary.histogram(f"{kind}/{name}", values[np.isfinite(values)])
            if isinstance(found := self.model.genotype(), Genotype):
                cost = self.model.supernet.cost_of(found)
                tf.summary.scalar("found/params", float(cost.params))
                tf.summary.scalar("found/macs", float(cost.macs))
        with telling(self.folder):
            self._draw(_SHARE)
            self._writer.flush()

    def on_train_end(self, logs=None):
        with telling(self.folder):
            self._draw(_SHARE / 2)
            self._writer.close()

    def _draw(self, share: float) -> None:
        began, found = time.monotonic(), self.model.genotype()
        if found != self._drawn and began - self._since >= share * self._cost:
            with self._writer.as_default(step=self._epoch):
                tf.summary.image("found", _pixels(found)[None])
            self._drawn, self._since = found, time.monotonic()
            self._cost = self._since - began


def cell_events(folder) -> list[CellEvents]:
    """The callback, writing to `folder`, where TensorBoard is installed."""
    return [CellEvents(folder)] if importlib.util.find_spec("tensorboard") else []


def _pixels(found) -> tf.Tensor:
    """What was found as a picture, `[height, width, 3]`, unsigned bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "found.png")
        (draw_genotype if isinstance(found, Genotype) else draw_path)(found, path)
        return tf.io.decode_png(path.read_bytes(), channels=3)
