"""The scores of searches by a table of true accuracies, such as that of NAS-Bench-201."""

import csv
import json
import os
import pathlib
import statistics
from collections.abc import Sequence

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.training.workdir import read_json

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

        Raises `KdartsError`, with the number of the line, if the file cannot be read or is no such table.
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


FIGURES = ("skip_connects", "wall_seconds", "peak_memory_mb")
"""The figures of a search's summary that its row has."""


def score(folder: pathlib.Path, table: AccuracyTable) -> dict:
    """Returns the score of the finished search in a folder.

    It has the true accuracy of the genotype under the names of the table, `regret` (the difference to the best accuracy
    on the first data set), `FIGURES`, and the architecture. Raises `KdartsError` if a file is missing or damaged, or if
    the genotype is not in the table.
    """
    summary, genotype = read_json(folder / "summary.json"), Genotype.load(folder / "genotype.json")
    summary["wall_seconds"] = _seconds(summary)
    accuracies = table.of(genotype)
    row = dict(zip(table.names, accuracies, strict=True)) | {"regret": round(table.best[0] - accuracies[0], 4)}
    return row | {name: summary[name] for name in FIGURES} | {"architecture": genotype.to_text()}


def _seconds(summary: dict) -> float:
    """Returns the time of a search and of the shared paths after it."""
    return summary["wall_seconds"] + summary.get("path_seconds", 0)


def course(folder: pathlib.Path, table: AccuracyTable) -> list[dict]:
    """Returns the true accuracies of the genotypes of α after each epoch of a finished search.

    Each row has `epoch`, from 1, `seconds` (from the mean time of an epoch) and the accuracies under the names of the
    table. After shared paths, there is a last row for their genotype.
    """
    summary, lines = read_json(folder / "summary.json"), (folder / "genotypes.jsonl").read_text("utf-8").splitlines()
    genotypes = [Genotype.from_json(json.dumps(json.loads(line)["genotype"])) for line in lines]
    times = [summary["wall_seconds"] * number / len(genotypes) for number in range(1, len(genotypes) + 1)]
    if "path_seconds" in summary:
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
