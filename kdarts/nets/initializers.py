"""How weights start."""

import math

import keras


def uniform(fan_in: int, seed=None) -> keras.initializers.Initializer:
    """The papers' framework's default for convolutions and classifiers: uniform within `1 / sqrt(fan_in)` of zero."""
    limit = 1 / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-limit, limit, seed)
