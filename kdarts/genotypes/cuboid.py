"""The axes of a HyperCuboid: what is passed in order, what is carried along, what is chosen."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from kdarts.genotypes.errors import KdartsError

LIMIT = 100_000
"""Most transitions of a cuboid."""

Value = str | int | float | bool


@dataclass(frozen=True)
class Step:
    """One transition: from a value of the states to a value of the states, by one of the choices.

    `step["width"]` is the value of that axis, whichever kind it is; of a state it is that after the step, as most
    layers need no other.

    Attributes:
        stage: number of the stage, from 0.
        position: value of each sequence axis.
        source, target: value of each state axis before and after the step.
        choice: value of each choice axis.
    """

    stage: int
    position: dict[str, Value]
    source: dict[str, Value]
    target: dict[str, Value]
    choice: dict[str, Value]

    def __getitem__(self, axis: str) -> Value:
        for values in (self.position, self.target, self.choice):
            if axis in values:
                return values[axis]
        raise KdartsError(f"no axis {axis!r}; there are {', '.join((*self.position, *self.target, *self.choice))}")


@dataclass(frozen=True)
class Cuboid:
    """A grid of hyperparameters through which networks are paths (sharpDARTS, section 4.1).

    A path visits every stage, which are the positions of the sequence axes with the last axis running fastest. At each
    it goes from a value of the states to a value of the states, and takes one value of each choice axis. Of several
    axes of one kind every combination counts.

    Attributes:
        sequence, states, choices: for each axis its name and its values, as `{name: values}` or as pairs; states and
            choices may be empty.

    Raises:
        KdartsError: if there is no sequence, an axis is empty or has a value twice, two axes have one name, or there
            are more than `LIMIT` transitions.
    """

    sequence: tuple[tuple[str, tuple[Value, ...]], ...]
    states: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    choices: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    def __post_init__(self):
        for kind in ("sequence", "states", "choices"):
            given = getattr(self, kind)
            pairs = given.items() if isinstance(given, Mapping) else given
            try:
                axes = tuple((name, tuple(values)) for name, values in pairs)
            except (TypeError, ValueError):
                raise KdartsError(f"{kind}: needs {{name: values}}, got {given!r}") from None
            object.__setattr__(self, kind, axes)
            for name, values in axes:
                _check_axis(kind, name, values)
        names = [name for name, _ in (*self.sequence, *self.states, *self.choices)]
        if not self.sequence:
            raise KdartsError("sequence: needs an axis, such as {'block': range(3)}")
        if len(set(names)) < len(names):
            raise KdartsError(f"axes {', '.join(names)}: each needs a name of its own")
        if math.prod(self.shape) > LIMIT:
            raise KdartsError(f"axes of {' x '.join(map(str, self.shape))} transitions: allowed are {LIMIT:,} in all")

    @property
    def positions(self) -> list[dict[str, Value]]:
        """The stages in order."""
        return _combinations(self.sequence)

    @property
    def state_values(self) -> list[dict[str, Value]]:
        """Every value of the states."""
        return _combinations(self.states)

    @property
    def choice_values(self) -> list[dict[str, Value]]:
        """Every combination of choices."""
        return _combinations(self.choices)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Stages, states before a step, states after it, choices."""
        stages, states, choices = (
            math.prod(len(values) for _, values in axes) for axes in (self.sequence, self.states, self.choices)
        )
        return stages, states, states, choices

    @property
    def paths(self) -> int:
        """Number of paths where every transition is allowed."""
        stages, states, _, choices = self.shape
        return states * (states * choices) ** stages

    def step(self, stage: int, source: int, target: int, choice: int) -> Step:
        """The transition at an index of `shape`."""
        states = self.state_values
        return Step(stage, self.positions[stage], states[source], states[target], self.choice_values[choice])

    def steps(self) -> list[tuple[tuple[int, int, int, int], Step]]:
        """Every transition with its index, the last one running fastest."""
        positions, states, choices = self.positions, self.state_values, self.choice_values
        found = []
        for index in itertools.product(*map(range, self.shape)):
            stage, source, target, choice = index
            found.append((index, Step(stage, positions[stage], states[source], states[target], choices[choice])))
        return found

    def to_json(self) -> dict:
        """Its axes, as JSON has them."""
        kinds = {"sequence": self.sequence, "states": self.states, "choices": self.choices}
        return {kind: {name: list(values) for name, values in axes} for kind, axes in kinds.items()}


def label(values: Mapping[str, Value], named: bool = False) -> str:
    """Values in one word, such as `32` or `relu, 5`; `named` with their axes, such as `layer 0, stride 2`."""
    return ", ".join(f"{name} {value}" if named else str(value) for name, value in values.items())


def _combinations(axes) -> list[dict[str, Value]]:
    names = [name for name, _ in axes]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(values for _, values in axes))]


def _check_axis(kind: str, name, values) -> None:
    if not isinstance(name, str) or not name:
        raise KdartsError(f"{kind}: an axis' name must be text, got {name!r}")
    if not values or any(type(value) not in (str, int, float, bool) for value in values):
        raise KdartsError(f"{kind} {name!r}: needs one or more texts, numbers or truth values, got {list(values)!r}")
    if any(value != value or value in (math.inf, -math.inf) for value in values):
        raise KdartsError(f"{kind} {name!r}: needs finite numbers, got {list(values)!r}")
    if len({(type(value), value) for value in values}) < len(values):
        raise KdartsError(f"{kind} {name!r}: has a value twice, {list(values)!r}")
