"""TensorBoard events of a search: histograms of α, and pictures of the architecture."""

import importlib.util
import pathlib
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.genotype import Genotype
from kdarts.search.session import alphas_by_name
from kdarts.training.session import telling
from kdarts.views.drawing import draw_genotype, has_room
from kdarts.views.trellis import draw_path

_SHARE = 20
"""The least ratio of the time between two pictures to the time that a picture takes."""


class CellEvents(keras.callbacks.Callback):
    """Writes histograms of α and of the mixing weights after each epoch, and pictures of the architecture.

    A picture is written when the architecture has changed, as long as drawing takes at most a twentieth of the time of
    the search. At the end of the search there is another one, unless the search took only seconds. For cells, the cost
    of the network is written, too. Keras' own callback writes the other metrics, and TensorBoard shows both as one run.

    Args:
        folder: Folder of the events of the run.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self._writer, self._drawn, self._epoch = None, None, 0
        self._since, self._cost = 0.0, 1.0  # Time and duration of the last drawing, in seconds.

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
            if isinstance(genotype := self.model.genotype(), Genotype):
                cost = self.model.supernet.cost_of(genotype)
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
        began, architecture = time.monotonic(), self.model.genotype()
        drawable = not isinstance(architecture, Genotype) or has_room(architecture)
        if drawable and architecture != self._drawn and began - self._since >= share * self._cost:
            with self._writer.as_default(step=self._epoch):
                tf.summary.image("found", _pixels(architecture)[None])
            self._drawn, self._since = architecture, time.monotonic()
            self._cost = self._since - began


def cell_events(folder) -> list[CellEvents]:
    """Returns a list with a `CellEvents` callback, or an empty one if TensorBoard is not installed."""
    return [CellEvents(folder)] if importlib.util.find_spec("tensorboard") else []


def _pixels(architecture) -> tf.Tensor:
    """Returns a picture of an architecture, `[height, width, 3]`, uint8."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "architecture.png")
        (draw_genotype if isinstance(architecture, Genotype) else draw_path)(architecture, path)
        return tf.io.decode_png(path.read_bytes(), channels=3)
