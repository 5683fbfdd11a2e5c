"""What was found epoch by epoch, as the report's page wants it: drawings, counts and costs."""

from collections import Counter
from collections.abc import Sequence

from kdarts.genotypes.cuboid import label
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.found import Found
from kdarts.genotypes.genotype import SKIPS, Genotype
from kdarts.genotypes.hyper_path import HyperPath
from kdarts.nets.cost import Cost, network_cost
from kdarts.nets.plan import Frame
from kdarts.views.drawing import FAMILIES, NODES, cell_layout, cell_titles, family

MOST_DRAWINGS = 300
"""Most different cells in a page: each takes a twentieth of a second to lay out and a kilobyte or two."""

MOST_NETWORKS = 40
"""Most different paths whose cost is found by building their networks."""

_STARTS = 6


def drawings(found: Sequence[Found], at: Sequence[int]) -> dict | None:
    """The cells of each epoch.

    Args:
        found: genotypes, one for each epoch noted.
        at: their epochs, from 0.

    Returns:
        None if there is no genotype among them. Else `titles` of the cells of the last; `families`, as `[name, title,
        fill, line]`, and `nodes` likewise; `cells`, the different ones, in hundredths of an inch: `size`, `nodes` as
        `[name, x, y, width, height]`, `edges` as `[operation, family, to, from, x, y, width, route]`, and the `routes`
        to the output; `frames`: for each epoch of `at` shown the number of each cell's drawing; and `gaps`, what each
        one cannot build as found, in lines.
    """
    pairs = [(epoch, f) for epoch, f in zip(at, found, strict=True) if isinstance(f, Genotype)]
    if not pairs:
        return None
    step, shown = 1, pairs
    while len({f.live(index) for _, f in shown for index in range(len(f.cells))}) > MOST_DRAWINGS and len(shown) > 1:
        step += 1
        shown = pairs[::-step][::-1]
    numbers: dict = {}
    frames = [
        [numbers.setdefault(genotype.live(index), len(numbers)) for index in range(len(genotype.cells))]
        for _, genotype in shown
    ]
    used = {family(operation) for edges, _ in numbers for operation, _, _ in edges}
    return {
        "titles": cell_titles(shown[-1][1]),
        "families": [[n, look.name, look.fill, look.line] for n, look in FAMILIES.items() if n in used],
        "nodes": [[n, look.name, look.fill, look.line] for n, look in NODES.items()],
        "cells": [_drawing(*live) for live in numbers],
        "at": [epoch for epoch, _ in shown],
        "frames": frames,
        "gaps": [genotype.gaps() for _, genotype in shown],
    }


def _drawing(edges, outputs) -> dict:
    layout = cell_layout(edges, outputs, _STARTS)
    routes = [[_hundredths(*piece) for piece in route] for route in layout.routes]
    return {
        "size": _hundredths(layout.width, layout.height),
        "nodes": [[node, *_hundredths(b.x, b.y, b.width, b.height)] for node, b in layout.nodes.items()],
        "edges": [
            [operation, family(operation), to, source, *_hundredths(box.x, box.y, box.width), route]
            for (operation, to, source), box, route in zip(edges, layout.labels, routes, strict=False)
        ],
        "routes": routes[len(edges) :],
    }


def _hundredths(*values: float) -> list[int]:
    return [round(100 * value) for value in values]


def path_data(found: Sequence[Found], at: Sequence[int]) -> dict | None:
    """The path of each epoch, and the axes that it goes through; None if there is none."""
    pairs = [(epoch, f) for epoch, f in zip(at, found, strict=True) if isinstance(f, HyperPath)]
    if not pairs:
        return None
    cuboid = pairs[-1][1].cuboid
    return {
        "stages": [[f"{name} {value}" for name, value in position.items()] for position in cuboid.positions],
        "states": [label(state) or "·" for state in cuboid.state_values],
        "axis": ", ".join(name for name, _ in cuboid.states),
        "choices": [label(choice) for choice in cuboid.choice_values],
        "at": [epoch for epoch, _ in pairs],
        "frames": [[path.states, path.choices] for _, path in pairs],
    }


def counts(found: Sequence[Found], operations: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """How often each operation was found, in the distinct cells or along the path.

    Args:
        found: for each epoch.
        operations: names that stand first, in this order, found or not.

    Returns:
        The names, and for each a count by epoch.
    """
    each = [Counter(_operations(one)) for one in found]
    names = list(dict.fromkeys([*operations, *(name for counter in each for name in counter)]))
    names = [name for name in names if name]
    return names, [[counter[name] for counter in each] for name in names]


def _operations(found: Found) -> list[str]:
    if isinstance(found, HyperPath):
        return [label(step.choice) for step in found.steps]
    return [operation for cell in found.cells for operation, _, _ in cell]


def skips(found: Sequence[Found]) -> list[list[int]]:
    """Skip connections of each cell by epoch; [] where what was found is not of one number of cells throughout."""
    if not found or len({len(f.cells) if isinstance(f, Genotype) else 0 for f in found}) > 1:
        return []
    if isinstance(found[0], HyperPath):
        return []
    return [[sum(op in SKIPS for op, _, _ in f.cells[index]) for f in found] for index in range(len(found[0].cells))]


def costs(found: Sequence[Found], setting: dict) -> list[Cost] | None:
    """What the network of each epoch would cost at the sizes of the search.

    Returns:
        None where this cannot be told: without a setting, with operations or a HyperCuboid of a program's own, or with
        more than `MOST_NETWORKS` different paths.
    """
    if not setting or not found or (isinstance(found[0], HyperPath) and len(set(found)) > MOST_NETWORKS):
        return None
    try:
        known = {one: _cost(one, setting) for one in dict.fromkeys(found)}
    except (KdartsError, KeyError, TypeError):
        return None
    return [known[one] for one in found]


def _cost(found: Found, setting: dict) -> Cost:
    shape, classes = setting["input_shape"], setting["num_classes"]
    if isinstance(found, HyperPath):
        from kdarts.nets.cuboids import build_path_network
        from kdarts.nets.model_cost import model_cost

        return model_cost(build_path_network(found, shape, classes))
    sizes = setting["channels"], setting["cells"], setting["stem"]
    return network_cost(found, shape, classes, *sizes, Frame(**setting["frame"]))
