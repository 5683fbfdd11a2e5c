"""Cost of Keras layers and models that were called once."""

import math

import keras

from kdarts.nets.cost import Cost


def model_cost(model: keras.Layer) -> Cost:
    """Trainable parameters, and MACs for one image as `cost` counts them, of dense layers and convolutions.

    Args:
        model: a functional or sequential model, or a layer, that was called on one input.
    """
    params = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return Cost(params, sum(_macs(layer) for layer in _leaves(model)))


def _leaves(layer) -> list:
    if isinstance(layer, keras.Model):
        return [leaf for part in layer.layers for leaf in _leaves(part)]
    return [layer]


def _macs(layer) -> int:
    if not isinstance(getattr(layer, "kernel", None), keras.Variable) or not hasattr(layer, "output"):
        return 0
    depthwise = isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D)
    each = math.prod(layer.kernel.shape[: -2 if depthwise else -1])
    return each * math.prod(layer.output.shape[1:])
