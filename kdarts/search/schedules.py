"""Learning rates by epoch: each is called with the epoch, from 0.

`keras.callbacks.LearningRateScheduler` sets that of the weights, `ArchitectureRate` that of α.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras

from kdarts.genotypes.errors import KdartsError, choice
from kdarts.search.cosine_power import CosinePower


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `initial` in epoch 0 towards `final` in epoch `epochs`, constant within an epoch.

    Attributes:
        initial, final: learning rates.
        epochs: length of the descent; at least 1.
        begin: epochs at the first rate before it.
    """

    initial: float
    final: float
    epochs: int
    begin: int = 0

    def __call__(self, epoch: int, rate: float | None = None) -> float:
        done = max(0, epoch - self.begin) / self.epochs
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Step:
    """`initial * factor ** (epoch // every)` (DARTS on ImageNet: 0.97 each epoch)."""

    initial: float
    factor: float = 0.97
    every: int = 1

    def __call__(self, epoch: int, rate: float | None = None) -> float:
        return self.initial * self.factor ** (epoch // self.every)


@dataclass(frozen=True)
class Linear:
    """A straight descent, nearly to zero; the last `tail` epochs are flatter (P- and PC-DARTS on ImageNet).

    Attributes:
        initial: learning rate of epoch 0.
        epochs: length of the training.
        tail: epochs of the flat part.
    """

    initial: float
    epochs: int = 250
    tail: int = 5

    def __call__(self, epoch: int, rate: float | None = None) -> float:
        steep = self.epochs - self.tail
        if epoch < steep:
            return self.initial * (steep - epoch) / steep
        return self.initial * (self.epochs - epoch) / (steep * self.tail)


@dataclass(frozen=True)
class Warmup:
    """Climbs to `schedule` over its first `epochs` epochs: times `(epoch + 1) / epochs`.

    Attributes:
        schedule: what comes after, and what is scaled if `current`.
        epochs: length of the climb.
        current: whether to scale the schedule's own rate (P-DARTS) or its rate of epoch 0 (PC-DARTS).
    """

    schedule: Cosine | Step | Linear
    epochs: int = 5
    current: bool = False

    def __call__(self, epoch: int, rate: float | None = None) -> float:
        if epoch >= self.epochs:
            return self.schedule(epoch)
        return self.schedule(epoch if self.current else 0) * (epoch + 1) / self.epochs


def _cosine(initial, final, epochs, begin, warmup, power):
    return Warmup(Cosine(initial, final, epochs, begin), warmup)


def _cosine_power(initial, final, epochs, begin, warmup, power):
    schedule = CosinePower(initial, final, epochs, power, warmup)
    return lambda epoch, rate=None: schedule.at(max(0, epoch - begin))


SCHEDULES = {"cosine": _cosine, "cosine_power": _cosine_power}


def get_schedule(
    name: str, initial: float, final: float, epochs: int, begin: int = 0, warmup: int = 0, power: float = 2.0
) -> Callable[[int], float]:
    """The learning rate of the weights by epoch.

    Args:
        name: "cosine", or "cosine_power" as of `CosinePower` in its released form.
        initial, final: learning rates.
        epochs: length of the descent, at least 1.
        begin: epochs at the first rate before it.
        warmup: epochs in which the rate climbs to `initial`: a cosine's are scaled by `Warmup`, the power's come
            before the descent.
        power: p of the cosine power.

    Raises:
        KdartsError: for another name, or as of `CosinePower`.
    """
    return SCHEDULES[choice("schedule", name, SCHEDULES)](initial, final, epochs, begin, warmup, power)


class Pretraining(keras.callbacks.Callback):
    """Lets a search train the weights alone in its first epochs.

    Args:
        epochs: how many.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.searching = epoch >= self.epochs and self.model.method.update != "frozen"


class LastStep(keras.callbacks.Callback):
    """Tells a search whose α moves once an epoch how many steps are left of an epoch, when it begins or goes on."""

    def __init__(self):
        super().__init__()
        self._told = False

    def on_epoch_begin(self, epoch, logs=None):
        if self.params.get("steps") is None:
            raise KdartsError("update 'epoch' needs to know an epoch's steps: give fit steps_per_epoch")
        self._told = False

    def on_train_batch_begin(self, batch, logs=None):
        if not self._told:
            self.model.steps_left.assign(self.params["steps"] - batch)
            self._told = True


class SearchProgress(keras.callbacks.Callback):
    """Tells a supernet how much of the search is done: a straight line from 0 in its first epoch to 1 after its last.

    Args:
        epochs: length of the search.
        begin: epochs before it.
    """

    def __init__(self, epochs: int, begin: int = 0):
        super().__init__()
        self.epochs, self.begin = epochs, begin

    def on_epoch_begin(self, epoch, logs=None):
        self.model.supernet.mixture.progress.assign(max(0, epoch - self.begin) / self.epochs)


class ArchitectureRate(keras.callbacks.Callback):
    """Sets the learning rate of α at the start of each epoch of a search.

    Args:
        rate: from the epoch, counted from 0, to the learning rate.
    """

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def on_epoch_begin(self, epoch, logs=None):
        self.model.arch_optimizer.learning_rate = self.rate(epoch)
