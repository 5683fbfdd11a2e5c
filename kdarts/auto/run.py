"""From labelled pictures to a trained classifier within limits and a time: baselines, search, rounds of trainings.

The time is divided as `SHARES` says. A first step of a small network is timed; from it follows the most MACs that can
be trained in the time. Searches run within the limits. Then all candidates, found or made by hand, are trained by one
recipe and for one time, the better half of them again for longer, and at last the best one that was made by hand and
the best other one for the rest of the time. The better of these two on the pictures that were held back is the result.
"""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import keras

from kdarts.auto import candidates
from kdarts.auto.candidates import Candidate, Family
from kdarts.auto.ledger import Ledger
from kdarts.auto.limits import UNITS, Limits
from kdarts.auto.pace import (
    LEAST_EPOCHS,
    RESERVE,
    SHARES,
    TRAINING,
    fitting_batch,
    fitting_epochs,
    fitting_side,
    measured_pace,
    most_macs,
    step_seconds,
)
from kdarts.auto.recipe import EMA, compile_network, learning_rate
from kdarts.data import datasets, pipeline
from kdarts.data.augmentation import Augmentation
from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_with
from kdarts.genotypes.settings import MOST_SEED
from kdarts.ops.cost import amount
from kdarts.search.method import get_method
from kdarts.search.objective import without_graph_rewriting
from kdarts.search.search import Search
from kdarts.search.step import Step
from kdarts.training.entries import TRAINED
from kdarts.training.repeats import spread, training_is_whole
from kdarts.training.search_run import SearchSession, epochs_of, run_search
from kdarts.training.session import clock
from kdarts.training.train_run import run_training, weight_average
from kdarts.training.workdir import Workdir, read_json, write_json, write_table

BRIEF, LONG = 600, 1800
"""The times in seconds below which there is one search and no second round, and from which on cells are searched."""

SEARCH_BATCH = 32
"""The most pictures in each of the two batches of a search step: in a short time many steps count for more."""

SEARCH_EPOCHS = 60
"""The most epochs of a search. In the first sixth of its epochs α rests."""

CHAIN = {"sampling": "two_paths", "arch_learning_rate": 0.01, "arch_l2": 0.0, "l2": 1e-4}
"""The search of the mobile space: of two blocks at a place at a time, with a rate of α for a few hundred steps."""


@dataclass(frozen=True)
class Settings:
    """What a run is asked for.

    Args:
        minutes: The time limit, at least 1.
        limits: The limits of the network's cost.
        hold_back: The part of the training pictures by which networks are compared, in (0, 1).
        seeds: The number of final trainings of each of the two networks, with seed, seed + 1, ....
        seed: The seed of all random numbers.
        group: See `kdarts.data.datasets.hold_back`.

    Raises:
        KdartsError: If a value is out of its range.
    """

    minutes: float = 60.0
    limits: Limits = field(default_factory=Limits)
    hold_back: float = 0.15
    seeds: int = 1
    seed: int = 0
    group: str | None = None

    def __post_init__(self):
        if not 1 <= self.minutes <= 1e5:
            raise KdartsError(f"minutes {self.minutes:g}: allowed is 1 to 100000")
        if not 0 < self.hold_back < 1:
            raise KdartsError(f"hold_back {self.hold_back:g}: allowed is a part between 0 and 1, such as 0.15")
        if not 1 <= self.seeds <= 100:
            raise KdartsError(f"seeds {self.seeds}: allowed is 1 to 100")
        if not 0 <= self.seed <= MOST_SEED - self.seeds:
            raise KdartsError(f"seed {self.seed}: allowed is 0 to {MOST_SEED - self.seeds}")


class AutoRun:
    """A run in a folder. `run` begins or continues it.

    Args:
        train: The `ImageData` of the training pictures.
        test: The `ImageData` that are measured once, at the end, or None.
        augmentation: The `Augmentation` of the training pictures.
        settings: The `Settings`.
        workdir: The locked `Workdir`.
        about: More entries for the summaries and the saved network, such as `dataset`.
        verbose: Whether to print progress.
        began: `time.monotonic()` when this process began. Defaults to now.
        resized: A function from a side in pixels to `train` and `test` with smaller pictures, if their size may be
            chosen by the time. Defaults to `None`: it is kept.

    Attributes:
        concluded: The summary, once there is a result.
    """

    def __init__(
        self,
        train,
        test,
        augmentation: Augmentation,
        settings: Settings,
        workdir: Workdir,
        about: dict | None = None,
        verbose: bool = True,
        began: float | None = None,
        resized: Callable[[int], tuple] | None = None,
    ):
        self.settings, self.workdir, self.about, self.verbose = settings, workdir, dict(about or {}), verbose
        self.augmentation, self._resized = augmentation, resized
        self._take(train, test)
        self.ledger = Ledger(workdir, 60 * settings.minutes, began)
        self.rows: dict[str, dict] = {}
        self.concluded: dict | None = None
        self._known: dict[str, Candidate] = {}

    def _take(self, train, test) -> None:
        """Divides the training pictures, and measures them."""
        self.train, self.valid = datasets.hold_back(train, self.settings.hold_back, self.settings.group)
        self.test, self.shape, self.classes = test, train.image_shape, train.num_classes
        self.mean, self.std = datasets.statistics(self.train.images)
        self.batch_size = fitting_batch(len(self.train))

    def run(self) -> dict:
        """Runs to the end, and returns the summary (see `_conclude`).

        After an interruption by the keyboard it concludes with the best network so far, if one is trained, before it
        raises `KeyboardInterrupt`.
        """
        try:
            self._rounds()
        except KeyboardInterrupt:
            if self.rows:
                self._conclude(interrupted=True)
            raise
        return self._conclude()

    def say(self, line: str) -> None:
        """Prints a line, unless the run is silent."""
        if self.verbose:
            print(line, flush=True)

    def _rounds(self) -> None:
        settings, ledger = self.settings, self.ledger
        brief = ledger.seconds < BRIEF
        pace = ledger.timed("pace", self._pace)
        limits = self._in_time(pace["macs"])
        side = min(self.shape[:2])
        smaller = fitting_side(self.shape, self.classes, limits.macs) if self._resized else side
        if smaller < side:
            self.say(f"pictures of {side} pixels are scaled to {smaller}, so that the time is enough")
            self._take(*self._resized(smaller))
            limits = self._in_time(pace["macs"])
            ledger.finish("resized")
        self.say(
            f"{self.train.name} · {len(self.train):,} pictures to train on, {len(self.valid):,} to compare by, "
            f"{self.classes} classes, {self.shape[0]}x{self.shape[1]} pixels, batches of {self.batch_size}"
        )
        why = "" if limits == settings.limits else " (of which the MACs are what can be trained in the time)"
        self.say(f"{clock(ledger.seconds)} in all, for networks of {limits.in_words()}{why}")
        phases = [name for name in SHARES if not (brief and name == "second")]
        known = self._fitting(candidates.references(self.shape, self.classes, settings.seed), limits)
        if not known:
            raise KdartsError(self._too_strict())
        ledger.finish("sizes")
        found = self._fitting(self._searches(limits, brief, self._seconds("search", phases)), limits)
        found = self._new(found, known)
        fitting = [*found[:1], *known[:2], *found[1:], *known[2:]]
        ledger.finish("sizes of found networks")
        seconds = self._seconds("first", phases)
        epoch = pace["mac_seconds"] * limits.macs * len(self.train)
        most = int(seconds / (TRAINING * pace["overhead"] + LEAST_EPOCHS * epoch))
        first = fitting[: max(2, min(len(fitting), most))]
        if not any(each.by_hand for each in first):
            first[-1:] = [each for each in fitting if each.by_hand][:1] or first[-1:]
        # Of two both are in the final round.
        standing = self._round("first", first, seconds) if len(first) > 2 else first
        if not brief:
            half = standing[: max(2, math.ceil(len(standing) / 2))]
            best = next((each for each in standing if each.by_hand), None)
            second = half if best is None or best in half else [*half, best]
            standing = self._round("second", second, self._seconds("second", phases))
        last = [next((each for each in standing if each.by_hand == by_hand), None) for by_hand in (True, False)]
        last = [each for each in last if each is not None]
        self._round("final", last, self._seconds("final", phases), settings.seeds)

    def _seconds(self, phase: str, phases: list[str]) -> float:
        """Returns the time of a phase: its share of what is left, as it was when the phase began."""

        def share():
            later = phases[phases.index(phase) :]
            left = max(0.0, self.ledger.left - RESERVE * self.ledger.seconds)
            return left * SHARES[phase] / sum(SHARES[name] for name in later)

        return self.ledger.decide(phase, share)

    def _pace(self) -> dict:
        """Returns what `measured_pace` does, and the most MACs by it."""
        found = measured_pace(self.shape[-1], self.classes, self.batch_size)
        size = len(self.train), self.batch_size, 2 * self.settings.seeds
        return {"macs": most_macs(found["mac_seconds"], self.ledger.seconds, *size), **found}

    def _searches(self, limits: Limits, brief: bool, seconds: float) -> list[Family]:
        """Runs searches of the mobile space, from nothing and from MobileNetV2, and of DARTS' cells, as time allows."""
        known = {"macs": limits.macs, "params": limits.params, "flash": limits.size}
        asked = {f"max_{name}": value for name, value in known.items() if value is not None}
        chain = get_method("darts").in_space("mobile").override(**CHAIN, **asked)
        methods = {"mobile": (chain, None), "from MobileNetV2": (chain, "MobileNetV2")}
        methods["cells"] = get_method("darts").override(channels=8, cells=candidates.CELLS), None
        methods = dict(list(methods.items())[: 1 if brief else 2 if self.ledger.seconds < LONG else 3])
        found = []
        for number, (name, (method, start)) in enumerate(methods.items()):
            share = (seconds - sum(self.ledger.seconds_of(f"search {n}") for n in methods)) / (len(methods) - number)
            try:
                architectures = self._search(name, method, start, share)
            except KdartsError as error:  # Limits below what the space has.
                self.say(f"search of {name}: left out ({error})")
                self.ledger.finish(f"search {name}", 0.0)
                continue
            for epoch, architecture in architectures.items():
                label = f"found {name}".replace("found from", "improved") + (f", epoch {epoch}" if epoch else "")
                where = self.shape, self.classes
                if isinstance(architecture, HyperPath):
                    found.append(candidates.of_path(label, architecture, *where))
                else:
                    found.append(candidates.of_cells(label, candidates.FOUND, architecture, *where))
        return found

    def _search(self, name: str, method, start: str | None, seconds: float) -> dict:
        """Returns the architectures of a search: by 0 that of its end, by its number that of an epoch before."""
        part, folder, began = f"search {name}", Workdir(self.workdir / "search" / folder_of(name)), time.monotonic()
        train, valid = datasets.halves(self.train, seed=self.settings.seed, stratified=True)
        batch_size = min(SEARCH_BATCH, self.batch_size, len(valid))
        method = method.override(batch_size=batch_size, epochs=SEARCH_EPOCHS, warmup_epochs=SEARCH_EPOCHS // 6)
        how = self.augmentation, self.mean, self.std
        data = pipeline.ImageSearchData(train, valid, batch_size, self.settings.seed, *how)
        search = Search(method, self.shape, self.classes, start=start, seed=self.settings.seed)

        def epochs():
            search.compile()
            with without_graph_rewriting():
                each = data.steps * step_seconds(search.step, data.pairs())
            return max(2, min(SEARCH_EPOCHS, int((seconds - (time.monotonic() - began)) / (1.1 * each))))

        count = self.ledger.decide(part, epochs)
        self.say(f"search of {name}: {count} epochs of {data.steps} steps · {clock(self.ledger.left)} left")
        about = {"method": method.name, "dataset": self.train.name, "seed": self.settings.seed}
        session = SearchSession(folder, about, began=began, verbose=self.verbose)
        folder.begin({})
        run_search(search, data, session, validate_every=0, epochs=count)
        self.ledger.finish(part, read_json(folder / "summary.json")["wall_seconds"])
        _, each = epochs_of(session.checkpoint.records, session.checkpoint.arrays)
        before = math.ceil(0.6 * len(each))
        return {0: each[-1], **({before: each[before - 1]} if each[before - 1] != each[-1] else {})}

    def _fitting(self, families: list[Family], limits: Limits) -> list[Candidate]:
        """Returns the largest network of each family within the limits."""
        fitting = []
        for family in families:
            largest = family.largest(limits)
            if isinstance(largest, Candidate):
                fitting.append(largest)
            else:
                self.say(f"{family.name}: left out, its smallest network exceeds the limit of {UNITS[largest]}")
        return fitting

    def _new(self, found: list[Candidate], known: list[Candidate]) -> list[Candidate]:
        """Returns those of the networks found that are not the same as one before."""
        kept = []
        for each in found:
            same = (other.name for other in (*known, *kept) if other.same_as(each))
            if (name := next(same, None)) is None:
                kept.append(each)
            else:
                self.say(f"{each.name}: the same network as {name}")
        return kept

    def _in_time(self, macs: float) -> Limits:
        """Returns the limits with the MACs that the time allows, but not fewer than the smallest network has."""
        return self.settings.limits.with_macs(max(macs, candidates.resnets(8, self.shape, self.classes).least().macs))

    def _too_strict(self) -> str:
        """Returns a line on the first limit that no network fits, with the least that is possible."""
        limits = self.settings.limits
        timed = limits.latency_ms is not None
        families = candidates.references(self.shape, self.classes, self.settings.seed)
        smallest = [family.least(timed) for family in families]
        for kind, most in limits.given().items():
            least = min(limits.spent(cost)[kind] for cost in smallest)
            if least > most:
                number = f"{least:.3g}" if kind == "latency_ms" else amount(least)
                return f"max_{kind} {most:g}: the smallest network has {number} {UNITS[kind]}"
        return f"{limits.in_words()}: no network keeps all of these limits"

    def _round(self, phase: str, entered: list[Candidate], seconds: float, seeds: int = 1) -> list[Candidate]:
        """Trains candidates, each for an equal part of the time, and returns them by their accuracy, the best first."""
        jobs = [(each, seed) for each in entered for seed in range(seeds)]
        names = [f"{phase} {each.name}" + (f" seed {seed}" if seeds > 1 else "") for each, seed in jobs]
        for number, ((each, seed), name) in enumerate(zip(jobs, names, strict=True)):
            share = (seconds - sum(self.ledger.seconds_of(n) for n in names)) / (len(jobs) - number)
            test = self.test if phase == "final" else None
            about = f"{phase} round, {number + 1} of {len(jobs)}: {each.name} ({each.size})"
            summary = self._train(name, each, share, self.settings.seed + seed, test, about)
            self._note(phase, each, name, summary)
        accuracies = {each.name: self._mean(phase, each) for each in entered}
        return sorted(entered, key=lambda each: -accuracies[each.name])

    def _mean(self, phase: str, candidate: Candidate) -> float:
        found = [row["held_back_accuracy"] for row in self.rows.values() if row["of"] == (phase, candidate.name)]
        return sum(found) / len(found)

    def _note(self, phase: str, candidate: Candidate, name: str, summary: dict) -> None:
        self._known[candidate.name] = candidate
        figures = ("held_back_accuracy", "test_accuracy", "epochs", "wall_seconds")
        self.rows[name] = {"of": (phase, candidate.name), **{f: summary[f] for f in figures if f in summary}}

    def _train(self, name: str, candidate: Candidate, seconds: float, seed: int, test, about: str) -> dict:
        """Trains a candidate from scratch in a folder for so many seconds, and returns the summary."""
        folder, began = Workdir(self.workdir / "trainings" / folder_of(name)), time.monotonic()
        if training_is_whole(folder, TRAINED):
            summary = read_json(folder / "summary.json")
            self.ledger.finish(name, summary["wall_seconds"])
            return summary
        keras.utils.set_random_seed(seed)
        network = candidate.build()
        compile_network(network, self.batch_size)
        how = {"seed": seed, "augmentation": self.augmentation, "mean": self.mean, "std": self.std}
        step = Step(network, average=weight_average(network, EMA, self.train, self.batch_size, **how))
        steps = pipeline.steps_per_epoch(self.train, self.batch_size)

        def epochs():
            each = step_seconds(step, pipeline.train_dataset(self.train, self.batch_size, **how, start_step=0))
            return fitting_epochs(seconds - (time.monotonic() - began), steps, each)

        count = self.ledger.decide(name, epochs)
        self.say(f"{about}, {count} epochs · {clock(self.ledger.left)} left")
        folder.begin({})
        if candidate.architecture is not None:
            candidate.architecture.save(folder / "genotype.json")
        size = {"params": candidate.cost.params, "macs": candidate.cost.macs}
        summary = run_training(
            network,
            folder,
            self.train,
            test,
            self.valid,
            epochs=count,
            batch_size=self.batch_size,
            schedule=learning_rate(self.batch_size, count),
            **how,
            about={"genotype": candidate.name, **self.about, "seed": seed, **size},
            began=began,
            step=step,
            verbose=self.verbose,
        )
        self.ledger.finish(name, summary["wall_seconds"])
        keras.utils.clear_session(free_memory=False)
        return summary

    def _conclude(self, interrupted: bool = False) -> dict:
        """Writes the result into the folder: `model.keras`, `networks.csv` and `summary.json`, which it returns."""
        table = self.table()
        best = max(table, key=lambda row: (ROUNDS[row["round"]], row["held_back_accuracy"]))
        folder = self.workdir / "trainings" / best["folder"]
        write_with(self.workdir / "model.keras", lambda temporary: shutil.copyfile(folder / "model.keras", temporary))
        architecture = self._known[best["network"]].architecture
        if architecture is not None:
            architecture.save(self.workdir / "genotype.json")
        else:
            (self.workdir / "genotype.json").unlink(missing_ok=True)
        write_table(self.workdir / "networks.csv", table)
        summary = {
            **read_json(folder / "summary.json"),
            **{name: best[name] for name in ("network", "origin", "size", "round")},
            "limits": self.settings.limits.given(),
            "minutes": self.settings.minutes,
            "spent_seconds": self.ledger.spent,
            "interrupted": interrupted,
            "networks": table,
        }
        write_json(self.workdir / "summary.json", summary)
        self.concluded = summary
        return summary

    def table(self) -> list[dict]:
        """Returns a row for each network and round, the last round first and in it the best first.

        A row has `network`, `origin`, `size`, `params`, `macs`, `flash` (bytes, estimated), `round`, `epochs`,
        `seconds`, `held_back_accuracy`, of the final round `test_accuracy` if there is a test, with several seeds
        their means and `test_accuracy_sd`, and the `folder` of the training.
        """
        rows = []
        for phase, name in dict.fromkeys(row["of"] for row in self.rows.values()):
            found = {part: row for part, row in self.rows.items() if row["of"] == (phase, name)}
            candidate, each = self._known[name], list(found.values())
            row = {"network": name, "origin": candidate.origin, "size": candidate.size}
            row |= {kind: getattr(candidate.cost, kind) for kind in ("params", "macs", "flash")}
            row |= {"round": phase, "epochs": each[0]["epochs"], "seconds": sum(one["wall_seconds"] for one in each)}
            row["held_back_accuracy"] = self._mean(phase, candidate)
            if "test_accuracy" in each[0]:
                tested = spread([{"accuracy": one["test_accuracy"]} for one in each])
                row |= dict(zip(("test_accuracy", "test_accuracy_sd"), tested, strict=True))
            row["folder"] = folder_of(next(iter(found)))
            rows.append(row)
        return sorted(rows, key=lambda row: (-ROUNDS[row["round"]], -row["held_back_accuracy"]))


ROUNDS = {"first": 1, "second": 2, "final": 3}
"""The rounds of trainings, by their order."""


def folder_of(part: str) -> str:
    """Returns the name of a training's folder."""
    return part.replace(",", "").replace(" ", "_")
