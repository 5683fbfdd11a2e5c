"""The cost that α is expected to come to: what each rule would keep, were α's choices only likely and not certain.

A rule compares strengths. Here each one's logarithm carries a Gumbel noise of a temperature τ, and what the rule keeps
is a draw. Its expected cost is exact, differentiable in every strength, and at τ = 0 the cost of what the rule keeps of
the strengths as they are. So it is not the mixture that is made cheap, most of which no rule keeps, but the network: an
operation far from being kept counts for nothing, one that is about to be kept counts most.

One draw is a softmax; the first two of several are drawn as by Plackett and Luce: the second from those that are left.

A target for the cost of the network that is found: its parameters, its MACs or its latency.

The architecture loss of a validation batch becomes

    L_valid(w', α) + λ E[C(α)]

with the expected cost of `expected_cost`. λ is no constant that somebody has to guess: it follows from how far the
network that α stands for now, C, is from the target T. With g = ln(C / T), after the t-th step of α,

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

from kdarts.genotypes.edges import cell_of, edge_count, edge_row, node_rows
from kdarts.genotypes.errors import KdartsError
from kdarts.ops.cost import Latencies
from kdarts.search.method import Method
from kdarts.search.selection import PATH_RULES, discretize
from kdarts.supernet.hypercuboid import HyperCuboid

SURE = 1e-6
"""τ at which nothing is left to chance."""

_NEVER = -1e9
_LEAST = 1e-12


def _first_two(scores):
    """The probability to be among the first two of several.

    Args:
        scores: `[n]`, already over τ; `_NEVER` or so for what cannot be drawn.
    """
    first = tf.nn.softmax(scores)
    count = scores.shape[0]
    if count == 1:
        return first
    others = tf.where(np.eye(count, dtype=bool), tf.constant(2 * _NEVER, scores.dtype), scores[None, :])
    return first + tf.linalg.matvec(tf.nn.softmax(others), first, transpose_a=True)


def _best_of_two_edges(scores, passes):
    """DARTS' rule: an edge is as strong as its best operation, and the node keeps two edges."""
    edges = _first_two(tf.reduce_logsumexp(scores, 1))
    return edges[:, None] * tf.nn.softmax(scores)


def _passing(scores, passes):
    """The same where it reaches the threshold."""
    return _best_of_two_edges(scores, passes) * passes


def _two_of_all(scores, passes):
    """Two operations, whatever edge they stand on."""
    return tf.reshape(_first_two(tf.reshape(scores, [-1])), scores.shape)


def _two_of_each_edge(scores, passes):
    """Two operations of each edge, where they reach the threshold."""
    return tf.stack([_first_two(row) for row in tf.unstack(scores)]) * passes


def _all_that_pass(scores, passes):
    """Whatever reaches the threshold."""
    return passes


def _one_of_each_edge(scores, passes):
    """The strongest operation of every edge, `none` among them."""
    return tf.nn.softmax(scores)


KEPT = {
    "darts": _best_of_two_edges,
    "progressive": _best_of_two_edges,
    "sparse": _passing,
    "pairs": _two_of_all,
    "edge": _two_of_each_edge,
    "complete": _all_that_pass,
    "argmax": _one_of_each_edge,
    "residual": _best_of_two_edges,
}
"""For each rule of cells the probability that a node keeps an operation of an edge, from the logarithms over τ and the
probability that it reaches the threshold. That two of them count skip connections is left out."""


def expected_cell_cost(strengths, costs: np.ndarray, rule: str, threshold: float, temperature):
    """The expected cost of the edges of a cell; a scalar.

    Args:
        strengths: as of `Mixture.strengths`, `[edges, operations]`, without the column of `none` where the rule never
            keeps it; 0 or less for what the edge has not.
        costs: of the same, `[edges, operations]`, for all cells that share them.
        rule: one of `KEPT`.
        threshold: of the rule.
        temperature: τ, a scalar.
    """
    there = strengths > 0
    logs = tf.math.log(tf.where(there, strengths, tf.ones_like(strengths)))
    bar = float(np.log(max(threshold, _LEAST)))
    passes = tf.where(there, tf.sigmoid((logs - bar) / temperature), tf.zeros_like(logs))
    if cell_of(strengths.shape[0])[1] == 1 and rule == "residual":
        rule = "argmax"
    total = []
    for rows in node_rows(strengths.shape[0]).values():
        part, held = logs[rows], there[rows]
        best = tf.reduce_max(tf.where(held, part, tf.constant(_NEVER, part.dtype)))
        scores = tf.where(held, (part - best) / temperature, tf.constant(_NEVER, part.dtype))
        kept = KEPT[rule](scores, passes[rows])
        total.append(tf.reduce_sum(tf.where(held, kept, tf.zeros_like(kept)) * tf.constant(costs[rows], kept.dtype)))
    return tf.add_n(total)


def expected_path_cost(strengths, costs: np.ndarray, allowed: np.ndarray, rule: str, temperature):
    """The same of a path through a HyperCuboid; a scalar.

    The best path is drawn with a probability in proportion to exp(score / τ), the greedy ones step by step.

    Args:
        strengths: of the transitions, `[stages, transitions]`.
        costs: of the transitions, `[stages, states before, states after, choices]`.
        allowed: boolean of that shape.
        rule: "best_path", "greedy_forward" or "greedy_backward".
        temperature: τ, a scalar.
    """
    scores = tf.reshape(strengths, costs.shape)
    scores = (scores - tf.reduce_max(scores)) / temperature
    scores = tf.where(allowed, scores, tf.constant(_NEVER, scores.dtype))
    costs = tf.constant(np.where(allowed, costs, 0.0), scores.dtype)
    if rule == "greedy_backward":
        scores, costs = (tf.transpose(x[::-1], (0, 2, 1, 3)) for x in (scores, costs))
    stages = list(zip(tf.unstack(scores), tf.unstack(costs), strict=True))
    if rule == "best_path":
        return _best_path(stages)
    total, state = 0.0, None
    for score, cost in stages:
        if state is None:
            taken = tf.reshape(tf.nn.softmax(tf.reshape(score, [-1])), score.shape)
        else:
            taken = state[:, None, None] * tf.reshape(
                tf.nn.softmax(tf.reshape(score, [score.shape[0], -1])), score.shape
            )
        total, state = total + tf.reduce_sum(taken * cost), tf.reduce_sum(taken, (0, 2))
    return total


def _best_path(stages):
    """From the first stage to the last: for each state the sum over the paths there, and their expected cost."""
    states = stages[0][0].shape[0]
    sums, spent = tf.zeros([states], stages[0][0].dtype), tf.zeros([states], stages[0][0].dtype)
    for score, cost in stages:
        arriving = tf.reshape(tf.transpose(sums[:, None, None] + score, (1, 0, 2)), [states, -1])
        costs = tf.reshape(tf.transpose(spent[:, None, None] + cost, (1, 0, 2)), [states, -1])
        spent = tf.reduce_sum(tf.nn.softmax(arriving) * costs, 1)
        sums = tf.reduce_logsumexp(arriving, 1)
    return tf.reduce_sum(tf.nn.softmax(sums) * spent)


KINDS = ("macs", "params", "latency_ms")

PROPORTIONAL, INTEGRAL, MOST = 4.0, 4.0, 2.0
"""K_P, K_I and K: a network of 1.28 times the target's cost is pulled as hard as the validation loss pulls."""

BAND, STRIDES = 0.05, 32
"""|g| that an epoch may end with, and how many lengths of a step are tried for it, up to α's spread."""

SOFTNESS, LEAST = 0.5, 1e-4
"""τ is so much of the spread of α, and no less than this."""


def chosen_target(method: Method) -> tuple[str, float] | None:
    """The kind of a method's target and its value, or None.

    Raises:
        KdartsError: if there is more than one, it is not above 0, or nothing could move towards it.
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
    ((kind, value),) = given.items()
    if not value > 0 or not np.isfinite(value):
        raise KdartsError(f"{names[0]} {value}: needs a number above 0")
    resting = {"samples": 0, "stages": (), **({} if method.path_choice == "skips" else {"paths": 0})}
    for axis, rest in resting.items():
        if getattr(method, axis) != rest:
            raise KdartsError(f"{names[0]}: what is found with {axis} is not what α says, nor of one size")
    if method.update == "frozen" or method.sampling == "random":
        raise KdartsError(f"{names[0]}: α does not move with update 'frozen' or sampling 'random'")
    if (kind == "latency_ms") != bool(method.latency_table):
        raise KdartsError("target_latency_ms and latency_table need each other; tools/latency_table.py makes a table")
    return kind, value


class CostTarget(keras.layers.Layer):
    """The term that a target adds to the architecture loss, and what it remembers from step to step.

    Args:
        supernet: a `Supernet` or a `HyperCuboid`.
        method: gives the rule and its threshold, the target and, for milliseconds, the table of latencies.
        genotype: what α stands for now, as `Search.genotype` gives it.

    Attributes:
        kind, target: "macs", "params" or "latency_ms" of the network at the supernet's sizes, and how much.
        beyond: variable, the cost of the network that is not of its edges, taken from the last genotype.
        integral: variable, I.

    Raises:
        KdartsError: as of `chosen_target`; for a latency of a HyperCuboid; or if no genotype has such a cost.
    """

    def __init__(self, supernet, method: Method, genotype):
        super().__init__(name="cost_target", autocast=False, dtype=supernet.alphas[0].dtype)
        self.kind, self.target = chosen_target(method)
        # Behind a function Keras finds no layer: the supernet is the search's.
        self._supernet = lambda: supernet
        self._rule, self._threshold = method.discretization, method.threshold
        self._latencies = Latencies.load(method.latency_table) if method.latency_table else None
        cuboid = isinstance(supernet, HyperCuboid)
        if cuboid and self._latencies:
            raise KdartsError("target_latency_ms is about cells; a HyperCuboid takes target_macs or target_params")
        self._costs = [_transition_costs(supernet, self.kind)] if cuboid else self._edge_costs()
        least, most = (self.of(self._extreme(sign, method)) for sign in (-1, 1))
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

    def _edge_costs(self) -> list[np.ndarray]:
        """For each α what its operations but `none` cost in all its cells, `[edges of a cell, operations]`."""
        net = self._net
        cells = [
            np.array([[getattr(cost, self.kind) for cost in edge] for edge in cell], np.float64)
            for cell in net.candidate_costs(self._latencies)
        ]
        rows = [edge_row(*edge, net.space.inputs) for edge in net.edges]
        summed = [np.zeros((edge_count(net.nodes, net.space.inputs), cells[0].shape[1])) for _ in net.alphas]
        for index, cell in zip(net.sequence, cells, strict=True):
            summed[index][rows] += cell
        return [costs[:, self._named] for costs in summed]

    @property
    def _named(self) -> list[int]:
        """Columns of what the rule may keep."""
        return [k for k, name in enumerate(self._net.space.operations) if name != "none" or self._net.space.stages]

    def of(self, found) -> float:
        """What a genotype or a path costs at the supernet's sizes."""
        more = (self._latencies,) if self._latencies else ()
        return float(getattr(self._net.cost_of(found, *more), self.kind))

    def _extreme(self, sign: int, method: Method):
        """The genotype or path that costs least (-1) or most (1), as the rule sees it, edge by edge."""
        net, span = self._net, max(costs.max() for costs in self._costs) or 1.0
        if isinstance(net, HyperCuboid):
            weights = np.where(net.allowed, sign * self._costs[0], np.nan)
            return net.path(*PATH_RULES["best_path"](weights)[:2])
        strengths = [np.asarray(w, np.float64) for w in net.mixture.strengths()]
        for weights, costs in zip(strengths, self._costs, strict=True):
            there = weights > 0
            ranks = np.zeros_like(weights)
            ranks[:, self._named] = 0.5 + sign * 0.4 * costs / span
            # Beyond a threshold where most is wanted, and short of it where least is.
            bar = method.threshold
            ranks = bar + max(1 - bar, 1e-6) * ranks if sign > 0 else (bar or 1.0) * ranks
            weights[there] = ranks[there]
        return discretize(
            strengths,
            net.space,
            method.discretization,
            method.threshold,
            reductions=net.reductions,
            sequence=net.sequence,
            multiplier=net.multiplier,
            max_skips=method.max_skips,
        )

    def expected(self, softness: float):
        """The expected cost of the edges; a scalar, differentiable in α and β.

        Args:
            softness: τ in multiples of the spread of α; 0: what the rule keeps now.
        """
        total = []
        for strengths, costs in zip(self._net.mixture.strengths(), self._costs, strict=True):
            if isinstance(self._net, HyperCuboid):
                allowed = self._net.allowed
                tau = _temperature(tf.boolean_mask(strengths, allowed.reshape(len(allowed), -1)), softness)
                total.append(expected_path_cost(strengths, costs, allowed, self._rule, tau))
            else:
                strengths = tf.gather(strengths, self._named, axis=1)
                held = tf.boolean_mask(strengths, strengths > 0)
                tau = _temperature(tf.math.log(held), softness)
                total.append(expected_cell_cost(strengths, costs, self._rule, self._threshold, tau))
        return tf.add_n(total)

    def gap(self):
        """ln(C / T) of what α stands for now; a scalar."""
        cost = self.expected(0) + tf.convert_to_tensor(self.beyond)
        return tf.math.log(tf.maximum(cost / self.target, 1e-6))

    def weight(self):
        """κ; a scalar."""
        return tf.clip_by_value(PROPORTIONAL * self.gap() + tf.convert_to_tensor(self.integral), -MOST, MOST)

    def gradients(self, beside: list) -> list:
        """λ ∇E[C] for α and after them β.

        Args:
            beside: the gradients of the validation loss for the same.
        """
        values = [variable.value for variable in self._net.architecture]
        with tf.GradientTape() as tape:
            cost = self.expected(SOFTNESS)
        own = tape.gradient(cost, values, unconnected_gradients="zero")
        norm, other = tf.linalg.global_norm(own), tf.linalg.global_norm(beside)
        factor = tf.math.divide_no_nan(self.weight() * tf.cast(other, norm.dtype), norm)
        return [factor * g for g in own]

    def adapt(self, steps) -> None:
        """Moves I after a step of α, the `steps`-th."""
        gain = INTEGRAL / tf.maximum(tf.cast(steps, self.integral.dtype), 1)
        self.integral.assign(tf.clip_by_value(self.integral + gain * self.gap(), -MOST, MOST))

    def settle(self, genotype) -> None:
        """Moves α so that the network costs about what it is to cost, if a small step can do that.

        Args:
            genotype: function that gives what α stands for.
        """
        start, costs = [alpha.numpy() for alpha in self._net.alphas], self._costs_of_alphas()
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

    def _costs_of_alphas(self) -> list[np.ndarray]:
        """The costs in the shapes of α, as shares of the greatest."""
        span = max(costs.max() for costs in self._costs) or 1.0
        if isinstance(self._net, HyperCuboid):
            return [self._costs[0].reshape(self._net.alphas[0].shape) / span]
        rows, found = [edge_row(*edge, self._net.space.inputs) for edge in self._net.edges], []
        for alpha, costs in zip(self._net.alphas, self._costs, strict=True):
            found.append(np.zeros(alpha.shape))
            found[-1][:, self._named] = costs[rows] / span
        return found

    def note(self, found) -> dict[str, float]:
        """Takes in what α stands for, and says of it what an epoch's history holds."""
        cost = self.of(found)
        self.beyond.assign(cost - self.expected(0))
        named = {self.kind: cost, "target_gap": cost / self.target - 1}
        return {**named, "target_weight": float(self.weight())}

    def summary(self, found) -> dict[str, float]:
        """What a search's summary says of it: the target and how far the outcome is from it."""
        cost = self.of(found)
        outcome = {self.kind: cost} if self.kind == "latency_ms" else {}  # The others are there anyway.
        return {f"target_{self.kind}": self.target, **outcome, "target_gap": cost / self.target - 1}


class CostWatch(keras.callbacks.Callback):
    """Settles a search at the end of each epoch in which α moves, and tells the logs how far it is from its target."""

    def on_epoch_end(self, epoch, logs=None):
        if self.model.searching:
            self.model.cost_target.settle(self.model.genotype)
        noted = self.model.cost_target.note(self.model.genotype())
        if logs is not None:
            logs.update(noted)


def _temperature(scores, softness):
    """τ of scores that spread as they do."""
    if not softness:
        return tf.constant(SURE, scores.dtype)
    return tf.maximum(softness * tf.math.reduce_std(tf.stop_gradient(scores)), LEAST)


def _transition_costs(net: HyperCuboid, kind: str) -> np.ndarray:
    """What each transition costs, with the stem before the first and the head behind the last, 0 where forbidden."""
    costs = np.zeros(net.allowed.shape)
    for index, cost in net.transition_costs().items():
        costs[index] = getattr(cost, kind)
    return costs
