"""Things known by a name, and the settings of those that a method is composed of.

A choice on an axis of a method is a frozen dataclass. Its fields are its hyperparameters, each made by `setting`, which
says what it is for, what is allowed and where it comes from. Command-line flags, their help and the tables of the pages
are read from these fields.
"""

import dataclasses
import importlib
import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from kdarts.genotypes.errors import KdartsError, choice

MOST = 10**9
"""The greatest number of anything that is counted and has no smaller limit: images, steps, iterations."""

MOST_SEED = 2**32 - 1
"""The greatest seed, that of NumPy's generators."""

MOST_EPOCHS, MOST_BATCH, MOST_RATE = 100_000, 65_536, 1000.0
"""Lengths, batches, and learning rates and penalties beyond any that train."""

MOST_CELLS, MOST_CHANNELS, MOST_NODES, MOST_SIDE, MOST_CLASSES = 1000, 4096, 16, 16_384, 1_000_000
"""Sizes beyond any network: cells, channels at its start, nodes of a searched cell, pixels of a side, classes."""


SCHEDULES = ("cosine", "cosine_power", "cosine_power_equation", "cosine_restarts", "step", "linear")
"""How the learning rate of the weights may fall (see `search.schedules.get_schedule`)."""


def in_words(least: float | None, most: float | None, open: bool = False) -> str:
    """A range in words, such as `from 0 to 0.9999` or `above 0, at most 10`; "" where there is none."""

    def text(number) -> str:
        return str(int(number)) if abs(number) < 1e16 and number == int(number) else f"{number:g}"

    low = "" if least is None else f"{'above' if open else 'from'} {text(least)}"
    high = "" if most is None else f"at most {text(most)}" if open or not low else f"to {text(most)}"
    return (", " if open else " ").join(part for part in (low, high) if part)


@dataclass(frozen=True)
class Setting:
    """What a hyperparameter is.

    Attributes:
        help: one phrase, without a full stop.
        least, most: the least and greatest number allowed; None: any.
        open: whether `least` itself is not allowed.
        why: the reason of the range, for messages, where it does not go without saying.
        choices: the names that are allowed, a tuple or a function that returns one; (): any.
        source: paper and equation or section.
        parse: from a flag's text to the value, where that is more than a number or a word.
    """

    help: str
    least: float | None = None
    most: float | None = None
    open: bool = False
    why: str = ""
    choices: tuple | Callable = ()
    source: str = ""
    parse: Callable | None = None

    @property
    def allowed(self) -> tuple:
        """The names that are allowed, if only some are."""
        return tuple(self.choices() if callable(self.choices) else self.choices)

    def range(self) -> str:
        """What is allowed, in words; "" where anything is."""
        if self.allowed:
            return ", ".join(map(str, self.allowed))
        return in_words(self.least, self.most, self.open)

    def check(self, name: str, value) -> None:
        """Raises `KdartsError` for a value out of range."""
        if value is None:
            return
        if self.allowed:
            choice(name, value, self.allowed)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return
        low = self.least is not None and (value < self.least or (self.open and value == self.least))
        high = self.most is not None and value > self.most
        if low or high or math.isnan(value):
            raise KdartsError(f"{name} {value}: allowed is {self.range() or 'a number'}{because(self.why)}")


def because(why: str) -> str:
    """A reason behind a range; "" without one."""
    return f"; {why}" if why else ""


def setting(default: Any, help: str, **about: Any) -> Any:
    """A field of an axis class.

    Args:
        default: its default.
        help: one phrase about it.
        **about: more of `Setting`.
    """
    return dataclasses.field(default=default, metadata={"setting": Setting(help, **about)})


@dataclass(frozen=True)
class Axis:
    """One choice on an axis of a method. A kind of it adds fields made by `setting`, and behaviour.

    Attributes:
        name: of the choice, where the axis has several.
    """

    name: ClassVar[str] = ""

    def __post_init__(self):
        for field in settings_of(type(self)).values():
            field.metadata["setting"].check(field.name, getattr(self, field.name))

    def config(self) -> dict:
        """The values of its fields, as plain data."""
        return {name: getattr(self, name) for name in settings_of(type(self))}


def settings_of(kind: type) -> dict[str, dataclasses.Field]:
    """The fields of an axis class by name."""
    return {field.name: field for field in dataclasses.fields(kind) if "setting" in field.metadata}


def kind_of(field: dataclasses.Field) -> type:
    """The type of a field's value, without None."""
    if isinstance(field.type, types.UnionType):
        return next(kind for kind in get_args(field.type) if kind is not type(None))
    return field.type if isinstance(field.type, type) else tuple


class Registry:
    """Named things of one kind, in the order in which they were registered.

    Args:
        what: the kind, for messages: "operation", "space", ….
        built_in: modules that register things of this kind when they are imported; they are loaded on first use.
    """

    def __init__(self, what: str, *built_in: str):
        self.what = what
        self._items: dict = {}
        self._built_in = list(built_in)

    def add(self, item):
        """Registers `item` under its `name` and returns it.

        To register an equal definition again changes nothing, so that a notebook's cell may run twice.

        Raises:
            KdartsError: if the name belongs to another definition.
        """
        known = self._items.setdefault(item.name, item)
        if known is not item and known != item and definition(known) != definition(item):
            raise KdartsError(f"{self.what} {item.name!r} exists already, with another definition")
        return known

    def get(self, name: str):
        """What is called `name`; raises `KdartsError` with the known names otherwise."""
        return self._items[choice(self.what, name, self.names())]

    def names(self) -> list[str]:
        """Every known name."""
        while self._built_in:
            importlib.import_module(self._built_in.pop(0))
        return list(self._items)

    def items(self) -> list:
        """Everything that is registered."""
        return [self._items[name] for name in self.names()]


def definition(value):
    """What a registered thing is, as data that can be compared: of classes and functions their code."""
    if isinstance(value, type):
        skipped = ("__module__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__")
        return value.__name__, {k: definition(v) for k, v in vars(value).items() if k not in skipped}
    if isinstance(value, types.FunctionType):
        return definition(value.__code__), definition(value.__defaults__), definition(value.__kwdefaults__)
    if isinstance(value, types.CodeType):
        return value.co_code, value.co_names, tuple(definition(part) for part in value.co_consts)
    if isinstance(value, classmethod | staticmethod | property):
        return definition(getattr(value, "__func__", None) or value.fget)
    if dataclasses.is_dataclass(value):
        return type(value).__name__, {f.name: definition(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: definition(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return tuple(definition(part) for part in value)
    if hasattr(value, "config"):
        return value.config()
    return value if isinstance(value, str | bytes | int | float | bool | None) else type(value).__name__
