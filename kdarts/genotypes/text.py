"""The published text forms of genotypes, and the genotypes that come with the package.

The reader is strict. It parses; nothing is ever evaluated. It reads three forms:

- `Genotype(normal=[('op', from), ...], normal_concat=..., reduce=[...], reduce_concat=...)`, two entries for each
  node in node order (DARTS), or three-part entries `('op', to, from)` (FairDARTS);
- `Genotype_nested(genes=[[('op', to, from), ...], ...], concat=..., reductions=...)` (D-DARTS), and
  `Genotype_opt(genes=..., seq=..., concat=..., reductions=...)` (DARTOpti);
- `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|` (NAS-Bench-201, Dong and Yang, ICLR 2020), node after node the operation on the
  edge from each node before it. Node 0 is the cell's input; in a genotype that is node 1, and the last is the output.

Keywords may come in any order; lists may be written `[...]`, `(...)` or `range(a, b)`.

An entry of `zoo.json` holds the fields of such a form, or, as `of`, the name of another entry and the fields that
differ from it. `renamed` maps operation names whose meaning differs in the publication, `source` cites it.
"""

import functools
import importlib.resources
import json
import re

from kdarts.genotypes.errors import KdartsError, choice, quoted, shortened

STAGES = 3
"""Runs of equal cells in the benchmark's networks."""

MOST_GROUPS = 44
"""Nodes of an architecture string: their edges are 990."""

_ENTRY = re.compile(r"([A-Za-z_]\w*)~(\d{1,3})")


def read_architecture(text: str) -> dict:
    """The fields of the genotype of an architecture string, of any number of nodes and operations of any name."""
    edges = []
    groups = text.strip().split("+")
    if len(groups) > MOST_GROUPS:
        raise KdartsError(f"architecture string: {len(groups)} nodes; allowed are at most {MOST_GROUPS}")
    for number, group in enumerate(groups, 1):
        entries = [_ENTRY.fullmatch(entry) for entry in group[1:-1].split("|")]
        framed = len(group) > 2 and group[0] == group[-1] == "|"
        if not framed or not all(entries) or [int(entry[2]) for entry in entries] != list(range(number)):
            form = "|".join(f"operation~{source}" for source in range(number))
            raise KdartsError(f"architecture string: {quoted(group)} where |{form}| should stand, for node {number}")
        edges += [(entry[1], number + 1, source + 1) for source, entry in enumerate(entries)]
    return {"cells": (tuple(edges),), "concats": ((edges[-1][1],),), "stages": STAGES}


def architecture_text(genotype) -> str:
    """The architecture string of a `Genotype`, `none` where an edge has no operation.

    Raises:
        KdartsError: if it has none: cells of two inputs, more than one distinct cell, two operations on an edge, or an
            output other than the last node.
    """
    if genotype.stages is None or len(genotype.cells) != 1:
        raise KdartsError("no architecture string: it is for one cell of one input (space nasbench201)")
    (cell,), ((*others, last),) = genotype.cells, genotype.concats
    found = {(to, source): operation for operation, to, source in cell}
    if len(found) < len(cell) or others or any(to > last for to, _ in found):
        raise KdartsError("no architecture string: it has one operation on an edge, and the last node is the output")
    groups = []
    for to in range(2, last + 1):
        groups.append("|".join(f"{found.get((to, source), 'none')}~{source - 1}" for source in range(1, to)))
    return "+".join(f"|{group}|" for group in groups)


_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>\d{1,6})|(?P<text>'[^'\\\n]*'|\"[^\"\\\n]*\")|(?P<sign>[()\[\],=]))"
)


MOST_WORDS = 1_000_000
"""Names, numbers and signs of a text; 20,000 edges have 160,000."""


class _Reader:
    """Recursive descent over names, numbers, quoted words, lists and `range`."""

    def __init__(self, text: str):
        self.tokens, position = [], 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match:
                given = text[position : position + 20].strip()
                raise KdartsError(f"genotype text: unexpected {given!r} at character {position}")
            if len(self.tokens) == MOST_WORDS:
                raise KdartsError(f"genotype text: more than {MOST_WORDS} words and signs")
            self.tokens.append((match.lastgroup, match.group(match.lastgroup), match.start(match.lastgroup)))
            position = match.end()
        self.at = 0

    def peek(self) -> str | None:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else None

    def take(self, expected: str | None = None, kind: str | None = None) -> str:
        if self.at >= len(self.tokens):
            raise KdartsError(f"genotype text: ends where {expected or kind} should follow")
        found, value, position = self.tokens[self.at]
        if (expected and value != expected) or (kind and found != kind):
            wanted = f"where {expected or kind} should stand"
            raise KdartsError(f"genotype text: {quoted(value)} at character {position} {wanted}")
        self.at += 1
        return value

    def value(self, depth: int = 0):
        """One list, number, word or range."""
        if depth > 4:
            raise KdartsError("genotype text: lists nested too deeply")
        kind = self.tokens[self.at][0] if self.at < len(self.tokens) else None
        if kind == "number":
            return int(self.take())
        if kind == "text":
            return self.take()[1:-1]
        if self.peek() == "range":
            self.take()
            self.take("(")
            bounds = [int(self.take(kind="number"))]
            if self.peek() == ",":
                self.take()
                bounds.append(int(self.take(kind="number")))
            self.take(")")
            if bounds[-1] > 1000:
                raise KdartsError(f"genotype text: range to {bounds[-1]} is too long")
            return list(range(*bounds))
        opening = self.take(kind="sign")
        if opening not in "([":
            raise KdartsError(f"genotype text: {opening!r} where a list should begin")
        closing, items = {"(": ")", "[": "]"}[opening], []
        while self.peek() != closing:
            items.append(self.value(depth + 1))
            if self.peek() != closing:
                self.take(",")
        self.take(closing)
        return items

    def call(self) -> tuple[str, dict]:
        """`Name(key=value, ...)` to the end of the text."""
        if len(self.tokens) > 1 and self.tokens[1][1] == "=":
            self.take(kind="name")
            self.take("=")
        name, fields = self.take(kind="name"), {}
        self.take("(")
        while self.peek() != ")":
            key = self.take(kind="name")
            if key in fields:
                raise KdartsError(f"genotype text: {shortened(key)} is given twice")
            self.take("=")
            fields[key] = self.value()
            if self.peek() != ")":
                self.take(",")
        self.take(")")
        if self.at < len(self.tokens):
            raise KdartsError(f"genotype text: {quoted(self.peek())} after the end")
        return name, fields


def read_text(text: str) -> dict:
    """The fields of the genotype that `text` spells in one of the published forms.

    Args:
        text: one genotype, optionally preceded by `NAME =`.

    Raises:
        KdartsError: for anything that is not exactly such a text; the message has the place.
    """
    if text.lstrip().startswith("|"):
        return read_architecture(text)
    name, fields = _Reader(text).call()
    keys = set(fields)
    if name == "Genotype" and keys == {"normal", "normal_concat", "reduce", "reduce_concat"}:
        return two_cells(fields)
    nested = {"genes", "concat", "reductions"}
    if name in ("Genotype_nested", "Genotype_opt") and nested <= keys <= {*nested, "seq"}:
        return cell_by_cell(fields)
    raise KdartsError(
        f"genotype text: {shortened(name)} with {quoted(sorted(keys))}; allowed are Genotype with normal, "
        "normal_concat, reduce, reduce_concat, and Genotype_nested with genes, concat, reductions"
    )


def two_cells(fields: dict) -> dict:
    """The fields of a DARTS genotype from its four published ones."""
    cells = tuple(edges_of(fields[c], c) for c in ("normal", "reduce"))
    return {"cells": cells, "concats": tuple(_concat(fields[f"{c}_concat"]) for c in ("normal", "reduce"))}


def cell_by_cell(fields: dict) -> dict:
    """The fields of a D-DARTS or DARTOpti genotype from its published ones: genes, concat, reductions, maybe seq."""
    genes = fields["genes"]
    if not isinstance(genes, list | tuple):
        raise KdartsError("genotype text: genes must be a list of cells")
    cells = tuple(edges_of(cell, f"genes[{i}]") for i, cell in enumerate(genes))
    concats = (_concat(fields["concat"]),) * len(cells)
    sequence = fields.get("seq", range(len(cells)))
    return {"cells": cells, "concats": concats, "reductions": fields["reductions"], "sequence": sequence}


def edges_of(cell, where: str) -> tuple:
    """`(operation, to, from)` edges from pairs, two for each node in node order, or from triples."""
    if not isinstance(cell, list | tuple) or any(not isinstance(entry, list | tuple) for entry in cell):
        raise KdartsError(f"genotype text: {where} must be a list of entries")
    for k, (operation, *nodes) in enumerate(entry or [None] for entry in cell):
        if not isinstance(operation, str) or any(type(node) is not int for node in nodes):
            needed = "must be an operation and whole numbers"
            raise KdartsError(f"genotype text: {where}[{k}] {needed}, got {quoted(cell[k])}")
    lengths = {len(entry) for entry in cell}
    if not lengths:
        return ()
    if lengths == {2}:
        if len(cell) % 2:
            raise KdartsError(f"genotype text: {where} has {len(cell)} entries; needs two for each node")
        return tuple((op, 2 + k // 2, source) for k, (op, source) in enumerate(cell))
    if lengths == {3}:
        return tuple(tuple(entry) for entry in cell)
    raise KdartsError(f"genotype text: {where}: entries must all be (operation, from) or all (operation, to, from)")


def _concat(nodes) -> tuple[int, ...]:
    if not isinstance(nodes, list | tuple) or any(type(node) is not int for node in nodes):
        raise KdartsError(f"genotype text: a concat must be a list of whole numbers, got {quoted(nodes)}")
    return tuple(nodes)


@functools.cache
def _zoo() -> dict[str, dict]:
    return json.loads(importlib.resources.files("kdarts.genotypes").joinpath("zoo.json").read_text("utf-8"))


def genotype_names() -> list[str]:
    """Names of the zoo, aliases included."""
    return [*_zoo()["genotypes"], *_zoo()["aliases"]]


def _entry(name: str) -> dict:
    """The entry of the zoo under `name`, with the fields of the entry that it refers to, if any."""
    zoo = _zoo()
    entry = zoo["genotypes"][zoo["aliases"].get(name, name)]
    return {**_entry(entry["of"]), **entry} if "of" in entry else entry


def genotype_fields(name: str) -> dict:
    """The fields of the published genotype called `name`; raises `KdartsError` with the nearest name otherwise."""
    entry = _entry(choice("genotype", name, genotype_names()))
    fields = cell_by_cell(entry) if "genes" in entry else two_cells(entry)
    renamed = entry.get("renamed", {})
    fields["cells"] = tuple(tuple((renamed.get(op, op), *ends) for op, *ends in cell) for cell in fields["cells"])
    return {**fields, "name": name}


def describe(name: str) -> str:
    """The source of the genotype called `name`, and notes about it."""
    entry = _entry(choice("genotype", name, genotype_names()))
    cells = f"the cells of {entry['of']}" if "of" in entry else ""
    renamed = ", ".join(f"{new} is its {old}" for old, new in entry.get("renamed", {}).items())
    return "; ".join(part for part in (entry["source"], entry.get("note", ""), renamed, cells) if part)
