"""A table of true accuracies: what each architecture of NAS-Bench-201 comes to when it is trained in full."""

import csv
import os
import pathlib
import statistics

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype

KEY = "architecture"
"""The column of the architecture strings."""


class AccuracyTable:
    """Architectures and their accuracies in per cent, on one data set or several.

    Args:
        rows: architecture string to accuracies, one for each of `names`.
        names: of the data sets.

    Attributes:
        best: the greatest accuracy on each data set.
        mean: the mean over all architectures: what a random choice is expected to come to.
    """

    def __init__(self, rows: dict[str, tuple[float, ...]], names: tuple[str, ...]):
        self.rows, self.names = rows, names
        columns = list(zip(*rows.values(), strict=True))
        self.best, self.mean = tuple(map(max, columns)), tuple(map(statistics.fmean, columns))

    def of(self, genotype: Genotype) -> tuple[float, ...]:
        """The accuracies of a genotype, one for each of `names`.

        Raises:
            KdartsError: if it has no architecture string (see `Genotype.to_text`), or the table has not that one.
        """
        text = genotype.to_text()
        if text not in self.rows:
            raise KdartsError(f"the table has no architecture {text}")
        return self.rows[text]

    @classmethod
    def load(cls, path: str | os.PathLike) -> "AccuracyTable":
        """Reads a CSV with a column `architecture` and one of accuracies, 0 to 100, for each data set.

        Raises:
            KdartsError: if it cannot be read or is no such table; the message names the line.
        """
        try:
            with pathlib.Path(path).open(newline="", encoding="utf-8") as file:
                lines = list(csv.reader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise KdartsError(f"{path}: cannot be read as CSV ({error})") from None
        if not lines or KEY not in lines[0] or len(lines[0]) < 2:
            raise KdartsError(f"{path}: needs a first line with {KEY!r} and a column for each data set")
        key = lines[0].index(KEY)
        rows = {}
        for number, line in enumerate(lines[1:], 2):
            try:
                values = tuple(float(value) for column, value in enumerate(line) if column != key)
            except ValueError:
                values = ()
            if len(values) != len(lines[0]) - 1 or not all(0 <= value <= 100 for value in values):
                raise KdartsError(f"{path}, line {number}: needs {len(lines[0])} fields, accuracies from 0 to 100")
            if line[key] in rows:
                raise KdartsError(f"{path}, line {number}: {line[key]} stands there twice")
            rows[line[key]] = values
        if not rows:
            raise KdartsError(f"{path}: has no architecture")
        return cls(rows, tuple(name for column, name in enumerate(lines[0]) if column != key))
