"""The axes of a HyperCuboid, paths through it as data, and the reader of architectures: genotypes of cells or paths.

`path_zoo.json` has the published paths through MultiChannelNet by name: the filters at the start, and for each step the
filters after it and the operation; a path may have a `note`.
"""

import functools
import importlib.resources
import itertools
import json
import math
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kdarts.genotypes.errors import KdartsError, choice, listed, quoted, shortened
from kdarts.genotypes.files import fields_of, json_of, text_of, write_text
from kdarts.genotypes.genotype import LONGEST_NAME, Genotype, check_name

LIMIT = 100_000
"""Most transitions of a cuboid."""

Value = str | int | float | bool

_KINDS = ("sequence", "states", "choices")


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
        macro: the macro structure, as far as no axis has it, as `{name: value}` or as pairs: texts, numbers, truth
            values, or lists of whole numbers; its space knows the names.

    Raises:
        KdartsError: if there is no sequence, an axis is empty or has a value twice, two axes have one name, or there
            are more than `LIMIT` transitions.
    """

    sequence: tuple[tuple[str, tuple[Value, ...]], ...]
    states: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    choices: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    macro: tuple[tuple[str, Value | tuple[int, ...]], ...] = ()

    def __post_init__(self):
        for kind in _KINDS:
            given = getattr(self, kind)
            pairs = given.items() if isinstance(given, Mapping) else given
            try:
                axes = tuple((name, tuple(values)) for name, values in pairs)
            except (TypeError, ValueError):
                raise KdartsError(f"{kind}: needs {{name: values}}, got {quoted(given)}") from None
            object.__setattr__(self, kind, axes)
            for name, values in axes:
                _check_axis(kind, name, values)
        names = [name for name, _ in (*self.sequence, *self.states, *self.choices)]
        if not self.sequence:
            raise KdartsError("sequence: needs an axis, such as {'block': range(3)}")
        if len(set(names)) < len(names):
            raise KdartsError(f"axes {', '.join(names)}: each needs a name of its own")
        object.__setattr__(self, "macro", _macro_of(self.macro))
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
        return [
            ((stage, source, target, k), Step(stage, positions[stage], states[source], states[target], choices[k]))
            for stage, source, target, k in itertools.product(*map(range, self.shape))
        ]

    def to_json(self) -> dict:
        """Its axes, as JSON has them, without the `macro`."""
        return {kind: {name: list(values) for name, values in getattr(self, kind)} for kind in _KINDS}


def label(values: Mapping[str, Value], named: bool = False) -> str:
    """Values in one word, such as `32` or `relu, 5`; `named` with their axes, such as `layer 0, stride 2`."""
    return ", ".join(f"{name} {value}" if named else str(value) for name, value in values.items())


def _combinations(axes) -> list[dict[str, Value]]:
    names = [name for name, _ in axes]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(values for _, values in axes))]


def _macro_of(given) -> tuple:
    """The macro structure as pairs; raises `KdartsError` for values that a file of a path cannot hold."""
    pairs = given.items() if isinstance(given, Mapping) else given
    try:
        found = tuple((name, tuple(value) if isinstance(value, list | tuple) else value) for name, value in pairs)
    except (TypeError, ValueError):
        raise KdartsError(f"macro: needs {{name: value}}, got {quoted(given)}") from None
    for name, value in found:
        if isinstance(value, tuple) and len(value) <= 8 and all(type(n) is int and 0 <= n <= LIMIT for n in value):
            continue
        _check_axis("macro", name, (value,))
    return found


def _check_axis(kind: str, name, values) -> None:
    if not isinstance(name, str) or not name:
        raise KdartsError(f"{kind}: an axis' name must be text, got {quoted(name)}")
    if not values or any(type(value) not in (str, int, float, bool) for value in values):
        allowed = "needs one or more texts, numbers or truth values"
        raise KdartsError(f"{kind} {quoted(name)}: {allowed}, got {quoted(list(values))}")
    for text in (name, *values):
        if isinstance(text, str) and (not text.isprintable() or len(text) > LONGEST_NAME):
            raise KdartsError(f"{kind} {quoted(text)}: allowed are {LONGEST_NAME} printable characters")
    if any(value != value or value in (math.inf, -math.inf) for value in values):
        raise KdartsError(f"{kind} {quoted(name)}: needs finite numbers, got {quoted(list(values))}")
    if len({(type(value), value) for value in values}) < len(values):
        raise KdartsError(f"{kind} {quoted(name)}: has a value twice, {quoted(list(values))}")


_FORMAT = "kdarts-path-1"


@dataclass(frozen=True)
class HyperPath:
    """One network of a HyperCuboid.

    Attributes:
        cuboid: the axes.
        states: index of the state before the first step and after each; one more than there are stages.
        choices: for each stage the index of its choices.
        space: name of the published HyperCuboid that it is of; "": of a program's own.
        name: of a published path.

    Raises:
        KdartsError: if there are too few or too many indices, or one is outside its axis.
    """

    cuboid: Cuboid
    states: tuple[int, ...]
    choices: tuple[int, ...]
    space: str = ""
    name: str = ""

    def __post_init__(self):
        stages, width, _, options = self.cuboid.shape
        for field, count, limit in (("states", stages + 1, width), ("choices", stages, options)):
            given = tuple(int(index) for index in getattr(self, field))
            object.__setattr__(self, field, given)
            if len(given) != count or not all(0 <= index < limit for index in given):
                raise KdartsError(f"path: {field} {list(given)}; needs {count} numbers from 0 to {limit - 1}")

    @property
    def steps(self) -> list[Step]:
        """Its transitions, one for each stage."""
        pairs = zip(self.states, self.states[1:], self.choices, strict=False)
        return [self.cuboid.step(stage, *indices) for stage, indices in enumerate(pairs)]

    @property
    def start(self) -> dict:
        """The state before the first step."""
        return self.cuboid.state_values[self.states[0]]

    @property
    def end(self) -> dict:
        """The state after the last step."""
        return self.cuboid.state_values[self.states[-1]]

    def named(self, name: str) -> "HyperPath":
        """The same under another name."""
        return replace(self, name=name)

    def skips_by_cell(self) -> list[int]:
        """Nothing: a path has no cells."""
        return []

    def gaps(self) -> list[str]:
        """Nothing: a path is built as it is."""
        return []

    def notes(self) -> list[str]:
        """Nothing, likewise."""
        return []

    def measures(self) -> dict[str, float]:
        """Nothing: a search records only the path itself after each epoch."""
        return {}

    def to_json(self) -> str:
        """Readable JSON, one step a line."""
        axes = self.cuboid.to_json()
        lines = ["{", f'  "format": "{_FORMAT}",', f'  "name": {json.dumps(self.name)},']
        lines += [f'  "space": {json.dumps(self.space)},']
        lines += [f'  "macro": {json.dumps(dict(self.cuboid.macro))},'] if self.cuboid.macro else []
        lines += [f'  "{kind}": {json.dumps(axes[kind])},' for kind in _KINDS]
        steps = [json.dumps({**step.target, **step.choice}) for step in self.steps]
        lines += [f'  "start": {json.dumps(self.start)},', '  "steps": [']
        return "\n".join([*lines, ",\n".join(f"    {step}" for step in steps), "  ]", "}"]) + "\n"

    def save(self, path: str | os.PathLike) -> None:
        """Writes `to_json` to `path`, atomically."""
        write_text(path, self.to_json())

    @classmethod
    def from_json(cls, text: str, where: str = "path") -> "HyperPath":
        """Reads what `to_json` wrote; raises `KdartsError` naming the fault and `where` it stands."""
        data = fields_of(text, where, "path", _FORMAT, {*_KINDS, "start", "steps"}, {"name", "space", "macro"})
        for key in ("name", "space"):
            check_name(data.get(key, ""), f"{where}: {key}" if key != "name" else where)
        try:
            for kind in _KINDS:
                axes = data[kind]
                if not isinstance(axes, dict) or not all(isinstance(values, list) for values in axes.values()):
                    raise KdartsError(f"{kind} must be {{name: [values]}}, got {quoted(axes)}")
            if not isinstance(data.get("macro", {}), dict):
                raise KdartsError(f"macro must be {{name: value}}, got {quoted(data['macro'])}")
            cuboid = Cuboid(data["sequence"], data["states"], data["choices"], data.get("macro", {}))
            return path_of(cuboid, data["start"], data["steps"], data.get("space", ""), data.get("name", ""))
        except KdartsError as error:
            raise KdartsError(f"{where}: {error}") from None

    @classmethod
    def load(cls, path: str | os.PathLike) -> "HyperPath":
        """Reads a file that `save` wrote; raises `KdartsError` if there is none or it holds no valid path."""
        return cls.from_json(text_of(path), str(path))


def path_of(cuboid: Cuboid, start: dict, steps: list[dict], space: str = "", name: str = "") -> HyperPath:
    """The path that begins at the values `start` of the state axes.

    Each of `steps` has the value of each state axis after it and of each choice axis. Raises `KdartsError` if an axis
    or a value is unknown or missing, or the number of steps is not that of the stages.
    """
    stages = cuboid.shape[0]
    if not isinstance(steps, list | tuple) or len(steps) != stages:
        count = len(steps) if isinstance(steps, list | tuple) else repr(steps)
        raise KdartsError(f"steps: got {count}, the sequence has {stages} stages")
    state_axes, choice_axes = dict(cuboid.states), dict(cuboid.choices)
    states, choices = [_index(start, state_axes, "start")], []
    for number, step in enumerate(steps):
        where = f"step {number}"
        if not isinstance(step, dict) or set(step) != {*state_axes, *choice_axes}:
            raise KdartsError(f"{where}: needs {', '.join((*state_axes, *choice_axes))}, got {quoted(step)}")
        states.append(_index({name: step[name] for name in state_axes}, state_axes, where))
        choices.append(_index({name: step[name] for name in choice_axes}, choice_axes, where))
    return HyperPath(cuboid, tuple(states), tuple(choices), space, name)


def _index(given, axes: dict, where: str) -> int:
    """The number of a combination of values, the last axis running fastest."""
    if not isinstance(given, dict) or set(given) != set(axes):
        raise KdartsError(f"{where}: needs {', '.join(axes) or 'nothing'}, got {quoted(given)}")
    number = 0
    for name, values in axes.items():
        found = [k for k, value in enumerate(values) if type(value) is type(given[name]) and value == given[name]]
        if not found:
            some = listed(map(quoted, values), 10)
            raise KdartsError(f"{where}: {shortened(name)} {quoted(given[name])} is none of {some}")
        number = number * len(values) + found[0]
    return number


@functools.cache
def _path_zoo() -> dict:
    return json.loads(importlib.resources.files("kdarts.genotypes").joinpath("path_zoo.json").read_text("utf-8"))


def path_names() -> list[str]:
    """Names of the published paths."""
    return list(_path_zoo()["paths"])


def get_path(name: str) -> HyperPath:
    """The published path called `name`; raises `KdartsError` with the nearest name otherwise."""
    zoo = _path_zoo()
    entry = zoo["paths"][choice("path", name, path_names())]
    steps = [{"filters": filters, "primitive": primitive} for filters, primitive in entry["steps"]]
    return path_of(Cuboid(**zoo["axes"]), {"filters": entry["start"]}, steps, "multichannelnet", name)


def describe_path(name: str) -> str:
    """The source of the path called `name`, and a note about it."""
    zoo = _path_zoo()
    return f"{zoo['source']}; {zoo['paths'][choice('path', name, path_names())]['note']}"


Architecture = Genotype | HyperPath


def architecture_from_json(text: str, where: str = "genotype") -> Architecture:
    """Reads what either's `to_json` wrote; raises `KdartsError` naming the fault and `where` it stands."""
    return HyperPath.from_json(text, where) if _is_path(text) else Genotype.from_json(text, where)


def load_architecture(name_or_path: str | os.PathLike) -> Architecture:
    """A genotype, as of `Genotype.load`, or a path, by its name in the zoo or from its file."""
    if str(name_or_path) in path_names():
        return get_path(str(name_or_path))
    if os.path.isfile(name_or_path) and _is_path(text := text_of(name_or_path)):
        return HyperPath.from_json(text, str(name_or_path))
    return Genotype.load(name_or_path)


def load_family(folder: str | os.PathLike) -> dict[str, Architecture]:
    """Reads the architectures of a folder, such as `WORKDIR/family` of a search by DARTS-PD.

    Args:
        folder: Holds a JSON file for each genotype or path. Other files are not read.

    Returns:
        The architectures by the names of their files, in alphabetical order. Those without a name get that one.

    Raises:
        KdartsError: If there is no such folder, no JSON file in it, or one that holds no architecture.
    """
    path = pathlib.Path(folder).expanduser()
    if not path.is_dir():
        raise KdartsError(f"family {str(folder)!r}: needs a folder, with a .json file for each genotype")
    if (path / "genotype.json").exists() and (path / "family").is_dir():
        raise KdartsError(f"family {str(folder)!r}: is the folder of a search; its family is in {path / 'family'}")
    files = sorted(file for file in path.glob("*.json") if file.is_file() and not file.name.startswith("."))
    if not files:
        raise KdartsError(f"family {str(folder)!r}: holds no .json file of a genotype")
    found = {file.stem: load_architecture(file) for file in files}
    return {name: each if each.name else replace(each, name=name) for name, each in found.items()}


def _is_path(text: str) -> bool:
    try:
        data = json_of(text)
    except ValueError:
        return False
    return isinstance(data, dict) and data.get("format") == _FORMAT
