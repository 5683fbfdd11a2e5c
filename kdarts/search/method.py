"""A method: one choice on each axis of a search.

A `Method` is composed of small objects, one for each axis, and of the terms of α's loss. Its choices can be named
flatly, as the flags name them: `method.override(order="second", l2=1e-4)`, `method.threshold`.
"""

import dataclasses
from dataclasses import dataclass

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import Axis, Registry, settings_of
from kdarts.search.alignment import Alignment
from kdarts.search.axes import PATHS, ArchitectureParameters, Progression, Size, WeightTraining
from kdarts.search.freezing import FREEZING
from kdarts.search.gradients import GRADIENTS
from kdarts.search.levels import LEVELS
from kdarts.search.losses import LOSSES
from kdarts.search.masks import MASKS
from kdarts.search.perturbations import PERTURBATIONS
from kdarts.search.selection import SELECTIONS
from kdarts.search.stages import Stage
from kdarts.search.stopping import STOPS
from kdarts.search.updates import UPDATES
from kdarts.supernet.grids import cuboid_names
from kdarts.supernet.relaxation import RELAXATIONS, SAMPLINGS
from kdarts.supernet.spaces import SearchSpace, get_space


@dataclass(frozen=True)
class Slot:
    """One axis of a method.

    Attributes:
        key: its name; where there are several choices, the name of the flag that chooses.
        title: for help and tables.
        about: one sentence on it.
        registry: the choices; None: there is one.
        usual: the choice of DARTS: a class, or a name in the registry.
    """

    key: str
    title: str
    about: str
    registry: Registry | None
    usual: str | type

    def kind(self, name: str) -> type[Axis]:
        """The class of a choice."""
        return self.registry.get(name)

    def kinds(self) -> list[type[Axis]]:
        """The classes of all choices."""
        return self.registry.items() if self.registry else [self.usual]

    def make(self) -> Axis:
        """The choice of DARTS."""
        return (self.kind(self.usual) if self.registry else self.usual)()


AXES = (
    Slot(
        "architecture",
        "Architecture parameters",
        "which α exist, and which cells share them",
        None,
        ArchitectureParameters,
    ),
    Slot("mixing", "Relaxation", "how α weighs the candidates of an edge", RELAXATIONS, "softmax"),
    Slot("sampling", "Sampling", "which candidates a pass goes through", SAMPLINGS, "all"),
    Slot(
        "perturbation",
        "Perturbation",
        "what is added to the mixing weights in the pass that trains the weights",
        PERTURBATIONS,
        "none",
    ),
    Slot(
        "alignment",
        "Alignment",
        "a term in the loss of the weights by which the normal cells agree on their α",
        None,
        Alignment,
    ),
    Slot("level", "Level", "which images the weights and α learn from", LEVELS, "bilevel"),
    Slot("order", "Gradient", "the gradient that α descends", GRADIENTS, "first"),
    Slot("update", "Update", "when α moves", UPDATES, "step"),
    Slot("masks", "Masks", "which candidates leave in the course of the search", MASKS, "none"),
    Slot("stop", "Stopping", "what may end the search before its last epoch", STOPS, "epochs"),
    Slot("freezing", "Freezing", "which operations are trained no further", FREEZING, "none"),
    Slot("discretization", "Selection", "the rule that derives an architecture", SELECTIONS, "darts"),
    Slot("weights", "Training of the weights", "their optimizer and its schedule", None, WeightTraining),
    Slot("size", "Size", "length and size of the search", None, Size),
    Slot("progression", "Stages", "searches one after another", None, Progression),
    Slot("path_choice", "Shared paths", "what is chosen among shared paths after the search", PATHS, "family"),
)
"""The axes in the order of help and tables; the terms of the loss come beside them."""

SMALL = {"channels": 8, "batch_size": 64, "learning_rate": 0.025}
"""For the built-in digits in place of a paper's sizes, which are meant for 50,000 photographs."""

SMALL_PATHS = {
    "path_epochs": 40,
    "path_batch_size": 64,
    "path_learning_rate": 0.025,
    "path_drop_path": 0.0,
    "path_cutout": 0,
    "population": 20,
    "generations": 5,
    "calibration_batches": 20,
    "family_channels": 16,
    "family_cells": 5,
    "removal_tune": 1,
}
"""The same for what comes after a search, if it does; the stand-alone networks are those of `kdarts train`."""

SMALL_EPOCHS = 25
"""The least there; else half of the paper's."""

HASTE, START_HASTE = 10, 30
"""How many times longer the steps of α are for the digits, and where α starts from a genotype, 10 away from where it
may end: the search has 275 steps instead of 20,000. Where α moves once an epoch, 25 times in all, it comes as far as
0.075 from a start within 0.003. The constants of the attention stay as they are: together 0.015, which at the paper's
rate outweighs everything."""


class Method:
    """One choice on each axis, and the terms of the loss.

    Every choice and every hyperparameter is an attribute under its flat name: `method.order` is "first",
    `method.learning_rate` is 0.025. What the choices made have no field for has its default.

    Args:
        name: as `--method` spells it.
        paper: where it comes from.
        **choices: what differs from DARTS: under the name of an axis an object or the name of a choice, under the name
            of a hyperparameter its value.

    Attributes:
        axes: the choices, by the keys of `AXES`.
        losses: every known term of the loss by its name, also those whose weight is 0.

    Raises:
        KdartsError: for an axis that does not exist, a value out of range, or a hyperparameter that has no effect with
            the choices made.
    """

    def __init__(self, name: str, paper: str = "", **choices):
        self.name, self.paper = name, paper
        self.axes = {slot.key: slot.make() for slot in AXES}
        self.losses = {kind.name: kind() for kind in LOSSES.items()}
        self._apply(choices)

    def __getattr__(self, name: str):
        if name.startswith("_") or name in ("axes", "losses"):
            raise AttributeError(name)
        for slot in AXES:
            if name == slot.key and slot.registry:
                return self.axes[name].name
        for axis in (*self.axes.values(), *self.losses.values()):
            if name in settings_of(type(axis)):
                return getattr(axis, name)
        known = fields()
        if name in known:
            return known[name].default
        raise AttributeError(f"a method has no {name!r}")

    def __eq__(self, other):
        return isinstance(other, Method) and self.config() == other.config()

    def __hash__(self):
        return hash((self.name, self.paper))

    def __repr__(self):
        return f"Method({self.name!r}, {self.paper!r}, **{self.differences()})"

    @property
    def relaxation(self):
        """How α becomes mixing weights."""
        return self.axes["mixing"]

    @property
    def gradient(self):
        """The form of ∇α."""
        return self.axes["order"]

    @property
    def one_level(self) -> bool:
        """Whether the weights and α learn from the same images."""
        return self.axes["level"].one or self.gradient.joint

    @property
    def stopping(self):
        """The stop rule."""
        return self.axes["stop"]

    @property
    def selection(self):
        """The rule that derives an architecture."""
        return self.axes["discretization"]

    @property
    def on_grid(self) -> bool:
        """Whether its space is a grid of choices and not cells."""
        return self.axes["architecture"].space in cuboid_names()

    @property
    def trains(self) -> bool:
        """Whether anything is trained: not where random genotypes are compared by a score without training."""
        return not self.samples or self.score == "accuracy"

    def terms(self) -> list:
        """The terms of the loss that are there."""
        return [term for term in self.losses.values() if term.active]

    def term(self, name: str):
        """The term called `name` if it is there, else None."""
        found = self.losses.get(name)
        return found if found is not None and found.active else None

    def override(self, **choices) -> "Method":
        """The same with other choices, named as in the constructor."""
        made = Method(self.name, self.paper)
        made.axes, made.losses = dict(self.axes), dict(self.losses)
        made._apply(choices)
        return made

    def named(self, name: str, paper: str) -> "Method":
        """The same under another name."""
        made = self.override()
        made.name, made.paper = name, paper
        return made

    def _apply(self, choices: dict) -> None:
        """Takes the choices over, first those of an axis, then the values of hyperparameters."""
        values = dict(choices)
        for slot in AXES:
            if slot.registry and slot.key in values:
                self.axes[slot.key] = _chosen(slot, values.pop(slot.key), self.axes[slot.key])
        known = fields()
        for name in values:
            if name not in known:
                allowed = sorted({*known, *(slot.key for slot in AXES if slot.registry)})
                raise KdartsError(f"method {self.name!r} has no axis {name!r}; allowed: {', '.join(allowed)}")
        for kind in LOSSES.items():
            self.losses.setdefault(kind.name, kind())
        used = set()
        for group in (self.axes, self.losses):
            for key, axis in group.items():
                own = {name: values[name] for name in values if name in settings_of(type(axis))}
                used |= set(own)
                if own:
                    group[key] = dataclasses.replace(axis, **own)
        for name in set(values) - used:
            self._refuse(name, values[name])

    def _refuse(self, name: str, value) -> None:
        """Raises `KdartsError` for a hyperparameter of a choice that was not made, unless it is at rest."""
        if value == fields()[name].default:
            return
        for slot in AXES:
            owners = [kind.name for kind in slot.kinds() if name in settings_of(kind)]
            if owners:
                raise KdartsError(
                    f"{name} {value}: has no effect with {slot.key} {self.axes[slot.key].name!r}; it is for "
                    f"{slot.key} {', '.join(owners)}"
                )

    def config(self) -> dict:
        """All of it as plain data, from which `from_config` makes an equal method."""
        choices = {slot.key: self.axes[slot.key].name for slot in AXES if slot.registry}
        for axis in (*self.axes.values(), *self.losses.values()):
            choices |= axis.config()
        choices["stages"] = [str(stage) for stage in choices["stages"]]
        choices["attention"] = [list(pair) for pair in choices["attention"]]
        return {"name": self.name, "paper": self.paper, **choices}

    @classmethod
    def from_config(cls, config: dict) -> "Method":
        """The method that `config` says."""
        from kdarts.search.stages import parse_stages

        choices = dict(config)
        choices["stages"] = parse_stages(",".join(choices["stages"])) if choices["stages"] else ()
        choices["attention"] = tuple((name, constant) for name, constant in choices["attention"])
        return cls(choices.pop("name"), choices.pop("paper"), **choices)

    def differences(self, other: "Method | None" = None) -> dict:
        """What differs from another method, by flat names; None: from DARTS."""
        usual = (other or Method("darts")).config()
        return {n: v for n, v in self.config().items() if n not in ("name", "paper") and usual.get(n) != v}

    def within(self, space: SearchSpace) -> "Method":
        """The same where a space leaves no choice: with stages all edges stay, each with its strongest operation."""
        if not space.stages:
            return self
        rule = self.selection if self.selection.one_input else "argmax"
        return self.override(discretization=rule, topology="")

    def in_space(self, name: str) -> "Method":
        """The method in another space than its own, at that space's usual size."""
        if name in cuboid_names() or self.on_grid:
            made = self.override(space=name)
            if not made.on_grid or made.selection.grid:
                return made
            whole = {"partial_channels": 1} if made.paths else {}  # A family needs no part of PC-DARTS' search.
            return made.override(discretization="best_path", **whole)
        space = get_space(name)
        made = self.within(space).override(space=space.name)
        if space.cells is None:
            return made
        sizes = {"cells": space.cells, "family_cells": space.cells, "family_channels": made.channels}
        return made.override(**{name: value for name, value in sizes.items() if made.has(name)})

    def has(self, name: str) -> bool:
        """Whether the choices made have a hyperparameter of this name."""
        return any(name in settings_of(type(axis)) for axis in (*self.axes.values(), *self.losses.values()))

    def at(self, stage: Stage) -> "Method":
        """The search that one of its stages is."""
        return self.override(cells=stage.cells, skip_dropout=stage.skip_dropout, stages=())

    def lasting(self, epochs: int) -> "Method":
        """The same in another number of epochs, with its warm-ups in proportion."""
        names = "warmup_epochs", "learning_rate_warmup"
        return self.override(epochs=epochs, **{name: getattr(self, name) * epochs // self.epochs for name in names})

    def small(self) -> "Method":
        """The same at a size for the built-in digits."""
        made = self.override(**SMALL).lasting(max(min(SMALL_EPOCHS, self.epochs), self.epochs // 2))
        made = made.override(
            **{name: value for name, value in SMALL_PATHS.items() if made.has(name) and getattr(made, name)}
        )
        stages = tuple(dataclasses.replace(stage, cells=3 + number) for number, stage in enumerate(self.stages))
        in_steps = self.selection.grid
        in_stages = not in_steps and get_space(self.space).stages
        haste = START_HASTE if self.sharing == "start" else HASTE
        final = self.arch_final_learning_rate
        return made.override(
            cells=1 if in_stages else self.cells if self.sharing == "individual" else 4 if in_steps else 5,
            stages=stages,
            arch_learning_rate=haste * self.arch_learning_rate,
            arch_final_learning_rate=None if final is None else haste * final,
        )


def fields() -> dict[str, dataclasses.Field]:
    """Every hyperparameter of every choice, by its flat name; the first choice's where several have it."""
    found: dict = {}
    for kind in (*(kind for slot in AXES for kind in slot.kinds()), *LOSSES.items()):
        for name, field in settings_of(kind).items():
            found.setdefault(name, field)
    return found


def groups() -> dict[str, dict[str, dataclasses.Field | Slot]]:
    """The flat names by group, for help and tables: of each axis what chooses, then its hyperparameters."""
    found: dict[str, dict] = {}
    for slot in AXES:
        group = found.setdefault(f"{slot.title}: {slot.about}", {})
        if slot.registry:
            group[slot.key] = slot
        for kind in slot.kinds():
            for name, field in settings_of(kind).items():
                group.setdefault(name, field)
    losses = found["Losses: the terms that are added to the loss of α"] = {}
    for kind in LOSSES.items():
        losses |= settings_of(kind)
    return found


def _chosen(slot: Slot, given, before: Axis) -> Axis:
    """The choice that was given, with the values that the one before it was given otherwise than its defaults."""
    if isinstance(given, Axis):
        return given
    kind = slot.kind(given)
    usual, names = settings_of(type(before)), settings_of(kind)
    kept = {name: getattr(before, name) for name in usual if name in names}
    return kind(**{name: value for name, value in kept.items() if value != usual[name].default})


_METHODS = Registry("method", "kdarts.search.methods")


def register_method(method: Method) -> Method:
    """Makes `method` known by its name, to `--method` and to `Search`.

    Raises:
        KdartsError: if the name belongs to another method. The same one may be registered again.
    """
    return _METHODS.add(method)


def get_method(name: str) -> Method:
    """The method called `name`; raises `KdartsError` with the known names otherwise."""
    return _METHODS.get(name)


def method_names() -> list[str]:
    """Every known name, in alphabetical order."""
    return sorted(_METHODS.names())
