"""The programs behind D-DARTS' Figures 4, 5 and 6, and one on the ablation loss's gradient, from real searches.

    python tools/ddarts_study.py STUDY [--values=A,B,...] [--seeds=1] [--workdir=runs/study] -- [FLAGS OF kdarts search]

What follows `--` goes to each search as it is, and sets the size. STUDY is one of

    ablation_weight   Fig. 4: the least validation cross-entropy over the epochs against w_AB; D-DARTS without the
                      zero-one loss. The ablation terms of a network's cells sum to zero (Eq. 8), so this is the mean of
                      the cells' losses L_T.
    zero_one_weight   Fig. 5: the share of operations with sigma(alpha) > 0.9, and < 0.1, after the last epoch against
                      w_01; D-DARTS with w_AB = 0.5
    methods           Fig. 6: the best validation accuracy so far against the epoch, a curve for each method
    modes             how far the ablation loss's gradient in mode `own` is from `exact` along one D-DARTS search

For example, in minutes on 2 cores:

    python tools/ddarts_study.py ablation_weight --values=0,0.25,0.5,1,2 -- --dataset=cifar10 --data_dir=DIR \
        --epochs=8 --channels=4 --cells=5 --batch_size=32 --train_examples=512 --valid_examples=512
    python tools/ddarts_study.py methods --values=darts,fairdarts,ddarts --seeds=3 -- --epochs=10 --cells=5
    python tools/ddarts_study.py modes -- --epochs=5 --cells=3 --channels=4

Each search has a folder of its own, WORKDIR/STUDY/VALUE (VALUE-seed1 and on for further seeds), so the same command
goes on where a killed study was. The results are WORKDIR/STUDY.csv, .png and .svg.
"""

import argparse
import math
import pathlib
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Runs where kdarts is not installed, too.

import ddarts_figures as figures
from absl import flags
from kdarts_command import run_kdarts

from kdarts.cli import options
from kdarts.cli.command import exit_code, naming_flags
from kdarts.cli.options import chosen_method
from kdarts.cli.process import start_tensorflow
from kdarts.cli.search import SEARCH
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.search.method import get_method
from kdarts.training.workdir import Workdir, read_json, write_table


@dataclass(frozen=True)
class Study:
    """What a study varies, and what it makes of the finished searches.

    Attributes:
        figure: title, reading of a search's folder, table and drawing.
        flag: of `kdarts search`, that takes the values; "" for a study of a single search.
        values: used where none are given.
        check: makes a value's spelling unique; raises `ValueError` or `KdartsError` for one that is not allowed.
        fixed: the other flags that the study sets.
        validated: whether it reads what is measured on α's images.
    """

    figure: figures.Result
    flag: str = ""
    values: tuple[str, ...] = ()
    check: Callable[[str], str] = str
    fixed: dict[str, str] = field(default_factory=dict)
    validated: bool = True


@dataclass(frozen=True)
class Run:
    """One search of a study.

    Attributes:
        label: what is printed and stored of it: the flag's value and the seed.
        folder: its workdir.
        words: the command line after `kdarts`.
        values: the same, parsed.
    """

    label: dict[str, str | int]
    folder: pathlib.Path
    words: list[str]
    values: flags.FlagValues


def weight(text: str) -> str:
    """The shortest spelling of a finite number from 0."""
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError
    return f"{number:.12g}"


def method(text: str) -> str:
    """The name of a known method."""
    return get_method(text).name


STUDIES = {
    "ablation_weight": Study(
        figures.ABLATION_WEIGHT,
        "ablation_weight",
        ("0", "0.25", "0.5", "1", "2"),
        weight,
        {"method": "ddarts", "zero_one_weight": "0"},
    ),
    "zero_one_weight": Study(
        figures.ZERO_ONE_WEIGHT,
        "zero_one_weight",
        ("0", "1", "3", "5", "7", "9"),
        weight,
        {"method": "ddarts", "ablation_weight": "0.5"},
        validated=False,
    ),
    "methods": Study(figures.METHODS, "method", ("darts", "fairdarts", "ddarts"), method),
    "modes": Study(figures.MODES, fixed={"method": "ddarts"}, validated=False),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise KdartsError(message)


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The study's own options, and the flags after `--`; raises `KdartsError` where they make no sense."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("study", metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--values", help="what to compare, with commas between; default by study")
    parser.add_argument("--seeds", type=int, default=1, help="searches of each value, with seeds from 0")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/study"))
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if {"-h", "--help"} & set(before):
        parser.parse_args(["--help"])
    if "--" not in arguments:
        raise KdartsError(f"put -- before the flags of kdarts search: ddarts_study.py {' '.join(before)} -- [--flags]")
    chosen = parser.parse_args(before)
    choice("study", chosen.study, STUDIES)
    if chosen.seeds < 1:
        raise KdartsError(f"--seeds={chosen.seeds}: allowed is 1 and more")
    if not STUDIES[chosen.study].flag and (chosen.values is not None or chosen.seeds > 1):
        raise KdartsError(f"{chosen.study} is one search: it takes neither --values nor --seeds (but --seed after --)")
    return chosen, arguments[len(before) + 1 :]


def checked_values(study: Study, given: str | None) -> list[str]:
    """The values to compare, each spelt in one way; raises `KdartsError` for one that is wrong or there twice."""
    values = []
    for text in study.values if given is None else given.split(","):
        try:
            value = study.check(text.strip())
        except KdartsError:
            raise
        except ValueError:
            raise KdartsError(f"--values={given}: {text!r} is no finite number from 0") from None
        if value in values:
            raise KdartsError(f"--values={given}: {value} is there twice")
        values.append(value)
    return values


def plan(name: str, chosen: argparse.Namespace, rest: list[str]) -> list[Run]:
    """The searches of a study, in order; nothing is written.

    Args:
        name: of the study.
        chosen: its options.
        rest: flags for each search.

    Raises:
        KdartsError, flags.Error: if any of them would be refused.
    """
    study = STUDIES[name]
    taken = ["workdir", *study.fixed, *([study.flag, "seed"] if study.flag else [])]
    given = SEARCH.parse(["search", *rest])
    for flag in taken:
        if given[flag].present:
            raise KdartsError(f"--{flag} after --: {name} sets it by itself, see ddarts_study.py --help")
    if given.help:
        raise KdartsError("kdarts search --help lists what may follow --")
    fixed = [f"--{flag}={value}" for flag, value in study.fixed.items()]
    if not study.flag:
        return [_run({}, chosen.workdir / name, [*rest, *fixed], study)]
    values = checked_values(study, chosen.values)
    runs = []
    for seed in range(chosen.seeds):  # All values for one seed first: a figure is there as early as can be.
        for value in values:
            folder = chosen.workdir / name / (f"{value}-seed{seed}" if seed else value)
            words = [*rest, *fixed, f"--{study.flag}={value}", f"--seed={seed}"]
            runs.append(_run({study.flag: value, "seed": seed}, folder, words, study))
    return runs


def _run(label, folder, words, study) -> Run:
    words = ["search", *words, f"--workdir={folder}"]
    values = SEARCH.parse(words)
    with naming_flags(values):
        chosen = chosen_method(values)
    if study.validated and not 1 <= values.validate_every <= chosen.epochs:
        raise KdartsError(f"--validate_every={values.validate_every}: the study needs 1 to {chosen.epochs}, the epochs")
    if study.flag == "zero_one_weight" and chosen.mixing != "sigmoid":
        raise KdartsError(f"--mixing={chosen.mixing}: the study counts values of the sigmoid, allowed is sigmoid")
    Workdir(folder).check(options.remembered(values))
    return Run(label, folder, words, values)


def search_all(runs: list[Run]) -> int:
    """Runs the searches that are not finished, one after another.

    Returns:
        0, or the exit code of the first that failed; it has said why.
    """
    for number, run in enumerate(runs):
        label = " ".join(f"{name}={value}" for name, value in run.label.items())
        seconds = [read_json(r.folder / "summary.json")["wall_seconds"] for r in runs if _finished(r)]
        left = (len(runs) - len(seconds)) * statistics.mean(seconds) if seconds else None
        done = _finished(run)
        note = "finished before" if done else f"about {timedelta(seconds=round(left))} left" if seconds else "started"
        print(f"run {number + 1} of {len(runs)}: {label} · {note}", flush=True)
        if done:
            continue
        if code := run_kdarts(run.words):
            if code != 2:  # A mistake has its one line already.
                print(f"ddarts_study: {label} ended with {code}; the same command goes on there", file=sys.stderr)
            return 2 if code == 2 else 1
    return 0


def _finished(run: Run) -> bool:
    return (run.folder / "summary.json").exists()


def size_of(runs: list[Run]) -> str:
    """One line on what all searches of a study share: data and sizes."""
    values, methods = runs[0].values, [chosen_method(run.values) for run in runs]
    parts = [values.dataset]
    if values.train_examples and values.valid_examples:
        parts.append(f"{values.train_examples} + {values.valid_examples} images")
    for name in ("cells", "channels", "epochs"):
        sizes = {getattr(m, name) for m in methods}
        if len(sizes) == 1:
            parts.append(f"{sizes.pop()} {name}")
    seeds = len({run.label.get("seed") for run in runs})
    return " · ".join(parts) + (f" · mean and SD of {seeds} seeds" if seeds > 1 else "")


def run(arguments: list[str]) -> int:
    """Runs a study; returns 0, or the code of a search that ended badly."""
    chosen, rest = parse(arguments)
    name, study = chosen.study, STUDIES[chosen.study]
    runs = plan(name, chosen, rest)
    if study.flag:
        if code := search_all(runs):
            return code
        rows = [{**run.label, **row} for run in runs for row in study.figure.read(run.folder)]
    else:
        start_tensorflow()
        from ablation_study import search_and_compare

        rows = search_and_compare(runs[0].values, Workdir(runs[0].folder))
    write_table(chosen.workdir / f"{name}.csv", rows)
    figures.save(study.figure, rows, size_of(runs), chosen.workdir / name)
    print(f"\n{study.figure.title}\n{size_of(runs)}\n")
    print("\n".join(study.figure.table(rows)))
    print(f"\nWritten: {chosen.workdir / name}.csv, .png, .svg")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs a study.

    Args:
        arguments: without the program's name; None: those of this process.

    Returns:
        As of `exit_code`, and 1 if a search was killed.
    """
    return exit_code("ddarts_study", lambda: run(list(sys.argv[1:] if arguments is None else arguments)))


if __name__ == "__main__":
    sys.exit(main())
