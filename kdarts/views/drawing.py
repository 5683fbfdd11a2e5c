"""Drawings of the cells of a genotype, as pictures or as Graphviz' text."""

import math
import os
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_text
from kdarts.genotypes.genotype import Genotype
from kdarts.views import figure as house
from kdarts.views.layout import LABEL_HEIGHT, NODE_HEIGHT, Layout, Wire, arrange

FORMATS = (*house.FORMATS, "dot")
"""Suffixes of the files that `draw_genotype` can write."""


MOST_CELLS, MOST_EDGES = 100, 1000
"""The most different cells and edges of a picture, whose layout takes some seconds."""


@dataclass(frozen=True)
class Look:
    """The style of an operation, a node or a line: its name in the legend, colours, and the line's width in points."""

    name: str
    fill: str
    line: str
    width: float = 1.3


FAMILIES = {
    "separable": Look("separable convolution", "#173f6e", "#173f6e"),
    "dilated": Look("dilated convolution", "#d9752b", "#c25f16"),
    "convolution": Look("other convolution", "#8d63ad", "#8d63ad"),
    "pooling": Look("pooling", "#a9dcb4", "#4c9a63"),
    "skip": Look("skip connection", "#ffffff", "#7d7d7d", 0.9),
    "other": Look("other operation", "#e3e3e3", "#9a9a9a"),
}
"""The style of an operation by its `family`. The fills differ in lightness, so they can be told apart in greyscale."""

NODES = {
    "input": Look("input", "#ffe08a", "#8a6d14", 0.9),
    "node": Look("node (sum)", "#a3b8d0", "#3d5573", 0.9),
    "output": Look("output", "#3c3c3c", "#3c3c3c", 0.9),
}
"""The style of a node by its kind."""

_CONCAT = Look("concatenation", "", "#6b6b6b", 0.9)
_PLAIN = Look("", "", "#6b6b6b", 0.9)
_INPUT_NAMES = ("c_{k-2}", "c_{k-1}")
_OUTPUT_NAME = "c_k"
OUTPUT = "output"
"""The name of a cell's output among the nodes of its drawing."""

_NODE_WIDTH = 0.32
_HEAD = 0.07
_MARGIN = 0.15
_TITLE = 0.3


@dataclass(frozen=True)
class CellDrawing:
    """The nodes and lines of the drawing of a cell.

    Attributes:
        edges: The operations as `(operation, to, from)`. An operation leads to `OUTPUT` where a node is the output.
        outputs: The nodes that lines without an operation lead from to `OUTPUT`: the concatenated nodes. Empty if a
            node is the output by itself.
        inputs: The cell's inputs, `(0, 1)` or `(1,)`.
    """

    edges: tuple[tuple[str, int | str, int], ...]
    outputs: tuple[int, ...]
    inputs: tuple[int, ...] = (0, 1)

    @property
    def nodes(self) -> list[int | str]:
        """The nodes: the inputs, the intermediate nodes with a line, and `OUTPUT`."""
        ends = {end for _, *both in self.edges for end in both} | {*self.outputs}
        return [*self.inputs, *sorted(ends - {*self.inputs, OUTPUT}), OUTPUT]


def cell_drawing(genotype: Genotype, index: int) -> CellDrawing:
    """Returns what is drawn of a distinct cell: the part of it that the network builds (`Genotype.live`).

    The operation `none` is not drawn. With stages the only input is node 1. If the output is a single intermediate node
    that no operation reads, this node is drawn as the output, because nothing is concatenated.
    """
    edges, outputs = genotype.live(index)
    edges = tuple(edge for edge in edges if edge[0] != "none")
    if len(outputs) == 1 and outputs[0] > 1 and all(source != outputs[0] for _, _, source in edges):
        edges = tuple((op, OUTPUT if to == outputs[0] else to, source) for op, to, source in edges)
        outputs = ()
    return CellDrawing(edges, outputs, (1,) if genotype.stages else (0, 1))


def cell_drawings(genotype: Genotype) -> list[CellDrawing]:
    """Returns the `cell_drawing` of each distinct cell."""
    return [cell_drawing(genotype, index) for index in range(len(genotype.cells))]


BOTH = "normal and reduction cell"
"""The title of a panel that shows both."""


def are_one(genotypes) -> bool:
    """Returns whether normal and reduction cell are equal in all of these genotypes, so that one panel shows both."""
    pairs = [
        genotype.sequence is None and len(genotype.cells) == 2 and cell_drawings(genotype) for genotype in genotypes
    ]
    return all(pair and pair[0] == pair[1] for pair in pairs)


def _panels(genotype: Genotype) -> tuple[list[CellDrawing], list[str]]:
    """The cells that are drawn, and their titles."""
    if are_one([genotype]):
        return [cell_drawing(genotype, 0)], [BOTH]
    return cell_drawings(genotype), cell_titles(genotype)


def has_room(genotype: Genotype) -> bool:
    """Returns whether a picture has room for the cells of a genotype."""
    return len(genotype.cells) <= MOST_CELLS and sum(map(len, genotype.cells)) <= MOST_EDGES


def draw_genotype(genotype: Genotype, path: str | os.PathLike, title: str | None = None) -> None:
    """Draws the distinct cells of a genotype, each in a panel of its own, equal ones in one; see `cell_drawing`.

    Inputs are on the left and the output is on the right. Nodes have the numbers of the genotype. A solid line is an
    operation: its label is the operation's name, its colour the operation's family. Dashed lines lead to a
    concatenation.

    Args:
        genotype: A `Genotype`.
        path: The file to write. Its suffix is .svg, .png or .pdf, or .dot for Graphviz' text.
        title: Title of the figure. Defaults to the genotype's name, if it has one.

    Raises:
        KdartsError: If the suffix is unknown, the cells have more edges than a picture has room for, or the file cannot
            be written.
    """
    if house.image_format(path, FORMATS) == "dot":
        write_text(path, to_dot(genotype))
        return
    if not has_room(genotype):
        edges = sum(map(len, genotype.cells))
        raise KdartsError(
            f"{os.fspath(path)}: {len(genotype.cells)} different cells of {edges} edges; a picture has room for "
            f"{MOST_CELLS} and {MOST_EDGES}, a .dot file for all"
        )
    with house.style():
        house.save(_figure(genotype, genotype.name if title is None else title), path)


def to_dot(genotype: Genotype) -> str:
    """Returns the drawing as text in Graphviz' language, with a cluster for each cell. `dot -Tsvg` draws it.

    Node names are `cell/node`, such as `"0/2"` and `"0/output"`. Labels are quoted and escaped.
    """
    lines = [f"digraph {_quoted(genotype.name or 'genotype')} {{", "  rankdir=LR;"]
    lines += ['  node [shape=box, style="rounded,filled", fontname="Helvetica"];', '  edge [fontname="Helvetica"];']
    for index, (cell, title) in enumerate(zip(*_panels(genotype), strict=True)):
        lines += [f"  subgraph cluster_{index} {{", f"    label={_quoted(title)};"]
        for node in cell.nodes:
            look = _look_of(node)
            font = ', fontcolor="white"' if house.contrast(look.fill) == "white" else ""
            label = _quoted(_node_name(node))
            lines.append(f'    "{index}/{node}" [label={label}, fillcolor="{look.fill}"{font}];')
        for operation, target, source in cell.edges:
            colour = FAMILIES[family(operation)].line
            label = _quoted(operation)
            lines.append(f'    "{index}/{source}" -> "{index}/{target}" [label={label}, color="{colour}"];')
        style = "dashed" if len(cell.outputs) > 1 else "solid"
        lines += [f'    "{index}/{node}" -> "{index}/{OUTPUT}" [style={style}];' for node in cell.outputs]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def family(operation: str) -> str:
    """Returns the family of an operation: separable, dilated, convolution, pooling, skip or other."""
    if operation.startswith("dil"):
        return "dilated"
    if operation.startswith(("sep", "flood", "choke")):
        return "separable"
    if operation in ("skip_connect", "identity", "skip"):
        return "skip"
    if "pool" in operation:
        return "pooling"
    return "convolution" if "conv" in operation or operation.startswith("bottleneck") else "other"


def cell_titles(genotype: Genotype) -> list[str]:
    """Returns a title for each distinct cell: its kind, or its positions in the network."""
    if genotype.sequence is None:
        return ["cell"] if genotype.stages else ["normal cell", "reduction cell"]
    sequence, reductions = genotype.at_depth(None)
    titles = []
    for index in range(len(genotype.cells)):
        places = [position for position, cell in enumerate(sequence) if cell == index]
        reduced = [position for position in places if position in reductions]
        parts = [f"position{'s' if len(places) > 1 else ''} {_ranges(places)}" if places else "unused"]
        if reduced:
            parts.append("reduction" if reduced == places else f"reduction at {_ranges(reduced)}")
        titles.append(f"cell {index} ({'; '.join(parts)})")
    return titles


def _ranges(numbers) -> str:
    """Returns numbers as text, runs of three and more shortened: `0, 1, 3–6`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in escaped) + '"'


def _look_of(node) -> Look:
    return NODES["output" if node == OUTPUT else "input" if node < 2 else "node"]


def _node_name(node) -> str:
    return _OUTPUT_NAME if node == OUTPUT else _INPUT_NAMES[node] if node < 2 else str(node)


def cell_layout(cell: CellDrawing, starts: int = 24) -> Layout:
    """Returns the layout of a cell (see `arrange`), with a wire for each of its edges, then for each of its outputs."""
    nodes = {node: 0.5 if node in (0, 1) else 0.4 if node == OUTPUT else _NODE_WIDTH for node in cell.nodes}
    wires = []
    for operation, target, source in cell.edges:
        wires.append(Wire(source, target, house.text_width(house.plain(operation), house.SMALL_SIZE) + 0.14))
    return arrange(nodes, wires + [Wire(node, OUTPUT) for node in cell.outputs], OUTPUT, starts)


def _figure(genotype: Genotype, title: str):
    cells, titles = _panels(genotype)
    layouts = [cell_layout(cell) for cell in cells]
    gap = 2 * _MARGIN
    tallest = max(layout.height for layout in layouts)
    columns = house.columns_for(len(layouts), max(layout.width for layout in layouts) + gap, tallest + _TITLE + gap)
    rows = [range(start, min(start + columns, len(layouts))) for start in range(0, len(layouts), columns)]
    widths = [max(layout.width for layout in layouts[c::columns]) for c in range(columns)]
    heights = [max(layouts[i].height for i in row) for row in rows]
    header = 0.42 if title else 0.1
    width = max(sum(widths) + gap * columns, 5.2)
    legend = _legend_rows(cells, width - gap)
    height = header + sum(heights) + (_TITLE + gap) * len(rows) + 0.24 * len(legend) + _MARGIN
    axes = house.canvas(width, height)
    if title:
        house.write(axes, width / 2, 0.26, house.plain(title, 100), house.TITLE_SIZE + 1, weight="bold")
    spare = (width - sum(widths) - gap * columns) / 2
    y = header
    for row, tall in zip(rows, heights, strict=True):
        x = spare + _MARGIN
        for i, wide in zip(row, widths, strict=False):
            house.write(axes, x + wide / 2, y + _TITLE / 2, titles[i], house.TITLE_SIZE)
            corner = (x + (wide - layouts[i].width) / 2, y + _TITLE + (tall - layouts[i].height) / 2)
            _draw_cell(axes, layouts[i], cells[i], corner)
            x += wide + gap
        y += tall + _TITLE + gap
    for line in legend:
        _draw_legend(axes, line, width, y)
        y += 0.24
    return axes.figure


def _draw_cell(axes: Axes, layout: Layout, cell: CellDrawing, corner) -> None:
    x, y = corner
    looks = [FAMILIES[family(operation)] for operation, _, _ in cell.edges]
    looks += [_CONCAT if len(cell.outputs) > 1 else _PLAIN] * len(cell.outputs)
    for route, look in zip(layout.routes, looks, strict=True):
        _line(axes, [(x + a, x + b, y + level) for a, b, level in route], look)
    for (operation, _, _), look, box in zip(cell.edges, looks, layout.labels, strict=False):
        _box(axes, x + box.x, y + box.y, box.width, box.height, look, LABEL_HEIGHT / 2.2)
        text, colour = house.plain(operation), house.contrast(look.fill)
        house.write(axes, x + box.x, y + box.y, text, house.SMALL_SIZE, colour)
    for node, box in layout.nodes.items():
        look, name = _look_of(node), _node_name(node)
        _box(axes, x + box.x, y + box.y, box.width, box.height, look, 0.06)
        text = name if node not in (0, 1, OUTPUT) else f"${name}$"
        colour = house.contrast(look.fill)
        house.write(axes, x + box.x, y + box.y, text, house.TEXT_SIZE, colour, formula=text != name)


def _line(axes: Axes, pieces, look: Look) -> None:
    """Draws a smooth line through horizontal `pieces`, with an arrow head at its end."""
    end, level = pieces[-1][1:]
    points, codes = [(pieces[0][0], pieces[0][2])], [Path.MOVETO]
    for (_, a, before), (b, _, after) in pairwise(pieces):
        middle = (a + b) / 2
        points += [(a, before), (middle, before), (middle, after), (b, after)]
        codes += [Path.LINETO] + [Path.CURVE4] * 3
    points.append((end - _HEAD * 0.8, level))
    codes.append(Path.LINETO)
    dashes, order = ((0, (4, 2.5)), 1) if look is _CONCAT else ("-", 2)
    axes.add_patch(PathPatch(Path(points, codes), fill=False, ec=look.line, lw=look.width, ls=dashes, zorder=order))
    tip = [(end - _HEAD, level - _HEAD * 0.45), (end, level), (end - _HEAD, level + _HEAD * 0.45)]
    axes.add_patch(Polygon(tip, closed=True, facecolor=look.line, linewidth=0, zorder=3))


def _box(axes: Axes, x: float, y: float, width: float, height: float, look: Look, rounding: float) -> None:
    house.rounded_box(axes, x, y, width, height, rounding, look.fill, look.line, min(look.width, 0.9))


def _legend_rows(cells: list[CellDrawing], width: float) -> list[list[Look]]:
    """Returns the entries of the legend in lines of at most `width` inches."""
    nodes = [_look_of(node) for cell in cells for node in cell.nodes]
    used = {family(operation) for cell in cells for operation, _, _ in cell.edges}
    entries = [look for look in NODES.values() if look in nodes]
    entries += [look for name, look in FAMILIES.items() if name in used]
    entries += [_CONCAT] * any(len(cell.outputs) > 1 for cell in cells)
    count = math.ceil(sum(map(_entry_width, entries)) / width)
    while True:
        size = math.ceil(len(entries) / count)
        rows = [entries[i : i + size] for i in range(0, len(entries), size)]
        if size == 1 or all(sum(map(_entry_width, row)) <= width for row in rows):
            return rows
        count += 1


def _entry_width(look: Look) -> float:
    return (0.45 if look in NODES.values() else 0.65) + house.text_width(look.name, house.SMALL_SIZE)


def _draw_legend(axes: Axes, row, width: float, y: float) -> None:
    x = (width - sum(map(_entry_width, row))) / 2 + 0.1
    for look in row:
        if look in NODES.values():
            _box(axes, x + 0.09, y, 0.18, NODE_HEIGHT / 2, look, 0.04)
        else:
            _line(axes, [(x, x + 0.19, y), (x + 0.19, x + 0.38, y)], look)
            if look.fill:
                _box(axes, x + 0.16, y, 0.16, 0.11, look, 0.05)
        x += _entry_width(look)
        text = house.text_width(look.name, house.SMALL_SIZE)
        house.write(axes, x - text - 0.2, y, look.name, house.SMALL_SIZE, align="left")
