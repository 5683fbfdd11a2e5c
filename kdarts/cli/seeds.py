"""`kdarts search --seeds`: several searches, of which the best is kept by a shallow training of each genotype.

DARTS' paper keeps the best of four searches in this way (section 3.1.1), and eDARTS' paper ranks them in this way
(section IV-A). The images of the comparison are held back from the train split before the search begins: neither the
search nor the shallow training learns from them, and the test images stay unseen.
"""

import pathlib
import shutil
import time

from absl import flags

from kdarts.cli import options, preset
from kdarts.cli.command import IN_USE, entitle, titled
from kdarts.cli.process import run_kdarts, start_tensorflow
from kdarts.genotypes.cuboid import load_architecture
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_with
from kdarts.genotypes.settings import MOST, MOST_BATCH, MOST_CELLS, MOST_CHANNELS, MOST_EPOCHS
from kdarts.search.method import Method
from kdarts.supernet.grids import cuboid_names
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
_SHARED = ("dataset", "data_dir", "download", "limit", "image_size", "labels", "group", "background", "cache_dir")
_SHARED += ("pad", "pad_with", "flip", "precision", "jit_compile", "checkpoint_every", "data_service")
_SHARED += ("strategy", "sync_batch_norm")
"""Flags that a shallow training has from its search."""


def define_hold_back(values: flags.FlagValues, text: str) -> None:
    """Declares `--hold_back` with a help text."""
    flags.DEFINE_float("hold_back", None, text, 0.0, 0.9, flag_values=values)
    entitle(values, "Data", ["hold_back"])


@titled("Shallow evaluation")
def define(values: flags.FlagValues) -> None:
    """Declares the flags of a shallow evaluation."""
    text = "part of the train split that the search does not see, on which shallow trainings are measured; default: 0, "
    define_hold_back(values, f"{text}or {HOLD_BACK} with shallow trainings")
    for name, text in {
        "epochs": "length of a shallow training",
        "channels": "channels of its network",
        "cells": "cells of its network; default for individual α: the genotype's own",
        "batch_size": "examples in each of its steps",
        "train_examples": "images it is trained on; default: all that are not held back",
    }.items():
        default = f"; default: {PAPER[name]}, preset small: {SMALL[name]}" if name in PAPER else ""
        options.positive(f"shallow_{name}", None, text + default, values, _MOST[name])


def flag_names() -> set[str]:
    """Returns the names of the flags that `define` declares."""
    values = flags.FlagValues()
    define(values)
    return set(values)


def check(values: flags.FlagValues, method: Method) -> None:
    """Raises `KdartsError` if the shallow evaluation of the flags could not follow a search of this method."""
    given = [f"shallow_{name}" for name in _SIZES if values[f"shallow_{name}"].value is not None]
    if method.space in cuboid_names() and given:
        raise KdartsError(f"--{given[0]}: the sizes of a path are fixed, and it has no cells")
    if method.sharing != "shared" and values.shallow_cells is not None:
        raise KdartsError(
            f"--shallow_cells={values.shallow_cells}: with --sharing={method.sharing} the genotype has its own depth"
        )
    if part(values) == 0:
        raise KdartsError("--hold_back=0: shallow trainings are measured on what is held back; allowed is up to 0.9")


def part(values: flags.FlagValues) -> float:
    """Returns the part of the train split that is held back if a shallow evaluation follows."""
    return HOLD_BACK if values.hold_back is None else values.hold_back


def given(values: flags.FlagValues, names) -> list[str]:
    """Returns the flags of `names` that were given, as words."""
    present = [name for name in names if name in values and values[name].present]
    return [f"--{name}={options.as_text(values[name].value)}" for name in present]


def train_words(values: flags.FlagValues, method: Method) -> list[str]:
    """Returns the command of a shallow training, without genotype, seed and workdir, from the flags of its search."""
    sizes = {name: values[f"shallow_{name}"].value for name in (*PAPER, "train_examples") if name != "drop_path"}
    usual = SMALL if preset.is_small(values) else PAPER
    chosen = usual | {name: value for name, value in sizes.items() if value is not None}
    if method.space in cuboid_names():
        chosen = {name: value for name, value in chosen.items() if name not in (*_SIZES, "drop_path")}
    if method.sharing != "shared":
        chosen.pop("cells", None)
    words = ["train", *given(values, _SHARED), f"--hold_back={part(values)}"]
    return words + [f"--{name}={value}" for name, value in (_frame(values, method) | chosen).items()]


_TRAINED_IN = {"imagenet_wide": "imagenet"}
"""The stem of a training where it is another than that of its search (PC-DARTS on ImageNet)."""

LARGE_SIZES = {"channels": 48, "cells": 14}
"""Of the networks that the papers train on ImageNet."""


def preset_changes(values: flags.FlagValues) -> dict[str, tuple]:
    """Returns what a small preset changes in the shallow trainings of the flags (see `options.preset_changes`)."""
    if not preset.is_small(values):
        return {}
    given = {f"shallow_{name}": (PAPER[name], SMALL[name]) for name in PAPER if PAPER[name] != SMALL[name]}
    return {name: both for name, both in given.items() if name not in values or values[name].value is None}


def _frame(values: flags.FlagValues, method: Method) -> dict:
    """Returns the flags of a training that has the stem and the frame of a search."""
    if method.space in cuboid_names():
        return {}
    space = get_space(method.space)
    stem = space.stem if values.stem == "auto" else values.stem
    return options.frame_flags(_TRAINED_IN.get(stem, stem), options.frame(values, space))


def train_command(
    values: flags.FlagValues, method: Method, genotype, examples: int, family: str | None = None, **size
) -> str:
    """The line with the training that follows a search.

    Args:
        values: the flags of the search.
        method: what they choose.
        genotype: path of what the search found.
        examples: number of the training images.
        family: the folder of a family of networks, for a second line with the training of all of them.
        **size: `channels`, `cells` and `stem` of the network; without, they are the search's, the sizes where images
            are few.
    """
    recipe = {} if preset.is_small(values) else options.fitting_recipe(examples)
    told = {"genotype": genotype, **options.data_flags(values), **preset.flag(values), **recipe}
    told |= options.precision_flags(values)
    if method.space not in cuboid_names():
        few = {"channels": method.channels} if recipe else {}
        if recipe and load_architecture(genotype).sequence is None:  # Others have a depth of their own.
            few["cells"] = method.cells
        few = few or (LARGE_SIZES if values.stem in _TRAINED_IN else {})
        told |= {**few, **_frame(values, method), **size}
    line = options.next_command("train", told)
    if family is None:
        return line
    rest = {name: value for name, value in told.items() if name != "genotype"}
    return f"{line}\nOr, all of the family: {options.command('train', {'family': family, **rest})}"


OWN = {"help", "seed", "seeds", "workdir", "flagfile", "undefok"}
"""Flags that differ between the searches of several seeds."""

_KEPT = ("summary.json", "flags.flags")
"""Files of a seed that are not copied, because the workdir has its own."""


def seeds_define(values: flags.FlagValues) -> None:
    """Declares `--seeds` and the flags of the shallow evaluation."""
    text = (
        "number of searches, with seed, seed + 1, ..., in WORKDIR/seeds/0 and on; each genotype is trained shallowly, "
        "and the one whose network is best on the held-back images is kept; unset: one search, in WORKDIR itself"
    )
    options.positive("seeds", None, text, values)
    define(values)


def search_words(values: flags.FlagValues, own: tuple[str, ...] = ()) -> list[str]:
    """Returns the command of one of the searches, without its seed, its workdir and the flags in `own`."""
    names = [name for name in values if name not in OWN | flag_names() | set(own)]
    return ["search", *given(values, names), f"--hold_back={part(values)}"]


_ASK_AGAIN = 10.0
"""Seconds."""


class Commands:
    """A search and the shallow training of its genotype, as processes.

    Args:
        search, train: the commands, without genotype, seed and workdir.
        quiet: whether their output goes into a file, `log.txt` beside their workdirs.
    """

    def __init__(self, search: list[str], train: list[str], quiet: bool = False):
        self._search, self._train, self._quiet = search, train, quiet

    def search(self, seed: int, workdir: pathlib.Path) -> None:
        """Runs the search of a seed to its end."""
        self._run([*self._search, f"--seed={seed}", f"--workdir={workdir}"], workdir)

    def train(self, genotype: pathlib.Path, seed: int, workdir: pathlib.Path) -> None:
        """Runs the shallow training of a genotype to its end."""
        self._run([*self._train, f"--genotype={genotype}", f"--seed={seed}", f"--workdir={workdir}"], workdir)

    def _run(self, words: list[str], workdir: pathlib.Path) -> None:
        code, text = self._once(words, workdir)
        while code == IN_USE:  # By a worker that was silent for too long; it comes to the same result.
            time.sleep(_ASK_AGAIN)
            code, text = self._once(words, workdir)
        if code:
            raise KdartsError(f"{workdir} ended with {code}{text}; the same command goes on there")

    def _once(self, words: list[str], workdir: pathlib.Path) -> tuple[int, str]:
        """Returns the exit code of a command and, of a quiet one, a colon and its last line."""
        if not self._quiet:
            return run_kdarts(words), ""
        log = workdir.parent / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            code = run_kdarts(words, stdout=file, stderr=file)
        lines = log.read_text("utf-8", "replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return code, f": {last[-300:]}" if last else ""


def run(values: flags.FlagValues, method: Method, workdir: Workdir, remembered: dict[str, str]) -> None:
    """Runs all searches and their trainings, or continues them, and keeps the best.

    `remembered` are the flags that the workdir records.
    """
    from kdarts.training import repeats

    check(values, method)
    start_tensorflow()
    workdir.check_data(train=options.load(values, "train"))
    workdir.begin(remembered, options.usual(values))
    commands = Commands(search_words(values), train_words(values, method))
    seeds, rows = range(values.seed, values.seed + values.seeds), []
    parts = [workdir / "seeds" / str(number) for number in range(values.seeds)]
    for number, (seed, folder) in enumerate(zip(seeds, parts, strict=True), 1):
        done = (folder / "train" / "summary.json").exists()
        print(f"seed {seed}, {number} of {values.seeds}" + (": finished before" if done else ""), flush=True)
        rows.append(repeats.measured(commands.search, commands.train, folder, seed))
    write_table(workdir / "seeds.csv", rows)
    best = max(range(len(rows)), key=lambda number: ("params" in rows[number], rows[number]["accuracy"]))
    if "diverged" in rows[best]:
        raise KdartsError(f"all {len(rows)} searches diverged; try a lower --learning_rate in a new --workdir")
    _keep(parts[best] / "search", workdir)
    (mean, deviation), (median, half_range) = repeats.spread(rows), repeats.middle(rows)
    images = read_json(parts[best] / "train" / "summary.json", ["held_back_examples"])["held_back_examples"]
    about = {"accuracy": mean, "accuracy_sd": deviation, "accuracy_median": median, "accuracy_half_range": half_range}
    about |= {"held_back_examples": images, "best_seed": seeds[best]}
    write_json(workdir / "summary.json", read_json(parts[best] / "search" / "summary.json") | about | {"seeds": rows})
    print(f"\n{'seed':>6}  {'accuracy':>8}  {'weights':>11}")
    for row in rows:
        mark = " *" if row["seed"] == seeds[best] else ""
        size = "diverged" if "diverged" in row else f"{row['params']:,}"
        print(f"{row['seed']:6}  {row['accuracy']:8.4f}  {size:>11}{mark}")
    genotype = workdir / "genotype.json"
    print(f"{repeats.of_seeds(rows)} after shallow trainings, on {images} held-back images of the train split")
    print(f"Kept the network of seed {seeds[best]}: {genotype}")
    print(train_command(values, method, genotype, round(images / part(values))))


def _keep(search: pathlib.Path, workdir: Workdir) -> None:
    """Copies the architectures, tables and pictures of a search, but not its checkpoints."""
    files = [file for file in search.iterdir() if file.name not in _KEPT] + [*search.glob("family/*")]
    for file in filter(pathlib.Path.is_file, files):
        copied = workdir / str(file.relative_to(search))
        write_with(copied, lambda temporary, file=file: shutil.copyfile(file, temporary))
