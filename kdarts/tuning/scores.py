"""How searches score by a table of true accuracies, such as that of NAS-Bench-201."""

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


FIGURES = ("skip_connects", "wall_seconds", "peak_memory_mb")
"""What a search's summary says that goes into its row."""


def score(folder: pathlib.Path, table: AccuracyTable) -> dict:
    """What a finished search came to.

    Args:
        folder: its workdir.
        table: the truth.

    Returns:
        The true accuracy of its genotype under the names of the table, `regret` (the distance to the best on the
        first of these), `FIGURES`, and the architecture.

    Raises:
        KdartsError: if a file is missing or damaged, or the table has not the genotype.
    """
    summary, genotype = read_json(folder / "summary.json"), Genotype.load(folder / "genotype.json")
    summary["wall_seconds"] = _seconds(summary)
    accuracies = table.of(genotype)
    row = dict(zip(table.names, accuracies, strict=True)) | {"regret": round(table.best[0] - accuracies[0], 4)}
    return row | {name: summary[name] for name in FIGURES} | {"architecture": genotype.to_text()}


def _seconds(summary: dict) -> float:
    """The time of a search and of the paths that followed it."""
    return summary["wall_seconds"] + summary.get("path_seconds", 0)


def course(folder: pathlib.Path, table: AccuracyTable) -> list[dict]:
    """The true accuracy of what α stood for after each epoch of a finished search, and of what followed it.

    Args:
        folder, table: as of `score`.

    Returns:
        For each epoch `epoch`, from 1, `seconds` (its share of the search's time, as all epochs are alike) and the
        accuracies under the names of the table. Where shared paths followed, a last one with what they led to.
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
    """Mean and sample standard deviation (divisor n - 1) over the seeds of a method.

    Args:
        rows: as of `score`, at least one.
        names: of the table.

    Returns:
        `seeds`, and for each name, for `regret` and `FIGURES` the mean; for the names the deviation, too, as `NAME_sd`
        (empty for one seed).
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
    """The table of a benchmark in Markdown, with the optimum and a random choice.

    Args:
        rows: by method, as of `together`.
        table: the truth.
    """
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
