"""Pictures: what is written, how, and that nothing in a drawing lies on anything else."""

import os
import re
import types
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, get_genotype
from kdarts.views import curves as family_picture
from kdarts.views import drawing, figure, heatmap
from kdarts.views import heatmap as distance_map

OPERATIONS = ["none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"]
SIGNATURES = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


def weights(edges=14, operations=6, seed=0):
    scores = np.exp(np.random.default_rng(seed).normal(size=(edges, operations)))
    return scores / scores.sum(1, keepdims=True)


def texts(path):
    return [
        "".join(node.itertext()).strip() for node in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.fixture
def individual():
    """Three distinct cells at six positions; edges repeat, a node is missing, an input goes straight to the output."""
    cells = (
        (("sep_conv_3x3", 2, 0), ("dil_conv_5x5", 2, 0), ("skip_connect", 4, 2), ("max_pool_3x3", 4, 1)),
        (("none", 2, 1), ("conv_7x1_1x7", 3, 2)),
        (("avg_pool_3x3", 2, 0),),
    )
    return Genotype(cells, ((2, 4), (0, 3), (2,)), (2, 4), (0, 0, 2, 0, 0, 1))


# Saving


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf", "PNG"])
def test_formats(tmp_path, suffix):
    heatmap.draw_alphas({"cell": weights(2)}, OPERATIONS, tmp_path / "new" / f"a.{suffix}")
    assert (tmp_path / "new" / f"a.{suffix}").read_bytes().startswith(SIGNATURES[suffix.lower()])
    assert os.listdir(tmp_path / "new") == [f"a.{suffix}"]


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.svg.gz", ".svg"])
def test_unknown_suffix(tmp_path, name):
    with pytest.raises(KdartsError, match=r"\.svg, \.png, \.pdf$"):
        heatmap.draw_alphas({"cell": weights(2)}, OPERATIONS, tmp_path / name)
    with pytest.raises(KdartsError, match=r"\.svg, \.png, \.pdf, \.dot$"):
        drawing.draw_genotype(get_genotype("DARTS_V2"), tmp_path / name)
    assert not os.listdir(tmp_path)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "cells.svg"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KdartsError, match=r"cells\.svg.*No space left"):
        drawing.draw_genotype(get_genotype("DARTS_V2"), path)
    with pytest.raises(KdartsError, match="No space left"):
        drawing.draw_genotype(get_genotype("DARTS_V2"), tmp_path / "cells.dot")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["cells.svg"]


def test_failed_drawing_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(KdartsError):
        heatmap.draw_alphas({"cell": weights(2)}, ["one"], path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.png"]


def test_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.svg").mkdir()
    for path in (tmp_path / "file" / "a.svg", tmp_path / "folder.svg"):
        with pytest.raises(KdartsError, match="cannot be written"):
            heatmap.draw_alphas({"cell": weights(2)}, OPERATIONS, path)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.svg"]


def test_same_bytes_and_untouched_settings(tmp_path, individual):
    before = dict(matplotlib.rcParams)
    for kind in ("svg", "png", "pdf"):
        paths = [tmp_path / f"{i}.{kind}" for i in range(2)]
        drawing.draw_genotype(individual, paths[0])
        with matplotlib.rc_context({"font.size": 30, "text.color": "red", "svg.hashsalt": None}):
            drawing.draw_genotype(individual, paths[1])
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert dict(matplotlib.rcParams) == before


def test_contrast_and_text():
    assert [figure.contrast(c) for c in ("black", "#173f6e", "white", "#f0f921")] == ["white"] * 2 + [figure.INK] * 2
    assert figure.plain("a\x00b\n") == "a\ufffdb\ufffd" and figure.plain("x" * 99) == "x" * 39 + "…"
    assert figure.text_width("$x$", 8) > figure.text_width("x", 8) > 0
    assert figure.columns_for(1, 1, 1) == 1 and figure.columns_for(6, 1, 1) == 3 and figure.columns_for(4, 9, 1) == 1


# Heat maps


def test_heat_map_texts(tmp_path):
    values = {"normal cell": weights(seed=1), "reduction cell": weights(seed=2)}
    heatmap.draw_alphas(values, OPERATIONS, tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert {*OPERATIONS, "normal cell", "reduction cell", "mixing weight", "edge (from→to)"} <= set(found)
    assert [t for t in found if re.fullmatch(r"\d→\d", t)] == heatmap.edge_labels(14) * 2
    numbers = sorted(t for t in found if re.fullmatch(r"\d\.\d\d", t))
    assert numbers == sorted(f"{v:.2f}" for panel in values.values() for v in panel.ravel())


def test_heat_map_grid_with_gaps_and_odd_names(tmp_path):
    values = {f"cell {i}": weights(5, 2, i) for i in range(14)}
    values["cell 3"] = values["cell 3"] * 0.0
    values["cell 4"][2, 1] = np.nan
    heatmap.draw_alphas(values, ["a$b$<&>", "\x00"], tmp_path / "a.svg", edges="vwxyz", title="$run & <more>")
    found = texts(tmp_path / "a.svg")
    assert {"a$b$<&>", "\ufffd", "z", "edge", "$run & <more>", *values} <= set(found)
    assert sum(bool(re.fullmatch(r"\d\.\d\d", t)) for t in found) == 14 * 10 - 1


def test_distances_are_drawn_with_every_value_and_name(tmp_path):
    names = ["a$b$<&>", "ResNet18", "ResNet18"]
    values = np.array([[0, 0.0834, 0.2], [0.0834, 0, 0.1], [0.2, 0.1, 0]])
    distance_map.draw_distances(values, names, tmp_path / "a.svg", "far")
    found = texts(tmp_path / "a.svg")
    assert sorted(t for t in found if t in names) == sorted(names * 2) and "far" in found
    numbers = sorted(t for t in found if re.fullmatch(r"\d\.\d{3}", t))
    assert numbers == sorted(f"{v:.3f}" for v in values.ravel())
    distance_map.draw_distances(values * 100, names, tmp_path / "b.svg")
    assert "8.34" in texts(tmp_path / "b.svg")
    distance_map.draw_distances(values * 0, names, tmp_path / "c.svg")


@pytest.mark.parametrize("names", ["ab", ["ResNet50_cifar100_threshold_sparse_0.85"] * 2, ["x"] * 12, ["y" * 99, "z"]])
def test_names_of_distances_stay_within_the_picture(names):
    with figure.style():
        drawn = distance_map._distance_map_figure(
            np.eye(len(names)), [figure.plain(name, 60) for name in names], "far " * 9
        )
        drawn.canvas.draw()
        renderer, axes = drawn.canvas.get_renderer(), drawn.axes[0]
        for text in [
            *axes.get_xticklabels(),
            *axes.get_yticklabels(),
            *drawn.axes[1].get_yticklabels(),
            drawn.axes[1].yaxis.label,
        ]:
            box = text.get_window_extent(renderer)
            assert drawn.bbox.x0 <= box.x0 and box.x1 <= drawn.bbox.x1, text
            assert drawn.bbox.y0 <= box.y0 and box.y1 <= drawn.bbox.y1, text


@pytest.mark.parametrize("values, names", [([[0.0]], ["a", "b"]), ([[np.nan]], ["a"]), ([[]], []), ([0.0], ["a"])])
def test_distances_that_fit_no_names_are_refused(tmp_path, values, names):
    with pytest.raises(KdartsError, match="distances: needs finite"):
        distance_map.draw_distances(values, names, tmp_path / "a.svg")
    with pytest.raises(KdartsError, match=r"\.svg, \.png, \.pdf$"):
        distance_map.draw_distances([[0.0]], ["a"], tmp_path / "a.gif")


def test_edge_labels():
    assert heatmap.edge_labels(5) == ["0→2", "1→2", "0→3", "1→3", "2→3"]
    assert heatmap.edge_labels(6) == ["0→1", "0→2", "1→2", "0→3", "1→3", "2→3"]
    assert heatmap.edge_labels(14)[-1] == "4→5" and heatmap.edge_labels(20)[-1] == "5→6"
    assert heatmap.edge_labels(4) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("alphas", "edges", "message"),
    [
        ({}, None, "no α set"),
        ({"cell": weights(2)[0]}, None, r"'cell' must be \[edges, operations\], got shape \(6,\)"),
        ({"cell": np.zeros((0, 6))}, None, "got shape"),
        ({"cell": weights(2, 5)}, None, "5 columns for 6 operations"),
        ({"cell": weights(2)}, ["0→2"], "2 edges for 1 labels"),
        ({"cell": weights(2) * np.inf}, None, "infinite"),
        ({"cell": [["x"] * 6]}, None, "not a number"),
    ],
)
def test_heat_map_errors(tmp_path, alphas, edges, message):
    with pytest.raises(KdartsError, match=message):
        heatmap.draw_alphas(alphas, OPERATIONS, tmp_path / "a.svg", edges=edges)


# Drawings


def curve(route, steps=12):
    """Points along a route as it is drawn."""
    t = np.linspace(0, 1, steps)
    for (_, a, before), (b, _, after) in pairwise(route):
        middle = (a + b) / 2
        x = (1 - t) ** 3 * a + 3 * (1 - t) * t * middle + t**3 * b
        yield from zip(x, before + (after - before) * (3 * t**2 - 2 * t**3), strict=True)
    for a, b, y in route:
        yield from ((x, y) for x in np.linspace(a, b, steps))


def inside(x, y, box, slack=0.0):
    return abs(x - box.x) < box.width / 2 + slack and abs(y - box.y) < box.height / 2 + slack


ONE_INPUT = (
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    "|none~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    "|skip_connect~0|+|none~0|nor_conv_1x1~1|",
    "|none~0|",
)


@pytest.mark.parametrize(
    "name",
    ["DARTS_V2", "NASNet", "AmoebaNet", "PC_DARTS_cifar", "FairDARTS_c", "DCO_EDGE_BS_64", "individual", *ONE_INPUT],
)
def test_nothing_overlaps(name, individual):
    genotype = individual if name == "individual" else Genotype.load(name)
    for index in range(len(genotype.cells)):
        cell = drawing.cell_drawing(genotype, index)
        layout = drawing.cell_layout(cell)
        labels = layout.labels[: len(cell.edges)]
        assert None not in labels and not any(layout.labels[len(cell.edges) :])
        boxes = [*layout.nodes.values(), *labels]
        for i, a in enumerate(boxes):
            assert a.width / 2 <= a.x + 1e-6 and a.x + a.width / 2 <= layout.width + 1e-6
            assert a.height / 2 <= a.y + 1e-6 and a.y + a.height / 2 <= layout.height + 1e-6
            for b in boxes[:i]:
                assert abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= (a.height + b.height) / 2 + 0.05
        ends = [(source, target) for _, target, source in cell.edges] + [(node, "output") for node in cell.outputs]
        for route, own, (source, target) in zip(layout.routes, layout.labels, ends, strict=True):
            begin, end = layout.nodes[source], layout.nodes[target]
            assert route[0][0] == pytest.approx(begin.x + begin.width / 2) and inside(begin.x, route[0][2], begin)
            assert route[-1][1] == pytest.approx(end.x - end.width / 2) and inside(end.x, route[-1][2], end)
            points = [point for point in curve(route) if route[0][0] + 1e-6 < point[0] < route[-1][1] - 1e-6]
            assert own is None or any(inside(x, y, own) for x, y in points)
            for box in boxes:
                slack = 0.0 if box in (begin, end) else 0.02
                assert box is own or not any(inside(x, y, box, slack) for x, y in points)


@pytest.mark.parametrize("name", ["NASNet", "FairDARTS_c"])
def test_drawing_texts(tmp_path, name):
    genotype = get_genotype(name)
    drawing.draw_genotype(genotype, tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    drawn = [edge for index in range(2) for edge in genotype.live(index)[0]]
    for operation in genotype.operations:
        assert found.count(operation) == sum(op == operation for op, _, _ in drawn)
    assert {name, "normal cell", "reduction cell", "separable convolution", "concatenation"} <= set(found)
    for node in range(2, 7):
        assert found.count(str(node)) == sum(any(to == node for _, to, _ in genotype.live(i)[0]) for i in range(2))
    svg = (tmp_path / "a.svg").read_text("utf-8")
    assert all(svg.count(label) == 2 for label in ("c_{k-2}", "c_{k-1}", "c_k")) and "<dc:date>" not in svg


def test_drawing_of_individual_cells(tmp_path, individual):
    drawing.draw_genotype(individual, tmp_path / "a.svg", title="")
    found = texts(tmp_path / "a.svg")
    titles = ["cell 0 (positions 0, 1, 3, 4; reduction at 4)", "cell 1 (position 5)", "cell 2 (position 2; reduction)"]
    assert drawing.cell_titles(individual) == titles and set(titles) <= set(found)
    long = Genotype(individual.cells[:1] * 2, ((2,), (2,)), (1,), (0, 0, 0, 0))
    assert drawing.cell_titles(long) == ["cell 0 (positions 0–3; reduction at 1)", "cell 1 (unused)"]


def test_drawing_of_what_the_network_leaves_out(tmp_path):
    cells = ((), (("sep_conv_3x3", 5, 4), ("avg_pool_3x3", 2, 0), ("skip_connect", 3, 2)))
    genotype = Genotype(cells, (range(2, 6),) * 2, name="gaps")
    drawing.draw_genotype(genotype, tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert found.count("skip_connect") == 2 and found.count("avg_pool_3x3") == 1 and "sep_conv_3x3" not in found
    assert "separable convolution" not in found and (found.count("2"), found.count("3")) == (1, 1)
    assert "4" not in found and "5" not in found
    edges = re.findall(r'"(\d/\w+)" -> "(\d/\w+)"', drawing.to_dot(genotype))
    empty = ("0/1", "0/output")
    assert sorted(edges) == [empty, ("1/0", "1/2"), ("1/2", "1/3"), ("1/2", "1/output"), ("1/3", "1/output")]


@pytest.mark.parametrize("text", ONE_INPUT)
def test_a_cell_of_one_input_has_no_other_and_no_concatenation(tmp_path, text):
    genotype = Genotype.from_text(text)
    drawing.draw_genotype(genotype, tmp_path / "a.svg")
    svg, found = (tmp_path / "a.svg").read_text("utf-8"), texts(tmp_path / "a.svg")
    assert svg.count("c_{k-1}") == svg.count("c_k") == 1 and "c_{k-2}" not in svg
    real = [edge for edge in genotype.cells[0] if edge[0] != "none"]
    (last,) = genotype.concats[0]
    for operation in ("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"):
        assert found.count(operation) == sum(name == operation for name, _, _ in real)
    assert not {"none", "concatenation", "other operation", "normal cell", str(last)} & {*found}
    for node in range(2, last):
        assert found.count(str(node)) == any(node in edge for edge in real)
    dot = drawing.to_dot(genotype)
    edges = re.findall(r'"0/(\w+)" -> "0/(\w+)" \[label="(\w+)"', dot)
    assert sorted(edges) == sorted((str(source), "output" if to == last else str(to), op) for op, to, source in real)
    assert dot.count("->") == len(real) and '"0/0"' not in dot and '"0/1"' in dot


def test_a_single_output_of_two_inputs_is_no_concatenation(tmp_path):
    """A node alone is the output; one that others read, and an input, lead to it by a plain line."""
    chain = (("sep_conv_3x3", 2, 0), ("skip_connect", 3, 2))
    genotype = Genotype((chain, chain, chain), ((3,), (2,), (1,)), (), (0, 1, 2))
    drawn = [drawing.cell_drawing(genotype, index) for index in range(3)]
    assert drawn[0].edges == (("sep_conv_3x3", 2, 0), ("skip_connect", "output", 2))
    assert [(cell.outputs, cell.nodes) for cell in drawn] == [
        ((), [0, 1, 2, "output"]),
        ((2,), [0, 1, 2, 3, "output"]),
        ((1,), [0, 1, 2, 3, "output"]),
    ]
    drawing.draw_genotype(genotype, tmp_path / "a.svg")
    assert "concatenation" not in texts(tmp_path / "a.svg") and "dashed" not in drawing.to_dot(genotype)
    both = Genotype((chain, chain), ((2, 3), (3,)))
    drawing.draw_genotype(both, tmp_path / "b.svg")
    assert "concatenation" in texts(tmp_path / "b.svg") and drawing.to_dot(both).count("style=dashed") == 2


def test_none_is_drawn_in_no_cell(tmp_path):
    cells = ((("none", 2, 0), ("sep_conv_3x3", 2, 1), ("none", 3, 2)), (("none", 2, 1), ("max_pool_3x3", 3, 2)))
    genotype = Genotype(cells, ((2, 3), (2, 3)))
    drawing.draw_genotype(genotype, tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert not {"none", "other operation"} & {*found} and (found.count("2"), found.count("3")) == (2, 2)
    assert '"1/1" ->' not in drawing.to_dot(genotype) and '"1/2" -> "1/3"' in drawing.to_dot(genotype)


def test_titles_of_cells_with_stages():
    cell = (("nor_conv_3x3", 2, 1),)
    assert drawing.cell_titles(Genotype((cell,), ((2,),), stages=3)) == ["cell"]
    two = Genotype((cell, cell), ((2,),) * 2, None, (0, 1, 1), stages=3)
    assert drawing.cell_titles(two) == ["cell 0 (position 0)", "cell 1 (positions 1, 2)"]


def test_drawing_of_odd_names(tmp_path):
    genotype = Genotype(((('a"\\$x$<&>', 2, 0),), (("y" * 99, 2, 1),)), ((2,), (1,)), name="$n$ <&>")
    drawing.draw_genotype(genotype, tmp_path / "a.svg")
    assert {'a"\\$x$<&>', "y" * 39 + "…", "$n$ <&>"} <= set(texts(tmp_path / "a.svg"))
    dot = drawing.to_dot(genotype)
    assert r'label="a\"\\$x$<&>' in dot and dot.startswith(r'digraph "$n$ <&>" {') and "\x00" not in dot


def test_families():
    names = "sep_conv_3x3 dil_conv_5x5 dil_sep_conv_3x3 conv_7x1_1x7 bottleneck_1x3x1 avg_pool_3x3 identity none"
    expected = "separable dilated dilated convolution convolution pooling skip other"
    assert [drawing.family(name) for name in names.split()] == expected.split()


def test_dot(tmp_path, individual):
    drawing.draw_genotype(individual, tmp_path / "a.dot")
    dot = (tmp_path / "a.dot").read_text("utf-8")
    assert dot == drawing.to_dot(individual) and os.listdir(tmp_path) == ["a.dot"]
    edges = re.findall(r'"(\d)/(\w+)" -> "(\d)/(\w+)" \[(?:label="(\w+)"|style=(\w+))', dot)
    expected = [
        (str(i), str(source), str(i), str(to), operation, "")
        for i, cell in enumerate(individual.cells[:2])
        for operation, to, source in cell
        if operation != "none"
    ]
    expected += [("2", "0", "2", "output", "avg_pool_3x3", "")]  # its node is the output
    concats = individual.concats[:2]
    expected += [(str(i), str(n), str(i), "output", "", "dashed") for i, c in enumerate(concats) for n in c]
    assert sorted(edges) == sorted(expected) and dot.count("{") == dot.count("}")
    assert dot.count('label="c_{k-1}"') == dot.count('label="c_k"') == 3 and '"0/3"' not in dot


def test_a_family_is_drawn_with_all_candidates(tmp_path):
    candidates = [(0.101, 0.5), (0.109, 0.6), (0.125, 0.7), (0.104, 0.55)]
    family_picture.draw_family(candidates, candidates[1:3], tmp_path / "a.svg", 0.01)
    found = texts(tmp_path / "a.svg")
    assert {"4 candidates", "family of 2", "best of each size"} <= set(found)
    assert "weights of the stand-alone network (millions)" in found
    family_picture.draw_family(candidates[:1], candidates[:1], tmp_path / "b.png")
    with pytest.raises(KdartsError, match="a candidate"):
        family_picture.draw_family([], [], tmp_path / "a.svg")
    with pytest.raises(KdartsError, match=r"\.svg, \.png, \.pdf$"):
        family_picture.draw_family(candidates, candidates, tmp_path / "a.gif")


def test_a_search_goes_on_without_a_picture_of_more_cells_than_fit(tmp_path, monkeypatch):
    from kdarts.views.events import CellEvents

    cell = tuple(("skip_connect", 2, source) for source in (0, 1))
    many = Genotype((cell,) * 101, ((2,),) * 101, sequence=tuple(range(101)))
    assert not drawing.has_room(many)
    with pytest.raises(KdartsError, match="a picture has room for 100"):
        drawing.draw_genotype(many, tmp_path / "cells.svg")
    drawing.draw_genotype(many, tmp_path / "cells.dot")
    events = CellEvents(tmp_path / "events")
    events.set_model(types.SimpleNamespace(genotype=lambda: many))
    events._draw(0.0)
    assert events._drawn is None
