"""What ends a search before its last epoch."""

from dataclasses import dataclass

import numpy as np

from kdarts.genotypes.errors import choice
from kdarts.genotypes.genotype import SKIPS, Genotype
from kdarts.ops.operations import get_operation
from kdarts.search.method import Method


@dataclass(frozen=True)
class SoFar:
    """A search after an epoch.

    Attributes:
        history: a row of figures for each epoch, `epoch` among them, counted from 0.
        genotype: what α stands for now.
        alphas: for each α its values after every epoch, `[epochs, edges, operations]`.
        operations: names of the columns.
    """

    history: list[dict]
    genotype: Genotype
    alphas: list[np.ndarray]
    operations: tuple[str, ...]

    def counting(self, method: Method) -> int:
        """Number of epochs that count for a rule: those from the method's `stop_from` on, after the pretraining."""
        return len(self.history) - (method.pretrain_epochs + method.stop_from)

    def eigenvalues(self) -> list[tuple[int, float]]:
        """The epochs in which the dominant eigenvalue was measured, and its size there."""
        return [(row["epoch"], abs(row["eigenvalue"])) for row in self.history if "eigenvalue" in row]


def epochs(so_far: SoFar, method: Method) -> bool:
    """Never: the search runs its epochs."""
    return False


def distance(so_far: SoFar, method: Method) -> bool:
    """Once the distance to the start no longer changes (D-DARTS section 5.4).

    Each of the last `stop_window` epochs is within `stop_tolerance` of the latest.
    """
    if so_far.counting(method) < method.stop_window:
        return False
    last = [row["distance"] for row in so_far.history[-method.stop_window :]]
    return all(abs(value - last[-1]) <= method.stop_tolerance for value in last)


def skips(so_far: SoFar, method: Method) -> bool:
    """Once a cell has `stop_skips` skip connections or more (DARTS+, Liang et al. 2019, criterion 1)."""
    most = max(sum(operation in SKIPS for operation, _, _ in cell) for cell in so_far.genotype.cells)
    return so_far.counting(method) > 0 and most >= method.stop_skips


def ranking(so_far: SoFar, method: Method) -> bool:
    """Once α has ranked every edge's operations with weights alike for `stop_window` epochs (DARTS+, criterion 2)."""
    if so_far.counting(method) < method.stop_window:
        return False
    learned = [k for k, name in enumerate(so_far.operations) if get_operation(name).parametric(1)]
    ranks = [np.argsort(-alpha[-method.stop_window :][..., learned], -1, kind="stable") for alpha in so_far.alphas]
    return all((rank == rank[-1]).all() for rank in ranks)


def eigenvalue(so_far: SoFar, method: Method) -> bool:
    """Once the dominant eigenvalue grows too fast (Zela et al. 2020, section 4.3).

    With λ̄(i) the mean of the last k measurements at the i-th: once λ̄(i − k) / λ̄(i) is below `stop_ratio`, k being
    `stop_window`. The search then goes back to α of measurement i − k (see `goes_back_to`), which must count for it.
    (The authors' program measures every second epoch, takes means centred two measurements earlier and compares those
    two measurements apart, with 1 / 1.3 in place of the paper's 0.75.)
    """
    k, values = method.stop_window, [value for _, value in so_far.eigenvalues()]
    if len(values) < 2 * k or goes_back_to(so_far, method) < method.pretrain_epochs + method.stop_from:
        return False
    before, now = sum(values[-2 * k : -k]), sum(values[-k:])
    return before < method.stop_ratio * now


def goes_back_to(so_far: SoFar, method: Method) -> int | None:
    """The epoch whose α a stopped search takes; None: the last one's, as it is."""
    if method.stop != "eigenvalue":
        return None
    return so_far.eigenvalues()[-1 - method.stop_window][0]


RULES = {"epochs": epochs, "distance": distance, "skips": skips, "ranking": ranking, "eigenvalue": eigenvalue}


def get_stop(name: str):
    """The rule called `name`; raises `KdartsError` with the known names otherwise."""
    return RULES[choice("stop", name, RULES)]
