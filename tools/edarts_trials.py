"""Trials of `edarts_study.py`: what they are, and how they are carried out, each command in a process of its own."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import ddarts_figures
import edarts_tables as tables
from kdarts_command import run_kdarts

from kdarts.cli.search import SEARCH
from kdarts.cli.train import TRAIN
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.training.workdir import read_json


@dataclass(frozen=True)
class Trial:
    """One cell of a study: how it comes about, and how it is measured.

    Attributes:
        label: what the tables say of it.
        genotype: the cell; None: it is searched.
        search, train: the commands, without genotype and workdir.
    """

    label: dict[str, str | int]
    genotype: Genotype | None
    search: list[str]
    train: list[str]

    def check(self) -> None:
        """Raises `KdartsError` or `flags.Error` if a command would be refused, as far as that is seen beforehand."""
        if self.genotype is None:
            SEARCH.parse(self.search)
        TRAIN.parse(self.train)

    def summaries(self, folder: pathlib.Path) -> list[dict]:
        """The summaries that its commands have left so far in its folder: of the search, of the training."""
        files = [folder / part / "summary.json" for part in ("search", "train")]
        return [read_json(file) for file in files if file.exists()]


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        title: one line.
        defaults: of its options, where they are not the same for every study.
        names: of its trials, from the options.
        trial: from a name and the options.
        then: from the options to what follows the trials (see `GridOracle`), or None.
        rows: from `(name, accuracy)` of all trials, the options and the folder of the trials to the rows of its table.
        table: from the rows to lines of Markdown.
        figure: draws the rows, or None.
    """

    title: str
    defaults: dict[str, str | int]
    names: Callable
    trial: Callable
    then: Callable
    rows: Callable
    table: Callable
    figure: ddarts_figures.Result | None


class Measurement:
    """Carries trials out; called with a trial's name, it returns the test accuracy.

    Args:
        study: that the trials are of.
        chosen: its options.
        folder: the folder of the trials.
        oracle: knows all of them.

    Attributes:
        code: of the command that ended last.
    """

    def __init__(self, study: Study, chosen, folder: pathlib.Path, oracle):
        self.study, self.chosen, self.folder, self.oracle = study, chosen, folder, oracle
        self.code = 0

    def __call__(self, name: str) -> float:
        trial, folder = self.study.trial(name, self.chosen), self.folder / name
        names = self.oracle.candidates or [name]
        print(f"\ntrial {names.index(name) + 1} of {len(names)}: {name}{self._left(names)}", flush=True)
        if trial.genotype is None:
            genotype = folder / "search" / "genotype.json"
            self._run(trial.search, folder / "search")
        else:
            genotype = folder / "genotype.json"
            trial.genotype.save(genotype)
        self._run([*trial.train, f"--genotype={genotype}"], folder / "train")
        return read_json(folder / "train" / "summary.json")["test_accuracy"]

    def _run(self, words, workdir) -> None:
        if (workdir / "summary.json").exists():
            return
        self.code = run_kdarts([*words, f"--workdir={workdir}"])
        if self.code:
            raise KdartsError(f"{workdir} ended with {self.code}")

    def _left(self, names) -> str:
        """How long the trials that are not finished will take, going by the finished ones of their kind."""
        seconds = {}
        for name in names:
            parts = self.study.trial(name, self.chosen).summaries(self.folder / name)
            done = (self.folder / name / "train" / "summary.json").exists()
            seconds[name] = sum(part["wall_seconds"] for part in parts) if done else None
        left = tables.seconds_left(seconds)
        return "" if left is None else f" · about {timedelta(seconds=round(left))} left"
