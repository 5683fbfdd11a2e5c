"""The stages of a progressive search (P-DARTS section 3.2): as data, and run one after another."""

import gc
import math
from dataclasses import dataclass

import numpy as np

from kdarts.genotypes.errors import KdartsError


@dataclass(frozen=True)
class Stage:
    """One search of several, each with fresh weights and fresh α, in a deeper supernet with fewer candidates.

    Attributes:
        cells: number of cells, at least 1.
        operations: candidates that each edge begins with, at least 2: those of the stage before with the largest
            weights after mixing. In the first stage all of the space's, which may be fewer.
        skip_dropout: rate of the dropout on skip connections where it is highest, 0 to below 1.

    Raises:
        KdartsError: if a value is out of range.
    """

    cells: int
    operations: int
    skip_dropout: float = 0.0

    def __post_init__(self):
        if self.cells < 1 or self.operations < 2 or not 0 <= self.skip_dropout < 1:
            raise KdartsError(
                f"stage {self}: allowed are 1 or more cells, 2 or more operations and a dropout of 0 to below 1"
            )

    def __str__(self):
        return f"{self.cells}:{self.operations}:{self.skip_dropout:g}"


def parse_stages(text: str) -> tuple[Stage, ...]:
    """The stages that a text such as `5:8:0,11:5:0.4,17:3:0.7` says: cells, operations and, if any, dropout of each.

    Raises `KdartsError` if it says none, or as of `Stage`.
    """
    stages = []
    for word in text.split(","):
        cells, operations, *dropout = word.strip().split(":") if word.count(":") in (1, 2) else ("", "")
        try:
            stages.append(Stage(int(cells), int(operations), *map(float, dropout)))
        except ValueError as error:
            if isinstance(error, KdartsError):
                raise
            raise KdartsError(
                f"stage {word!r}: needs cells:operations or cells:operations:skip_dropout, such as 11:5:0.4"
            ) from None
    return tuple(stages)


def check_stages(stages: tuple[Stage, ...], operations: int) -> None:
    """Refuses stages that cannot be run one after another in a space of so many operations.

    Raises `KdartsError` if the first one would begin with a part of them, or a later one with more than the one before.
    """
    least = math.inf
    for number, stage in enumerate(stages, 1):
        if number == 1 and stage.operations < operations:
            raise KdartsError(f"stage 1 begins with all {operations} operations of the space, not {stage.operations}")
        if stage.operations > least:
            raise KdartsError(f"stage {number}: {stage.operations} operations; the one before it leaves {least}")
        least = stage.operations


def check_method(method) -> None:
    """Refuses a method whose stages cannot be run.

    Raises `KdartsError` if it has a target, which is for one size, if α would never move in a stage, if cells of
    supernets of different depths would have an α of their own, or as of `check_stages`.
    """
    from kdarts.search.cost_target import chosen_target
    from kdarts.supernet.spaces import get_space

    check_stages(method.stages, len(get_space(method.space).operations))
    chosen_target(method)
    if method.warmup_epochs >= method.epochs:
        raise KdartsError(
            f"warmup_epochs {method.warmup_epochs}: a stage of {method.epochs} epochs needs one in which α moves"
        )
    if method.sharing != "shared" and len({stage.cells for stage in method.stages}) > 1:
        raise KdartsError(f"sharing {method.sharing!r}: stages with different numbers of cells need 'shared'")


def run_stages(search, data, callbacks, session, how: dict):
    """Runs the stages of a search's method, each with fresh weights and with the candidates that the one before left.

    The search becomes that of the last stage, whose history is returned; the rest as of `Search.train`.
    """
    candidates, stages = None, search.method.stages
    for number, stage in enumerate(stages, 1):
        part = session.part(f"stages/{number}", number - 1)
        if number < len(stages) and (left := session.finished_part(f"stages/{number}")) is not None:
            candidates = [left[f"alpha_{index}"] for index in range(len(left))]
            continue
        rate = f", skip dropout {stage.skip_dropout:g}" if stage.skip_dropout else ""
        session.say(f"stage {number} of {len(stages)}: {stage.operations} operations on an edge{rate}")
        one = None  # The one before makes room first.
        gc.collect()
        one = search.sibling(search.method.at(stage), candidates, search.seed + number - 1)
        history = one.train(data, callbacks, part, seed=number - 1, **how)
        if number < len(stages):
            candidates = _narrowed(one, stages[number].operations)
            session.keep(f"stages/{number}", {f"alpha_{index}": kept for index, kept in enumerate(candidates)})
    search.become(one)
    return history


def narrow(weights: np.ndarray, present: np.ndarray, operations: int) -> np.ndarray:
    """The candidates that an edge keeps for the next stage: those with the largest weights (section 3.2).

    Of equal ones the later in the space is kept. `none` counts as any other. The weights after mixing, which candidates
    an edge had (`present`) and the result are `[edges, operations]`, the last two boolean.
    """
    kept = np.zeros_like(present)
    for row, (values, there) in enumerate(zip(weights, present, strict=True)):
        columns = np.flatnonzero(there)
        kept[row, columns[np.argsort(values[columns], kind="stable")][-operations:]] = True
    return kept


def _narrowed(search, operations: int) -> list[np.ndarray]:
    net = search.supernet
    weights = [np.asarray(w) for w in net.mixing_weights()]
    present = net.mixture.candidates or [np.ones(w.shape, bool) for w in weights]
    return [narrow(w, there, operations) for w, there in zip(weights, present, strict=True)]
