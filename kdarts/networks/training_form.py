"""The form of a network in which it is trained: the same layers and variables, computed by faster kernels.

A network consists of Keras' own layers, so that it is saved and used without kdarts. Two of them are slow to train on a
CPU: `BatchNormalization`, which is a dozen operations of TensorFlow, and `Cropping2D`, whose gradient is computed by a
kernel that uses one thread.
"""

import keras
import tensorflow as tf

from kdarts.ops import kernels


def training_form(network: keras.Model) -> keras.Model:
    """Returns a model that computes what a network does, with the same variables, and is faster to train.

    The results differ by rounding only. Layers inside other layers or models stay as they are.

    Args:
        network: A functional model, such as `build_network` makes. Another kind of model is returned as it is.
    """
    if isinstance(network, keras.Sequential) or not getattr(network, "inputs", None):
        return network
    return keras.models.clone_model(network, clone_function=_faster)


def _faster(layer: keras.Layer) -> keras.Layer:
    match layer:
        case keras.layers.BatchNormalization(synchronized=False, renorm=False, scale=True, center=True):
            return _Normalization(layer) if layer.compute_dtype != "float64" else layer
        case keras.layers.Cropping2D(data_format="channels_last"):
            return _Cropping(layer)
    return layer


class _Faster(keras.layers.Layer):
    """A layer that computes what another one does."""

    def __init__(self, layer: keras.Layer):
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer = layer

    def build(self, shape):
        pass


class _Normalization(_Faster):
    def call(self, x, training=None, mask=None):
        layer = self.layer
        if not training or not layer.trainable or mask is not None or layer.axis not in (-1, 3) or len(x.shape) != 4:
            return layer(x, training=training, mask=mask)
        y, mean, variance = kernels.normalize(x, layer.gamma, layer.beta, None, None, True, layer.epsilon)
        # The kernel's variance is the unbiased one, as in PyTorch. Keras' running variance is made of the biased one.
        count = tf.cast(tf.size(x) // x.shape[-1], variance.dtype)
        for running, value in ((layer.moving_mean, mean), (layer.moving_variance, variance * (count - 1) / count)):
            running.assign(running * layer.momentum + tf.cast(value, running.dtype) * (1 - layer.momentum))
        return y


class _Cropping(_Faster):
    def call(self, x, mask=None):
        (top, bottom), (left, right) = self.layer.cropping
        _, height, width, _ = tf.unstack(tf.shape(x))
        return tf.slice(x, [0, top, left, 0], [-1, height - top - bottom, width - left - right, -1])
