"""Drop-path, and its schedule."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kdarts")
class DropPath(keras.layers.Layer):
    """Drops its input whole, for each example on its own, and scales what it keeps (DARTS section 4.1, FractalNet).

    Args:
        rate: probability to drop, 0 to below 1; held in a variable, so that `DropPathSchedule` can move it.
        seed: of the random masks.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"drop-path rate {rate}: needs 0 <= rate < 1")
        self.final_rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        initial = keras.initializers.Constant(self.final_rate)
        self.rate = self.add_weight(name="rate", shape=(), initializer=initial, trainable=False, autocast=False)

    def mask(self, batch_size):
        """1 where an example passes, else 0: `[batch_size]`."""
        return ops.cast(keras.random.uniform((batch_size,), seed=self.seed_generator) >= self.rate, "float32")

    def call(self, x, training=False):
        if not training:
            return x
        kept = self.mask(ops.shape(x)[0]) / (1 - self.rate)
        return x * ops.cast(ops.reshape(kept, (-1, *[1] * (len(x.shape) - 1))), x.dtype)

    def get_config(self):
        return {**super().get_config(), "rate": self.final_rate, "seed": self.seed}


class DropPathSchedule(keras.callbacks.Callback):
    """Raises every `DropPath` of the model linearly from 0: rate * epoch / epochs in epoch 0, 1, ....

    Args:
        epochs: length of the schedule.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        for layer in self.model._flatten_layers():
            if isinstance(layer, DropPath):
                layer.rate.assign(layer.final_rate * epoch / self.epochs)
