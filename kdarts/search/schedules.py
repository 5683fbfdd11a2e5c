"""Schedules by epoch: learning rates, the dropout on skip connections, the progress of a search.

`CosinePower` is the cosine power annealing of sharpDARTS (Hundt et al. 2019, section 3.2). A schedule of α's rate is
set by `ArchitectureRate`, that of the dropout on skip connections follows P-DARTS (section 3.3).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.settings import SCHEDULES

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
        """The rate of an epoch, counted from 0, in double precision; the current `rate` plays no part.

        `keras.callbacks.LearningRateScheduler` takes it.
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


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `initial` in epoch 0 towards `final` in epoch `epochs`, constant within an epoch.

    `begin` epochs at the first rate come before it.
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

    `tail` is less than `epochs`; with 0 the line ends at zero behind the last epoch.
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

    What it scales is the schedule's own rate if `current` (P-DARTS), else its rate of epoch 0 (PC-DARTS).
    """

    schedule: Cosine | Step | Linear
    epochs: int = 5
    current: bool = False

    def __call__(self, epoch: int, rate: float | None = None) -> float:
        if epoch >= self.epochs:
            return self.schedule(epoch)
        return self.schedule(epoch if self.current else 0) * (epoch + 1) / self.epochs


TAIL = 50
"""In the last of so many parts of the epochs a line is flatter: 5 of 250 epochs, as P- and PC-DARTS have it."""


def parse_restarts(text: str, initial: float, epochs: int) -> list[tuple[int, float]]:
    """The epochs, counted from 0, at which the rate jumps up again, and how far.

    Args:
        text: such as `100,300`, or `100:0.0125,300:0.006` with the rates; without one it is `initial`.
        initial: the first rate.
        epochs: of the whole training.

    Raises:
        KdartsError: for anything else, and for epochs that do not rise from 1 to less than `epochs`.
    """
    found = []
    for word in text.split(",") if text else []:
        epoch, _, rate = word.strip().partition(":")
        try:
            found.append((int(epoch), float(rate) if rate else initial))
        except ValueError:
            found.append((0, initial))
    places = [0, *(epoch for epoch, _ in found), epochs]
    if any(a >= b for a, b in itertools.pairwise(places)) or not all(0 <= rate < math.inf for _, rate in found):
        raise KdartsError(
            f"restarts {text}: needs rising epochs from 1 to {epochs - 1}, such as 100,300, or with rates, 100:0.0125"
        )
    return found


def get_schedule(
    name: str,
    initial: float,
    final: float,
    epochs: int,
    begin: int = 0,
    warmup: int = 0,
    power: float = 2.0,
    restarts: str = "",
) -> Callable[[int], float]:
    """The learning rate of the weights by epoch: a descent over `epochs`, behind `begin` epochs at the first rate.

    During `warmup` epochs the rate climbs to `initial`: with the names of a `CosinePower` before the descent, with the
    others by `Warmup`. The `restarts` (see `parse_restarts`) are for the former, of which "cosine_restarts" is the one
    of p = 1. "step" and "linear" do not know `final`. Raises `KdartsError` for a name that is not in `SCHEDULES`, for
    restarts of another, for "cosine_restarts" without, or as of `CosinePower`.
    """
    bent = choice("schedule", name, SCHEDULES) in ("cosine_power", "cosine_power_equation", "cosine_restarts")
    if restarts and not bent:
        raise KdartsError(f"restarts {restarts}: has no effect with schedule {name!r}; it is for cosine_restarts")
    if name == "cosine_restarts" and not restarts:
        raise KdartsError(f"schedule {name!r}: needs restarts, such as restarts=100,300")
    if not bent:
        line = Linear(initial, epochs, epochs // TAIL)
        schedule = {"cosine": Cosine(initial, final, epochs, begin), "step": Step(initial), "linear": line}[name]
        climbing = Warmup(schedule, warmup)
        return climbing if name == "cosine" else lambda epoch, rate=None: climbing(max(0, epoch - begin))
    jumps = parse_restarts(restarts, initial, epochs)
    ends = [*(epoch for epoch, _ in jumps[1:]), epochs]
    again = [(end - epoch, rate, final) for (epoch, rate), end in zip(jumps, ends, strict=True)] if jumps else []
    first, form = jumps[0][0] if jumps else epochs, "released" if name == "cosine_power" else "equation"
    power = 1.0 if name == "cosine_restarts" else power
    schedule = CosinePower(initial, final, first, power, warmup, form=form, restarts=again)
    return lambda epoch, rate=None: schedule.at(max(0, epoch - begin))


@dataclass(frozen=True)
class SkipDropout:
    """A line towards 0 while the weights alone are trained, then from the first rate again an exponential decay.

    The authors' program: `rate * (epochs - 1 - e) / epochs` in epoch e of the warm-up, `rate * exp(-0.2 (e - warmup))`
    from its end on. `rate` is the highest, 0 to below 1; `begin` epochs come before the warm-up.
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
