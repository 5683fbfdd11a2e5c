"""The stages of a progressive search, as data."""

import math
from dataclasses import dataclass

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

    Raises:
        KdartsError: if it says none, or as of `Stage`.
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
    """Refuses what cannot be run one after another in a space of so many operations.

    Raises:
        KdartsError: if the first stage would begin with a part of them, or a later one with more than the one before.
    """
    least = math.inf
    for number, stage in enumerate(stages, 1):
        if number == 1 and stage.operations < operations:
            raise KdartsError(f"stage 1 begins with all {operations} operations of the space, not {stage.operations}")
        if stage.operations > least:
            raise KdartsError(f"stage {number}: {stage.operations} operations; the one before it leaves {least}")
        least = stage.operations
