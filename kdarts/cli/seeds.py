"""`kdarts search --seeds`: several searches, of which the best is kept by a shallow training of each genotype.

DARTS' paper keeps the best of four searches by it (section 3.1.1), eDARTS' ranks by it (section IV-A). Its images are
held back from the train split before the search begins: neither the search nor the shallow training learns from them,
and the test images stay unseen.
"""

import pathlib
import shutil
import time

from absl import flags

from kdarts.cli import options
from kdarts.cli.command import IN_USE, titled
from kdarts.cli.process import run_kdarts
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_with
from kdarts.genotypes.settings import MOST, MOST_BATCH, MOST_CELLS, MOST_CHANNELS, MOST_EPOCHS
from kdarts.search.method import Method
from kdarts.supernet.grids import cuboid_names
from kdarts.supernet.macro import MacroConfig
from kdarts.supernet.spaces import get_space
from kdarts.training.workdir import Workdir, read_json, write_json, write_table

HOLD_BACK = 0.2
"""The part of the train split that is held back where a shallow evaluation follows."""

PAPER = {"epochs": 100, "channels": 16, "cells": 5, "batch_size": 64, "drop_path": 0.2}
"""eDARTS' (flags/train_shallow_cifar10.flags)."""

SMALL = {**PAPER, "epochs": 10, "drop_path": 0.0}
"""For the built-in digits."""

_SIZES = ("channels", "cells")
_MOST = {"epochs": MOST_EPOCHS, "channels": MOST_CHANNELS, "cells": MOST_CELLS, "batch_size": MOST_BATCH}
_MOST["train_examples"] = MOST
_SHARED = (
    "dataset",
    "data_dir",
    "download",
    "limit",
    "image_size",
    "pad",
    "pad_with",
    "flip",
    "precision",
    "jit_compile",
    "checkpoint_every",
    "data_service",
    "strategy",
    "sync_batch_norm",
)


@titled("Data")
def define_hold_back(values: flags.FlagValues, text: str) -> None:
    """`--hold_back`; `text` says what for."""
    flags.DEFINE_float("hold_back", None, text, 0.0, 0.9, flag_values=values)


@titled("Shallow evaluation")
def define(values: flags.FlagValues) -> None:
    """The flags of a shallow evaluation."""
    define_hold_back(
        values,
        "part of the train split that a search does not see; shallow trainings are measured on it; default: 0, where "
        f"any follow {HOLD_BACK}",
    )
    for name, text in {
        "epochs": "length of a shallow training",
        "channels": "channels of its network",
        "cells": "cells of its network; default for individual α: the genotype's own",
        "batch_size": "examples in each of its steps",
        "train_examples": "images it is trained on; default: all that are not held back",
    }.items():
        default = f"; default: {PAPER[name]}, digits: {SMALL[name]}" if name in PAPER else ""
        options.positive(f"shallow_{name}", None, text + default, values, _MOST[name])


def flag_names() -> set[str]:
    """The flags that `define` declares."""
    values = flags.FlagValues()
    define(values)
    return set(values)


def check(values: flags.FlagValues, method: Method) -> None:
    """Raises `KdartsError` before a search begins that the flags' shallow evaluation could not follow."""
    given = [f"shallow_{name}" for name in _SIZES if values[f"shallow_{name}"].value is not None]
    if method.space in cuboid_names() and given:
        raise KdartsError(f"--{given[0]}: a path has sizes of its own and no cells")
    if method.sharing != "shared" and values.shallow_cells is not None:
        raise KdartsError(f"--shallow_cells={values.shallow_cells}: with --sharing={method.sharing} the genotype says")
    if part(values) == 0:
        raise KdartsError("--hold_back=0: shallow trainings are measured on what is held back; allowed is up to 0.9")


def part(values: flags.FlagValues) -> float:
    """The part of the train split that is held back where shallow evaluations follow."""
    return HOLD_BACK if values.hold_back is None else values.hold_back


def given(values: flags.FlagValues, names) -> list[str]:
    """The flags of `names` that were given, as words."""
    return [f"--{name}={_text(values[name].value)}" for name in names if name in values and values[name].present]


def _text(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def train_words(values: flags.FlagValues, method: Method) -> list[str]:
    """The command of a shallow training, without genotype, seed and workdir.

    Args:
        values: the flags of the search.
        method: what they choose.
    """
    sizes = {name: values[f"shallow_{name}"].value for name in (*PAPER, "train_examples") if name != "drop_path"}
    usual = SMALL if values.dataset == "digits" else PAPER
    chosen = usual | {name: value for name, value in sizes.items() if value is not None}
    if method.space in cuboid_names():
        chosen = {name: value for name, value in chosen.items() if name not in (*_SIZES, "drop_path")}
        framed = []
    else:
        framed = _frame(values, method)
    if method.sharing != "shared":
        chosen.pop("cells", None)
    words = ["train", *given(values, _SHARED), *framed, f"--hold_back={part(values)}"]
    return words + [f"--{name}={value}" for name, value in chosen.items()]


def _frame(values: flags.FlagValues, method: Method) -> list[str]:
    """The frame of the search, for the training."""
    space, usual = get_space(method.space), MacroConfig()
    frame, stem = options.frame(values, space), space.stem if values.stem == "auto" else values.stem
    told = {} if stem == "auto" else {"stem": stem}
    told |= {"head": ",".join(map(str, frame.head))} if frame.head else {}
    told |= {"widen": frame.widen} if frame.widen != usual.widen else {}
    told |= {"adapter_epsilon": frame.epsilon} if frame.epsilon != usual.epsilon else {}
    return [f"--{name}={value}" for name, value in told.items()]


OWN = {"help", "seed", "seeds", "workdir", "flagfile", "undefok"}
"""Flags that every one of several searches has for itself."""

_KEPT = ("summary.json", "flags.flags")
"""Files of a seed that the workdir has its own of."""


def seeds_define(values: flags.FlagValues) -> None:
    """`--seeds` and the flags of the shallow evaluation."""
    options.positive(
        "seeds",
        None,
        "search so many times, with seed, seed + 1, ..., in WORKDIR/seeds/0 and on, train what each found shallowly, "
        "and keep the one whose network does best on the images that are held back; unset: once, in WORKDIR itself",
        values,
        1000,
    )
    define(values)


def search_words(values: flags.FlagValues, own: tuple[str, ...] = ()) -> list[str]:
    """The command of one of the searches, from what was given without `own`; seed and workdir are left open."""
    names = [name for name in values if name not in OWN | flag_names() | set(own)]
    return ["search", *given(values, names), f"--hold_back={part(values)}"]


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
        code, text = self._once(words, workdir)
        while code == IN_USE:  # By a worker that was taken for dead: it comes to the same result.
            time.sleep(_ASK_AGAIN)
            code, text = self._once(words, workdir)
        if code:
            raise KdartsError(
                f"{workdir} ended with {code}{': ' if text else ''}{text}; the same command goes on there"
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
    from kdarts.training import repeats

    check(values, method)
    workdir.begin(remembered, options.usual(values))
    commands = Commands(search_words(values), train_words(values, method))
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
