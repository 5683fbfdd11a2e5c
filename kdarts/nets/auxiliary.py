"""The auxiliary classifier that helps to train deep networks (DARTS section 3.2)."""

import keras
from keras import layers

from kdarts.genotypes.errors import KdartsError
from kdarts.nets.initializers import uniform


def auxiliary_head(x, num_classes: int, imagenet: bool = False):
    """Adds the head to the output of a cell, of at least 2x2 pixels; it is made for 8x8, or 7x7 on ImageNet.

    Args:
        x: `[batch, height, width, channels]`.
        num_classes: number of classes.
        imagenet: whether to pool at stride 2 and leave out the second normalisation, as the papers do there.

    Returns:
        Logits `[batch, num_classes]`, float32.
    """
    if min(x.shape[1:3]) < 2:
        raise KdartsError(f"auxiliary head: needs a feature map of at least 2x2 pixels, got {x.shape[1]}x{x.shape[2]}")
    name = "auxiliary_head.features"
    x = layers.ReLU(name=f"{name}.0")(x)
    if min(x.shape[1:3]) >= 5:
        x = layers.AveragePooling2D(5, 2 if imagenet else 3, name=f"{name}.1")(x)
    kernel = uniform(x.shape[-1])
    x = layers.Conv2D(128, 1, use_bias=False, kernel_initializer=kernel, name=f"{name}.2")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}.3")(x)
    x = layers.ReLU(name=f"{name}.4")(x)
    x = layers.Conv2D(768, 2, use_bias=False, kernel_initializer=uniform(4 * 128), name=f"{name}.5")(x)
    if not imagenet:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}.6")(x)
    x = layers.ReLU(name=f"{name}.7")(x)
    x = layers.GlobalAveragePooling2D(name=f"{name}.8")(x)
    fan_in = uniform(768)
    return layers.Dense(
        num_classes,
        kernel_initializer=fan_in,
        bias_initializer=fan_in,
        dtype="float32",
        name="auxiliary_head.classifier",
    )(x)


@keras.saving.register_keras_serializable("kdarts")
class AuxiliaryNetwork(keras.Model):
    """A functional model with an auxiliary classifier: two outputs when training, one otherwise.

    `fit` takes one loss and one set of labels: the loss of the auxiliary logits is added, times `auxiliary_weight`
    (0.4, the papers'); metrics see the main logits.
    """

    auxiliary_weight = 0.4

    def call(self, inputs, training=None, mask=None):
        logits, auxiliary = super().call(inputs, training=training, mask=mask)
        return (logits, auxiliary) if training else logits

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not isinstance(y_pred, tuple | list):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        main = super().compute_loss(x, y, y_pred[0], sample_weight, training)
        return main + self.auxiliary_weight * self._compile_loss(y, y_pred[1], sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred[0] if isinstance(y_pred, tuple | list) else y_pred, sample_weight)
