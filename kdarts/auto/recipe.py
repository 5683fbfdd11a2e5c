"""The recipe of all trainings of a run: the same for networks that were made by hand and for those found."""

from collections.abc import Callable

import keras

from kdarts.networks.models import training_loss
from kdarts.search.optimizers import SGD
from kdarts.search.replicas import build_rest
from kdarts.search.schedules import get_schedule

RATE, MOMENTUM, L2, CLIP, EMA = 0.05, 0.9, 2e-4, 5.0, 0.998
"""SGD, with a rate for batches of 64; of smaller ones it is smaller in proportion. The L2 penalty is of kernels alone,
and the weights are averaged."""


def compile_network(network: keras.Model, batch_size: int) -> None:
    """Compiles a classifier, and makes all variables of its training."""
    optimizer = SGD(_rate(batch_size), MOMENTUM, L2, global_clipnorm=CLIP, decay="kernels")
    network.compile(optimizer, training_loss(), metrics=["accuracy"], jit_compile=False)
    build_rest(network, network.output_shape[-1])


def learning_rate(batch_size: int, epochs: int) -> Callable[[int], float]:
    """Returns the learning rate by epoch: a cosine to 0, after a climb over a twentieth of the epochs."""
    return get_schedule("cosine", _rate(batch_size), 0.0, epochs, warmup=epochs // 20)


def _rate(batch_size: int) -> float:
    return RATE * batch_size / 64
