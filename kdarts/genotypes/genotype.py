"""Genotypes of cells as data: edges and outputs, and checks of them."""

import json
import os
import pathlib
from dataclasses import dataclass, replace

from kdarts.genotypes.errors import KdartsError, quoted
from kdarts.genotypes.files import fields_of, text_of, write_text
from kdarts.genotypes.settings import MOST_CELLS
from kdarts.genotypes.text import architecture_text, genotype_fields, genotype_names, read_text

Edge = tuple[str, int, int]
"""`(operation, to, from)`; nodes 0 and 1 are a cell's inputs, 2 and on its intermediate nodes."""

LAST_NODE = 101
"""The 100th intermediate node; those of the papers have up to 5."""

LONGEST_NAME = 100
"""The most characters of a genotype's name."""

MOST_EDGES, MOST_EDGES_IN_ALL = 1000, 20_000
"""The most edges of a cell, and of all cells of a network together; those of the papers have up to 160 in all."""

MOST_STAGES = 12
"""Each doubles the channels and halves the image."""


def check_name(name, what: str = "genotype") -> str:
    """`name`, if folders, models and terminals can show it; raises `KdartsError` otherwise."""
    if not isinstance(name, str):
        raise KdartsError(f"{what}: name must be text, got {quoted(name)}")
    if not name.isprintable() or "/" in name or "\\" in name or name in (".", "..") or len(name) > LONGEST_NAME:
        allowed = f"allowed are {LONGEST_NAME} printable characters without / and \\"
        raise KdartsError(f"{what}: name {quoted(name)}: {allowed}")
    return name


def _at_most(count: int, most: int, what: str) -> None:
    if count > most:
        raise KdartsError(f"genotype: {count} {what}; allowed are at most {most}")


def rows(value, what: str):
    """`value`, if it is a list of lists; raises `KdartsError` naming `what` otherwise."""
    if not isinstance(value, list | tuple) or any(not isinstance(row, list | tuple | range) for row in value):
        raise KdartsError(f"genotype: {what} must be a list of lists")
    return value


def integers(value, what: str) -> tuple[int, ...]:
    """`value` as a tuple, if it is a list of whole numbers; raises `KdartsError` naming `what` otherwise."""
    if not isinstance(value, list | tuple | range) or any(type(i) is not int for i in value):
        raise KdartsError(f"genotype: {what} must be a list of whole numbers, got {quoted(value)}")
    return tuple(value)


def edge_of(edge, where: str) -> Edge:
    """`edge` as a tuple; raises `KdartsError` saying `where` it stands if it is no `(operation, to, from)`."""
    if not isinstance(edge, list | tuple) or len(edge) != 3:
        raise KdartsError(f"genotype: {where} must be [operation, to, from], got {quoted(edge)}")
    operation, to, source = edge
    if not isinstance(operation, str) or type(to) is not int or type(source) is not int:
        raise KdartsError(f"genotype: {where} must be [operation, to, from], got {quoted(edge)}")
    if not operation.isprintable() or not 1 <= len(operation) <= LONGEST_NAME:
        allowed = f"allowed are 1 to {LONGEST_NAME} printable characters"
        raise KdartsError(f"genotype: {where} has the operation {quoted(operation)}: {allowed}")
    if not 0 <= source < to or to < 2:
        raise KdartsError(f"genotype: {where} goes from node {source} to node {to}; needs 0 <= from < to and to >= 2")
    if to > LAST_NODE:
        raise KdartsError(f"genotype: {where} leads to node {to}; allowed are 2 to {LAST_NODE}")
    return operation, to, source


def reached_in(cell, without: str = "") -> set[int]:
    """The nodes that edges lead to from a cell's inputs, and these. Edges with the operation `without` do not count."""
    reached = {0, 1}
    for operation, to, source in sorted(cell, key=lambda edge: edge[1]):  # edges lead to higher nodes only
        if source in reached and operation != without:
            reached.add(to)
    return reached


def check_concat(index: int, concat) -> None:
    """Raises `KdartsError` if cell number `index` cannot have these outputs."""
    if not concat:
        raise KdartsError(f"genotype: concats[{index}] is empty; a cell needs an output")
    for node in concat:
        if not 0 <= node <= LAST_NODE:
            raise KdartsError(f"genotype: concats[{index}] names node {node}; allowed are 0 to {LAST_NODE}")
    if len(set(concat)) < len(concat):
        raise KdartsError(f"genotype: concats[{index}] names a node twice: {quoted(list(concat))}")


SKIPS = ("skip_connect", "identity")
"""Operations that are a skip connection."""

_PASSED_ON: Edge = ("skip_connect", 2, 1)
_FORMAT = "kdarts-genotype-1"


@dataclass(frozen=True)
class Genotype:
    """Cells as lists of edges, and how a network is made of them.

    A genotype keeps the result of a search unchanged. A rule with a threshold may leave nodes, or whole cells,
    without any edge; the network is then made as follows, and `gaps` says where:

    (a) an edge that starts at a node which nothing leads to from the cell's inputs is left out;
    (b) a cell's output joins those nodes of its `concats` that exist, in their order there;
    (c) a cell of whose output no node exists passes its second input on, as if it were one node with one edge, a
        `skip_connect` from there (of stride 2 in a reduction).

    Attributes:
        cells: the distinct cells; a cell is a tuple of `(operation, to, from)`.
        concats: for each cell the nodes whose concatenation is its output, each once; 0 and 1 are allowed.
        reductions: positions of the reduction cells in the network; None: the default for its depth.
        sequence: for each cell of the network the index of its distinct cell; None: two cells, of which the second
            stands at every reduction and the first everywhere else, at any depth (DARTS), or with stages one cell that
            stands everywhere.
        name: of a published genotype.
        stages: number of runs of equally many cells, between which residual blocks halve the image (NAS-Bench-201);
            the cells read node 1 alone, the last cell's output, and none of them reduces. None: cells of two inputs,
            some of which reduce.

    Raises:
        KdartsError: if anything is malformed: an edge that is no `(operation, to, from)` with from < to, an output
            without a node or with one twice, a sequence or reductions outside their range; (a) to (c) are no faults.
    """

    cells: tuple[tuple[Edge, ...], ...]
    concats: tuple[tuple[int, ...], ...]
    reductions: tuple[int, ...] | None = None
    sequence: tuple[int, ...] | None = None
    name: str = ""
    stages: int | None = None

    def __post_init__(self):
        for field in ("cells", "concats", "sequence"):
            if isinstance(getattr(self, field), list | tuple | range):
                _at_most(len(getattr(self, field)), MOST_CELLS, f"entries of {field}")
        for cell in rows(self.cells, "cells"):
            _at_most(len(cell), MOST_EDGES, "edges in a cell")
        cells = tuple(
            tuple(edge_of(edge, f"cell {i}, edge {k}") for k, edge in enumerate(c))
            for i, c in enumerate(rows(self.cells, "cells"))
        )
        object.__setattr__(self, "cells", cells)
        concats = tuple(integers(c, f"concats[{i}]") for i, c in enumerate(rows(self.concats, "concats")))
        object.__setattr__(self, "concats", concats)
        for field in ("reductions", "sequence"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, integers(getattr(self, field), field))
        check_name(self.name)
        self._check()

    def _check(self):
        if not self.cells:
            raise KdartsError("genotype: needs at least one cell")
        if len(self.concats) != len(self.cells):
            raise KdartsError(f"genotype: {len(self.cells)} cells need as many concats, got {len(self.concats)}")
        for index, concat in enumerate(self.concats):
            check_concat(index, concat)
        if self.stages is not None:
            self._check_stages()
        if self.sequence is None:
            if len(self.cells) != (1 if self.stages else 2):
                least = "only one with stages does" if self.stages else "only two do"
                raise KdartsError(f"genotype: {len(self.cells)} distinct cells need a sequence; {least} without")
            return
        if not self.sequence:
            raise KdartsError("genotype: the sequence is empty")
        for position, index in enumerate(self.sequence):
            if not 0 <= index < len(self.cells):
                raise KdartsError(f"genotype: sequence[{position}] is {index}; allowed are 0 to {len(self.cells) - 1}")
        self._check_edges(self.sequence)
        last = len(self.sequence) - 1
        for position in self.reductions or ():
            if not 0 <= position <= last:
                raise KdartsError(f"genotype: reduction at {position}; allowed are positions 0 to {last}")

    def _check_edges(self, sequence) -> None:
        """Raises `KdartsError` for a network of more edges than anyone could build."""
        counts = [len(cell) for cell in self.cells]
        _at_most(sum(counts[index] for index in sequence), MOST_EDGES_IN_ALL, f"edges in {len(sequence)} cells")

    def _check_stages(self):
        if type(self.stages) is not int or not 1 <= self.stages <= MOST_STAGES:
            allowed = f"a whole number from 1 to {MOST_STAGES}"
            raise KdartsError(f"genotype: stages must be {allowed}, got {quoted(self.stages)}")
        if self.reductions is not None:
            raise KdartsError("genotype: with stages residual blocks reduce, and no cell does")
        if any(source < 1 for cell in self.cells for _, _, source in cell):
            raise KdartsError("genotype: with stages a cell's only input is node 1, and an edge leaves node 0")
        if self.sequence is not None and len(self.sequence) % self.stages:
            raise KdartsError(f"genotype: {len(self.sequence)} cells are no {self.stages} stages of equally many")

    @property
    def nodes(self) -> int:
        """Intermediate nodes of the largest cell."""
        return max(max((to for _, to, _ in cell), default=1) for cell in self.cells) - 1

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the operations in use, in order of first use."""
        return tuple(dict.fromkeys(op for cell in self.cells for op, _, _ in cell))

    def skip_connects(self) -> int:
        """Skip connections in its distinct cells."""
        return sum(self.skips_by_cell())

    def skips_by_cell(self) -> list[int]:
        """Skip connections in each distinct cell."""
        return [sum(operation in SKIPS for operation, _, _ in cell) for cell in self.cells]

    def measures(self) -> dict[str, float]:
        """The values that a search records after each epoch besides the genotype."""
        return {"skip_connects": self.skip_connects()}

    def live(self, index: int) -> tuple[tuple[Edge, ...], tuple[int, ...]]:
        """What the network builds of the distinct cell number `index`, by (a) to (c) above.

        Returns:
            Its edges `(operation, to, from)` in the order in which they are in `cells`, and the nodes of its output.
        """
        reached = reached_in(self.cells[index])
        outputs = tuple(node for node in self.concats[index] if node in reached)
        if not outputs:
            return (_PASSED_ON,), (_PASSED_ON[1],)
        return tuple(edge for edge in self.cells[index] if edge[2] in reached), outputs

    def gaps(self) -> list[str]:
        """What the network cannot build of the cells, and what it does instead: a line for each such cell."""
        lines = []
        for index, (cell, concat) in enumerate(zip(self.cells, self.concats, strict=True)):
            reached = reached_in(cell)
            cut = [source for _, _, source in cell if source not in reached]
            missing = sorted({*cut, *concat} - reached)
            if not cell and not reached & set(concat):
                lines.append(f"cell {index} is empty and passes its second input on")
            elif not reached & set(concat):
                lines.append(f"cell {index}: nothing leads to its output, so it passes its second input on")
            elif missing:
                nodes = f"node{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
                edges = "1 edge that starts" if len(cut) == 1 else f"{len(cut)} edges that start"
                onward = f" with {edges} there" if cut else ""
                lines.append(f"cell {index}: nothing leads to {nodes}, left out{onward}")
        return lines

    def notes(self) -> list[str]:
        """What a user should know of the cells: `gaps`, and the cells whose output is 0 whatever the image is."""
        live = [self.live(index) for index in range(len(self.cells))]
        dead = [index for index, (edges, ends) in enumerate(live) if not reached_in(edges, "none") & set(ends)]
        told = [f"cell {index}: only the operation none leads to its output, which is always 0" for index in dead]
        whole = len(dead) == len(self.cells)
        return [*self.gaps(), *told, *(["the network gives every image the same answer"] if whole else [])]

    def to_json(self) -> str:
        """Readable JSON, one edge a line."""
        lines = ["{", f'  "format": "{_FORMAT}",', f'  "name": {json.dumps(self.name)},', '  "cells": [']
        for i, cell in enumerate(self.cells):
            edges = ",\n".join(f"      {json.dumps(list(edge))}" for edge in cell)
            lines.append("    [\n" + edges + "\n    ]" + ("," if i + 1 < len(self.cells) else ""))
        lines += ["  ],", f'  "concats": {json.dumps([list(c) for c in self.concats])},']
        stages = [] if self.stages is None else [f'  "stages": {self.stages},']
        lines += [f'  "reductions": {json.dumps(self.reductions)},', *stages]
        return "\n".join([*lines, f'  "sequence": {json.dumps(self.sequence)}', "}"]) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "genotype") -> "Genotype":
        """Reads what `to_json` wrote; raises `KdartsError` naming the fault and `where` it stands."""
        optional = {"name", "reductions", "sequence", "stages"}
        data = fields_of(text, where, "genotype", _FORMAT, {"cells", "concats"}, optional)
        try:
            return cls(**data)
        except KdartsError as error:
            raise KdartsError(f"{where}: {error}") from None

    @classmethod
    def from_text(cls, text: str) -> "Genotype":
        """Reads a published text form (see `kdarts.genotypes.text`)."""
        return cls(**read_text(text))

    def to_text(self) -> str:
        """The architecture string of a cell of NAS-Bench-201 (see `architecture_text`)."""
        return architecture_text(self)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike) -> "Genotype":
        """A genotype of the zoo by its name, or from a file: JSON as `save` writes it, or a published text form.

        An architecture string, `|op~0|+...`, may stand for itself.

        Raises:
            KdartsError: if there is no such file or name, or the file holds no valid genotype.
        """
        path = pathlib.Path(name_or_path)
        if str(name_or_path).startswith("|"):
            return cls.from_text(str(name_or_path))
        if str(name_or_path) in genotype_names():
            return get_genotype(str(name_or_path))
        if not os.path.isfile(path):  # unlike Path.is_file, no error for a name too long
            if path.suffix or len(path.parts) > 1:
                raise KdartsError(f"no genotype file {str(path)!r}")
            return get_genotype(str(name_or_path))
        text = text_of(path)
        if text.lstrip().startswith("{"):
            return cls.from_json(text, str(path))
        try:
            return cls.from_text(text)
        except KdartsError as error:
            raise KdartsError(f"{path}: {error}") from None

    def save(self, path: str | os.PathLike) -> None:
        """Writes `to_json` to `path`, atomically."""
        write_text(path, self.to_json())

    def at_depth(self, cells: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """`(sequence, reductions)` of a network of `cells` cells (with stages, in each); None: as the genotype says.

        Raises:
            KdartsError: if the genotype has no depth of its own and none is given, or is given another than its own.
        """
        if self.sequence is not None:
            count = len(self.sequence)
            if cells not in (None, count // (self.stages or 1)):
                each = " in each stage" if self.stages else ""
                has = f"the genotype has {count // (self.stages or 1)} cells{each}"
                raise KdartsError(f"{has}, {cells} asked for; deepen it to change that")
        elif cells is None:
            raise KdartsError("this genotype fits any depth; say how many cells")
        elif not 1 <= cells <= MOST_CELLS:
            raise KdartsError(f"cells {cells}: needs at least 1 and at most {MOST_CELLS}")
        else:
            count = cells * (self.stages or 1)
        if self.stages:
            sequence, reductions = self.sequence or (0,) * count, ()
        else:
            reductions = self.reductions if self.reductions is not None else thirds(count)
            sequence = self.sequence or tuple(int(i in reductions) for i in range(count))
        self._check_edges(sequence)
        return sequence, reductions

    def named(self, name: str) -> "Genotype":
        """The same under another name."""
        return replace(self, name=name)


def thirds(cells: int) -> tuple[int, ...]:
    """Default positions of the reductions: a third and two thirds of the way, rounded down (DARTS)."""
    return tuple(sorted({cells // 3, 2 * cells // 3}))


def as_genotype(given: Genotype | str | os.PathLike) -> Genotype:
    """A genotype as it is, or the one of a name or a path (see `Genotype.load`)."""
    return given if isinstance(given, Genotype) else Genotype.load(given)


def get_genotype(name: str) -> Genotype:
    """The published genotype called `name`; raises `KdartsError` with the nearest name otherwise."""
    return Genotype(**genotype_fields(name))
