"""Cross-entropy with label smoothing (Szegedy et al., CVPR 2016), for labels that are class numbers."""

import keras
from keras import ops

from kdarts.genotypes.errors import KdartsError


@keras.saving.register_keras_serializable("kdarts")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits with `q = (1 - e) onehot + e / K` in place of the label, for K classes.

    Keras has smoothing for one-hot labels alone; the pipeline's labels are class numbers.

    Args:
        label_smoothing: e, 0 to below 1.
        **kwargs: as of `keras.losses.Loss`: `name`, `reduction`, `dtype`.

    Raises:
        KdartsError: `label_smoothing` is out of range.
    """

    def __init__(self, label_smoothing: float = 0.1, name="smoothed_crossentropy", **kwargs):
        if not 0 <= label_smoothing < 1:
            raise KdartsError(f"label_smoothing {label_smoothing}; allowed: 0 to below 1")
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """The loss of each example, `[n]`, from class numbers `[n]` or `[n, 1]` and logits `[n, K]`."""
        labels = ops.one_hot(ops.cast(ops.reshape(y_true, [-1]), "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        smoothing = self.label_smoothing
        return keras.losses.categorical_crossentropy(labels, y_pred, from_logits=True, label_smoothing=smoothing)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def training_loss(label_smoothing: float = 0.0) -> keras.losses.Loss:
    """What a network is trained on: the cross-entropy of its logits, smoothed if `label_smoothing` is above 0."""
    if label_smoothing:
        return SmoothedCrossentropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
