"""A target for the cost of the derived network: its parameters, its MACs or its latency.

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
"""

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.ops.cost import Latencies

KINDS = ("macs", "params", "latency_ms")

PROPORTIONAL, INTEGRAL, MOST = 4.0, 4.0, 2.0
"""K_P, K_I and K: a network of 1.28 times the target's cost is pulled as hard as the validation loss pulls."""

BAND, STRIDES = 0.05, 32
"""|g| that an epoch may end with, and how many lengths of a step are tried for it, up to α's spread."""

SOFTNESS = 0.5
"""τ is so much of the spread of α."""

_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def count(text: str) -> float:
    """The number that a text such as 800k, 2.5M, 1G or 2500000 is; raises `KdartsError` for any other."""
    unit = text[-1:] if text[-1:] in _UNITS else ""
    try:
        return float(text.removesuffix(unit)) * _UNITS[unit]
    except ValueError:
        raise KdartsError(f"{text}: needs a number, which may end in k, M or G") from None


def chosen_target(method) -> tuple[str, float] | None:
    """The kind of a method's target and its value, or None.

    Raises `KdartsError` if there is more than one, or nothing could move towards it.
    """
    given = {kind: getattr(method, f"target_{kind}") for kind in KINDS}
    given = {kind: value for kind, value in given.items() if value is not None}
    if not given:
        if method.latency_table:
            raise KdartsError("latency_table is for target_latency_ms, which is not given")
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


class TargetControl(keras.layers.Layer):
    """The gradient that a target adds, and what it remembers from step to step.

    Args:
        supernet: of cells or a grid.
        method: gives the selection, the target and, for milliseconds, the table of latencies.
        genotype: the architecture that α gives now.

    Attributes:
        kind, target: "macs", "params" or "latency_ms" of the network at the supernet's sizes, and how much.
        beyond: variable, the cost of the network that is not of its edges, taken from the last genotype.
        integral: variable, I.

    Raises:
        KdartsError: as of `chosen_target`; for a latency of a grid; or if no architecture has such a cost.
    """

    def __init__(self, supernet, method, genotype):
        super().__init__(name="cost_target", autocast=False, dtype=supernet.alphas[0].dtype)
        self.kind, self.target = chosen_target(method)
        # Behind a function Keras finds no layer: the supernet is the search's.
        self._supernet = lambda: supernet
        self._selection = method.selection
        self._latencies = Latencies.load(method.latency_table) if method.latency_table else None
        self._costs = supernet.costs(self.kind, self._latencies)
        least, most = (self.of(self._costs.extreme(self._selection, sign)) for sign in (-1, 1))
        if not least <= self.target <= most:
            raise KdartsError(f"target_{self.kind} {self.target:g}: allowed are {least:g} to {most:g} here")
        state = {"shape": (), "initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        self.beyond = self.add_weight(name="beyond", **state)
        self.integral = self.add_weight(name="integral", **state)
        self.built = True
        self.note(genotype)

    @property
    def _net(self):
        return self._supernet()

    def of(self, architecture) -> float:
        """What an architecture costs at the supernet's sizes."""
        more = (self._latencies,) if self._latencies else ()
        return float(getattr(self._net.cost_of(architecture, *more), self.kind))

    def expected(self, softness: float):
        """The expected cost of what is chosen; a scalar, differentiable in α and β (see `CellCosts.expected`)."""
        return self._costs.expected(self._selection, softness)

    def gap(self):
        """ln(C / T) of the architecture that α gives now; a scalar."""
        cost = self.expected(0) + tf.convert_to_tensor(self.beyond)
        return tf.math.log(tf.maximum(cost / self.target, 1e-6))

    def weight(self):
        """κ; a scalar."""
        return tf.clip_by_value(PROPORTIONAL * self.gap() + tf.convert_to_tensor(self.integral), -MOST, MOST)

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
        self.integral.assign(tf.clip_by_value(self.integral + gain * self.gap(), -MOST, MOST))

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
