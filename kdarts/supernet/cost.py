"""Parameters and multiply-accumulates (MACs) of supernets and networks, without building them.

MACs are those of convolutions and of the classifier for one image; normalisation, activations, pooling and additions
are left out, and so is the auxiliary classifier. DARTS and P-DARTS count so on CIFAR-10; sharpDARTS and D-DARTS count
normalisations, too, and the former activations (docs/papers.md has the figures). With a table of measured latencies
there are milliseconds, too: the sum of those of the operations, the classifier left out.
"""

import itertools
import math

from kdarts.genotypes.genotype import Genotype
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
