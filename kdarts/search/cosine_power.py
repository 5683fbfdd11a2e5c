"""Cosine power annealing (sharpDARTS, Hundt et al. 2019, section 3.2)."""

import math

import keras
import numpy as np
from keras import ops

from kdarts.genotypes.errors import KdartsError, choice

FORMS = ("released", "equation")


@keras.saving.register_keras_serializable("kdarts")
class CosinePower(keras.optimizers.schedules.LearningRateSchedule):
    """A cosine bent by a power p: high for a few epochs, and flatter towards the end (Eq. 2).

    With c = (1 + cos(π t / T)) / 2 it is min + (max - min) (p^(c + 1) - p) / (p^2 - p), the plain cosine at p = 1.

    As the learning rate of any Keras optimizer it counts that optimizer's steps; `at` gives the exact rate of an epoch.

    Args:
        initial, final: greatest and least learning rate, 0 or above.
        epochs: T, at least 1; after them the rate stays.
        power: p, at least 1 (the paper: 2 on CIFAR-10, 10 on ImageNet).
        warmup: first epochs, in which the rate climbs in a straight line, so that the one after them has `initial`.
        steps_per_epoch: optimizer steps, during which the rate is constant; 1: every step is an "epoch" of its own.
        form: "released", in which the first of the T epochs after the climb has `initial` and the last one `final`, as
            in the authors' program; or "equation", t = 0, 1, ..., by which `final` is due after the last one.
        restarts: descents that follow, without a climb, as `(epochs, initial, final)` (warm restarts, SGDR).

    Raises:
        KdartsError: if a value is out of range.
    """

    def __init__(
        self,
        initial: float,
        final: float,
        epochs: int,
        power: float = 2.0,
        warmup: int = 0,
        steps_per_epoch: int = 1,
        form: str = "released",
        restarts=(),
        name: str = "cosine_power",
    ):
        super().__init__()
        self.initial, self.final, self.epochs, self.power, self.warmup = initial, final, epochs, power, warmup
        self.steps_per_epoch, self.form, self.name = steps_per_epoch, choice("form", form, FORMS), name
        self.restarts = tuple(tuple(restart) for restart in restarts)
        self._segments = ((epochs, initial, final), *self.restarts)
        if not (1 <= power < math.inf and warmup >= 0 and steps_per_epoch >= 1):
            raise KdartsError(
                f"power {power}, warmup {warmup}, steps_per_epoch {steps_per_epoch}: "
                "allowed are 1 or more, 0 or more, 1 or more"
            )
        for segment in self._segments:
            if len(segment) != 3 or segment[0] < 1 or not min(segment[1:]) >= 0 or not max(segment[1:]) < math.inf:
                raise KdartsError(
                    f"learning rates {segment}: needs (epochs, initial, final), 1 or more and two rates from 0"
                )

    def at(self, epoch: float, rate: float | None = None) -> float:
        """The rate of an epoch, counted from 0, in double precision; `keras.callbacks.LearningRateScheduler` takes it.

        Args:
            epoch: from 0.
            rate: the current rate, which plays no part.
        """
        return float(self._rate(np.float64(epoch), np))

    def __call__(self, step):
        epoch = ops.floor_divide(ops.cast(step, "float64"), float(self.steps_per_epoch))
        return ops.cast(self._rate(epoch, ops), "float32")

    def _rate(self, epoch, of):
        """`at`, by the functions of numpy or of `keras.ops`."""
        begin = sum(length for length, _, _ in self._segments)
        found = None
        for index, (length, initial, final) in reversed(list(enumerate(self._segments))):
            begin -= length
            rate = final + (initial - final) * self._share(epoch - begin, length, 0 if index else self.warmup, of)
            found = rate if found is None else of.where(epoch < begin + length, rate, found)
        return found

    def _share(self, epoch, length, warmup, of):
        """From 1 for the greatest rate down to 0 for the least, after a climb to 1."""
        released = self.form == "released"
        left = max(length - warmup, 1)
        done = of.clip((epoch - warmup + released) / left, 0.0, 1.0)
        whole = _bent(1 / left, self.power, np) if released and not warmup and left > 1 else 1.0
        return of.where(epoch <= warmup, (epoch + 1.0) / (warmup + 1.0), _bent(done, self.power, of) / whole)

    def get_config(self):
        """The arguments."""
        names = "initial", "final", "epochs", "power", "warmup", "steps_per_epoch", "form", "restarts", "name"
        return {name: getattr(self, name) for name in names}


def _bent(done, power, of):
    """Eq. 2 from 0 to 1 of its way: 1 to 0."""
    cosine = (1.0 + of.cos(math.pi * done)) / 2.0
    return cosine if power == 1 else of.expm1(math.log(power) * cosine) / (power - 1.0)
