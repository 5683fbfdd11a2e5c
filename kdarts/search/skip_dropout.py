"""How much of what skip connections pass on is dropped, by epoch (P-DARTS section 3.3)."""

import math
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class SkipDropout:
    """A line towards 0 while the weights alone are trained, then from the first rate again an exponential decay.

    The authors' program: `rate * (epochs - 1 - e) / epochs` in epoch e of the warm-up, `rate * exp(-0.2 (e - warmup))`
    from its end on.

    Attributes:
        rate: the highest, 0 to below 1.
        epochs: length of the search.
        warmup: epochs at its start in which the weights alone are trained.
        begin: epochs before those.
    """

    rate: float
    epochs: int
    warmup: int = 0
    begin: int = 0

    def __call__(self, epoch: int) -> float:
        epoch = max(0, epoch - self.begin)
        if epoch < self.warmup:
            return self.rate * (self.epochs - 1 - epoch) / self.epochs
        return self.rate * math.exp(-0.2 * (epoch - self.warmup))


class SkipDropoutRate(keras.callbacks.Callback):
    """Sets the rate of a supernet's skip dropout at the start of each epoch of a search, if it has one, and logs it.

    Args:
        rate: from the epoch, counted from 0, to the rate.
    """

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def on_epoch_begin(self, epoch, logs=None):
        supernet = self.model.supernet
        if supernet.skip_dropout:
            supernet.skip_dropout_rate.assign(self.rate(epoch))

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self.model.supernet.skip_dropout:
            logs["skip_dropout"] = self.rate(epoch)
