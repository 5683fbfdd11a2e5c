"""Masks: which candidates leave in the course of a search, and when.

The masks themselves are variables of the `Mixture`, 1 for the operations that an edge still has; what has left weighs
exactly 0. They change at the ends of epochs alone, as a function of α, of the record and of the data, so that a run
that is restored goes on alike. A search that has masks computes everything as before: to leave saves no time.

TensorFlow is imported where it is used: commands that only read settings do not wait for it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kdarts.genotypes.edges import rows_into
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import Axis, Registry, setting

MASKS = Registry("masks")

_SHARE = {"least": 0, "most": 1}


@dataclass(frozen=True)
class Masks(Axis):
    """Which candidates leave, and when. A kind of it that lets some go defines `count`, `narrow`, `leave_from` and
    `leave_until`, shares of the epochs.

    Attributes:
        active: whether any leave.
        divided: whether those left keep the weights that they had beside the others; else they share the edge's.
    """

    active: ClassVar[bool] = True
    divided: ClassVar[bool] = False

    def check(self, method, net) -> None:
        """Raises `KdartsError` for a method or a supernet that this does not go with."""
        for name in ("stages", "paths", "samples"):
            if getattr(method, name):
                raise KdartsError(f"masks {self.name!r}: goes with no {name}")
        if net.grid or method.selection.measures:
            what = "a HyperCuboid" if net.grid else f"discretization {method.discretization!r}"
            raise KdartsError(f"masks {self.name!r}: does not go with {what}")

    def count(self, net) -> int:
        """How often candidates leave."""
        raise NotImplementedError

    def narrow(self, search, masks: list[np.ndarray], number: int, data) -> None:
        """Lets candidates go, for the `number`th time, counted from 0.

        Args:
            search: a `Search`, between two epochs.
            masks: for each α `[edges, operations]`, 1 for what is there; changed in place.
            data: the `SearchData`.
        """
        raise NotImplementedError

    def rests(self, epoch: int, method) -> bool:
        """Whether α stands still in an epoch, counted from 0 behind the pretraining."""
        return False

    def end_epoch(self, search, epoch: int, data) -> None:
        """Lets go what leaves at the end of an epoch, counted from 0 behind the pretraining."""
        net, epochs = search.supernet, search.method.epochs
        masks, count = [mask.numpy() for mask in net.mixture.masks], self.count(net)
        before, now = (self.due(done, epochs, count) for done in (epoch, epoch + 1))
        for number in range(before, now):
            self.narrow(search, masks, number, data)
        if now > before:
            for variable, mask in zip(net.mixture.masks, masks, strict=True):
                variable.assign(mask)

    def due(self, done: int, epochs: int, count: int) -> int:
        """How many of `count` times are over after `done` of the epochs; they are equally far apart."""
        step = (self.leave_until - self.leave_from) / max(1, count - 1)
        times = [max(1, round(epochs * (self.leave_from + step * k))) for k in range(count)]
        return sum(time <= done for time in times)


def register_masks(kind: type[Masks]) -> type[Masks]:
    """Makes a kind of masks known by its `name`, to `--masks` and to `masks=`."""
    return MASKS.add(kind)


@register_masks
@dataclass(frozen=True)
class NoMasks(Masks):
    """All candidates stay."""

    name: ClassVar[str] = "none"
    active: ClassVar[bool] = False

    def check(self, method, net):
        pass

    def end_epoch(self, search, epoch, data):
        pass


def _softmax(alpha):
    powers = np.exp(alpha - alpha.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _spread(values):
    """From 0 to 1, least to greatest; 1 each where all are equal."""
    width = np.ptp(values)
    return (values - values.min()) / width if width > 0 else np.ones_like(values)


def named(alpha: np.ndarray, none: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The softmax of α without `none`, made to sum to 1, and of each edge the share that `none` leaves the others.

    α is `[edges, operations]`; the first result has 0 in the column of `none`.
    """
    weights = _softmax(np.asarray(alpha, np.float64))
    if none is None:
        return weights, np.ones(len(weights))
    importance = 1 - weights[:, none]
    weights[:, none] = 0
    return weights / weights.sum(1, keepdims=True), importance


def certainty(q: np.ndarray, operations: int) -> np.ndarray:
    """SGAS' selection certainty of each edge, 1 − H(q) / ln(operations), of q `[edges, ...]` that sums to 1."""
    logs = np.log(np.where(q > 0, q, 1))
    return 1 + (q * logs).sum(1) / np.log(operations) if operations > 1 else np.ones(len(q))


def stability(q: np.ndarray, history: list[np.ndarray]) -> np.ndarray:
    """SGAS' selection stability of each edge: the mean of Σ min(q, q_old) over what q was before; 1 without any."""
    return np.mean([np.minimum(q, old).sum(1) for old in history], 0) if history else np.ones(len(q))


@register_masks
@dataclass(frozen=True)
class Greedy(Masks):
    """SGAS: one edge after another is decided, and then computes its operation alone, at weight 1 (Li et al. 2020).

    Each time the best edge of every α keeps its strongest operation but `none`; a node with two decided edges loses the
    others. With π the softmax of α, q the same without `none`, over K operations, and n from 0 to 1 over all edges,
    criterion 1 is n(1 − π_none) n(1 − H(q) / ln K); criterion 2 is that times n(mean of Σ min(q, q_old)) over the last
    epochs.
    """

    name: ClassVar[str] = "sgas"
    leave_from: float = setting(0.2, "share of the epochs after which the first candidates are removed", **_SHARE)
    leave_until: float = setting(0.9, "share of the epochs after which the last candidates are removed", **_SHARE)
    criterion: int = setting(
        1, "1, or 2, which also looks at how stable the choice is", least=1, most=2, source="SGAS, 3.2"
    )
    history: int = setting(4, "epochs that criterion 2 compares with", least=1, most=1000, source="SGAS' program")

    def count(self, net):
        return sum(len(rows) if net.space.stages else min(2, len(rows)) for rows in rows_into(net.edges))

    def narrow(self, search, masks, number, data):
        net, names = search.supernet, search.supernet.space.operations
        none = names.index("none") if "none" in names else None
        for alpha, name, mask in zip(net.alphas, net.alpha_names, masks, strict=True):
            past = search.record.arrays.get(name, [])[-self.history :]
            edge, column = choose(alpha.numpy(), mask, none, past if self.criterion == 2 else None)
            decide(mask, net.edges, edge, column, 0 if net.space.stages else 2)


def choose(alpha, mask, none: int | None, past=None) -> tuple[int, int]:
    """SGAS' choice: the undecided edge of the greatest criterion, of equals the first, and its operation.

    Args:
        alpha, mask: `[edges, operations]`.
        none: column of `none`, or None.
        past: α of epochs before, for criterion 2; None: criterion 1.
    """
    q, importance = named(alpha, none)
    score = _spread(importance) * _spread(certainty(q, alpha.shape[1] - (none is not None)))
    if past is not None:
        score = score * _spread(stability(q, [named(old, none)[0] for old in past]))
    edge = int(np.argmax(np.where(mask.sum(1) > 1, score, -1)))
    return edge, int(np.argmax(np.where(mask[edge] > 0, q[edge], -1)))


def decide(mask, edges, edge: int, column: int, most: int) -> None:
    """Leaves an edge one operation, and a node of `most` decided edges those alone; 0: any number."""
    mask[edge] = 0
    mask[edge, column] = 1
    rows = next(rows for rows in rows_into(edges) if edge in rows)
    decided = [row for row in rows if mask[row].sum() == 1]
    if len(decided) == most:
        mask[[row for row in rows if row not in decided]] = 0


@register_masks
@dataclass(frozen=True)
class Narrowing(Masks):
    """Progressive DrNAS: once, every edge keeps its strongest operations; α of the others becomes 0 (Chen et al. 2021).

    α and its optimizer's moments of what is left stay, as do the weights. After it the weights alone are trained for as
    long as before α first moved (`warmup_epochs`). What is drawn is drawn among all, and made to sum to 1.
    """

    name: ClassVar[str] = "progressive"
    leave_from: float = setting(0.5, "share of the epochs after which the first candidates are removed", **_SHARE)
    kept: int = setting(4, "operations that an edge keeps", least=1, most=1000, source="DrNAS, section 4.2")
    leave_until: ClassVar[float] = 1.0

    def count(self, net):
        return 1

    def rests(self, epoch, method):
        return self.due(epoch - method.warmup_epochs, method.epochs, 1) < self.due(epoch, method.epochs, 1)

    def narrow(self, search, masks, number, data):
        for alpha, mask in zip(search.supernet.alphas, masks, strict=True):
            value = np.where(mask > 0, alpha.numpy(), -np.inf)
            ranks = np.argsort(np.argsort(-value, axis=1, kind="stable"), axis=1)
            mask[ranks >= self.kept] = 0
            alpha.assign(alpha.numpy() * mask)


@register_masks
@dataclass(frozen=True)
class Shrinking(Masks):
    """IS-DARTS: again and again what varies least over the channels leaves, whatever α (He et al. 2024).

    A candidate's statistic is I = mean over images, pixels and channels of 3 (y − μ)² / σ⁶, with μ and σ over the
    channels of its output y; the largest I leaves first, and `none`, whose I is infinite, before all others. It is
    taken on the images of α, normalised by each batch, as the mean over the cells of an α. In cells of one input the
    worst operation of every edge leaves each time, until one is left; else the worst pairs of edge and operation of
    every node, in equal parts, until two are left, maybe on one edge. Those left keep their weights 1 / |O|.
    """

    name: ClassVar[str] = "shrink"
    divided: ClassVar[bool] = True
    leave_from: float = setting(0.6, "share of the epochs after which the first candidates are removed", **_SHARE)
    leave_until: float = setting(0.96, "share of the epochs after which the last candidates are removed", **_SHARE)
    shrinks: int = setting(7, "how often candidates are removed, in cells of two inputs", least=1, most=1000)
    shrink_batches: int = setting(0, "number of batches to compute the statistic on; 0: all", least=0, most=1_000_000)

    def check(self, method, net):
        super().check(method, net)
        for name, usual in (("partial_channels", 1), ("auxiliary_skip", False)):
            if getattr(method, name) != usual:
                raise KdartsError(f"{name} {getattr(method, name)}: masks 'shrink' looks at whole candidates")

    def count(self, net):
        return len(net.space.operations) - 1 if net.space.stages else self.shrinks

    def narrow(self, search, masks, number, data):
        from kdarts.search.shrink import statistics

        net, names = search.supernet, search.supernet.space.operations
        none = names.index("none") if "none" in names else None
        batches = data.held_back().take(self.shrink_batches or -1)
        for mask, values in zip(masks, statistics(search, batches), strict=True):
            if net.space.stages:
                for row in range(len(mask)):
                    shrink(mask, values, [row], none, 1)
            else:
                for rows in rows_into(net.edges):
                    surplus = int(mask[rows].sum()) - 2
                    shrink(mask, values, rows, none, -(-surplus // (self.shrinks - number)))


def shrink(mask, values, rows, none: int | None, count: int) -> None:
    """Lets go so many of the operations of some edges, those of the largest values, of equals `none` first."""
    places = [(row, column) for row in rows for column in np.flatnonzero(mask[row])]
    worst = sorted(places, key=lambda place: (-values[place], place[1] != none))
    for place in worst[: max(0, count)]:
        mask[place] = 0
