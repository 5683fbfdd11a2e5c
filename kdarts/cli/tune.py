"""`kdarts tune`: searches for the hyperparameters of a search.

`--choose=NAME=A,B,C` lists values of a flag of `kdarts search`, `--choose=NAME=A|B` those that have commas in them, and
`--choose=NAME=LEAST..MOST`, `LEAST..MOST:log`, spans numbers, evenly or evenly in their logarithm.
"""

import itertools
import math
import re
import shlex
import time
from dataclasses import dataclass

from absl import flags

from kdarts.cli import idle, options, preset, search, seeds
from kdarts.cli.command import Command, in_flags
from kdarts.cli.process import start_tensorflow
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_text
from kdarts.search.method import Method
from kdarts.supernet.grids import cuboid_names

_AROUND = 4.0
"""The default span of a rate is the method's own value divided and multiplied by this; of a loss weight, by half."""


@dataclass(frozen=True)
class Choice:
    """A flag and its possible values: a list if `span` is None; otherwise the ends of a `linear` or `log` span."""

    name: str
    values: tuple
    span: str | None = None

    def parameter(self, parameters) -> None:
        """Declares it on keras-tuner's `HyperParameters`."""
        if self.span is None:
            parameters.Choice(self.name, list(self.values))
        else:
            kind = parameters.Int if isinstance(self.values[0], int) else parameters.Float
            kind(self.name, *self.values, sampling=self.span)


def parse_choice(text: str, values: flags.FlagValues) -> Choice:
    """Parses one `--choose`, such as `zero_one_weight=5,10,20` or `arch_learning_rate=1e-4..1e-2:log`.

    Raises `KdartsError` for a flag that is not in `values`, and for a value that the flag does not take.
    """
    name, equals, listed = text.partition("=")
    name = name.strip().removeprefix("--")
    if not equals or not listed.strip():
        raise KdartsError(f"--choose={text}: needs a flag of kdarts search and its values, such as channels=8,16")
    if name not in values:
        raise KdartsError(f"--choose={text}: {name!r} is not a flag of kdarts search that can be chosen")
    flag = values[name]
    if ".." in listed and flag.flag_type() in ("int", "float"):
        return _span(text, name, listed, flag)
    words = [word.strip() for word in listed.split("|" if "|" in listed else ",")]
    found = tuple(_value(text, flag, word) for word in words)
    if len(set(found)) < len(found):
        raise KdartsError(f"--choose={text}: a value is given twice")
    return Choice(name, found)


def _span(text: str, name: str, listed: str, flag) -> Choice:
    ends, _, scale = listed.partition(":")
    least, _, most = ends.partition("..")
    found = _value(text, flag, least.strip()), _value(text, flag, most.strip())
    scale = scale.strip() or "linear"
    if scale not in ("linear", "log"):
        raise KdartsError(f"--choose={text}: {scale!r}; allowed behind a span are linear and log")
    if not found[0] < found[1] or (scale == "log" and found[0] <= 0):
        least = "more than 0 and " if scale == "log" else ""
        raise KdartsError(f"--choose={text}: the first needs to be {least}less than the second")
    return Choice(name, found, scale)


def _value(text: str, flag, word: str):
    try:
        value = flag.parser.parse(word)
    except ValueError as error:
        raise KdartsError(f"--choose={text}: {word!r}: {error}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise KdartsError(f"--choose={text}: {word!r}: needs a finite number")
    return str(value).lower() if isinstance(value, bool) else value


def default_choices(method: Method) -> list[Choice]:
    """Returns spans around the method's own learning rates and loss weights."""
    around = {"learning_rate": _AROUND, "arch_learning_rate": _AROUND}
    around |= {"zero_one_weight": _AROUND / 2, "ablation_weight": _AROUND / 2, "beta_weight": _AROUND / 2}
    own = {name: getattr(method, name) for name in around}
    found = {name: far for name, far in around.items() if method.has(name) and own[name]}
    return [Choice(name, (own[name] / far, own[name] * far), "log") for name, far in found.items()]


_TRIED = 200
"""The most combinations of choices that are looked at for options without effect."""

_OWN = ("choose", "tuner", "trials", "random")
_FIXED = {
    *options.NEUTRAL,
    "dataset",
    "preset",
    "labels",
    "group",
    "background",
    "limit",
    "image_size",
    "seed",
    "hold_back",
    "edge_order",
    "validate_every",
}
"""Flags of a search that cannot be chosen: trials would not be measured on the same images."""

_FOUND_BY = ("method", "space", "operations", "topology", "sharing", "start", "nodes", "discretization", "threshold")
_FOUND_BY += ("max_skips", "stages", "stem", "head", "widen", "adapter_epsilon", "macro", "width", "blocks")
"""Flags that determine which architectures are possible: random architectures are measured for each of their values."""

_SIZED_BY = ("cells", "channels")
"""More of these flags if a genotype has its own depth or sizes."""


def define(values: flags.FlagValues) -> None:
    """Declares the flags of one search and those of the tuning."""
    search.define_one(values)
    seeds.define(values)
    text = "a flag of kdarts search and its values, as A,B,C (A|B where they have commas) or LEAST..MOST[:log]; once "
    text += "for each flag; default: learning_rate, arch_learning_rate and the loss weights around the method's own"
    flags.DEFINE_multi_string("choose", [], text, flag_values=values)
    text = "keras-tuner's oracle: random, bayesian (needs scikit-learn) or hyperband"
    flags.DEFINE_string("tuner", "random", text, flag_values=values)
    text = "number of combinations; default: 20; hyperband's follows from --epochs, its longest search"
    options.positive("trials", None, text, values, 100_000)
    options.positive("seeds", 2, "searches of each combination, with seed, seed + 1, ...", values, 1000)
    text = "number of random architectures for comparison, for each --method or space; default: --seeds"
    flags.DEFINE_integer("random", None, text, 0, 1000, flag_values=values)
    flags.DEFINE_string("workdir", None, "folder of the tuning; default: runs/DATASET-METHOD-tune", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Tunes, or continues a tuning."""
    from kdarts.training.workdir import Workdir

    options.check_seeds(values)
    method = options.chosen_method(values)
    choices = _choices(values, method)
    workdir = Workdir(values.workdir or options.default_workdir(values, f"{method.name}-tune"))
    remembered = options.remembered(values)
    workdir.check(remembered, options.usual(values))
    tuning = _Tuning(values, method, choices, workdir)
    idle.tell(tuning.idle())
    preset.tell(options.preset_changes(values) | seeds.preset_changes(values))
    start_tensorflow()
    tuning.run(remembered)


def _choices(values: flags.FlagValues, method: Method) -> list[Choice]:
    """Returns the choices of the flags; raises `KdartsError` for flags that contradict each other."""
    allowed = flags.FlagValues()
    search.define_one(allowed)
    choices = [parse_choice(text, allowed) for text in values.choose] or default_choices(method)
    names = [choice.name for choice in choices]
    for name in names:
        if name in _FIXED:
            raise KdartsError(f"--choose={name}: all trials share one; choose what α and the weights are searched with")
        if names.count(name) > 1:
            raise KdartsError(f"--choose: {name} is given twice")
        if values.choose and values[name].present:
            raise KdartsError(f"--{name}={values[name].value} is given, and --choose has it as well")
    if values.tuner == "hyperband":
        if values.trials is not None:
            raise KdartsError(f"--trials={values.trials}: hyperband's trials follow from --epochs")
        if "epochs" in names:
            raise KdartsError("--choose=epochs: hyperband chooses the epochs itself, up to --epochs")
    return choices


class _Tuning:
    """A tuning with the flags `values`, which name `method`, in a workdir."""

    def __init__(self, values: flags.FlagValues, method: Method, choices: list[Choice], workdir):
        self._values, self._method, self._choices, self._workdir = values, method, choices, workdir
        self._seeds = range(values.seed, values.seed + values.seeds)
        words = seeds.search_words(values, _OWN)
        self._words = words if values["validate_every"].present else [*words, "--validate_every=0"]

    def idle(self) -> list[str]:
        """Returns notes on options, and on choices, that change nothing whatever is chosen (see `idle.in_search`)."""
        names = [choice.name for choice in self._choices]
        ends = [choice.values if choice.span is None else choice.values[:1] for choice in self._choices]
        found: dict[str, str] | None = None
        for chosen in itertools.islice(itertools.product(*ends), _TRIED):
            try:
                _, values, method = self._parsed(dict(zip(names, chosen, strict=True)))
            except KdartsError:  # It is told when all combinations are checked.
                continue
            notes = {note.partition("=")[0].removeprefix("--"): note for note in idle.in_search(values, method)}
            found = notes if found is None else {name: note for name, note in found.items() if name in notes}
        told = (found or {}).items()
        return [f"--choose={name}: {note.partition(': ')[2]}" if name in names else note for name, note in told]

    def run(self, remembered: dict[str, str]) -> None:
        """Runs the part of the tuning that this process has."""
        import keras_tuner

        from kdarts.tuning.oracle import make_oracle
        from kdarts.tuning.tuning import Progress, TuningTuner, role

        part, finished = role(), self._workdir / "trials.csv"
        parameters = keras_tuner.HyperParameters()
        for choice in self._choices:
            choice.parameter(parameters)
        progress = Progress(self._workdir.path, self._seeds, part == "alone")
        about = {"trials": self._values.trials or 20, "epochs": self._method.epochs, "seed": self._values.seed}
        progress.oracle = make_oracle(self._values.tuner, parameters, notify=progress, **about)
        if part == "worker":
            self._await_chief(remembered)
        self._workdir.check_data(train=options.load(self._values, "train"))
        if part != "worker":
            if not (self._workdir / "flags.flags").exists():
                self._check()
            self._workdir.begin(remembered, options.usual(self._values))
        tuner = TuningTuner(progress.oracle, self._measure, self._workdir / "oracle", finished.exists)
        tuner.search()
        if part != "worker":
            self._report(progress.oracle)

    def _await_chief(self, remembered: dict[str, str]) -> None:
        """Waits until the chief, which may start later, has made the shared folder."""
        record = self._workdir / "flags.flags"
        if not record.exists():
            print(f"waiting for the chief to make {self._workdir.path}", flush=True)
        while not record.exists():
            time.sleep(1)
        self._workdir.check(remembered, options.usual(self._values))

    def _parsed(self, chosen: dict, epochs: int | None = None) -> tuple[list[str], flags.FlagValues, Method]:
        """Returns the command of a search with the chosen values, its flags, and its method."""
        words = self._words + [f"--{name}={value}" for name, value in chosen.items()]
        words += [] if epochs is None else [f"--epochs={epochs}"]
        values = search.SEARCH.parse([*words, f"--hold_back={seeds.part(self._values)}"])
        for name in seeds.flag_names():
            values[name].value = self._values[name].value
        return words, values, options.chosen_method(values)

    def _commands(self, chosen: dict, epochs: int | None = None) -> seeds.Commands:
        words, values, method = self._parsed(chosen, epochs)
        return seeds.Commands(words, seeds.train_words(values, method), quiet=True)

    def _measure(self, trial_id: str, chosen: dict, epochs: int | None) -> float:
        from kdarts.training import repeats

        return repeats.spread(self._figures(trial_id, chosen, epochs))[0]

    def _figures(self, trial_id: str, chosen: dict, epochs: int | None) -> list[dict]:
        """Returns the figures of a trial's seeds; those that are not finished are run."""
        from kdarts.training import repeats
        from kdarts.tuning.tuning import part_of, prepare

        prepare(self._workdir / "trials" / trial_id, chosen, epochs)
        commands, rows = self._commands(chosen, epochs), []
        for seed in self._seeds:
            part = part_of(self._workdir.path, trial_id, seed)
            rows.append(repeats.measured(commands.search, commands.train, part, seed))
        return rows

    def _check(self) -> None:
        """Checks every value of every flag, with each method that may be chosen, without loading images."""
        first = {choice.name: choice.values[0] for choice in self._choices}
        methods = next((choice.values for choice in self._choices if choice.name == "method"), (None,))
        for method in methods:
            base = first if method is None else {**first, "method": method}
            self._try(base)
            for choice in self._choices:
                for value in () if choice.name == "method" else choice.values[1:]:
                    self._try({**base, choice.name: value}, isinstance(value, float))

    def _try(self, chosen: dict, number: bool = False) -> None:
        """Raises `KdartsError` for a search that cannot begin. For a `number` only the flags are checked."""
        try:
            _, values, method = self._parsed(chosen)
            seeds.check(values, method)
            options.remembered(values)
            if not number:
                self._small(values, method)
        except (KdartsError, flags.Error) as error:
            words = " ".join(f"--{name}={value}" for name, value in chosen.items())
            raise KdartsError(f"with {words}: {in_flags(str(error), self._values)}") from None

    def _small(self, values: flags.FlagValues, method: Method):
        """Builds a search of these flags, with few cells if their number does not matter."""
        from kdarts.search.stages import check_method

        start, method = search.chosen_start(values, method)
        if method.stages:
            check_method(method)
            method = method.at(method.stages[-1])
        if method.sharing == "shared" and method.space not in cuboid_names():
            method = method.override(cells=min(method.cells, 3))
        return search.build(values, method, (32, 32, 3), 10, start)

    def _report(self, oracle) -> None:
        """Writes the table of the trials, measures the random architectures, and writes both and the best flags."""
        from kdarts.training.workdir import write_table
        from kdarts.tuning import tuning

        rows, folder = tuning.trial_rows(oracle, self._figures), self._workdir.path
        if not rows:
            raise KdartsError("no trial was finished")
        write_table(folder / "trials.csv", rows)  # From now on no worker is needed.
        if len(rows) < oracle.total:
            print(f"the choices are exhausted: {len(rows)} trials in place of {oracle.total}", flush=True)
        labels = [self._label(row) for row in rows]
        drawn = self._values.seeds if self._values.random is None else self._values.random
        groups = [label for number, label in enumerate(labels) if label not in labels[:number]] if drawn else []
        baselines = [self._random(label, drawn) for label in groups]
        write_table(folder / "trials.csv", [*rows, *baselines])
        best = tuning.best_of(rows)
        if "params" not in best:
            raise KdartsError(f"no trial has a network, because all diverged: {folder / 'trials.csv'}")
        images = tuning.held_back_examples(folder / "trials" / best["trial"])
        score = _score(best)
        same = [row for row in baselines if all(best.get(n) == v for n, v in self._label(row).items())]
        beside = "".join(f"; random architectures: {_score(row)}" for row in same)
        count = "1 seed" if len(self._seeds) == 1 else f"{len(self._seeds)} seeds"
        how = f"{count}, after shallow trainings, on {images} held-back images of the train split"
        write_text(folder / "best.flags", self._best_flags(best, f"{score} ({how}){beside}"))
        print("\n" + "\n".join(tuning.table([*rows, *baselines])))
        print(f"\nBest: trial {int(best['trial']) + 1}, {score}\n{how}")
        print(f"Written: {folder / 'trials.csv'}")
        print(options.next_command("search", {"flagfile": folder / "best.flags"}))

    def _label(self, row: dict) -> dict:
        """Returns the values of a trial that determine which architectures are possible."""
        chosen = self._chosen(row)
        _, _, method = self._parsed(chosen)
        own = method.sharing != "shared" or method.space in cuboid_names()
        names = _FOUND_BY + (_SIZED_BY if own else ())
        return {name: value for name, value in chosen.items() if name in names}

    def _chosen(self, row: dict) -> dict:
        return {choice.name: row[choice.name] for choice in self._choices if choice.name in row}

    def _random(self, label: dict, count: int) -> dict:
        """Measures the random architectures of a label, and returns their row."""
        from kdarts.search.random_search import random_found
        from kdarts.tuning.tuning import random_row

        built = []

        def draw(seed: int):
            if not built:
                _, values, method = self._parsed(label)
                start, method = search.chosen_start(values, method)
                method = method.at(method.stages[-1]) if method.stages else method
                built.append(search.build(values, method, (32, 32, 3), 10, start))
            return random_found(built[0], self._values.seed, seed - self._values.seed)

        text = " ".join(f"{name}={value}" for name, value in label.items())
        print(f"{count} random architectures{' of ' if text else ''}{text}", flush=True)
        folder = self._workdir / "random" / (re.sub(r"[^\w=.-]+", "_", text) or "all")
        numbers = range(self._values.seed, self._values.seed + count)
        return random_row(folder, draw, self._commands(label).train, numbers, label)

    def _best_flags(self, best: dict, score: str) -> str:
        """Returns the flagfile of the best search."""
        own = {*seeds.OWN, *_OWN} - {"seeds", "seed"}
        given = [f"--choose={text}" for text in self._values.choose]
        given += seeds.given(self._values, ("tuner", "trials", "random"))
        given += seeds.given(self._values, [name for name in self._values if name not in own])
        command = shlex.join(["kdarts", "tune", *given])
        words = [word for word in self._words if not word.startswith(("--hold_back=", "--validate_every=0"))][1:]
        words += [f"--{name}={value}" for name, value in self._chosen(best).items()]
        words += [f"--epochs={best['budget']}"] if "budget" in best else []
        lines = [f"# kdarts search --flagfile={self._workdir / 'best.flags'}", f"# From: {command}"]
        return "\n".join([*lines, f"# Held-back accuracy: {score}", *words, ""])


def _score(row: dict) -> str:
    """Formats the accuracies of a row's seeds."""
    from kdarts.training import repeats

    return repeats.of_seeds([{"accuracy": value} for name, value in row.items() if name.startswith("seed_")])


TUNE = Command(
    "search for the hyperparameters of a search",
    define,
    run,
    example="kdarts tune --method=ddarts --choose=zero_one_weight=5,7,10 --choose=arch_learning_rate=1e-3..1e-1:log",
)
