"""What the JSON files of a run hold: the type, length and range of each entry, checked whenever one is read."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kdarts.genotypes.errors import DamageError, quoted
from kdarts.genotypes.settings import (
    MOST_CELLS,
    MOST_CHANNELS,
    MOST_CLASSES,
    MOST_EPOCHS,
    MOST_SEED,
    MOST_SIDE,
    in_words,
)
from kdarts.ops.cost import UNITS


@dataclass(frozen=True)
class Entry:
    """What an entry may be.

    Attributes:
        allowed: That in words.
        fits: Whether a value is that.
    """

    allowed: str
    fits: Callable[[object], bool]

    def or_null(self) -> "Entry":
        """The same or null, which stands for a figure that is not finite or that nothing has measured."""
        return Entry(f"{self.allowed}, or null", lambda value: value is None or self.fits(value))


def whole(least: int, most: int) -> Entry:
    """A whole number in a range."""
    return Entry(f"a whole number {in_words(least, most)}", lambda value: type(value) is int and least <= value <= most)


def real(least: float, most: float) -> Entry:
    """A number in a range."""
    return Entry(
        f"a number {in_words(least, most)}", lambda value: type(value) in (int, float) and least <= value <= most
    )


def several(one: Entry, most: int) -> Entry:
    """A list of up to `most` entries of a kind."""
    return Entry(
        f"a list of up to {most}, each {one.allowed}",
        lambda value: isinstance(value, list) and len(value) <= most and all(map(one.fits, value)),
    )


def _named(value, one: Entry) -> bool:
    return isinstance(value, dict) and all(map(one.fits, value.values()))


TEXT = Entry("text of up to 5000 characters", lambda value: isinstance(value, str) and len(value) <= 5000)
TRUTH = Entry("true or false", lambda value: isinstance(value, bool))
OBJECTS = Entry("a list of objects", lambda value: isinstance(value, list) and all(isinstance(v, dict) for v in value))
STAGES = Entry(
    "a list of objects, or of a path its number of steps", lambda value: OBJECTS.fits(value) or COUNT.fits(value)
)
FIGURE, SHARE, AMOUNT = real(-1e30, 1e30), real(0, 1), real(0, 1e18)
COUNT = whole(0, 10**18)
SHAPE = several(whole(1, MOST_SIDE), 4)
EDGE = several(whole(0, 10_000), 2)

SUMMARY = {
    **dict.fromkeys(("method", "genotype", "dataset", "labels", "group", "background", "stopped_by"), TEXT),
    "removal_measure": TEXT,
    **dict.fromkeys(("params", "macs", "skip_connects", "test_examples", "held_back_examples", "skipped_steps"), COUNT),
    **dict.fromkeys(("test_top_5_accuracy", "held_back_top_5_accuracy"), SHARE),
    **dict.fromkeys(("stage", "paths", "path_steps"), COUNT),
    **dict.fromkeys(("wall_seconds", "path_seconds", "removal_seconds", "peak_memory_mb", "distance"), AMOUNT),
    **dict.fromkeys(("test_accuracy", "held_back_accuracy", "accuracy", "path_accuracy"), SHARE),
    **dict.fromkeys(("test_accuracy_median", "accuracy_median"), SHARE),
    **dict.fromkeys(("valid_accuracy", "data_wait_share", "test_accuracy_sd", "accuracy_sd"), SHARE.or_null()),
    **dict.fromkeys(("test_accuracy_half_range", "accuracy_half_range"), SHARE.or_null()),
    **dict.fromkeys(("test_loss", "held_back_loss"), FIGURE.or_null()),
    **dict.fromkeys(("seed", "best_seed"), whole(0, MOST_SEED)),
    **dict.fromkeys(("seeds", "networks"), OBJECTS),
    "stages": STAGES,
    **dict.fromkeys(("epochs", "tested_after_epochs"), whole(0, 1000 * MOST_EPOCHS)),
    "size_by": Entry(", ".join(UNITS), lambda value: isinstance(value, str) and value in UNITS),
    "step_ms": AMOUNT.or_null(),
    "channels": whole(1, MOST_CHANNELS),
    "cells": whole(1, MOST_CELLS),
    "class_names": several(TEXT, MOST_CLASSES),
}
"""`summary.json`. Entries of other names are not checked: a report shows them as they are."""

SEARCHED = ("epochs", "valid_accuracy", "params", "macs", "wall_seconds", "peak_memory_mb", "stopped_by")
"""What the summary of every finished search has."""

TRAINED = ("test_accuracy", "test_loss", "seed", "wall_seconds", "peak_memory_mb")
"""What the summary of every finished training has that was measured on the test images."""

SETTING = {
    **dict.fromkeys(("method", "mixing", "space", "stem"), TEXT),
    **dict.fromkeys(("epochs", "pretrain_epochs"), whole(0, 2 * MOST_EPOCHS)),
    "input_shape": SHAPE,
    "num_classes": whole(1, MOST_CLASSES),
    "channels": whole(1, MOST_CHANNELS),
    "cells": whole(1, MOST_CELLS),
    "operations": several(TEXT, 1000),
    "edges": several(Entry("[to, from]", lambda value: EDGE.fits(value) and len(value) == 2), 10_000),
    "topology": TRUTH,
    "offsets": Entry("a number for each operation", lambda value: _named(value, FIGURE)),
    "frame": Entry("an object", lambda value: isinstance(value, dict)),
}
"""`setting.json`."""

STOPPED = {"stopped_by": TEXT, "what": TEXT, "epoch": COUNT, "step": COUNT}
"""`stopped.json`."""


def check(values: Mapping, known: Mapping[str, Entry], where, needed: Sequence[str] = ()) -> None:
    """Raises `DamageError` if an entry of `values` is not what it may be, or one of `needed` is missing.

    Args:
        values: The entries.
        known: What they may be.
        where: The file, for the message.
        needed: The names of those that must be there.
    """
    for name, entry in known.items():
        if name in values and not entry.fits(values[name]):
            raise DamageError(f"{where}: {name} {quoted(values[name])}; allowed is {entry.allowed}")
    missing = [name for name in needed if name not in values]
    if missing:
        raise DamageError(f"{where}: has no {', '.join(missing)}")


def finite(value) -> float | None:
    """Returns a number as a float, or `None` if the value is not a finite number."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None
