"""Builds the supernet that a method asks for, and sets α to a genotype where the search starts from one.

A start is improved, not searched from nothing (DARTOpti; D-DARTS, section 4.4).
"""

import contextlib
import random

import numpy as np

from kdarts.genotypes.distance import OPERATIONS
from kdarts.genotypes.edges import edge_count, edge_row, parse_topology, topology_text
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype, as_genotype
from kdarts.ops.cost import Latencies
from kdarts.search.method import Method, fields, get_method
from kdarts.search.path_start import PRESENT, chosen_path
from kdarts.search.selection import SELECTIONS
from kdarts.search.stopping import STOPS
from kdarts.supernet.grids import cuboid_names, get_cuboid
from kdarts.supernet.spaces import SearchSpace, get_space

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


def supernet_and_method(first, second, named) -> tuple:
    """Returns the supernet, if one is given, and the method: the second argument, if the first is a supernet."""
    supernet = None if first is None or isinstance(first, str | Method) else first
    given_methods = [method for method in (first if supernet is None else second, named) if method is not None]
    if len(given_methods) > 1:
        raise KdartsError(f"method {named!r}: it is given twice")
    return supernet, given_methods[0] if given_methods else "darts"


def chosen_method(method, supernet, choices: dict) -> Method:
    """Returns a method with other choices, in the space of the given supernet, or of its own if that is None."""
    method = get_method(method) if isinstance(method, str) else method
    if supernet is not None:
        method = method.within(supernet.space) if not supernet.grid else method
    elif "space" in choices:
        method = method.in_space(choices.pop("space"))
    choices = dict(choices)
    epochs = choices.pop("epochs", None)
    method = method.lasting(epochs) if epochs is not None else method
    return method.override(**choices)


def start_of(method: Method, start, space: str | None = None) -> tuple:
    """The genotype that a search starts from, of a grid the path or its name (see `chosen_path`), and the method.

    `start` is a genotype or a path, or its name or file; with None α starts as the relaxation has it. `space` is the
    name of a grid that was built already. Raises `KdartsError` if the
    method needs a start and has none, or has one and cannot use it.
    """
    if start is None:
        needing = [f"sharing {method.sharing!r}"] if method.sharing == "start" else []
        needing += [f"stop {method.stop!r}"] if method.stopping.needs_start else []
        if needing:
            raise KdartsError(
                f"{' and '.join(needing)}: needs start=NAME, a path or a name of the zoo such as resnet18"
            )
        return None, method
    if method.stages:
        raise KdartsError("start: each of the method's stages begins anew")
    if space is not None or method.on_grid:
        return chosen_path(method.space if space is None else space, start), method
    return as_genotype(start), method


def at_start_depth(method: Method, start) -> Method:
    """The method with as many cells as its start has, where that is a genotype with a depth of its own."""
    return method if getattr(start, "sequence", None) is None else method.override(cells=len(start.sequence))


def build_supernet(
    method: Method, input_shape, num_classes: int, start=None, seed: int = 0, nodes=None, dtype=None, **options
):
    """Builds the supernet that a method asks for: a `Supernet`, or a `HyperCuboid` where its space is one.

    Args:
        method: gives the space, the sizes, the relaxation and all else that the supernet embodies.
        input_shape: `(height, width, channels)` of an image.
        num_classes: number of classes.
        start: a genotype that the search is to start from, whose cells are the supernet's; None: none.
        seed: of the weights and of α.
        nodes: intermediate nodes of a cell; None: the space's.
        dtype: policy of the layers.
        **options: others of `Supernet`: `reductions`, `multiplier`, `stem`, `frame`, `recompute`, `candidates`.

    Raises:
        KdartsError: if they do not fit each other.
    """
    _check_kind(method, method.on_grid)
    _check_sizes(method)
    with seeded(seed):
        if method.on_grid:
            return _grid(method, input_shape, num_classes, start, nodes, dtype, options)
        return _cells(method, input_shape, num_classes, start, nodes, dtype, options)


def _grid(method, input_shape, num_classes, start, nodes, dtype, options):
    from kdarts.search.cost_target import chosen_limits
    from kdarts.supernet.cuboids import PublishedHyperCuboid

    given = [name for name in ABOUT_CELLS if options.get(name) not in (None, False, "auto")]
    given += ["sharing"] if method.sharing != "shared" else []
    if given:
        raise KdartsError(f"{given[0]} is about cells; a HyperCuboid has none")
    sizes = {name: getattr(method, name) for name in get_cuboid(method.space).sizes if name != "nodes"}
    limits = chosen_limits(method)
    if "width" in sizes and sizes["width"] is None and (limits or start is not None):
        from kdarts.supernet.mobile import fitting_width

        latencies = Latencies.load(method.latency_table) if method.latency_table else None
        about = input_shape, num_classes, limits, method.macro, method.blocks, latencies
        own = None if start is None else get_cuboid(method.space).start_width(start, *about)
        sizes["width"] = fitting_width(*about) if own is None and limits else own
    how = {"mixing": method.relaxation, "sampling": method.axes["sampling"]}
    how |= {"form": method.form, "max_ram": method.max_ram, "nodes": nodes or None, "dtype": dtype}
    return PublishedHyperCuboid(method.space, input_shape, num_classes, **sizes, **how)


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
        search_drop_path=method.search_drop_path,
        auxiliary_skip=method.auxiliary_skip,
        topology=method.topology or None,
        offsets=dict(method.attention) if method.attention_mode == "offset" else None,
        dtype=dtype,
        **{**options, **{name: value for name, value in cells.items() if value is not None}},
    )


def _check_sizes(method: Method) -> None:
    """Refuses sizes that are another space's."""
    own = get_cuboid(method.space).sizes if method.on_grid else ()
    for name in ("macro", "width", "blocks", "form"):
        value, usual, of = getattr(method, name), fields()[name].default, "blocks" if name == "form" else name
        if of not in own and value != usual:
            fitting = [space for space in cuboid_names() if of in get_cuboid(space).sizes]
            raise KdartsError(
                f"{name} {value}: has no effect in space {method.space!r}; it is for {', '.join(fitting)}"
            )


def _check_kind(method: Method, grid: bool) -> None:
    """Refuses a selection or a stop rule of cells for a grid, and the other way round."""
    if method.selection.grid != grid:
        what = "discretization of a HyperCuboid" if grid else "discretization"
        choice(what, method.discretization, [kind.name for kind in SELECTIONS.items() if kind.grid == grid])
    if grid and not method.stopping.grids:
        choice("stop of a HyperCuboid", method.stop, [kind.name for kind in STOPS.items() if kind.grids])


def check_supernet(supernet, method: Method) -> None:
    """Refuses a supernet that contradicts a method: a `KdartsError` names the axis and what each of them has."""
    if method.stages:
        raise KdartsError(
            f"stages {','.join(map(str, method.stages))}: method {method.name!r} builds the supernets of its stages "
            f"itself; call Search({method.name!r}, input_shape=..., num_classes=...)"
        )
    _check_kind(method, supernet.grid)
    for name, embodied in supernet.choices.items():
        if not _agree(name, _wanted(name, method, supernet), embodied):
            asked, has = _shown(_wanted(name, method, supernet)), _shown(embodied)
            if supernet.grid and name not in ("mixing", "sampling", "form"):
                raise KdartsError(f"{name} {asked} is about cells; a HyperCuboid has none")
            argument = "offsets" if name == "attention" else name
            raise KdartsError(
                f"{name}: method {method.name!r} has {asked}, the supernet {has}; build it with {argument}={asked}, or "
                f"let Search build it: Search({method.name!r}, input_shape=..., num_classes=...)"
            )


def _wanted(name: str, method: Method, supernet):
    """What a method has under a name of `choices`."""
    if name == "topology" and not supernet.grid:
        return parse_topology(method.topology, supernet.nodes) if method.topology else None
    if name == "attention" and not supernet.grid:
        return dict(method.attention) if method.attention_mode == "offset" else {}
    if name in ("mixing", "sampling") and not isinstance(supernet.choices[name], str):
        return method.axes[name]
    return getattr(method, name)


def _agree(name: str, wanted, embodied) -> bool:
    if name in ("skip_dropout", "search_drop_path"):  # The rate follows the method's schedule.
        return bool(wanted) == bool(embodied)
    if name == "sharing" and isinstance(embodied, list | tuple):
        distinct = len(set(embodied))
        own = distinct == len(embodied)
        return wanted == "start" or (own if wanted == "individual" else not own or distinct <= 2)
    return wanted == embodied


def _shown(value) -> str:
    return repr(getattr(value, "name", "") or value)


ABSENT = 0.0
"""α of an operation that does not stand on an edge, `PRESENT` of one that does: after a sigmoid an undecided 0.5 and
0.99995, as in the authors' code."""


def alphas_from(genotype: Genotype, space: SearchSpace | str, nodes: int | None = None) -> list[np.ndarray]:
    """What α must be for a search to start from `genotype`; `discretize` of its sigmoid gives the genotype back.

    What comes back is the same but for the order of its edges and an operation that an edge has twice, with the rule
    "complete", or with "edge" where no edge has more than two operations. Outputs are the rule's, the last nodes.

    Args:
        genotype: a start of any origin.
        space: a `SearchSpace` or the name of one, with every operation of the genotype.
        nodes: intermediate nodes of a cell; None: the space's, or as many as the genotype has if those are more.

    Returns:
        For each distinct cell `[edges, operations]`, float32, edges node by node, operations in the space's order: 10
            where the genotype has the operation, 0 elsewhere.

    Raises:
        KdartsError: if the space lacks an operation, its cells have other inputs, or a cell has too few nodes.
    """
    space = get_space(space) if isinstance(space, str) else space
    lacking = [name for name in genotype.operations if name not in space.operations]
    if lacking:
        raise KdartsError(f"space {space.name!r} lacks {', '.join(lacking)}; it has {', '.join(space.operations)}")
    if genotype.stages != space.stages:
        raise KdartsError(f"start: space {space.name!r} has cells of {space.inputs} inputs, the genotype others")
    nodes = nodes or max(space.nodes, genotype.nodes)
    if nodes < genotype.nodes:
        raise KdartsError(f"nodes {nodes}: the genotype has {genotype.nodes}")
    alphas = []
    for cell in genotype.cells:
        alpha = np.full((edge_count(nodes, space.inputs), len(space.operations)), ABSENT, np.float32)
        for operation, to, source in cell:
            alpha[edge_row(to, source, space.inputs), space.operations.index(operation)] = PRESENT
        alphas.append(alpha)
    return alphas


def start_from(supernet, genotype: Genotype) -> None:
    """Sets the α of a supernet to a genotype.

    Raises `KdartsError` if the depth or the reductions differ, if cells share an α that differ in the genotype, if a
    cell ends before the supernet's outputs, if an edge is not in the supernet's topology, or as of `alphas_from`.
    """
    sequence, reductions = genotype.at_depth(supernet.depth)
    if tuple(sorted(reductions)) != tuple(supernet.reductions):
        raise KdartsError(
            f"start: its reductions are at {sorted(reductions)}, the supernet's at {list(supernet.reductions)}"
        )
    cells = {}
    for index, cell in zip(supernet.sequence, sequence, strict=True):
        if cells.setdefault(index, cell) != cell:
            raise KdartsError(f"start: cells {cells[index]} and {cell} differ, but the supernet has one α for both")
    values = alphas_from(genotype, supernet.space, supernet.nodes)
    first = supernet.nodes + 2 - supernet.multiplier
    for number, (cell, concat) in enumerate(zip(genotype.cells, genotype.concats, strict=True)):
        ends = {to for _, to, _ in cell} & set(concat)
        if ends and max(ends) < first:
            raise KdartsError(
                f"start: cell {number} ends at node {max(ends)}, but the supernet's output begins at node {first}"
            )
    rows = [edge_row(to, source, supernet.space.inputs) for to, source in supernet.edges]
    if any(np.delete(value, rows, 0).any() for value in values):
        raise KdartsError(f"start: has edges that the topology {topology_text(supernet.topology)} leaves out")
    for index, cell in cells.items():
        supernet.alphas[index].assign(values[cell][rows])
