"""The scores of searches by a table of true accuracies, such as that of NAS-Bench-201."""

import csv
import io
import itertools
import os
import pathlib
import statistics
from collections.abc import Sequence

from kdarts.genotypes.edges import edge_count
from kdarts.genotypes.errors import KdartsError, quoted
from kdarts.genotypes.files import text_of
from kdarts.genotypes.genotype import LONGEST_NAME, Genotype
from kdarts.genotypes.text import read_architecture
from kdarts.ops.operations import get_operation
from kdarts.training.workdir import read_genotypes, read_json

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
    """

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

    def check_space(self, operations: Sequence[str], nodes: int) -> None:
        """Raises `KdartsError` if a search could find an architecture that is not in the table.

        Args:
            operations: What may stand on an edge.
            nodes: The number of nodes behind the input of the cell, each of which reads all before it.
        """
        form = "+".join("|" + "|".join(f"{{}}~{source}" for source in range(to)) + "|" for to in range(1, nodes + 1))
        for chosen in itertools.product(operations, repeat=edge_count(nodes, 1)):
            if form.format(*chosen) not in self.rows:
                count, there = len(operations) ** edge_count(nodes, 1), len(self.rows)
                raise KdartsError(
                    f"the table has {there} architectures, and a search could find {count}: it lacks "
                    f"{form.format(*chosen)}"
                )


def _columns(head: list[str], path) -> tuple[int, tuple[str, ...]]:
    """The number of the column of architectures, and the names of the other columns."""
    if KEY not in head or len(head) < 2:
        raise KdartsError(f"{path}: needs a first line with {KEY!r} and a column for each data set")
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

_OWN = ("method", "seed", "seeds", "regret", "epoch", "seconds", *FIGURES)
"""Columns that the results have besides those of the table."""


def score(folder: pathlib.Path, table: AccuracyTable) -> dict:
    """Returns the score of the finished search in a folder.

    It has the true accuracy of the genotype under the names of the table, `regret` (the difference to the best accuracy
    on the first data set), `FIGURES`, and the architecture. Raises `KdartsError` if a file is missing or damaged, or if
    the genotype is not in the table.
    """
    summary, genotype = read_json(folder / "summary.json", FIGURES), Genotype.load(folder / "genotype.json")
    summary["wall_seconds"] = _seconds(summary)
    accuracies = table.of(genotype)
    row = dict(zip(table.names, accuracies, strict=True)) | {"regret": round(table.best[0] - accuracies[0], 4)}
    return row | {name: summary[name] for name in FIGURES} | {"architecture": genotype.to_text()}


def _seconds(summary: dict) -> float:
    """Returns the time of a search and of what came after it."""
    return summary["wall_seconds"] + summary.get("path_seconds", 0) + summary.get("removal_seconds", 0)


def course(folder: pathlib.Path, table: AccuracyTable) -> list[dict]:
    """Returns the true accuracies of the genotypes of α after each epoch of a finished search.

    Each row has `epoch`, from 1, `seconds` (from the mean time of an epoch) and the accuracies under the names of the
    table. After shared paths or a selection by removal, there is a last row for their genotype.
    """
    summary, genotypes = read_json(folder / "summary.json", FIGURES), read_genotypes(folder / "genotypes.jsonl")
    times = [summary["wall_seconds"] * number / len(genotypes) for number in range(1, len(genotypes) + 1)]
    if "path_seconds" in summary or "removal_seconds" in summary:
        genotypes.append(Genotype.load(folder / "genotype.json"))
        times.append(_seconds(summary))
    return [
        {"epoch": number, "seconds": round(seconds, 1)} | dict(zip(table.names, table.of(genotype), strict=True))
        for number, (seconds, genotype) in enumerate(zip(times, genotypes, strict=True), 1)
    ]


def together(rows: Sequence[dict], names: Sequence[str]) -> dict:
    """Combines the scores of the seeds of a method, at least one.

    Returns `seeds`, the mean for each name of the table, for `regret` and for `FIGURES`, and for each name the sample
    standard deviation (divisor n - 1) as `NAME_sd`, which is empty for one seed.
    """
    if not rows:
        raise KdartsError("no search to score")
    result = {"seeds": len(rows)}
    for name in (*names, "regret", *FIGURES):
        values = [row[name] for row in rows]
        result[name] = round(statistics.fmean(values), 4)
        if name in names:
            result[f"{name}_sd"] = round(statistics.stdev(values), 4) if len(values) > 1 else ""
    return result


def markdown(rows: dict[str, dict], table: AccuracyTable) -> str:
    """Formats the results of the methods (see `together`) in Markdown, with the optimum and a random choice."""
    titles = ["method", *table.names, "regret", "skips", "seconds", "memory (MB)", "seeds"]
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for method, row in rows.items():
        accuracies = [_spread(row[name], row[f"{name}_sd"]) for name in table.names]
        rest = [f"{row['regret']:.2f}", f"{row['skip_connects']:.1f}", f"{row['wall_seconds']:.0f}"]
        lines.append([f"`{method}`", *accuracies, *rest, f"{row['peak_memory_mb']:.0f}", str(row["seeds"])])
    for name, values in (("random choice", table.mean), ("optimum", table.best)):
        regret = f"{table.best[0] - values[0]:.2f}"
        lines.append([name, *(f"{value:.2f}" for value in values), regret, *[""] * (len(titles) - len(values) - 2)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _spread(mean, deviation) -> str:
    return f"{mean:.2f}" if deviation == "" else f"{mean:.2f} ± {deviation:.2f}"
