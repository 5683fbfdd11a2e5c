"""How a run reports while it goes on."""

import contextlib
import importlib.util
import sys

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


class Events(keras.callbacks.TensorBoard):
    """TensorBoard's, which names its folder where the system refuses to write, as on a full disk."""

    @contextlib.contextmanager
    def _told(self):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            raise KdartsError(f"{self.log_dir}: cannot be written ({error})") from None

    def set_model(self, model):
        with self._told():
            super().set_model(model)

    def on_epoch_end(self, epoch, logs=None):
        with self._told():
            super().on_epoch_end(epoch, logs)

    def on_test_end(self, logs=None):
        with self._told():
            super().on_test_end(logs)

    def on_train_end(self, logs=None):
        with self._told():
            super().on_train_end(logs)
