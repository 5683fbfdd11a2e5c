"""`kdarts search --seeds`: several searches, of which the best is kept by a shallow training of what each found."""

import pathlib
import shutil
import time

from absl import flags

from kdarts.cli import options, shallow
from kdarts.cli.child import run_kdarts
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_with
from kdarts.run import repeats
from kdarts.run.files import read_json, write_json, write_table
from kdarts.run.workdir import Workdir
from kdarts.search.method import Method

OWN = {"help", "seed", "seeds", "workdir", "flagfile", "undefok"}
"""Flags that every one of several searches has for itself."""

_KEPT = ("summary.json", "flags.flags")
"""Files of a seed that the workdir has its own of."""


def define(values: flags.FlagValues) -> None:
    """`--seeds` and the flags of the shallow evaluation."""
    options.positive(
        "seeds",
        None,
        "search so many times, with seed, seed + 1, ..., in WORKDIR/seeds/0 and on, train what each found shallowly, "
        "and keep the one whose network does best on the images that are held back; unset: once, in WORKDIR itself",
        values,
    )
    shallow.define(values)


def search_words(values: flags.FlagValues, own: tuple[str, ...] = ()) -> list[str]:
    """The command of one of the searches, from what was given without `own`; seed and workdir are left open."""
    names = [name for name in values if name not in OWN | shallow.flag_names() | set(own)]
    return ["search", *shallow.given(values, names), f"--hold_back={shallow.part(values)}"]


_ASK_AGAIN = 10.0
"""Seconds."""


class Commands:
    """A search and the shallow training of what it finds, as processes.

    Args:
        search, train: the commands, without genotype, seed and workdir.
        quiet: whether what they say goes into a file, `log.txt` beside their workdirs.
    """

    def __init__(self, search: list[str], train: list[str], quiet: bool = False):
        self._search, self._train, self._quiet = search, train, quiet

    def search(self, seed: int, workdir: pathlib.Path) -> None:
        """Runs the search of a seed, to its end."""
        self._run([*self._search, f"--seed={seed}", f"--workdir={workdir}"], workdir)

    def train(self, genotype: pathlib.Path, seed: int, workdir: pathlib.Path) -> None:
        """Runs the shallow training of a genotype, to its end."""
        self._run([*self._train, f"--genotype={genotype}", f"--seed={seed}", f"--workdir={workdir}"], workdir)

    def _run(self, words: list[str], workdir: pathlib.Path) -> None:
        code, said = self._once(words, workdir)
        while code == 2 and "is in use by" in said:  # By a worker that was taken for dead: what it finds is the same.
            time.sleep(_ASK_AGAIN)
            code, said = self._once(words, workdir)
        if code:
            raise KdartsError(
                f"{workdir} ended with {code}{': ' if said else ''}{said}; the same command goes on there"
            )

    def _once(self, words: list[str], workdir: pathlib.Path) -> tuple[int, str]:
        """The exit code of a command and, of a quiet one, its last line."""
        if not self._quiet:
            return run_kdarts(words), ""
        log = workdir.parent / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            code = run_kdarts(words, stdout=file, stderr=file)
        return code, _last_line(log)


def _last_line(log: pathlib.Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][-300:] if lines else ""


def run(values: flags.FlagValues, method: Method, workdir: Workdir, remembered: dict[str, str]) -> None:
    """Runs all searches and their trainings, or goes on with them, and keeps the best.

    Args:
        values: the flags.
        method: what they choose.
        workdir: of all of them.
        remembered: what it is known by.
    """
    shallow.check(values, method)
    workdir.claim(remembered)
    commands = Commands(search_words(values), shallow.train_words(values, method))
    seeds, rows = range(values.seed, values.seed + values.seeds), []
    parts = [workdir / "seeds" / str(number) for number in range(values.seeds)]
    for number, (seed, part) in enumerate(zip(seeds, parts, strict=True), 1):
        done = (part / "train" / "summary.json").exists()
        print(f"seed {seed}, {number} of {values.seeds}" + (": finished before" if done else ""), flush=True)
        rows.append(repeats.measured(commands.search, commands.train, part, seed))
    write_table(workdir / "seeds.csv", rows)
    best = max(range(len(rows)), key=lambda number: ("params" in rows[number], rows[number]["accuracy"]))
    if "diverged" in rows[best]:
        raise KdartsError(f"all {len(rows)} searches diverged; try a lower --learning_rate in a new --workdir")
    _keep(parts[best] / "search", workdir)
    mean, deviation = repeats.spread(rows)
    images = read_json(parts[best] / "train" / "summary.json")["held_back_examples"]
    about = {"accuracy": mean, "accuracy_sd": deviation, "held_back_examples": images, "best_seed": seeds[best]}
    write_json(workdir / "summary.json", read_json(parts[best] / "search" / "summary.json") | about | {"seeds": rows})
    print(f"\n{'seed':>6}  {'accuracy':>8}  {'M weights':>9}")
    for row in rows:
        mark = " *" if row["seed"] == seeds[best] else ""
        size = "diverged" if "diverged" in row else f"{row['params'] / 1e6:.3f}"
        print(f"{row['seed']:6}  {row['accuracy']:8.4f}  {size:>9}{mark}")
    print(
        f"{repeats.in_words(mean, deviation)} after shallow trainings, on {images} held-back images of the train split"
    )
    genotype = workdir / "genotype.json"
    print(f"Kept the network of seed {seeds[best]}: {genotype}\nNext: kdarts train --genotype={genotype} ...")


def _keep(search: pathlib.Path, workdir: Workdir) -> None:
    """Copies what a search found, and its pictures, but not its states."""
    files = [file for file in search.iterdir() if file.is_file() and file.name not in _KEPT]
    files += [file for file in search.glob("family/*") if file.is_file()]
    for file in files:
        write_with(
            workdir / str(file.relative_to(search)), lambda temporary, file=file: shutil.copyfile(file, temporary)
        )
