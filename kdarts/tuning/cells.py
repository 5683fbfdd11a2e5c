"""The scores of searches among cells of two inputs: by a table of trained cells, and by what they chose.

A table of some cells cannot say how good any other cell is. It says how well something ranks cells: α, the losses of a
supernet along them, scores without training. The cell that a search found is placed by the rule score of
`kdarts.genotypes.rule`. In the spaces of RobustDARTS (Zela et al., ICLR 2020) no table is needed: a method that keeps
skip connections or even noise, where it could have a convolution, has failed.
"""

import csv
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import text_of
from kdarts.genotypes.genotype import Genotype, get_genotype
from kdarts.genotypes.rule import rule_parts
from kdarts.training.workdir import read_table, write_table
from kdarts.tuning.scores import (
    FIGURES,
    LAST,
    by_epoch,
    correlations,
    figures,
    last,
    log_weights,
    markdown_table,
    mean_and_spread,
    together,
)

KEY, ACCURACY = "genotype", "last"
"""The columns of the genotypes and of their accuracies after the last epoch."""

LEAST = 3
"""Cells that a table needs: a rank correlation of two is always 1 or -1."""

PUBLISHED = ("rule", "DARTS_V1", "DARTS_V2", "PDARTS", "PC_DARTS_cifar", "GDAS_V1", "SNAS_mild", "SETN", "RobustDARTS")
PUBLISHED += ("SDARTS_RS_cifar10", "SDARTS_ADV_cifar10", "DrNAS_cifar10", "DARTS_MINUS_cifar10_s0_best", "DOTS_C10")
"""Genotypes of the zoo whose rule scores are printed for comparison."""

_PARTS = ("rule", "sep_convs", "skips", "from_inputs")
_RANKED = {"normal": "α, normal cell", "reduce": "α, reduction cell", "both": "α, both cells", "along": "loss along it"}


class CellTable:
    """Cells of two inputs and the accuracy of each after the last epoch of its training.

    Args:
        texts: The genotypes as the table has them.
        accuracies: The accuracy of each in %.
        where: The place of each in the table, for messages.

    Attributes:
        genotypes: The cells.
        rules: The rule score of each.
        zero_cost: For each score without training its value for each cell, as far as they were computed.
    """

    space = "darts"

    def __init__(self, texts: Sequence[str], accuracies: Sequence[float], where: Sequence[str]):
        self.texts, self.accuracies, self.where = list(texts), np.asarray(accuracies, np.float64), where
        self.genotypes = [Genotype.from_text(text) for text in texts]
        self.rules = np.array([rule_parts(genotype)["rule"] for genotype in self.genotypes])
        self.zero_cost: dict[str, np.ndarray] = {}

    @classmethod
    def load(cls, path: str | os.PathLike) -> "CellTable":
        """Reads a CSV with the columns `genotype`, in the text form of DARTS, and `last`, in %; others do not count.

        A genotype may stand there several times, as one that was trained again. Raises `KdartsError`, with the number
        of the line, if the file cannot be read or is no such table.
        """
        lines = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
        rows = []
        try:
            head = next(lines, [])
            if head.count(KEY) != 1 or head.count(ACCURACY) != 1:
                raise KdartsError(f"{path}: needs a first line with {KEY!r} and {ACCURACY!r}, each once")
            for line in lines:
                rows.append(_row(line, head, f"{path}, line {lines.line_num}"))
        except csv.Error as error:
            raise KdartsError(f"{path}, line {lines.line_num}: cannot be read as CSV ({error})") from None
        if len(rows) < LEAST:
            raise KdartsError(f"{path}: has {len(rows)} cells; needs {LEAST} or more")
        return cls(*zip(*rows, strict=True))

    def check(self, space, nodes: int) -> None:
        """Raises `KdartsError` if a search could not find the cells of the table; arguments as of `AccuracyTable`."""
        if space is None or space.stages:
            raise KdartsError(f"a table of genotypes knows cells of two inputs; take --space={self.space}")
        for genotype, where in zip(self.genotypes, self.where, strict=True):
            for name in genotype.operations:
                if name not in space.operations:
                    raise KdartsError(f"{where}: has {name}, which --space={space.name} lacks")
            if genotype.nodes > nodes:
                raise KdartsError(f"{where}: has {genotype.nodes} nodes, and --nodes={nodes} are searched")

    def score(self, folder: pathlib.Path) -> dict:
        """Returns the score of the finished search in a folder.

        It has the rule score of its cell with the parts of it, their `percentile` (the part of the table's cells with a
        lower score, equal ones by half), the rank correlations `kendall_` and `spearman_` with the accuracies of the
        table, and `FIGURES`. A cell is ranked by the sum of log p over its edges, p the weight that the selection
        compares: in the `normal` cell, in the `reduce` cell and in `both`; and, if it was measured, by the supernet's
        loss `along` the cell, the least first.
        """
        genotype = Genotype.load(folder / "genotype.json")
        row = rule_parts(genotype)
        lower, equal = (self.rules < row["rule"]).mean(), (self.rules == row["rule"]).mean()
        row["percentile"] = round(100 * (lower + equal / 2), 1)
        operations, logs = log_weights(folder)
        if len(logs) == 2:
            sums = np.array(
                [
                    [_log_sum(cell, log, operations) for cell, log in zip(g.cells, logs, strict=True)]
                    for g in self.genotypes
                ]
            )
            for name, values in (("normal", sums[:, 0]), ("reduce", sums[:, 1]), ("both", sums.sum(1))):
                row |= correlations(values, self.accuracies, f"_{name}")
        losses = known(folder.parent / "along.csv", ("loss",))
        if all(text in losses for text in self.texts):
            row |= correlations([-losses[text][0] for text in self.texts], self.accuracies, "_along")
        return row | figures(folder)

    def told(self, row: dict) -> str:
        """Returns a score in a few words."""
        ranks = f", Kendall of α {row['kendall_normal']:.2f}" if row.get("kendall_normal", "") != "" else ""
        return f"rule score {row['rule']:.1f}, above {row['percentile']:.0f} % of the table{ranks}"

    def together(self, rows: Sequence[dict]) -> dict:
        """Combines the scores of the seeds of a method (see `scores.together`)."""
        ranks = [f"{kind}_{name}" for name in _RANKED for kind in ("kendall", "spearman")]
        filled = [dict.fromkeys(ranks, "") | row for row in rows]
        return together(filled, (*_PARTS, "percentile", *ranks), FIGURES)

    def course(self, folder: pathlib.Path) -> list[tuple[float, float]]:
        """Returns the seconds and the rule score of the genotype after each epoch of a finished search."""
        return [(seconds, rule_parts(genotype)["rule"]) for seconds, genotype in by_epoch(folder)]

    def scale(self) -> dict:
        """Returns the arguments of `draw_benchmark` about the vertical axis."""
        names = "highest of the table", "mean of the table"
        return {"best": self.rules.max(), "random": self.rules.mean(), "label": "rule score", "names": names}

    def markdown(self, rows: dict[str, dict]) -> str:
        """Formats the results of the methods (see `together`) in Markdown, and how each score ranks the cells."""
        count, accuracies = len(self.texts), self.accuracies
        parts = ["rule score", "separable convolutions", "skips", "edges from inputs", "percentile"]
        lines = []
        for method, row in rows.items():
            found = [mean_and_spread(row, name, 1) for name in (*_PARTS, "percentile")]
            lines.append([f"`{method}`", *found, *last(row)[1:]])
        features = np.array([[rule_parts(genotype)[name] for name in _PARTS] for genotype in self.genotypes])
        means = [f"{mean:.1f} ± {sd:.1f}" for mean, sd in zip(features.mean(0), features.std(0, ddof=1), strict=True)]
        lines.append(["the table's cells", *means])
        published = [f"`{name}` {rule_parts(get_genotype(name))['rule']:.1f}" for name in PUBLISHED]
        named = [name for name in _RANKED if any(row[f"kendall_{name}"] != "" for row in rows.values())]
        text = (
            "The genotypes of the searches: the rule score of the normal cell, its parts, and the part of the table's "
            f"cells with a lower score, in %.\n\n{markdown_table(['method', *parts, *LAST[1:]], lines)}\n"
            f"Published cells by the same score: {', '.join(published)}.\n\n"
            f"How well the {count} cells of the table are ranked, whose accuracy is {accuracies.mean():.2f} ± "
            f"{accuracies.std(ddof=1):.2f} after the last epoch: Kendall / Spearman, mean over the seeds.\n\n"
        )
        lines = [
            [f"`{method}`", *(_pair(row[f"kendall_{name}"], row[f"spearman_{name}"]) for name in named)]
            for method, row in rows.items()
        ]
        text += markdown_table(["method", *(_RANKED[name] for name in named)], lines)
        if self.zero_cost:
            titles = ["score without training", "Kendall", "Spearman", "accuracy of its best cell"]
            text += f"\n{markdown_table(titles, [self._ranked_by(name) for name in self.zero_cost])}"
        return text

    def _ranked_by(self, name: str) -> list[str]:
        values = self.zero_cost[name]
        found = correlations(values, self.accuracies)
        ranks = ["" if value == "" else f"{value:.2f}" for value in found.values()]
        return [f"`{name}`", *ranks, f"{self.accuracies[np.flatnonzero(values == values.max())].mean():.2f}"]


class Counts:
    """How often searches chose skip connections and noise, in a space of cells of two inputs.

    Args:
        space: The `SearchSpace`.
    """

    def __init__(self, space):
        self.space = space.name
        self.names = [name for name in ("noise", "skip_connect") if name in space.operations]
        self._choices = len(set(space.operations) - {"none"})
        self._edges = 4 * space.nodes

    def check(self, space, nodes: int) -> None:
        """Takes any number of nodes; arguments as of `AccuracyTable`."""
        self._edges = 4 * nodes

    def score(self, folder: pathlib.Path) -> dict:
        """Returns how many edges of the genotype of a finished search have each operation, and its `FIGURES`."""
        return self._counts(Genotype.load(folder / "genotype.json")) | figures(folder)

    def _counts(self, genotype: Genotype) -> dict[str, int]:
        chosen = [operation for cell in genotype.cells for operation, _, _ in cell]
        return {name: chosen.count(name) for name in self.names} | {"edges": len(chosen)}

    def told(self, row: dict) -> str:
        """Returns a score in a few words."""
        return f"{', '.join(f'{row[name]} {name}' for name in self.names)} on {row['edges']} edges"

    def together(self, rows: Sequence[dict]) -> dict:
        """Combines the scores of the seeds of a method (see `scores.together`)."""
        return together(rows, self.names, ("edges", *FIGURES))

    def course(self, folder: pathlib.Path) -> list[tuple[float, float]]:
        """Returns the seconds and the first count of the genotype after each epoch of a finished search."""
        return [(seconds, self._counts(genotype)[self.names[0]]) for seconds, genotype in by_epoch(folder)]

    def scale(self) -> dict:
        """Returns the arguments of `draw_benchmark` about the vertical axis."""
        label, names = f"{self.names[0]}, of {self._edges} edges", ("none", "random choice")
        return {"best": 0, "random": self._edges / self._choices, "label": label, "names": names}

    def markdown(self, rows: dict[str, dict]) -> str:
        """Formats the results of the methods (see `together`) in Markdown, with a random choice."""
        lines = [
            [
                f"`{method}`",
                *(mean_and_spread(row, name, 1) for name in self.names),
                f"{row['edges']:.1f}",
                *last(row)[1:],
            ]
            for method, row in rows.items()
        ]
        random = f"{self._edges / self._choices:.1f}"
        lines.append(["random choice", *[random] * len(self.names), f"{self._edges:.1f}"])
        return markdown_table(["method", *self.names, "of edges", *LAST[1:]], lines)


def known(path: pathlib.Path, names: Sequence[str]) -> dict[str, list[float]]:
    """Reads what `note` wrote: for each genotype the numbers under these names; {} if there is no such file."""
    if not path.exists():
        return {}
    try:
        return {row[KEY]: [float(row[name]) for name in names] for row in read_table(path)}
    except (KdartsError, KeyError, TypeError, ValueError):
        print(f"{path}: damaged; made again", flush=True)
        return {}


def note(path: pathlib.Path, names: Sequence[str], values: dict[str, Sequence[float]]) -> None:
    """Writes numbers for each genotype, by its text, atomically."""
    write_table(path, [{KEY: text, **dict(zip(names, row, strict=True))} for text, row in values.items()])


def _log_sum(cell, logs: np.ndarray, operations: Sequence[str]) -> float:
    return sum(logs[edge_row(to, source), operations.index(name)] for name, to, source in cell)


def _pair(first, second) -> str:
    return "" if first == "" else f"{first:.2f} / {second:.2f}"


def _row(line: list[str], head: list[str], where: str) -> tuple[str, float, str]:
    """The genotype, the accuracy and the place of a line."""
    fields = dict(zip(head, line, strict=False))
    try:
        accuracy = float(fields.get(ACCURACY, ""))
    except ValueError:
        accuracy = -1
    if len(line) != len(head) or not 0 <= accuracy <= 100:
        raise KdartsError(f"{where}: needs {len(head)} fields, {ACCURACY!r} from 0 to 100")
    try:
        text = fields[KEY].strip()
        rule_parts(Genotype.from_text(text))
    except KdartsError as error:
        raise KdartsError(f"{where}: {error}") from None
    return text, accuracy, where
