"""A path that a search of a chain of choices starts from, as a search of cells does from a genotype.

D-DARTS' start (section 4.4, DARTOpti) gives an operation of the genotype the α 10 and every other 0, which under its
sigmoid makes mixing weights of 1 and 1/2. Where the choices of a place compete, α is the logarithm of these weights:
the start's choice weighs twice as much as each other one.
"""

import numpy as np

from kdarts.genotypes.cuboid import HyperPath, load_architecture, path_of
from kdarts.genotypes.errors import KdartsError, quoted
from kdarts.supernet.grids import get_cuboid

PRESENT = 10.0
"""α of what the start has, under a sigmoid, also in cells."""

TWICE = float(np.log(2.0))
"""The same under any other relaxation."""


def chosen_path(space: str, start) -> HyperPath | str:
    """What a search of a grid starts from: a path, or the name of one that its space makes for any of its axes.

    Args:
        space: name of the published HyperCuboid; "": of a program's own.
        start: a `HyperPath`, the path of its file, or a name such as "MobileNetV2".

    Raises:
        KdartsError: if it is no path.
    """
    named = get_cuboid(space).starts if space else {}
    if isinstance(start, HyperPath) or str(start) in named:
        return start if isinstance(start, HyperPath) else str(start)
    try:
        found = load_architecture(start) if not hasattr(start, "cells") else start
    except KdartsError as error:
        raise KdartsError(f"start: {error}{'; or ' if named else ''}{', '.join(named)}") from None
    if not isinstance(found, HyperPath):
        raise KdartsError("start: a grid of choices starts from a path, not from a genotype of cells")
    return found


def at_axes(start: HyperPath | str, net) -> HyperPath:
    """The start as a path of a `HyperCuboid`; raises `KdartsError` if it is none of its paths."""
    axes, name = net.cuboid, net.space_name
    if isinstance(start, str):
        start = get_cuboid(name).starts[start](axes)
    if start.space != name or start.cuboid.sequence != axes.sequence or net.allowed.shape[1] > 1:
        raise KdartsError(
            f"start: a path through {_places(start.cuboid)}; the search is through {_places(axes)}; see --width"
        )
    try:
        path = path_of(axes, start.start, [{**step.target, **step.choice} for step in start.steps], name, start.name)
    except KdartsError as error:
        raise KdartsError(f"start: {error}") from None
    for stage, choice in enumerate(path.choices):
        if not net.allowed[stage, 0, 0, choice]:
            step = path.steps[stage]
            where, what = (", ".join(map(str, part.values())) for part in (step.position, step.choice))
            raise KdartsError(f"start: {what} at {where} is not among the choices there; see --max_ram and --blocks")
    return path


def _places(axes) -> str:
    values = [value for _, values in axes.sequence for value in values]
    return quoted(", ".join(map(str, values)))


def start_from_path(net, path: HyperPath) -> None:
    """Sets the α of a `HyperCuboid` of one state to a path of it."""
    alpha = np.zeros(net.alphas[0].shape, np.float32)
    alpha[np.arange(len(path.choices)), path.choices] = PRESENT if net.mixing == "sigmoid" else TWICE
    net.alphas[0].assign(alpha)


def places_changed(start: HyperPath, path: HyperPath) -> int:
    """At how many places two paths through the same axes differ."""
    return sum(one != other for one, other in zip(start.choices, path.choices, strict=True))
