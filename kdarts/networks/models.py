"""Loading and saving networks, under any of Keras' backends, and the loss that they are trained with."""

import pathlib

import keras
from keras import ops

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import check_archive, write_with


def load_model(path) -> keras.Model:
    """Loads a network from a `.keras` file.

    `keras.saving.load_model` does the same once `kdarts.networks` was imported: Keras needs the classes that the file
    names, such as `DropPath` or the optimizer, and does not import them by itself. Code in the file is never run.

    Args:
        path: The path of a `.keras` file, written by `kdarts train`, by `keras.Model.save` or by another program.

    Returns:
        The model, compiled if it was compiled when it was saved.

    Raises:
        KdartsError: If the file does not exist, is damaged, or is not a Keras model.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise KdartsError(f"no model file {str(path)!r}")
    if path.suffix != ".keras":
        raise KdartsError(f"model {str(path)!r}: needs a file that ends in .keras")
    check_archive(path)
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # Keras' reader fails with any kind of exception on a damaged file.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KdartsError(f"model {str(path)!r} cannot be read; it is damaged or not a Keras model ({first})") from None


def save_model(network: keras.Model, path) -> None:
    """Saves a network as `.keras`, atomically."""
    # A full disk makes the writers of zip archives and HDF5 raise these errors.
    write_with(path, network.save, (ValueError, RuntimeError))


@keras.saving.register_keras_serializable("kdarts")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits with smoothed labels: `q = (1 - e) onehot + e / K` for K classes.

    `keras.losses.SparseCategoricalCrossentropy`, which takes class numbers as this loss does, has no label smoothing.

    Args:
        label_smoothing: The smoothing e, a float in [0, 1). Defaults to 0.1.
        name: The name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`: `reduction` and `dtype`.

    Raises:
        KdartsError: If `label_smoothing` is out of its range.
    """

    def __init__(self, label_smoothing: float = 0.1, name="smoothed_crossentropy", **kwargs):
        if not 0 <= label_smoothing < 1:
            raise KdartsError(f"label_smoothing {label_smoothing}; allowed: 0 to below 1")
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """Returns the loss of each example, `[n]`, for class numbers `[n]` or `[n, 1]` and logits `[n, K]`."""
        labels = ops.one_hot(ops.cast(ops.reshape(y_true, [-1]), "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        smoothing = self.label_smoothing
        return keras.losses.categorical_crossentropy(labels, y_pred, from_logits=True, label_smoothing=smoothing)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def training_loss(label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Returns the training loss of a network: cross-entropy of its logits, smoothed if `label_smoothing` is above 0."""
    if label_smoothing:
        return SmoothedCrossentropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
