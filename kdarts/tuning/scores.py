"""The scores of searches by a table of true accuracies, such as that of NAS-Bench-201.

What searches are scored by, this table or one of `kdarts.tuning.cells`, answers to the same names: `space`, `check`,
`score`, `told`, `together`, `course`, `scale` and `markdown`.
"""

import csv
import io
import itertools
import os
import pathlib
import statistics
from collections.abc import Sequence

import numpy as np

from kdarts.genotypes.edges import edge_count
from kdarts.genotypes.errors import KdartsError, quoted
from kdarts.genotypes.files import text_of
from kdarts.genotypes.genotype import LONGEST_NAME, Genotype
from kdarts.genotypes.text import read_architecture
from kdarts.ops.operations import get_operation
from kdarts.search.ranks import kendall, spearman
from kdarts.training.workdir import WEIGHTS, read_arrays, read_genotypes, read_json

KEY = "architecture"
"""The column of the architecture strings."""


class AccuracyTable:
    """Architectures and their accuracies in per cent, on one data set or several.

    Args:
        rows: For each architecture string its accuracies, one for each of `names`.
        names: The names of the data sets.

    Attributes:
        best: The best accuracy on each data set.
        mean: The mean over all architectures, which is the expectation of a random choice.
        space: The space whose searches it scores where nothing else is asked for.
    """

    space = "nasbench201"

    def __init__(self, rows: dict[str, tuple[float, ...]], names: tuple[str, ...]):
        self.rows, self.names = rows, names
        columns = list(zip(*rows.values(), strict=True))
        self.best, self.mean = tuple(map(max, columns)), tuple(map(statistics.fmean, columns))

    def of(self, genotype: Genotype) -> tuple[float, ...]:
        """Returns the accuracies of a genotype, one for each of `names`.

        Raises `KdartsError` if the genotype has no architecture string (see `Genotype.to_text`) or is not in the table.
        """
        text = genotype.to_text()
        if text not in self.rows:
            raise KdartsError(f"the table has no architecture {text}")
        return self.rows[text]

    @classmethod
    def load(cls, path: str | os.PathLike) -> "AccuracyTable":
        """Reads a CSV with a column `architecture` and one of accuracies, 0 to 100, for each data set.

        A byte order mark before it is no part of it. Raises `KdartsError`, with the number of the line, if the file
        cannot be read or is no such table.
        """
        lines = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
        rows = {}
        try:
            key, names = _columns(next(lines, []), path)
            for line in lines:
                where = f"{path}, line {lines.line_num}"
                text, values = _row(line, key, len(names), where)
                if text in rows:
                    raise KdartsError(f"{where}: {quoted(text)} stands there twice")
                rows[text] = values
        except csv.Error as error:
            raise KdartsError(f"{path}, line {lines.line_num}: cannot be read as CSV ({error})") from None
        if not rows:
            raise KdartsError(f"{path}: has no architecture")
        return cls(rows, names)

    def check(self, space, nodes: int) -> None:
        """Raises `KdartsError` if a search could find an architecture that is not in the table.

        Args:
            space: The `SearchSpace`; `None` of a grid.
            nodes: The number of nodes behind the input of the cell, each of which reads all before it.
        """
        if space is None or not space.stages:
            raise KdartsError(f"a table of architectures knows cells of one input; take --space={self.space}")
        operations = space.operations
        form = "+".join("|" + "|".join(f"{{}}~{source}" for source in range(to)) + "|" for to in range(1, nodes + 1))
        for chosen in itertools.product(operations, repeat=edge_count(nodes, 1)):
            if form.format(*chosen) not in self.rows:
                count, there = len(operations) ** edge_count(nodes, 1), len(self.rows)
                raise KdartsError(
                    f"the table has {there} architectures, and a search could find {count}: it lacks "
                    f"{form.format(*chosen)}"
                )

    def score(self, folder: pathlib.Path) -> dict:
        """Returns the score of the finished search in a folder.

        It has the true accuracy of the genotype under the names of the table, `regret` (the difference to the best
        accuracy on the first data set), `kendall` and `spearman` (see `rank_correlation`), `FIGURES`, and the
        architecture. Raises `KdartsError` if a file is missing or damaged, or if the genotype is not in the table.
        """
        genotype = Genotype.load(folder / "genotype.json")
        accuracies = self.of(genotype)
        row = dict(zip(self.names, accuracies, strict=True)) | {"regret": round(self.best[0] - accuracies[0], 4)}
        return row | self.rank_correlation(folder) | figures(folder) | {"architecture": genotype.to_text()}

    def rank_correlation(self, folder: pathlib.Path) -> dict:
        """Returns how a finished search's α rank all architectures that it could have found.

        An architecture is ranked by the sum over its edges of log p, where p is what the selection compares: the
        weight of the operation after mixing. `kendall` and `spearman` are the rank correlations with the accuracy on
        the first data set. They are empty where α rank nothing, and for searches of earlier releases.
        """
        operations, logs = log_weights(folder)
        if not logs:
            return {"kendall": "", "spearman": ""}
        columns, values = [], []
        for text, accuracies in self.rows.items():
            names = [name for name, _, _ in read_architecture(text)["cells"][0]]
            if set(names) <= set(operations):
                columns.append([operations.index(name) for name in names])
                values.append(accuracies[0])
        columns = np.array(columns)
        return correlations(logs[0][np.arange(columns.shape[1]), columns].sum(1), values)

    def told(self, row: dict) -> str:
        """Returns a score in a few words."""
        return " / ".join(f"{row[name]:.2f}" for name in self.names)

    def together(self, rows: Sequence[dict]) -> dict:
        """Combines the scores of the seeds of a method (see the function of this name)."""
        return together(rows, self.names, ("regret", "kendall", "spearman", *FIGURES))

    def course(self, folder: pathlib.Path) -> list[tuple[float, float]]:
        """Returns, after each epoch of a finished search, its seconds and the first accuracy of the genotype of α.

        After shared paths, there is a last row for their genotype. Seconds are from the mean time of an epoch.
        """
        return [(seconds, self.of(genotype)[0]) for seconds, genotype in by_epoch(folder)]

    def scale(self) -> dict:
        """Returns the arguments of `draw_benchmark` about the vertical axis."""
        return {"best": self.best[0], "random": self.mean[0], "label": f"{self.names[0]} (%)"}

    def markdown(self, rows: dict[str, dict]) -> str:
        """Formats the results of the methods (see `together`) in Markdown, with the optimum and a random choice."""
        titles = ["method", *self.names, "regret", "Kendall of α", "Spearman of α", *LAST]
        lines = []
        for method, row in rows.items():
            accuracies = [mean_and_spread(row, name) for name in self.names]
            ranks = [f"{row[name]:.2f}" if row[name] != "" else "" for name in ("regret", "kendall", "spearman")]
            lines.append([f"`{method}`", *accuracies, *ranks, *last(row)])
        for name, values in (("random choice", self.mean), ("optimum", self.best)):
            lines.append([name, *(f"{value:.2f}" for value in values), f"{self.best[0] - values[0]:.2f}"])
        return markdown_table(titles, lines)


def columns(path: str | os.PathLike) -> list[str]:
    """Returns the names in the first line of a CSV; raises `KdartsError` if it cannot be read."""
    try:
        return next(csv.reader(io.StringIO(text_of(path), newline=""), strict=True), [])
    except csv.Error as error:
        raise KdartsError(f"{path}: cannot be read as CSV ({error})") from None


def _columns(head: list[str], path) -> tuple[int, tuple[str, ...]]:
    """The number of the column of architectures, and the names of the other columns."""
    if KEY not in head or len(head) < 2:
        needed = f"{KEY!r} and a column for each data set, or with 'genotype' and 'last'"
        raise KdartsError(f"{path}: needs a first line with {needed}")
    for name in head:
        if head.count(name) > 1:
            raise KdartsError(f"{path}: has two columns {quoted(name)}")
        if not name.strip() or not name.isprintable() or name in _OWN or len(name) > LONGEST_NAME:
            allowed = f"allowed are {LONGEST_NAME} printable characters, other than {', '.join(_OWN)}"
            raise KdartsError(f"{path}: column {quoted(name)}; {allowed}")
    return head.index(KEY), tuple(name for name in head if name != KEY)


def _row(line: list[str], key: int, count: int, where: str) -> tuple[str, tuple[float, ...]]:
    """The architecture and the `count` accuracies of a line."""
    try:
        values = tuple(float(value) for column, value in enumerate(line) if column != key)
    except ValueError:
        values = ()
    if len(values) != count or len(line) != count + 1 or not all(0 <= value <= 100 for value in values):
        raise KdartsError(f"{where}: needs {count + 1} fields, accuracies from 0 to 100")
    try:
        [cell] = read_architecture(line[key])["cells"]
        for operation in {operation for operation, _, _ in cell}:
            get_operation(operation)
    except KdartsError as error:
        raise KdartsError(f"{where}: {error}") from None
    return line[key].strip(), values


FIGURES = ("skip_connects", "wall_seconds", "peak_memory_mb")
"""The figures of a search's summary that its row has."""

LAST = ("skips", "seconds", "memory (MB)", "seeds")
"""Titles of the columns of `last`."""

_OWN = ("method", "seed", "seeds", "regret", "kendall", "spearman", "epoch", "seconds", *FIGURES)
"""Columns that the results have besides those of the table."""


def figures(folder: pathlib.Path) -> dict:
    """Returns the `FIGURES` of a finished search; its seconds include those of the shared paths after it."""
    summary = read_json(folder / "summary.json", FIGURES)
    return {name: summary[name] for name in FIGURES} | {"wall_seconds": _seconds(summary)}


def _seconds(summary: dict) -> float:
    """Returns the time of a search and of what came after it."""
    return summary["wall_seconds"] + summary.get("path_seconds", 0) + summary.get("removal_seconds", 0)


def by_epoch(folder: pathlib.Path) -> list[tuple[float, Genotype]]:
    """Returns the seconds and the genotype after each epoch of a finished search, and of what came after it."""
    summary, genotypes = read_json(folder / "summary.json", FIGURES), read_genotypes(folder / "genotypes.jsonl")
    times = [summary["wall_seconds"] * number / len(genotypes) for number in range(1, len(genotypes) + 1)]
    if "path_seconds" in summary or "removal_seconds" in summary:
        genotypes.append(Genotype.load(folder / "genotype.json"))
        times.append(_seconds(summary))
    return [(round(seconds, 1), genotype) for seconds, genotype in zip(times, genotypes, strict=True)]


def log_weights(folder: pathlib.Path) -> tuple[list[str], list[np.ndarray]]:
    """Returns the operations of a finished search and for each cell the logarithms of what its selection compares.

    They are `[edges, operations]` and finite: what an edge does not have counts as 1e-30. There are none of searches of
    earlier releases.
    """
    path = folder / WEIGHTS
    if not path.exists():
        return [], []
    arrays = read_arrays(path)
    operations = [str(name) for name in arrays.pop("operations", ())]
    return operations, [np.log(np.maximum(np.asarray(weights, np.float64), 1e-30)) for weights in arrays.values()]


def correlations(values, accuracies, suffix: str = "") -> dict:
    """Returns `kendall` and `spearman`, rounded to 4 places, under these names and a suffix; empty where undefined."""
    found = {"kendall": kendall(values, accuracies), "spearman": spearman(values, accuracies)}
    return {name + suffix: "" if np.isnan(value) else round(value, 4) for name, value in found.items()}


def together(rows: Sequence[dict], spread: Sequence[str], others: Sequence[str]) -> dict:
    """Combines the scores of the seeds of a method, at least one.

    Returns `seeds`, the mean for each name, and for those of `spread` the sample standard deviation (divisor n - 1) as
    `NAME_sd`, which is empty for one seed. Empty scores do not count.
    """
    if not rows:
        raise KdartsError("no search to score")
    result = {"seeds": len(rows)}
    for name in (*spread, *others):
        values = [row[name] for row in rows if row[name] != ""]
        result[name] = round(statistics.fmean(values), 4) if values else ""
        if name in spread:
            result[f"{name}_sd"] = round(statistics.stdev(values), 4) if len(values) > 1 else ""
    return result


def markdown_table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Formats a table in Markdown, whose first column is text and whose others are numbers; lines may be short."""
    ruled = [titles, ["---", *["---:"] * (len(titles) - 1)], *lines]
    return "".join(f"| {' | '.join([*line, *[''] * (len(titles) - len(line))])} |\n" for line in ruled)


def last(row: dict) -> list[str]:
    """Formats the figures that every table ends with."""
    return [
        f"{row['skip_connects']:.1f}",
        f"{row['wall_seconds']:.0f}",
        f"{row['peak_memory_mb']:.0f}",
        str(row["seeds"]),
    ]


def mean_and_spread(row: dict, name: str, digits: int = 2) -> str:
    """Formats an entry of `together` as `91.63 ± 2.92`; "" where there is none."""
    mean, deviation = row[name], row[f"{name}_sd"]
    if mean == "":
        return ""
    return f"{mean:.{digits}f}" + ("" if deviation == "" else f" ± {deviation:.{digits}f}")
