"""How a run reports while it goes on."""

import importlib.util
import sys

import keras


def verbosity() -> int:
    """Keras' `verbose`: a progress bar on a terminal, a line an epoch elsewhere."""
    return 1 if sys.stdout.isatty() else 2


def loggers(folder) -> list[keras.callbacks.Callback]:
    """TensorBoard's callback, writing to `folder`, where TensorBoard is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return []
    return [keras.callbacks.TensorBoard(str(folder), write_graph=False)]
