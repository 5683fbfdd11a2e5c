"""A target for the cost of the derived network, its parameters, MACs or latency; or limits of several costs at once.

The loss of α becomes

    L_valid(w', α) + λ E[C(α)]

with the expected cost of `supernet.expected_cost`. λ is no constant that somebody has to guess: it follows from how far
the network that α gives now, C, is from the target T. With g = ln(C / T), after the t-th step of α,

    I ← I + K_I g / t        κ = K_P g + I, both within ±K        λ = κ ‖∇α L_valid‖ / ‖∇α E[C]‖

so that at κ = 1 the cost pulls as hard as the validation loss, whatever the mixing, the size of α or the unit of the
cost, and at κ < 0 it pushes. I is the multiplier of the constraint C = T. α spreads about in proportion to its steps,
so that the same pull moves C ever more slowly: hence 1 / t. Nothing is pulled in a search whose α rests.

C moves in jumps, by whole operations in all cells that share them, and stands beside T for a part of the steps. So the
end of an epoch settles it: where C is out of the band around T, α moves along −c, the costs of its operations, by the
least step that brings it in, if one does that is shorter than α's spread; else by the one that brings it nearest.

Limits are for a chain of choices, whose costs add up. Each but that of the memory has a multiplier of its own by the
same law, with κ and I from 0 on: it pulls while the best choices by themselves cost more, and never pushes. A published
form of the loss may take the place of the multipliers (`kdarts.search.cost_forms`). The memory of a chain is that of
its largest block, so that its limit forbids blocks. The network is read out within all limits by an exact knapsack
(`kdarts.genotypes.knapsack`): it is the one of the greatest product of weights.
"""

import re

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.knapsack import best_within
from kdarts.ops.cost import Latencies
from kdarts.search.cost_forms import chosen_form, gradients_of

KINDS = ("macs", "params", "latency_ms")

LIMITS = ("ram", "macs", "params", "flash", "latency_ms")
"""What may be limited."""

PROPORTIONAL, INTEGRAL, MOST = 4.0, 4.0, 2.0
"""K_P, K_I and K: a network of 1.28 times the target's cost is pulled as hard as the validation loss pulls."""

BAND, STRIDES = 0.05, 32
"""|g| that an epoch may end with, and how many lengths of a step are tried for it, up to α's spread."""

SOFTNESS = 0.5
"""τ is so much of the spread of α."""

_OF_GRIDS = ("best_path", "greedy_forward", "greedy_backward")
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def count(text: str) -> float:
    """The number that a text such as 800k, 2.5M, 1G or 2500000 is; raises `KdartsError` for any other."""
    unit = text[-1:] if text[-1:] in _UNITS else ""
    try:
        return float(text.removesuffix(unit)) * _UNITS[unit]
    except ValueError:
        raise KdartsError(f"{text}: needs a number, which may end in k, M or G") from None


def memory(text: str) -> float:
    """The bytes that a text such as 64KiB, 100kB, 1MiB or 65536 is; raises `KdartsError` for any other."""
    units = {"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "KiB": 1024, "MiB": 1024**2}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if found is None or found[2] not in units:
        raise KdartsError(f"{text}: needs a number of bytes, which may end in kB, MB, KiB or MiB")
    return float(found[1]) * units[found[2]]


def chosen_limits(method) -> dict[str, float]:
    """The limits of a method by their kinds; {} without any.

    Raises `KdartsError` if there is a target, too, or the network is not derived from α.
    """
    found = {kind: value for kind in LIMITS if (value := getattr(method, f"max_{kind}")) is not None}
    chosen_form(method, found)
    if not found:
        return {}
    name = f"max_{next(iter(found))}"
    targets = [f"target_{kind}" for kind in KINDS if getattr(method, f"target_{kind}") is not None]
    if targets:
        raise KdartsError(f"{targets[0]} and {name}: allowed is a target or limits")
    if not method.on_grid and method.discretization not in _OF_GRIDS:
        raise KdartsError(f"{name}: is about a chain of choices such as space 'mobile'; cells take target_macs")
    if ("latency_ms" in found) != bool(method.latency_table):
        raise KdartsError("max_latency_ms and latency_table need each other; tools/latency_table.py makes a table")
    return found


def chosen_target(method) -> tuple[str, float] | None:
    """The kind of a method's target and its value, or None.

    Raises `KdartsError` if there is more than one, or nothing could move towards it.
    """
    given = {kind: getattr(method, f"target_{kind}") for kind in KINDS}
    given = {kind: value for kind, value in given.items() if value is not None}
    if not given:
        if method.latency_table:
            raise KdartsError("latency_table is for target_latency_ms or max_latency_ms; neither is given")
        return None
    names = [f"target_{kind}" for kind in given]
    if len(names) > 1:
        raise KdartsError(f"{' and '.join(names)}: one target at a time")
    [(kind, value)] = given.items()
    if not value > 0 or not np.isfinite(value):
        raise KdartsError(f"{names[0]} {value}: needs a number above 0")
    resting = {"samples": 0, "stages": (), **({} if method.path_choice == "skips" else {"paths": 0})}
    for axis, rest in resting.items():
        if getattr(method, axis) != rest:
            raise KdartsError(f"{names[0]}: with {axis} the network is not derived from α, or is not of one size")
    if method.update == "frozen" or not method.axes["sampling"].moves_alpha:
        raise KdartsError(f"{names[0]}: α does not move with update 'frozen' or sampling 'random'")
    if (kind == "latency_ms") != bool(method.latency_table):
        raise KdartsError("target_latency_ms and latency_table need each other; tools/latency_table.py makes a table")
    return kind, value


class Multiplier(keras.layers.Layer):
    """The pull of one cost on α towards a value, and what it remembers from step to step.

    Args:
        supernet: of cells or a grid.
        selection: the method's.
        kind, target: of the cost, and the value.
        latencies: a table for milliseconds; None: none.
        least: the least κ: minus `MOST`, or 0 for a limit.
        name: of the layer.

    Attributes:
        beyond: variable, the cost of the network that is not of its edges, taken from the last genotype.
        integral: variable, I.
    """

    def __init__(self, supernet, selection, kind: str, target: float, latencies=None, least=-MOST, name="cost_target"):
        super().__init__(name=name, autocast=False, dtype=supernet.alphas[0].dtype)
        self.kind, self.target, self._least = kind, target, least
        # Behind a function Keras finds no layer: the supernet is the search's.
        self._supernet = lambda: supernet
        self._selection, self._latencies = selection, latencies
        self._costs = supernet.costs(kind, latencies)
        state = {"shape": (), "initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        self.beyond = self.add_weight(name="beyond", **state)
        self.integral = self.add_weight(name="integral", **state)
        self.built = True

    @property
    def _net(self):
        return self._supernet()

    def expected(self, softness: float):
        """The expected cost of what is chosen; a scalar, differentiable in α and β (see `CellCosts.expected`)."""
        return self._costs.expected(self._selection, softness)

    def gap(self):
        """ln(C / T) of the architecture that α gives now; a scalar."""
        cost = self.expected(0) + tf.convert_to_tensor(self.beyond)
        return tf.math.log(tf.maximum(cost / self.target, 1e-6))

    def weight(self):
        """κ; a scalar."""
        return tf.clip_by_value(PROPORTIONAL * self.gap() + tf.convert_to_tensor(self.integral), self._least, MOST)

    def gradients(self, at, valid=None, seed=None, scale=None) -> list:
        """λ ∇E[C] for α and after them β, in the order of the gradients of `at`, a `Validation`."""
        values = [variable.value for variable in self._net.architecture]
        with tf.GradientTape() as tape:
            cost = self.expected(SOFTNESS)
        own = tape.gradient(cost, values, unconnected_gradients="zero")
        norm, other = tf.linalg.global_norm(own), tf.linalg.global_norm(at.gradients)
        factor = tf.math.divide_no_nan(self.weight() * tf.cast(other, norm.dtype), norm)
        return [factor * g for g in own]

    def updated(self, steps) -> None:
        """Moves I after a step of α, the `steps`-th."""
        gain = INTEGRAL / tf.maximum(tf.cast(steps, self.integral.dtype), 1)
        self.integral.assign(tf.clip_by_value(self.integral + gain * self.gap(), self._least, MOST))


class TargetControl(Multiplier):
    """The gradient that a target adds.

    Args:
        supernet: of cells or a grid.
        method: gives the selection, the target and, for milliseconds, the table of latencies.
        genotype: the architecture that α gives now.

    Attributes:
        kind, target: "macs", "params" or "latency_ms" of the network at the supernet's sizes, and how much.

    Raises:
        KdartsError: as of `chosen_target`; for a latency that the table does not have; or if no architecture has such a
            cost.
    """

    def __init__(self, supernet, method, genotype):
        kind, target = chosen_target(method)
        latencies = Latencies.load(method.latency_table) if method.latency_table else None
        super().__init__(supernet, method.selection, kind, target, latencies)
        least, most = (self.of(self._costs.extreme(self._selection, sign)) for sign in (-1, 1))
        if not least <= self.target <= most:
            raise KdartsError(f"target_{self.kind} {self.target:g}: allowed are {least:g} to {most:g} here")
        self.note(genotype)

    def of(self, architecture) -> float:
        """What an architecture costs at the supernet's sizes."""
        more = (self._latencies,) if self._latencies else ()
        return float(getattr(self._net.cost_of(architecture, *more), self.kind))

    def read_out(self, selection):
        """The architecture of a selection."""
        return self._net.read_out(selection)

    def settle(self, genotype) -> None:
        """Moves α so that the network costs about what it is to cost, if a small step can do that.

        `genotype()` gives the architecture that α gives.
        """
        start, costs = [alpha.numpy() for alpha in self._net.alphas], self._costs.of_alphas()
        held = self._net.mixture.candidates or [np.ones(a.shape, bool) for a in start]
        spread = np.concatenate([a[there] for a, there in zip(start, held, strict=True)]).std()
        best, step = np.log(self.of(genotype()) / self.target), 0.0
        towards = np.sign(best)

        def take(step):
            for alpha, value, cost, there in zip(self._net.alphas, start, costs, held, strict=True):
                alpha.assign(value - towards * step * cost * there)

        for length in [] if abs(best) <= BAND else spread * np.geomspace(0.01, 1, STRIDES):
            take(length)
            gap = np.log(self.of(genotype()) / self.target)
            if abs(gap) < abs(best):
                best, step = gap, length
            if abs(gap) <= BAND:
                break
        take(step)

    def note(self, architecture) -> dict[str, float]:
        """Takes the architecture that α gives, and returns what an epoch's history holds of its cost."""
        cost = self.of(architecture)
        self.beyond.assign(cost - self.expected(0))
        named = {self.kind: cost, "target_gap": cost / self.target - 1}
        return {**named, "target_weight": float(self.weight())}

    def epoch_logs(self, search) -> dict[str, float]:
        """Settles a search at the end of an epoch in which α moves; returns how far it is from its target."""
        if search.searching:
            self.settle(search.genotype)
        return self.note(search.genotype())

    def summary(self, architecture) -> dict[str, float]:
        """What a search's summary holds: the target and how far the outcome is from it."""
        cost = self.of(architecture)
        outcome = {self.kind: cost} if self.kind == "latency_ms" else {}  # The others are there anyway.
        return {f"target_{self.kind}": self.target, **outcome, "target_gap": cost / self.target - 1}


class LimitControl(keras.layers.Layer):
    """Limits of several costs of a chain of choices: a multiplier for each, and the read-out within all of them.

    Args:
        supernet: a `HyperCuboid` of one state.
        method: gives the selection, the limits and, for milliseconds, the table of latencies.

    Attributes:
        limits: the limits by their kinds.
        multipliers: one `Multiplier` for each limit but that of the memory.

    Raises:
        KdartsError: as of `chosen_limits`; if the supernet is not of one state; or if no network keeps all limits: the
            message has the first that cannot be kept with those before it, and the least possible value.
    """

    def __init__(self, supernet, method):
        super().__init__(name="cost_limits", autocast=False, dtype=supernet.alphas[0].dtype)
        self.limits = chosen_limits(method)
        if not supernet.grid or supernet.allowed.shape[1] > 1:
            name = f"max_{next(iter(self.limits))}"
            raise KdartsError(f"{name}: is about a chain of choices, without states, such as space 'mobile'")
        self._supernet = lambda: supernet
        latencies = Latencies.load(method.latency_table) if method.latency_table else None
        found = supernet.transition_costs(latencies)
        self._allowed = supernet.allowed[:, 0, 0].copy()
        self._of = {kind: np.zeros(self._allowed.shape) for kind in LIMITS}
        for (stage, _, _, choice), cost in found.items():
            for kind, costs in self._of.items():
                costs[stage, choice] = getattr(cost, kind)
        self._forbid()
        self._kinds = [kind for kind in self.limits if kind != "ram"]
        self._check()
        self._form, self._numbers = chosen_form(method, self.limits), (method.cost_weight, method.cost_power)
        more = {"latencies": latencies, "least": 0.0}
        self.multipliers = [
            Multiplier(supernet, method.selection, kind, self.limits[kind], name=f"limit_{kind}", **more)
            for kind in self._kinds
            if self._form is None
        ]
        self.built = True

    def _forbid(self) -> None:
        """Leaves the blocks within the memory; those of a supernet that was given may be larger."""
        limit, ram = self.limits.get("ram"), np.where(self._allowed, self._of["ram"], np.inf)
        if limit is None:
            return
        if (least := ram.min(1).max()) > limit:
            raise KdartsError(f"max_ram {limit:g}: the least that any network here needs is {least:,.0f} bytes")
        self._allowed &= ram <= limit

    def _check(self) -> None:
        """Raises `KdartsError` unless some network keeps all limits."""
        for number, kind in enumerate(self._kinds):
            before = self._kinds[:number]
            cheapest = self._within(np.where(self._allowed, -self._of[kind], np.nan), before)
            least = self._total(kind, cheapest)
            if least > self.limits[kind]:
                others = [
                    f"max_{name} {self.limits[name]:g}" for name in (["ram"] if "ram" in self.limits else []) + before
                ]
                least = f"{least:,.0f}" if least >= 100 else f"{least:g}"
                under = f" with {' and '.join(others)}" if others else " here"
                raise KdartsError(f"max_{kind} {self.limits[kind]:g}: the least possible{under} is {least}")

    def _within(self, values, kinds) -> list[int] | None:
        return best_within(values, [self._of[kind] for kind in kinds], [self.limits[kind] for kind in kinds])

    def _total(self, kind: str, choices) -> int | float:
        costs = self._of[kind][np.arange(len(choices)), choices]
        return float(costs.sum()) if kind == "latency_ms" else int(costs.max() if kind == "ram" else costs.sum())

    def keeps(self, path) -> bool:
        """Whether a path keeps all limits."""
        allowed = self._allowed[np.arange(len(path.choices)), path.choices].all()
        return bool(allowed) and all(self._total(kind, path.choices) <= self.limits[kind] for kind in self._kinds)

    def read_out(self, selection=None):
        """The path of the greatest product of weights within all limits, whichever the selection."""
        net = self._supernet()
        weights = net.path_weights()[:, 0, 0]
        values = np.where(self._allowed, np.log(np.maximum(weights, 1e-300)), np.nan)
        choices = self._within(values, self._kinds)
        return net.path([0] * (len(choices) + 1), choices)

    def _free(self) -> list[int]:
        """The strongest choice of each stage, whatever it costs."""
        weights = self._supernet().path_weights()[:, 0, 0]
        return np.where(np.isnan(weights), -np.inf, weights).argmax(1).tolist()

    def gradients(self, at, valid=None, seed=None, scale=None) -> list:
        """The sum of the multipliers' pulls (see `Multiplier.gradients`), or what the form of the loss adds."""
        if self._form is not None:
            whole = lambda loss: self._form.loss(loss, self._expected(), *self._numbers)  # noqa: E731
            return gradients_of(whole, at, self._supernet().architecture)
        if not self.multipliers:
            return [tf.zeros_like(gradient) for gradient in at.gradients]
        pulls = [multiplier.gradients(at) for multiplier in self.multipliers]
        return [tf.add_n(parts) for parts in zip(*pulls, strict=True)]

    def _expected(self) -> list[tuple]:
        """The expected cost, a scalar, and the limit of each but that of the memory; times are in microseconds."""
        [weights] = self._supernet().mixture.weights_of_operations()
        shares, found = weights / tf.reduce_sum(weights, 1, keepdims=True), []
        for kind in self._kinds:
            unit = 1e3 if kind == "latency_ms" else 1.0
            costs = tf.constant(unit * np.where(self._allowed, self._of[kind], 0.0), shares.dtype)
            found.append((tf.reduce_sum(shares * costs), unit * self.limits[kind]))
        return found

    def updated(self, steps) -> None:
        """Moves each I after a step of α, the `steps`-th."""
        for multiplier in self.multipliers:
            multiplier.updated(steps)

    def epoch_logs(self, search) -> dict[str, float]:
        """What the network read out costs, what the strongest choices would, and the multipliers' κ."""
        more = {f"{one.kind}_weight": float(one.weight()) for one in self.multipliers}
        if self._form is not None:
            costs = zip(self._kinds, self._expected(), strict=True)
            more = {f"expected_{kind}": self.limits[kind] * float(cost / limit) for kind, (cost, limit) in costs}
        return {**self._figures(self.read_out()), **more}

    def _figures(self, path) -> dict[str, float]:
        figures = {}
        for kind in self.limits:
            figures |= {kind: self._total(kind, path.choices), f"free_{kind}": self._total(kind, self._free())}
        return figures

    def summary(self, architecture) -> dict[str, float]:
        """What a search's summary holds: the limits, the costs of the outcome, and those of the strongest choices."""
        return {**{f"max_{kind}": limit for kind, limit in self.limits.items()}, **self._figures(architecture)}
