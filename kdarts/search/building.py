"""The supernet that a method asks for."""

import contextlib
import random

from kdarts.genotypes.distance import OPERATIONS
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import Method
from kdarts.search.selection import SELECTIONS
from kdarts.search.stopping import STOPS
from kdarts.supernet.spaces import get_space

ABOUT_CELLS = ("recompute", "stem", "frame", "reductions", "multiplier")
"""Options of a supernet of cells that a grid has no use for."""


@contextlib.contextmanager
def seeded(seed: int):
    """Inside it, weights are initialized by a seed; the process's own random numbers go on afterwards as before."""
    before = random.getstate()
    random.seed(seed)  # Keras draws the seeds of its initializers from Python's generator.
    try:
        yield
    finally:
        random.setstate(before)


def start_of(method: Method, start: Genotype | str | None) -> tuple[Genotype | None, Method]:
    """The genotype that a search starts from, and the method at its depth.

    Args:
        method: of the search.
        start: a genotype, or its name or path; None: α starts as the relaxation has it.

    Raises:
        KdartsError: if the method needs a start and has none, or has one and cannot use it.
    """
    if start is None:
        needing = [f"sharing {method.sharing!r}"] if method.sharing == "start" else []
        needing += [f"stop {method.stop!r}"] if method.stopping.needs_start else []
        if needing:
            raise KdartsError(f"{' and '.join(needing)}: needs start, a path or a name of the zoo such as resnet18")
        return None, method
    if method.stages:
        raise KdartsError("start: each of the method's stages begins anew")
    start = start if isinstance(start, Genotype) else Genotype.load(start)
    return start, method


def at_start_depth(method: Method, start: Genotype) -> Method:
    """The method with as many cells as its start has, where that has a depth of its own."""
    return method if start.sequence is None else method.override(cells=len(start.sequence))


def build_supernet(
    method: Method,
    input_shape,
    num_classes: int,
    start: Genotype | None = None,
    seed: int = 0,
    nodes: int | None = None,
    dtype=None,
    **options,
):
    """Builds the supernet that a method asks for.

    Args:
        method: gives the space, the sizes, the relaxation and all else that the supernet embodies.
        input_shape: `(height, width, channels)` of an image.
        num_classes: number of classes.
        start: a genotype that the search is to start from; its cells are the supernet's.
        seed: of the weights and of α.
        nodes: intermediate nodes of a cell; None: the space's.
        dtype: policy of the layers.
        **options: others of `Supernet`: `reductions`, `multiplier`, `stem`, `frame`, `recompute`, `candidates`.

    Returns:
        A `Supernet`, or a `HyperCuboid` where the space is one.

    Raises:
        KdartsError: if they do not fit each other.
    """
    _check_kind(method, method.on_grid)
    with seeded(seed):
        if method.on_grid:
            return _grid(method, input_shape, num_classes, nodes, dtype, options)
        return _cells(method, input_shape, num_classes, start, nodes, dtype, options)


def _grid(method, input_shape, num_classes, nodes, dtype, options):
    from kdarts.supernet.cuboids import make_hypercuboid

    given = [name for name in ABOUT_CELLS if options.get(name) not in (None, False, "auto")]
    given += ["sharing"] if method.sharing != "shared" else []
    if given:
        raise KdartsError(f"{given[0]} is about cells; a HyperCuboid has none")
    sizes = method.channels, method.cells, nodes
    return make_hypercuboid(method.space, input_shape, num_classes, *sizes, method.relaxation, dtype)


def _cells(method, input_shape, num_classes, start, nodes, dtype, options):
    from kdarts.supernet.supernet import Supernet

    space, sharing, cells = get_space(method.space), method.sharing, {"nodes": nodes}
    if start is not None:
        if unknown := [name for name in space.operations if name not in (*OPERATIONS, "none")]:
            raise KdartsError(f"start: no distance to it is known in space {space.name!r}, for {', '.join(unknown)}")
        sequence, reductions = start.at_depth(method.cells)
        cells |= {"reductions": reductions, "nodes": nodes or start.nodes}
        if {len(concat) for concat in start.concats} == {1}:
            cells["multiplier"] = 1
        if sharing == "start":
            sharing = list(sequence)
    return Supernet(
        space,
        input_shape,
        num_classes,
        channels=method.channels,
        cells=method.cells,
        sharing=sharing,
        mixing=method.relaxation,
        sampling=method.axes["sampling"],
        partial_channels=method.partial_channels,
        skip_dropout=method.skip_dropout,
        auxiliary_skip=method.auxiliary_skip,
        topology=method.topology or None,
        offsets=dict(method.attention) if method.attention_mode == "offset" else None,
        dtype=dtype,
        **{**options, **{name: value for name, value in cells.items() if value is not None}},
    )


def _check_kind(method: Method, grid: bool) -> None:
    """Refuses a selection or a stop rule of cells for a grid, and the other way round."""
    if method.selection.grid != grid:
        what = f"discretization of {'a HyperCuboid' if grid else 'cells'}"
        choice(what, method.discretization, [kind.name for kind in SELECTIONS.items() if kind.grid == grid])
    if grid and not method.stopping.grids:
        choice("stop of a HyperCuboid", method.stop, [kind.name for kind in STOPS.items() if kind.grids])


def check_supernet(supernet, method: Method) -> None:
    """Refuses a supernet that contradicts a method.

    Raises:
        KdartsError: naming the axis, what the method has and what the supernet has.
    """
    if method.stages:
        raise KdartsError(
            f"stages {','.join(map(str, method.stages))}: method {method.name!r} builds the supernets of its stages "
            f"itself; call Search({method.name!r}, input_shape=..., num_classes=...)"
        )
    _check_kind(method, supernet.grid)
    for name, embodied in supernet.choices.items():
        if not _agree(name, _wanted(name, method, supernet), embodied):
            asked, has = _shown(_wanted(name, method, supernet)), _shown(embodied)
            argument = "offsets" if name == "attention" else name
            raise KdartsError(
                f"{name}: method {method.name!r} has {asked}, the supernet {has}; build it with {argument}={asked}, or "
                f"let Search build it: Search({method.name!r}, input_shape=..., num_classes=...)"
            )


def _wanted(name: str, method: Method, supernet):
    """What a method has under a name of `choices`."""
    if name == "topology" and not supernet.grid:
        from kdarts.genotypes.edges import parse_topology

        return parse_topology(method.topology, supernet.nodes) if method.topology else None
    if name == "attention" and not supernet.grid:
        return dict(method.attention) if method.attention_mode == "offset" else {}
    if name in ("mixing", "sampling") and not isinstance(supernet.choices[name], str):
        return method.axes[name]
    return getattr(method, name)


def _agree(name: str, wanted, embodied) -> bool:
    if name == "skip_dropout":  # The rate follows the method's schedule.
        return bool(wanted) == bool(embodied)
    if name == "sharing" and isinstance(embodied, list | tuple):
        return wanted == "start" or len(set(embodied)) == (len(embodied) if wanted == "individual" else 2)
    return wanted == embodied


def _shown(value) -> str:
    name = getattr(value, "name", "")
    return repr(name) if name else repr(value)
