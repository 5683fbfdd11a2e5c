"""Parameters and multiply-accumulates (MACs) of supernets and networks, and the expected cost of what is derived.

MACs are those of convolutions and of the classifier for one image; normalisation, activations, pooling and additions
are left out, and so is the auxiliary classifier. DARTS and P-DARTS count so on CIFAR-10; sharpDARTS and D-DARTS count
normalisations, too, and the former activations (docs/papers.md has the figures). With a table of measured latencies
there are milliseconds, too: the sum of those of the operations, the classifier left out.

`CellCosts` and `GridCosts` give the expected cost of the network that a selection derives, differentiable in α and β.
A selection compares weights; here the logarithm of each carries Gumbel noise of a temperature τ. At τ = 0 it is the
cost of the derived network itself. The cost of the mixture, most of which is never kept, plays no part.
"""

import itertools
import math

import numpy as np
import tensorflow as tf

from kdarts.genotypes.edges import cell_of, edge_count, edge_row, node_rows
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.path_space import best_path
from kdarts.ops.cost import Cost, Latencies, operation_cost
from kdarts.ops.operations import CLOSING, RESIDUAL, Operation, adapter, get_operation
from kdarts.supernet.macro import MacroConfig, auxiliary_position, check_input_shape, choose_stem, plan_genotype


class _Tally:
    """Walks a network from its image to its logits."""

    def __init__(self, input_shape, channels: int, stem, affine: bool, latencies: Latencies | None = None):
        self.cost, self.affine, self.latencies, self.closing = Cost(), affine, latencies, False
        size, width = tuple(input_shape[:2]), input_shape[2]
        sizes = [] if stem.parts else [(size, width)]
        for _, operation, stride, factor in stem.parts:
            filters = int(factor * channels)
            cost, size = self._price(operation, width, filters, stride, size, True)
            self.cost, width = self.cost + cost, filters
            sizes.append((size, width))
        self.inputs = [sizes[0], sizes[-1]]

    def cell(self, plan, edges, outputs: int, partial_channels: int = 1) -> list[Cost]:
        """Adds a cell; `edges` gives the operations of each edge as `(operation, from)`. Returns the cost of each."""
        size = self._enter(plan)
        inner = tuple(-(-n // 2) for n in size) if plan.reduction else size
        width, costs = plan.filters // partial_channels, []
        for operation, source in edges:
            strided = plan.reduction and source < 2
            at = (2, size) if strided else (1, inner)
            costs.append(self._price(operation, width, width, *at, self.affine)[0])
        self.cost, self.closing = sum(costs, self.cost), plan.entry != "adapted"
        self.inputs = [self.inputs[1], (inner, outputs * plan.filters)]
        return costs

    def _enter(self, plan):
        """Adds what the cell's inputs pass through; returns the size of its nodes, or of what is halved to them."""
        size, width = self.inputs[1]
        if plan.entry == "adapted":
            for halving, (size, width) in zip((plan.after_reduction, False), self.inputs, strict=True):
                operation, stride = adapter(halving)
                cost, size = self._price(operation, width, plan.filters, stride, size, self.affine)
                self.cost += cost
        elif plan.entry == "residual":
            first, second, beside = RESIDUAL
            parts = (first, width, 2, size), (beside, width, 2, size), (second, plan.filters, 1, None)
            for operation, width, stride, at in parts:
                cost, size = self._price(operation, width, plan.filters, stride, at or size, True)
                self.cost += cost
        return size

    def _price(self, operation, channels, filters, stride, size, affine):
        """As of `operation_cost`."""
        cost, after = operation_cost(operation, channels, filters, stride, size, affine)
        if self.latencies is not None:
            cost += Cost(latency_ms=self.latencies.of(operation, channels, filters, stride, size))
        return cost, after

    def total(self, num_classes: int, head: tuple[int, ...] = ()) -> Cost:
        """With the classifier; `head` as of `MacroConfig`."""
        size, width = self.inputs[1]
        inputs, cost = width * (math.prod(size) if head else 1), self.cost
        if self.closing:
            cost += operation_cost(CLOSING, width, width, 1, size)[0]
        for outputs in (*head, num_classes):
            cost, inputs = cost + Cost((inputs + 1) * outputs, inputs * outputs), outputs
        return cost


def network_cost(
    genotype: Genotype,
    input_shape,
    num_classes: int,
    channels: int,
    cells: int | None = None,
    stem: str = "auto",
    frame: MacroConfig | None = None,
    c_mid: int | None = None,
    latencies: Latencies | None = None,
) -> Cost:
    """Cost of the network that `build_network` makes of the same arguments, without building it.

    Edges that the network leaves out (`Genotype.live`) are not counted. An input, a node or a cell that exists but that
    nothing reads is counted, as in the papers' programs, though Keras leaves it out. `latencies` gives milliseconds.
    """
    input_shape, frame = check_input_shape(input_shape), frame or MacroConfig()
    chosen = choose_stem(stem, input_shape, genotype.stages)
    for operation in genotype.operations:
        get_operation(operation, c_mid)
    tally = _Tally(input_shape, channels, chosen, True, latencies)
    for plan, index in plan_genotype(genotype, cells, channels, chosen, frame):
        edges, outputs = genotype.live(index)
        tally.cell(plan, [(get_operation(operation, c_mid), source) for operation, _, source in edges], len(outputs))
    return tally.total(num_classes, frame.head)


def auxiliary_cost(
    genotype: Genotype, input_shape, num_classes: int, channels: int, cells=None, stem: str = "auto", frame=None
) -> Cost:
    """Cost of the auxiliary classifier of the same network; it has MACs only while training, so none are counted."""
    input_shape = check_input_shape(input_shape)
    chosen = choose_stem(stem, input_shape, genotype.stages)
    planned = plan_genotype(genotype, cells, channels, chosen, frame or MacroConfig())
    plan, index = planned[auxiliary_position(input_shape[:2], chosen, [plan for plan, _ in planned])]
    width = len(genotype.live(index)[1]) * plan.filters
    weights = width * 128 + 2 * 128 + 4 * 128 * 768 + (0 if chosen.halved else 2 * 768) + 769 * num_classes
    return Cost(params=weights)


def candidate_costs(
    operations: tuple[Operation, ...], plan, edges, multiplier: int, stem, input_shape, channels: int, latencies=None
) -> list[list[list[Cost]]]:
    """What each candidate of each edge `(to, from)` of each cell would cost in the network: cells, edges, operations.

    The arguments are those of `supernet_cost`; whole channels, and scales and offsets, as a network has them.
    """
    tally, found = _Tally(input_shape, channels, stem, True, latencies), []
    pairs = [(operation, source) for _, source in edges for operation in operations]
    for cell in plan:
        costs, count = tally.cell(cell, pairs, multiplier), len(operations)
        found.append([costs[start : start + count] for start in range(0, len(costs), count)])
    return found


def supernet_cost(
    operations: tuple[Operation, ...],
    plan,
    edges: list[tuple[int, int]],
    multiplier: int,
    stem,
    input_shape,
    num_classes: int,
    channels: int,
    candidates=None,
    partial_channels: int = 1,
    affine: bool = False,
    head: tuple[int, ...] = (),
) -> Cost:
    """Cost of a supernet.

    Its edges `(to, from)` hold every operation, or in each cell those of `candidates`, for one of K channels; `affine`
    as of `SearchSpace`, `head` as of `MacroConfig`.
    """
    tally = _Tally(input_shape, channels, stem, affine)
    pairs = [(operation, source) for _, source in edges for operation in operations]
    for index, cell in enumerate(plan):
        held = pairs if candidates is None else itertools.compress(pairs, candidates[index].flat)
        tally.cell(cell, held, multiplier, partial_channels)
    return tally.total(num_classes, head)


SURE = 1e-6
"""τ at which nothing is left to chance."""

LEAST = 1e-4
"""The least τ of a soft choice."""

_NEVER = -1e9
_LEAST_WEIGHT = 1e-12


class CellCosts:
    """What the operations of a `Supernet` cost in all cells that share them.

    `kind` is "macs", "params" or "latency_ms", the last by a table of latencies.
    """

    def __init__(self, net, kind: str, latencies=None):
        self.net = net
        names = net.space.operations
        self.named = [k for k, name in enumerate(names) if name != "none" or net.space.stages]
        rows = [edge_row(*edge, net.space.inputs) for edge in net.edges]
        shape = edge_count(net.nodes, net.space.inputs), len(names)
        summed = [np.zeros(shape) for _ in net.alphas]
        for index, cell in zip(net.sequence, net.candidate_costs(latencies), strict=True):
            summed[index][rows] += np.array([[getattr(cost, kind) for cost in edge] for edge in cell], np.float64)
        self.costs = [costs[:, self.named] for costs in summed]
        """For each α the cost of what a selection may keep, `[edges of a whole cell, operations]`."""

    def expected(self, selection, softness: float):
        """The expected cost of the edges under a selection; a scalar.

        `softness` is τ in multiples of the spread of α; 0: the cost of what is kept now.
        """
        total = []
        for selection_weights, costs in zip(self.net.mixture.selection_weights(), self.costs, strict=True):
            selection_weights = tf.gather(selection_weights, self.named, axis=1)
            tau = _temperature(tf.math.log(tf.boolean_mask(selection_weights, selection_weights > 0)), softness)
            total.append(expected_cell_cost(selection_weights, costs, selection, tau))
        return tf.add_n(total)

    def extreme(self, selection, sign: int):
        """The genotype that costs least (-1) or most (1), as the selection sees it, edge by edge."""
        span = max(costs.max() for costs in self.costs) or 1.0
        bar = getattr(selection, "threshold", 0.5)
        selection_weights = [np.asarray(w, np.float64) for w in self.net.mixture.selection_weights()]
        for weights, costs in zip(selection_weights, self.costs, strict=True):
            there = weights > 0
            ranks = np.zeros_like(weights)
            ranks[:, self.named] = 0.5 + sign * 0.4 * costs / span
            # Beyond a threshold where most is wanted, and short of it where least is.
            ranks = bar + max(1 - bar, 1e-6) * ranks if sign > 0 else (bar or 1.0) * ranks
            weights[there] = ranks[there]
        return self.net.read_out(selection, selection_weights)

    def of_alphas(self) -> list[np.ndarray]:
        """The costs in the shapes of α, as shares of the greatest."""
        span = max(costs.max() for costs in self.costs) or 1.0
        rows, shares = [edge_row(*edge, self.net.space.inputs) for edge in self.net.edges], []
        for alpha, costs in zip(self.net.alphas, self.costs, strict=True):
            shares.append(np.zeros(alpha.shape))
            shares[-1][:, self.named] = costs[rows] / span
        return shares


class GridCosts:
    """What the transitions of a `HyperCuboid` cost, with the stem before the first and the head behind the last.

    `kind` is "macs", "params", "flash" or "latency_ms", the last by a table of latencies. Raises `KdartsError` for
    milliseconds of layers that are not placed operations, which no table has.
    """

    def __init__(self, net, kind: str, latencies=None):
        if latencies is not None and not net.placed:
            raise KdartsError("latency_table: has no rows for Keras layers, only for placed operations")
        self.net = net
        self.costs = np.zeros(net.allowed.shape)
        for index, cost in net.transition_costs(latencies).items():
            self.costs[index] = getattr(cost, kind)

    def expected(self, selection, softness: float):
        """As of `CellCosts.expected`."""
        [selection_weights], allowed = self.net.mixture.selection_weights(), self.net.allowed
        tau = _temperature(tf.boolean_mask(selection_weights, allowed.reshape(len(allowed), -1)), softness)
        return expected_path_cost(selection_weights, self.costs, allowed, selection.name, tau)

    def extreme(self, selection, sign: int):
        """The path that costs least (-1) or most (1), whatever the selection sees."""
        states, choices, _ = best_path(np.where(self.net.allowed, sign * self.costs, np.nan))
        return self.net.path(states, choices)

    def of_alphas(self) -> list[np.ndarray]:
        """As of `CellCosts.of_alphas`."""
        return [self.costs.reshape(self.net.alphas[0].shape) / (self.costs.max() or 1.0)]


def expected_cell_cost(selection_weights, costs: np.ndarray, selection, temperature):
    """The expected cost of the edges of a cell; a scalar.

    Args:
        selection_weights: as of `Mixture.selection_weights`, `[edges, operations]`, without the column of `none` where
            the selection never keeps it; 0 or less for what the edge has not.
        costs: of the same, `[edges, operations]`, for all cells that share them.
        selection: derives the genotype; its `keeps` gives the probabilities.
        temperature: τ, a scalar.
    """
    there = selection_weights > 0
    logs = tf.math.log(tf.where(there, selection_weights, tf.ones_like(selection_weights)))
    bar = float(np.log(max(getattr(selection, "threshold", 1.0), _LEAST_WEIGHT)))
    passes = tf.where(there, tf.sigmoid((logs - bar) / temperature), tf.zeros_like(logs))
    selection, total = selection.in_cells_of(cell_of(selection_weights.shape[0])[1]), []
    for rows in node_rows(selection_weights.shape[0]).values():
        part, held = logs[rows], there[rows]
        best = tf.reduce_max(tf.where(held, part, tf.constant(_NEVER, part.dtype)))
        scores = tf.where(held, (part - best) / temperature, tf.constant(_NEVER, part.dtype))
        kept = selection.keeps(scores, passes[rows])
        total.append(tf.reduce_sum(tf.where(held, kept, tf.zeros_like(kept)) * tf.constant(costs[rows], kept.dtype)))
    return tf.add_n(total)


def expected_path_cost(selection_weights, costs: np.ndarray, allowed: np.ndarray, rule: str, temperature):
    """The same of a path through a HyperCuboid; a scalar.

    The best path is drawn with a probability in proportion to exp(score / τ), the greedy ones step by step.

    Args:
        selection_weights: of the transitions, `[stages, transitions]`.
        costs, allowed: of the transitions, `[stages, states before, states after, choices]`; the latter is boolean.
        rule: "best_path", "greedy_forward" or "greedy_backward".
        temperature: τ, a scalar.
    """
    scores = tf.reshape(selection_weights, costs.shape)
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
        rows = tf.reshape(score, [1 if state is None else score.shape[0], -1])
        taken = tf.reshape(tf.nn.softmax(rows), score.shape)
        taken = taken if state is None else state[:, None, None] * taken
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


def _temperature(scores, softness):
    """τ of scores that spread as they do."""
    if not softness:
        return tf.constant(SURE, scores.dtype)
    return tf.maximum(softness * tf.math.reduce_std(tf.stop_gradient(scores)), LEAST)
