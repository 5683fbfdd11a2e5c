"""Selections: from the mixing weights of a trained supernet to an architecture.

A selection of cells makes a genotype of the weights `[edges, operations]` of each distinct cell; a selection of a grid
makes a path of the weights of its transitions. The set is open: a program registers a class of its own by
`register_selection`.

The expected cost of a target (`cost_target`) asks a selection what it keeps where every weight carries Gumbel noise:
`keeps` gives the probability of each operation, differentiable in every weight.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kdarts.genotypes.edges import cell_of, edge_count, node_rows
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import SKIPS, Genotype, thirds
from kdarts.genotypes.path_space import best_path, greedy_path
from kdarts.genotypes.settings import Axis, Registry, setting, settings_of
from kdarts.supernet.spaces import SearchSpace

SELECTIONS = Registry("discretization", "kdarts.search.removal")

SCORES = ("params", "macs", "naswot", "az_nas", "rule")
"""What networks are compared by without any training (`kdarts.search.zero_cost`)."""

NEVER = -1e9
"""The score of what cannot be drawn."""


@dataclass(frozen=True)
class Selection(Axis):
    """A rule that derives an architecture. A kind of it defines `cell`, or, for grids, `path`.

    Attributes:
        grid: whether it derives a path of a grid, not cells.
        one_input: whether it derives cells of one input, too; else `argmax` does in its place.
        measures: whether it measures the supernet after the search; such a kind defines `check` and `follow`.
    """

    grid: ClassVar[bool] = False
    one_input: ClassVar[bool] = False
    measures: ClassVar[bool] = False

    samples: int = setting(
        0,
        "number of random genotypes that are compared at the end to keep the best; 0: α decides instead",
        least=0,
        most=1_000_000,
        source="Li and Talwalkar 2019, Algorithm 1",
    )
    score: str = setting(
        "accuracy",
        "what these are compared by: their accuracy in the trained supernet, or, without training, the live parameters "
        "or MACs, NASWOT, AZ-NAS or the rule score of the normal cell",
        choices=("accuracy", *SCORES),
    )

    def cell(self, weights: np.ndarray, operations: tuple[str, ...], normal: bool = True) -> list:
        """The edges of a cell.

        Args:
            weights: after mixing, `[edges, operations]`, edges node by node.
            operations: names of the columns.
            normal: whether the cell stands anywhere but at reductions.

        Returns:
            `(operation, to, from)` of each edge.
        """
        raise NotImplementedError

    def path(self, weights: np.ndarray) -> tuple[list[int], list[int], float]:
        """The states, the choices and the score of a path (see `best_path`)."""
        raise NotImplementedError

    def genotype(self, probabilities, space: SearchSpace, reductions=None, sequence=None, multiplier=None) -> Genotype:
        """The genotype of mixing weights; arguments and errors as of `discretize`."""
        if space.stages:
            reductions = None
        cells, concats = [], []
        reduce = set() if space.stages else _reduction_cells(len(probabilities), reductions, sequence)
        for index, weights in enumerate(probabilities):
            weights = np.asarray(weights, np.float64)
            nodes = _nodes(weights, space, index)
            outputs = multiplier or min(space.multiplier, nodes)
            if not 1 <= outputs <= nodes:
                raise KdartsError(f"multiplier {outputs}: allowed is 1 to the {nodes} nodes of cell {index}")
            cells.append(tuple(self.cell(weights, space.operations, index not in reduce)))
            concats.append(tuple(range(2 + nodes - outputs, 2 + nodes)))
        if sequence is None and len(cells) != (1 if space.stages else 2):
            sequence = range(len(cells))
        return Genotype(tuple(cells), tuple(concats), reductions, sequence, stages=space.stages)

    def check(self, method) -> None:
        """Raises `KdartsError` for a method whose supernet it cannot measure."""

    def further_steps(self, net, steps: int) -> int:
        """Steps of training that `follow` takes on a supernet, with so many steps to an epoch."""
        return 0

    def follow(self, search, data, session) -> Genotype:
        """Measures the supernet of a finished search, and returns the genotype.

        Args:
            search: the finished `Search`.
            data: as of `Search.fit`.
            session: keeps the state of the run.
        """
        raise NotImplementedError

    def in_cells_of(self, inputs: int) -> "Selection":
        """The rule that this one is in cells of so many inputs, 1 or 2."""
        return self

    def keeps(self, scores, passes):
        """The probability that a node keeps each operation of each edge, `[edges, operations]`.

        Args:
            scores: logarithms of the selection_weights over the temperature; `NEVER` or less for what is not there.
            passes: the probability that each reaches the threshold.
        """
        raise KdartsError(f"discretization {self.name!r}: its expected cost is not known, so it takes no target")


@dataclass(frozen=True)
class NodeSelection(Selection):
    """A rule that looks at one node at a time. A kind of it defines `node`."""

    def node(self, weights: np.ndarray, operations: tuple[str, ...]) -> list:
        """What a node keeps.

        Args:
            weights: of the edges into it, `[sources, operations]`.
            operations: names of the columns.

        Returns:
            `(operation, source)` pairs.
        """
        raise NotImplementedError

    def cell(self, weights, operations, normal=True):
        cell, first = [], 2 - cell_of(len(weights))[1]
        for node, rows in node_rows(len(weights)).items():
            cell += [(name, node, source + first) for name, source in self.node(weights[rows], operations)]
        return cell


def register_selection(kind: type[Selection]) -> type[Selection]:
    """Makes a selection known by its `name`, to `--discretization` and to `discretization=`."""
    return SELECTIONS.add(kind)


_THRESHOLD = {"least": 0, "most": 1, "source": "FairDARTS; D-DARTS, section 5.1"}
_MAX_SKIPS = {"least": 0, "most": 1000, "source": "P-DARTS, section 3.3"}


@register_selection
@dataclass(frozen=True)
class TwoStrongest(NodeSelection):
    """DARTS' rule (section 2.4): of each node its two strongest inputs, each by its best operation but `none`.

    `none` never wins, yet its share lowers the edge. The stronger input comes first; equal ones by the lower number.
    """

    name: ClassVar[str] = "darts"

    def node(self, weights, operations):
        return [(operation, source) for operation, source, _ in _two_best(weights, operations)]

    def keeps(self, scores, passes):
        import tensorflow as tf

        edges = _first_two(tf.reduce_logsumexp(scores, 1))
        return edges[:, None] * tf.nn.softmax(scores)


@register_selection
@dataclass(frozen=True)
class Sparse(TwoStrongest):
    """Of what DARTS' rule keeps that whose weight reaches the threshold (FairDARTS; D-DARTS' `threshold_sparse`).

    At most two inputs to a node and one operation on each; a node may come out empty. A weight that equals the
    threshold reaches it.
    """

    name: ClassVar[str] = "sparse"
    threshold: float = setting(
        0.85, "smallest weight with which an operation is kept, for rules that have a threshold", **_THRESHOLD
    )

    def node(self, weights, operations):
        return [(name, source) for name, source, weight in _two_best(weights, operations) if weight >= self.threshold]

    def keeps(self, scores, passes):
        return super().keeps(scores, passes) * passes


@register_selection
@dataclass(frozen=True)
class StrongestPairs(NodeSelection):
    """The node's two strongest operations, which may stand on one edge (GDAS' program); the stronger comes first.

    Of equal ones the lower input comes first, then the earlier operation; `none` never wins.
    """

    name: ClassVar[str] = "pairs"

    def node(self, weights, operations):
        columns = _named(operations)
        order = np.argsort(-weights[:, columns].ravel(), kind="stable")[:2]
        return [(operations[columns[k % len(columns)]], int(k // len(columns))) for k in order]

    def keeps(self, scores, passes):
        import tensorflow as tf

        return tf.reshape(_first_two(tf.reshape(scores, [-1])), scores.shape)


@register_selection
@dataclass(frozen=True)
class TwoOfEachEdge(NodeSelection):
    """Of every input its two best operations, where they reach the threshold (D-DARTS' `threshold_edge`).

    Any number of inputs. The weaker of the two comes first; of equal ones the later in the space counts as stronger.
    """

    name: ClassVar[str] = "edge"
    threshold: float = setting(
        0.85, "smallest weight with which an operation is kept, for rules that have a threshold", **_THRESHOLD
    )

    def node(self, weights, operations):
        columns, kept = _named(operations), []
        for source, row in enumerate(weights):
            strongest = np.argsort(row[columns], kind="stable")[-2:]
            kept += [(operations[columns[k]], source) for k in strongest if row[columns[k]] >= self.threshold]
        return kept

    def keeps(self, scores, passes):
        import tensorflow as tf

        return tf.stack([_first_two(row) for row in tf.unstack(scores)]) * passes


@register_selection
@dataclass(frozen=True)
class Complete(NodeSelection):
    """Every operation of every input that reaches the threshold, in the space's order (D-DARTS' program alone)."""

    name: ClassVar[str] = "complete"
    threshold: float = setting(
        0.85, "smallest weight with which an operation is kept, for rules that have a threshold", **_THRESHOLD
    )

    def node(self, weights, operations):
        columns, pairs = _named(operations), enumerate(weights)
        return [(operations[k], source) for source, row in pairs for k in columns if row[k] >= self.threshold]

    def keeps(self, scores, passes):
        return passes


@register_selection
@dataclass(frozen=True)
class Argmax(NodeSelection):
    """Of every input its strongest operation, `none` among them; of equals the first (NAS-Bench-201)."""

    name: ClassVar[str] = "argmax"
    one_input: ClassVar[bool] = True

    def node(self, weights, operations):
        return [(operations[column], source) for source, column in enumerate(weights.argmax(1))]

    def keeps(self, scores, passes):
        import tensorflow as tf

        return tf.nn.softmax(scores)


@register_selection
@dataclass(frozen=True)
class Progressive(TwoStrongest):
    """P-DARTS' rule: as DARTS', but with no more than so many skip connections in a normal cell (section 3.3).

    Of equal ones the later counts as stronger. While there are too many skip connections, the weakest of those chosen
    gets weight 0 and all is chosen again (the authors' program).
    """

    name: ClassVar[str] = "progressive"
    max_skips: int | None = setting(
        2, "largest number of skip connections in a normal cell, for rules that limit it", **_MAX_SKIPS
    )

    def cell(self, weights, operations, normal=True):
        return select(weights, operations, self.max_skips if normal else None)


@register_selection
@dataclass(frozen=True)
class Residual(TwoStrongest):
    """A normal cell with so many skip connections, where they lead by most (see `place_skips`; `placed_skips`).

    Otherwise two inputs to a node as by DARTS' rule, which may leave such an edge out, or, in cells of one input, one
    operation on each edge as by `argmax`.
    """

    name: ClassVar[str] = "residual"
    one_input: ClassVar[bool] = True
    max_skips: int | None = setting(2, "skip connections of a normal cell, for rules that count them", **_MAX_SKIPS)

    def cell(self, weights, operations, normal=True):
        if normal and self.max_skips is not None:
            weights = place_skips(weights, operations, self.max_skips)
        return (Argmax().cell if cell_of(len(weights))[1] == 1 else super().cell)(weights, operations)

    def in_cells_of(self, inputs):
        return Argmax() if inputs == 1 else self


@register_selection
@dataclass(frozen=True)
class BestPath(Selection):
    """The path of the greatest sum of weights (sharpDARTS' program)."""

    name: ClassVar[str] = "best_path"
    grid: ClassVar[bool] = True

    def path(self, weights):
        return best_path(weights)


@register_selection
@dataclass(frozen=True)
class GreedyForward(BestPath):
    """The strongest transition at each stage, from the first."""

    name: ClassVar[str] = "greedy_forward"

    def path(self, weights):
        return greedy_path(weights)


@register_selection
@dataclass(frozen=True)
class GreedyBackward(BestPath):
    """The strongest transition at each stage, from the last."""

    name: ClassVar[str] = "greedy_backward"

    def path(self, weights):
        return greedy_path(weights, backward=True)


def get_selection(name: str, what: str = "discretization", grid: bool = False, **values) -> Selection:
    """The selection called `name`, of grids or of cells, with those of the values that it has a field for.

    Raises `KdartsError` with the known names for another; `what` is what a selection is called there.
    """
    kinds = {kind.name: kind for kind in SELECTIONS.items() if kind.grid == grid}
    kind = kinds[choice(what, name, kinds)]
    return kind(**{key: value for key, value in values.items() if key in settings_of(kind)})


def _named(operations) -> list[int]:
    """The columns that a rule may pick: all but `none`."""
    return [k for k, name in enumerate(operations) if name != "none"]


def _two_best(weights, operations) -> list:
    """`(operation, source, weight)` of the two inputs whose best operation is strongest."""
    columns = _named(operations)
    scores = weights[:, columns]
    best = scores.argmax(1)
    order = np.argsort(-scores.max(1), kind="stable")[:2]
    return [(operations[columns[best[source]]], int(source), scores[source, best[source]]) for source in order]


def _first_two(scores):
    """The probability to be among the first two of several, drawn as by Plackett and Luce.

    The scores, `[n]`, are over the temperature already, and `NEVER` or so for what cannot be drawn.
    """
    import tensorflow as tf

    first = tf.nn.softmax(scores)
    count = scores.shape[0]
    if count == 1:
        return first
    others = tf.where(np.eye(count, dtype=bool), tf.constant(2 * NEVER, scores.dtype), scores[None, :])
    return first + tf.linalg.matvec(tf.nn.softmax(others), first, transpose_a=True)


def discretize(
    probabilities,
    space: SearchSpace,
    method: str = "darts",
    threshold: float = 0.85,
    reductions=None,
    sequence=None,
    multiplier: int | None = None,
    max_skips: int | None = 2,
) -> Genotype:
    """The genotype that is derived from mixing weights.

    Args:
        probabilities: for each distinct cell its weights after mixing, `[edges, operations]`, edges node by node;
            compared as they are, in float64.
        space: names the operations.
        method: the rule: "darts", "pairs", "progressive", "residual", "argmax", or, where a node or a cell may come out
            empty, "sparse", "edge" or "complete". In a space with stages "darts" is "argmax": all edges are kept.
        threshold: least weight of an operation, 0 to 1, of "sparse", "edge" and "complete".
        reductions: positions of the reduction cells; None: the default of the depth; a space with stages has none.
        sequence: for each cell of the network the index of its distinct cell; None: of two sets of weights the
            first is the normal cell and the second the reduction cell, of any other number each is one cell; in a space
            with stages a single one stands everywhere.
        multiplier: nodes in a cell's output, counted from the last; None: the space's, or all where a cell has fewer.
        max_skips: with "progressive" and "residual" the most skip connections of a cell that is no reduction, with the
            latter all that have a place; None: any number.

    Returns:
        The genotype; `Genotype.gaps` tells of nodes and cells that came out empty.

    Raises:
        KdartsError: if the shapes do not fit the space or the multiplier, the method is unknown, or the threshold is
            not within 0 to 1.
    """
    if not 0 <= threshold <= 1:
        raise KdartsError(f"threshold {threshold}: allowed is 0 to 1")
    name = "argmax" if space.stages and method == "darts" else method
    selection = get_selection(name, "discretisation", threshold=threshold, max_skips=max_skips)
    return selection.genotype(probabilities, space, reductions, sequence, multiplier)


def _reduction_cells(cells: int, reductions, sequence) -> set[int]:
    """The distinct cells that stand at reductions alone."""
    if sequence is None and cells == 2:
        return {1}
    sequence = range(cells) if sequence is None else sequence
    normal = set(range(len(sequence))) - set(thirds(len(sequence)) if reductions is None else reductions)
    return set(range(cells)) - {sequence[position] for position in normal}


def _nodes(weights: np.ndarray, space: SearchSpace, index: int) -> int:
    """Number of intermediate nodes with as many edges as `weights` has rows."""
    nodes = 1
    while weights.ndim and edge_count(nodes, space.inputs) < len(weights):
        nodes += 1
    fits = weights.ndim == 2 and weights.shape == (edge_count(nodes, space.inputs), len(space.operations))
    if not fits or not np.isfinite(weights).all():
        counts = ", ".join(str(edge_count(n, space.inputs)) for n in range(1, 6))
        raise KdartsError(
            f"weights of cell {index}: shape {weights.shape}; needs finite [edges, {len(space.operations)}] with "
            f"{counts}, ... edges"
        )
    return nodes


def place_skips(weights: np.ndarray, operations: tuple[str, ...], count: int) -> np.ndarray:
    """The weights with nothing but skip connections on the `count` edges of the largest margins, and none elsewhere.

    A copy of `[edges, operations]`, with -1, less than any weight, in place of what an edge loses. Of equal margins the
    earlier edge's counts. If no operation is a skip connection, or all are, nothing changes.
    """
    skips = np.array([name in SKIPS for name in operations])
    others = ~skips & np.array([name != "none" for name in operations])
    weights = np.array(weights, np.float64)
    if skips.any() and others.any():
        edges = np.argsort(weights[:, others].max(1) - weights[:, skips].max(1), kind="stable")
        weights[np.ix_(edges[count:], skips)] = -1
        weights[np.ix_(edges[:count], ~skips)] = -1
    return weights


def select(weights: np.ndarray, operations: tuple[str, ...], max_skips: int | None) -> list:
    """A cell of one operation on each of two edges to a node, with at most `max_skips` skip connections; None: any.

    Of each edge the strongest operation but `none`, of each node the two edges where that is strongest; of equal ones
    the later in each case. While there are too many skip connections, the weakest of those chosen gets weight 0 and all
    is chosen again (section 3.3 and the authors' program). A weight of 0 is of an operation that the edge has not.
    """
    weights, present = np.array(weights, np.float64), np.asarray(weights) > 0
    for column, name in enumerate(operations):
        if name == "none":
            present[:, column] = False
    while True:
        chosen = _chosen(weights, present)
        skips = [(row, column) for row, column, _, _ in chosen if operations[column] in SKIPS]
        more = [place for place in skips if weights[place] > 0]
        if max_skips is None or len(skips) <= max_skips or not more:
            return [(operations[column], to, source) for _, column, to, source in chosen]
        weights[min(more, key=lambda place: weights[place])] = 0


def _ascending(weights, present):
    """The columns of an edge that are present, from the least weight to the largest, equal ones in order."""
    columns = np.flatnonzero(present)
    return columns[np.argsort(weights[columns], kind="stable")]


def _chosen(weights, present) -> list:
    """`(row, column, to, from)` of the two strongest edges of each node."""
    chosen = []
    for to, into in node_rows(len(weights)).items():
        rows = [row for row in range(into.start, into.stop) if present[row].any()]
        best = {row: _ascending(weights[row], present[row])[-1] for row in rows}
        strongest = sorted(rows, key=lambda row: weights[row, best[row]])[-2:]
        chosen += [(row, int(best[row]), to, row - into.start) for row in sorted(strongest)]
    return chosen
