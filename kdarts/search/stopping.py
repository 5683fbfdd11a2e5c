"""Stop rules: what ends a search before its last epoch.

The set is open: a program registers a class of its own by `register_stopping`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kdarts.genotypes.genotype import SKIPS, Genotype
from kdarts.genotypes.settings import MOST_EPOCHS, Axis, Registry, setting
from kdarts.ops.operations import get_operation

STOPS = Registry("stop")


@dataclass(frozen=True)
class SoFar:
    """A search after an epoch.

    Attributes:
        history: a row of figures for each epoch, `epoch` among them, counted from 0.
        genotype: the one that α gives now; of a grid a path.
        alphas: for each α its values after every epoch, `[epochs, edges, operations]`.
        operations: names of the columns.
        pretrain_epochs: epochs before those of the search.
    """

    history: list[dict]
    genotype: Genotype
    alphas: list[np.ndarray]
    operations: tuple[str, ...]
    pretrain_epochs: int = 0

    def eigenvalues(self) -> list[tuple[int, float]]:
        """The epochs in which the dominant eigenvalue was measured, and its size there."""
        return [(row["epoch"], abs(row["eigenvalue"])) for row in self.history if "eigenvalue" in row]


@dataclass(frozen=True)
class Stopping(Axis):
    """A stop rule. A kind of it defines `should_stop`.

    Attributes:
        grids: whether it is for grids, too.
        needs_start: whether it compares with the genotype that the search starts from.
    """

    grids: ClassVar[bool] = False
    needs_start: ClassVar[bool] = False

    watch_hessian: int = setting(
        0,
        "epochs between measurements of the dominant eigenvalue of α's Hessian; 0: none",
        least=0,
        most=MOST_EPOCHS,
        source="Zela et al. 2020, section 4",
    )

    @property
    def watched_every(self) -> int:
        """Epochs between measurements of the eigenvalue; 0: none."""
        return self.watch_hessian

    def should_stop(self, so_far: SoFar) -> bool:
        """Whether the search ends after this epoch."""
        raise NotImplementedError

    def goes_back_to(self, so_far: SoFar) -> int | None:
        """The epoch whose α a stopped search takes; None: the last one's, as it is."""
        return None


@dataclass(frozen=True)
class Counting(Stopping):
    """A stop rule for which the first epochs do not count."""

    stop_from: int = setting(
        10,
        "first epoch that the stop rule looks at, counted from 0 after the pretraining",
        least=0,
        most=MOST_EPOCHS,
    )

    def counting(self, so_far: SoFar) -> int:
        """Number of epochs that count so far."""
        return len(so_far.history) - (so_far.pretrain_epochs + self.stop_from)


def register_stopping(kind: type[Stopping]) -> type[Stopping]:
    """Makes a stop rule known by its `name`, to `--stop` and to `stop=`."""
    return STOPS.add(kind)


@register_stopping
@dataclass(frozen=True)
class LastEpoch(Stopping):
    """The search runs all its epochs."""

    name: ClassVar[str] = "epochs"
    grids: ClassVar[bool] = True

    def should_stop(self, so_far):
        return False


@register_stopping
@dataclass(frozen=True)
class StableDistance(Counting):
    """Once the distance to the start no longer changes (D-DARTS section 5.4).

    Each of the last `stop_window` epochs is within `stop_tolerance` of the latest.
    """

    name: ClassVar[str] = "distance"
    needs_start: ClassVar[bool] = True
    stop_window: int = setting(5, "number of consecutive epochs that must agree", least=1, most=MOST_EPOCHS)
    stop_tolerance: float = setting(
        1e-3, "largest difference between the distances of these epochs", least=0, most=1000
    )

    def should_stop(self, so_far):
        if self.counting(so_far) < self.stop_window:
            return False
        last = [row["distance"] for row in so_far.history[-self.stop_window :]]
        return all(abs(value - last[-1]) <= self.stop_tolerance for value in last)


@register_stopping
@dataclass(frozen=True)
class SkipConnections(Counting):
    """Once a cell has `stop_skips` skip connections or more (DARTS+, Liang et al. 2019, criterion 1)."""

    name: ClassVar[str] = "skips"
    stop_skips: int = setting(2, "number of skip connections in a cell at which the search ends", least=1, most=1000)
    # Not used by this rule; it is there so that DARTS+ may state both of its criteria.
    stop_window: int = setting(5, "number of consecutive epochs that must agree", least=1, most=MOST_EPOCHS)

    def should_stop(self, so_far):
        most = max(sum(operation in SKIPS for operation, _, _ in cell) for cell in so_far.genotype.cells)
        return self.counting(so_far) > 0 and most >= self.stop_skips


@register_stopping
@dataclass(frozen=True)
class StableRanking(Counting):
    """Once α has ranked every edge's operations with weights alike for `stop_window` epochs (DARTS+, criterion 2)."""

    name: ClassVar[str] = "ranking"
    stop_window: int = setting(5, "number of consecutive epochs that must agree", least=1, most=MOST_EPOCHS)

    def should_stop(self, so_far):
        if self.counting(so_far) < self.stop_window:
            return False
        learned = [k for k, name in enumerate(so_far.operations) if get_operation(name).parametric(1)]
        ranks = [np.argsort(-alpha[-self.stop_window :][..., learned], -1, kind="stable") for alpha in so_far.alphas]
        return all((rank == rank[-1]).all() for rank in ranks)


@register_stopping
@dataclass(frozen=True)
class Eigenvalue(Counting):
    """Once the dominant eigenvalue grows too fast (Zela et al. 2020, section 4.3).

    With λ̄(i) the mean of the last k measurements at the i-th: once λ̄(i − k) / λ̄(i) is below `stop_ratio`, k being
    `stop_window`. The search then goes back to α of measurement i − k, which must count for it. (The authors' program
    measures every second epoch, takes means centred two measurements earlier and compares those two measurements apart,
    with 1 / 1.3 in place of the paper's 0.75.)
    """

    name: ClassVar[str] = "eigenvalue"
    grids: ClassVar[bool] = True
    stop_window: int = setting(5, "number of consecutive epochs that must agree", least=1, most=MOST_EPOCHS)
    stop_ratio: float = setting(
        0.75, "the eigenvalue before, as a share of what it is now, below which it grows too fast", least=0, most=1
    )

    @property
    def watched_every(self):
        return self.watch_hessian or 1

    def should_stop(self, so_far):
        k, values = self.stop_window, [value for _, value in so_far.eigenvalues()]
        if len(values) < 2 * k or self.goes_back_to(so_far) < so_far.pretrain_epochs + self.stop_from:
            return False
        before, now = sum(values[-2 * k : -k]), sum(values[-k:])
        return before < self.stop_ratio * now

    def goes_back_to(self, so_far):
        return so_far.eigenvalues()[-1 - self.stop_window][0]
