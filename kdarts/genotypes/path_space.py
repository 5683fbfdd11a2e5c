"""Sets of paths, and the best path.

A `PathSpace` is what soft pruning leaves of cells: a few operations on each kept edge, and the networks among them. A
`ChainSpace` is the same of a chain: a few choices at each of its places.

`best_path` and `greedy_path` choose the path through a HyperCuboid. Its weights are `[stages, states before, states
after, choices]`, 0 or more; NaN stands for a forbidden transition. The score of a path is the sum of the weights along
it (sharpDARTS' program).
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdarts.genotypes.cuboid import Cuboid, HyperPath, label
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import fields_of, text_of, write_text
from kdarts.genotypes.genotype import Genotype

Slot = tuple[int, int, tuple[str, ...]]
"""`(to, from, operations)`: an edge and the operations to choose from on it, that of largest weight first."""

_FORMAT, _CHAIN_FORMAT = "kdarts-paths-1", "kdarts-chain-paths-1"


@dataclass(frozen=True)
class PathSpace:
    """The pruned supernet S' of DARTS-PD (section 3.2): a normal and a reduction cell with k operations on each edge.

    A path takes one operation on each edge, the same in all cells of a type: an index of 0 to k - 1 for each edge,
    those of the normal cell first. The path of zeros is the genotype that pruning to one operation gives.

    Attributes:
        cells: the normal and the reduction cell, or with stages one; a cell is a tuple of `(to, from, operations)`,
            node by node.
        concats: for each cell the nodes whose concatenation is its output.
        reductions: positions of the reduction cells in a network; None: the default for its depth.
        stages: as of `Genotype`.

    Raises:
        KdartsError: if there are not two cells, or with stages one, edges differ in the number of operations, name one
            twice, or are not those of a genotype without gaps.
    """

    cells: tuple[tuple[Slot, ...], ...]
    concats: tuple[tuple[int, ...], ...]
    reductions: tuple[int, ...] | None = None
    stages: int | None = None

    def __post_init__(self):
        if not isinstance(self.cells, list | tuple) or len(self.cells) != (1 if self.stages else 2):
            needed = "one cell" if self.stages else "two cells, the normal and the reduction cell"
            raise KdartsError(f"path space: needs {needed}")
        if not all(isinstance(cell, list | tuple) and cell for cell in self.cells):
            raise KdartsError("path space: a cell must be a list of edges, at least one")
        cells = tuple(tuple(_slot(slot) for slot in cell) for cell in self.cells)
        counts = {len(operations) for cell in cells for _, _, operations in cell}
        if len(counts) != 1:
            raise KdartsError(f"path space: every edge needs equally many operations, got {sorted(counts)}")
        object.__setattr__(self, "cells", cells)
        for cell in cells:
            if list(cell) != sorted(cell, key=lambda slot: slot[0]):
                raise KdartsError("path space: the edges of a cell must come node by node, in ascending order")
        first = self._network([_chosen(cell, [0] * len(cell)) for cell in cells])
        object.__setattr__(self, "concats", first.concats)
        object.__setattr__(self, "reductions", first.reductions)
        if first.gaps():
            raise KdartsError(f"path space: {first.gaps()[0]}; every node needs a way from the cell's inputs")

    def _network(self, cells) -> Genotype:
        return Genotype(tuple(cells), self.concats, self.reductions, stages=self.stages)

    @property
    def kept(self) -> int:
        """k: operations on each edge."""
        return len(self.cells[0][0][2])

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The edges that a path chooses on, in its order."""
        return tuple(slot for cell in self.cells for slot in cell)

    @property
    def edges(self) -> int:
        """Number of edges that a path chooses on, over all cells."""
        return len(self.slots)

    @property
    def paths(self) -> int:
        """Number of paths: k to the power of the edges."""
        return self.kept**self.edges

    @property
    def named(self) -> dict[str, tuple[str, ...]]:
        """The operations of each edge, by a name of the edge."""
        kinds = zip(("normal", "reduce"), self.cells, strict=False)
        return {f"{kind}_{source}_to_{to}": names for kind, cell in kinds for to, source, names in cell}

    def possible(self, path: Sequence[int]) -> bool:
        """Whether there is such a path: every one is."""
        return True

    def genotype(self, path: Sequence[int]) -> Genotype:
        """The network of a path: `edges` integers of 0 to k - 1; raises `KdartsError` for others."""
        path = [int(choice) for choice in path]
        if len(path) != self.edges or not all(0 <= choice < self.kept for choice in path):
            raise KdartsError(f"path {path}: needs {self.edges} indices of 0 to {self.kept - 1}")
        return self._network([_chosen(cell, part) for cell, part in zip(self.cells, self.parts(path), strict=True)])

    def parts(self, path) -> list:
        """A path, or an array `[..., edges]` of paths, cell by cell."""
        first = len(self.cells[0])
        parts = [path[..., :first], path[..., first:]] if hasattr(path, "shape") else [path[:first], path[first:]]
        return parts[: len(self.cells)]

    def to_json(self) -> str:
        """Readable JSON, one edge a line."""
        lines = ["{", f'  "format": {json.dumps(_FORMAT)},', '  "cells": [']
        for index, cell in enumerate(self.cells):
            slots = ",\n".join(f"      {json.dumps(slot)}" for slot in cell)
            lines.append("    [\n" + slots + "\n    ]" + ("," if index + 1 < len(self.cells) else ""))
        stages = [] if self.stages is None else [f'  "stages": {self.stages},']
        lines += ["  ],", f'  "concats": {json.dumps(self.concats)},', *stages]
        return "\n".join([*lines, f'  "reductions": {json.dumps(self.reductions)}', "}"]) + "\n"

    @classmethod
    def load(cls, path: str | os.PathLike) -> "PathSpace":
        """Reads what `save` wrote; raises `KdartsError` naming the file and the fault."""
        needed = {"cells", "concats", "reductions"}
        data = fields_of(text_of(path), path, "path space", _FORMAT, needed, {"stages"})
        try:
            return cls(**data)
        except KdartsError as error:
            raise KdartsError(f"{path}: {error}") from None

    def save(self, path: str | os.PathLike) -> None:
        """Writes `to_json` to `path`, atomically."""
        write_text(path, self.to_json())


@dataclass(frozen=True)
class ChainSpace:
    """A few choices at each place of a chain, a grid of one state. The first ones are a network, and so are all others.

    Attributes:
        cuboid: the axes.
        options: for each place the numbers of its choices, one or more.
        space: name of the published HyperCuboid; "": of a program's own.
    """

    cuboid: Cuboid
    options: tuple[tuple[int, ...], ...]
    space: str = ""

    @property
    def kept(self) -> int:
        """The most choices of a place."""
        return max(map(len, self.options))

    @property
    def edges(self) -> int:
        """Number of places."""
        return len(self.options)

    @property
    def paths(self) -> int:
        """Number of paths."""
        return math.prod(map(len, self.options))

    @property
    def named(self) -> dict[str, tuple[str, ...]]:
        """The choices of each place, by a name of the place."""
        names = [label(choice) for choice in self.cuboid.choice_values]
        places = enumerate(map(label, self.cuboid.positions))
        return {f"{n}: {place}": tuple(names[k] for k in self.options[n]) for n, place in places}

    def possible(self, path: Sequence[int]) -> bool:
        """Whether there is such a path: places may differ in the number of their choices."""
        return all(choice < len(options) for choice, options in zip(path, self.options, strict=True))

    def genotype(self, path: Sequence[int]) -> HyperPath:
        """The network of a path: for each place an index of its choices."""
        choices = [options[choice] for choice, options in zip(path, self.options, strict=True)]
        return HyperPath(self.cuboid, (0,) * (len(choices) + 1), tuple(choices), self.space)

    def to_json(self) -> str:
        """Readable JSON, one place a line."""
        lines = [f"    {json.dumps(name)}: {json.dumps(names)}" for name, names in self.named.items()]
        head = f'{{\n  "format": "{_CHAIN_FORMAT}",\n  "space": {json.dumps(self.space)},\n  "places": {{\n'
        return head + ",\n".join(lines) + "\n  }\n}\n"

    def save(self, path: str | os.PathLike) -> None:
        """Writes `to_json` to `path`, atomically."""
        write_text(path, self.to_json())


def _slot(slot) -> Slot:
    to, source, operations = slot if isinstance(slot, list | tuple) and len(slot) == 3 else (None, None, None)
    named = isinstance(operations, list | tuple) and operations and all(isinstance(name, str) for name in operations)
    if type(to) is not int or not named:
        raise KdartsError(f"path space: an edge must be [to, from, [operation, ...]], got {slot!r}")
    if len(set(operations)) < len(operations):
        raise KdartsError(f"path space: the edge from {source} to {to} names an operation twice: {list(operations)}")
    return to, source, tuple(operations)


def _chosen(cell, path):
    return tuple((operations[choice], to, source) for (to, source, operations), choice in zip(cell, path, strict=True))


def best_path(weights) -> tuple[list[int], list[int], float]:
    """The path of the greatest score, by dynamic programming from the last stage to the first.

    Of paths of equal score it is the one with the lower state, then the lower choice, counted from the first stage.

    Returns:
        Its states (one more than stages), its choices, and its score.

    Raises:
        KdartsError: if the weights have another form, or no path leads through.
    """
    weights = _checked(weights)
    largest, choices = weights.max(-1), weights.argmax(-1)
    onward = np.zeros(weights.shape[1])
    best = []
    for stage in largest[::-1]:
        total = stage + onward
        best.append(total.argmax(1))
        onward = total.max(1)
    if onward.max() == -np.inf:
        raise KdartsError("no path leads through: at some stage every transition is forbidden")
    states = [int(onward.argmax())]
    for following in best[::-1]:
        states.append(int(following[states[-1]]))
    stages = range(len(weights))
    return states, [int(choices[t, states[t], states[t + 1]]) for t in stages], float(onward.max())


def greedy_path(weights, backward: bool = False, begin: int | None = None) -> tuple[list[int], list[int], float]:
    """The path that takes the transition of largest weight at each stage, from the first on or from the last back.

    Transitions that no whole path goes through are not taken. Results and errors are those of `best_path`.

    Args:
        weights: see above.
        backward: whether to begin at the last stage.
        begin: the state to begin in; None: that of the transition of largest weight.
    """
    weights = _checked(weights)
    weights = np.where(live(weights > -np.inf), weights, -np.inf)
    if backward:
        weights = weights[::-1].transpose(0, 2, 1, 3)
    states, choices, score = [] if begin is None else [begin], [], 0.0
    for stage in weights:
        offered = stage[states[-1]][None] if states else stage
        if offered.max() == -np.inf:
            raise KdartsError(f"no path leads through{'' if begin is None else f' that begins in state {begin}'}")
        source, target, choice = np.unravel_index(offered.argmax(), offered.shape)
        states += [int(target)] if states else [int(source), int(target)]
        choices.append(int(choice))
        score += float(offered.max())
    return (states[::-1], choices[::-1], score) if backward else (states, choices, score)


def live(allowed: np.ndarray, starts=None, ends=None) -> np.ndarray:
    """Which of the `allowed` transitions, `[stages, states, states, choices]`, some whole path goes through.

    A path may begin and end where `starts` and `ends`, `[states]`, are true; None: anywhere.
    """
    stages, states = allowed.shape[:2]
    linked = allowed.any(-1)
    reached = [np.ones(states, bool) if starts is None else np.asarray(starts)]
    for stage in linked:
        reached.append((stage & reached[-1][:, None]).any(0))
    leading = [np.ones(states, bool) if ends is None else np.asarray(ends)]
    for stage in linked[::-1]:
        leading.append((stage & leading[-1]).any(1))
    leading = leading[::-1]
    through = [reached[t][:, None] & leading[t + 1] for t in range(stages)]
    return allowed & np.stack(through)[..., None]


def _checked(weights) -> np.ndarray:
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 4 or not weights.size or weights.shape[1] != weights.shape[2] or np.isinf(weights).any():
        raise KdartsError(f"weights {weights.shape}: needs finite [stages, states, states, choices]")
    return np.where(np.isnan(weights), -np.inf, weights)
