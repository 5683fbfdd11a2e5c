"""Stem and cells of a genotype's network, added to a functional model one after the other."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from keras import layers

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.nets.drop_path import DropPath
from kdarts.nets.layers import apply_operation
from kdarts.nets.operations import Conv, adapter, get_operation
from kdarts.nets.plan import Frame, Stem, check_reductions, plan_cells


@dataclass(frozen=True)
class Grown:
    """What a part of the trunk gives.

    Attributes:
        x: `[batch, height, width, channels]`.
        stride: pixels of the image for each of its own, along one side.
        cell: position of the cell that gave it; None: a part of the stem did.
    """

    x: object
    stride: int
    cell: int | None = None


class Trunk:
    """What a network is up to its head.

    Args:
        genotype, channels, cells, drop_path, seed, frame, c_mid: as of `build_network`.
        stem: how an image enters.

    Attributes:
        reductions: positions of the reduction cells.
        cells: their number.
        stride: of the last cell's output.

    Raises:
        KdartsError: if the genotype names an unknown operation or a number is out of its range.
    """

    def __init__(self, genotype: Genotype, channels, cells, drop_path, stem: Stem, seed, frame: Frame, c_mid):
        if not 0 <= drop_path < 1:
            raise KdartsError(f"drop_path {drop_path}: needs 0 <= drop_path < 1")
        self.sequence, reductions = genotype.at_depth(cells)
        self.cells = len(self.sequence)
        self.reductions = check_reductions(reductions, self.cells)
        self.genotype, self.channels, self.stem, self.frame, self.c_mid = genotype, channels, stem, frame, c_mid
        self.drop_path, self.seed = drop_path, seed
        self.stride = math.prod(map(_stride, stem.parts)) * 2 ** len(self.reductions)
        self.plan = plan_cells(self.cells, channels, self.reductions, stem.halved, frame.widen)
        for operation in genotype.operations:
            get_operation(operation, c_mid)

    def grow(self, image) -> Iterator[Grown]:
        """Adds the parts of the stem, then the cells, to the model that begins with `image`: each when asked for."""
        stride, states = 1, [] if self.stem.parts else [image]
        for part in self.stem.parts:
            name, operation, step, width = part
            image = apply_operation(operation, image, int(width * self.channels), step, name)
            stride *= _stride(part)
            states.append(image)
            yield Grown(image, stride)
        s0, s1 = states[0], states[-1]
        individual = self.genotype.sequence is not None
        seeds = itertools.repeat(None) if self.seed is None else itertools.count(self.seed)

        def drop(x, name):
            return DropPath(self.drop_path, next(seeds), name=f"{name}.drop")(x) if self.drop_path else x

        for position, (cell, index) in enumerate(zip(self.plan, self.sequence, strict=True)):
            found, name = self.genotype.live(index), f"cells.{position}"
            s0, s1 = s1, _cell(*found, self.c_mid, individual, s0, s1, cell, self.frame.epsilon, name, drop)
            stride *= 1 + cell.reduction
            yield Grown(s1, stride, position)


def _stride(part) -> int:
    """Of a part of a stem, whose operation may stride more than once."""
    _, operation, stride, _ = part
    return stride ** sum(isinstance(step, Conv) and any(step.strided) for step in operation.layers(stride))


def _cell(edges, outputs, c_mid, individual, s0, s1, plan, epsilon, name, drop):
    """One cell: adapt both inputs, sum each node's edges, join the output nodes.

    `drop(x, name)` is drop-path: in DARTS on every edge but identities, in D-DARTS, whose cells are `individual`, on
    every node's sum.
    """
    nodes = {}
    for number, (halving, x) in enumerate(((plan.after_reduction, s0), (False, s1))):
        adapt, stride = adapter(halving, epsilon)
        nodes[number] = apply_operation(adapt, x, plan.filters, stride, f"{name}.preprocess{number}")
    numbers = _edge_numbers(edges, individual)
    for node in sorted({to for _, to, _ in edges}):
        arriving = []
        for (operation_name, to, source), number in zip(edges, numbers, strict=True):
            if to != node:
                continue
            stride = 2 if plan.reduction and source < 2 else 1
            operation, path = get_operation(operation_name, c_mid), f"{name}._ops.{number}"
            edge = apply_operation(operation, nodes[source], plan.filters, stride, path)
            identity = not operation.layers(stride) and not operation.zero
            arriving.append(edge if individual or identity else drop(edge, path))
        path = f"{name}.node{node}"
        if len(arriving) > 1:
            nodes[node] = layers.Add(name=path)(arriving)
        else:
            # A name for every node of D-DARTS, so that reading weights sees which nodes there are.
            nodes[node] = layers.Identity(name=path)(arriving[0]) if individual else arriving[0]
        if individual:
            nodes[node] = drop(nodes[node], path)
    joined = [nodes[node] for node in outputs]
    return layers.Concatenate(name=f"{name}.output")(joined) if len(joined) > 1 else joined[0]


def _edge_numbers(edges, individual) -> list[str]:
    """What the reference codes call the edges: DARTS counts them, D-DARTS says `to.from.k`, the k-th from there."""
    if not individual:
        return [str(position) for position in range(len(edges))]
    seen = Counter()
    numbers = []
    for _, to, source in edges:
        numbers.append(f"{to}.{source}.{seen[to, source]}")
        seen[to, source] += 1
    return numbers
