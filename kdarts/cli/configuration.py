"""Keras' configuration for commands, which is always its own defaults."""

import contextlib
import sys


def configure(floatx="float32", image_data_format="channels_last", epsilon=1e-7, dtype_policy="float32") -> None:
    """Configures Keras, by default as in a new process without a `keras.json`."""
    import keras

    keras.config.set_floatx(floatx)
    keras.config.set_image_data_format(image_data_format)
    keras.config.set_epsilon(epsilon)
    keras.config.set_dtype_policy(dtype_policy)


@contextlib.contextmanager
def configuration_kept():
    """A context around a command, after which Keras has the configuration of the program that calls the command."""
    if "keras" not in sys.modules:
        yield
        return
    from keras import config

    kept = config.floatx(), config.image_data_format(), config.epsilon(), config.dtype_policy()
    try:
        yield
    finally:
        configure(*kept)
