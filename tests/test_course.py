"""The course project's network, its cells and its search, against its own code and its report."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from conftest import state_dict

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.networks.network import build_network
from kdarts.networks.reference import load_reference_state
from kdarts.search.search import Search
from kdarts.search.selection import discretize
from kdarts.supernet.cost import network_cost
from kdarts.supernet.macro import MacroConfig, plan_cells
from kdarts.supernet.spaces import get_space
from kdarts.supernet.supernet import Supernet
from kdarts.views.heatmap import draw_alphas

FINAL = MacroConfig((4096, 1024, 256), "after", 1e-3)
KINDS = ("normal", "reduce")
NAMES = {
    **{"dil_sep_conv_3x3": "dil_conv_3x3", "dil_sep_conv_5x5": "dil_conv_5x5"},
    **{"avg_pool_3x3": "padded_avg_pool_3x3", "zero": "none"},
}

_ADAPTER = re.compile(r"adjust_input_([01])\.(\d+)\.(.+)")
_EDGE = re.compile(r"cells\.(\d+)\.graph_op_dict\.(\d+)_(\d+)\.(?:(\w+)\.)??(?:operation\.(?:0\.op\.)?)(.+)")
_COLUMNS = (
    *("sep_conv_3x3", "sep_conv_5x5", "dil_sep_conv_3x3", "dil_sep_conv_5x5"),
    *("max_pool_3x3", "avg_pool_3x3", "identity", "zero"),
)


def course_state(state, genotype: Genotype | None = None, cells: int = 14) -> dict:
    """The weights of a supernet, or of the network of `genotype`, named as `load_reference_state` reads them."""
    return {_renamed(name, genotype, cells): array for name, array in state.items()}


def _renamed(name: str, genotype: Genotype | None, cells: int) -> str:
    if adapter := _ADAPTER.fullmatch(name):
        number, cell, rest = adapter.groups()
        return f"cells.{cell}.preprocess{number}.{rest}"
    if not (edge := _EDGE.fullmatch(name)):
        return name
    cell, source, to, operation, rest = edge.groups()
    ends = int(to), int(source)
    if genotype is None and operation in _COLUMNS:
        return f"cells.{cell}._ops.{edge_row(*ends)}._ops.{_COLUMNS.index(operation)}.op.{rest}"
    sequence = genotype.at_depth(cells)[0] if genotype else ()
    edges = [e[1:] for e in genotype.cells[sequence[int(cell)]]] if int(cell) < len(sequence) else []
    if ends not in edges:
        raise KdartsError(f"reference state: {name!r} is of no edge of the {'genotype' if genotype else 'supernet'}")
    return f"cells.{cell}._ops.{edges.index(ends)}.op.{rest}"


def _relative(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def _images(x, dtype="float32"):
    return tf.constant(x.transpose(0, 2, 3, 1), dtype)


def _supernet(arrays, dtype) -> Supernet:
    frame = MacroConfig((16, 12, 8), "after", 1e-3)
    net = Supernet("course", (32, 32, 3), 10, channels=2, cells=8, frame=frame, dtype=dtype)
    load_reference_state(net, course_state(state_dict(arrays)))
    for alpha, kind in zip(net.alphas, KINDS, strict=True):
        assert not alpha.numpy().any(), "α starts from zero"
        alpha.assign(arrays[f"alpha_{kind}"])
    return net


def test_the_supernet_is_that_of_the_reference(golden, eagerly):
    arrays = golden("course_supernet.npz")
    assert [NAMES.get(name, name) for name in arrays["ops"].tolist()] == list(get_space("course").operations)
    for dtype in ("float32", "float64"):
        net = _supernet(arrays, dtype)
        with tf.GradientTape() as tape:
            logits = net(_images(arrays["x"], dtype), training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(arrays["y"], logits))
        assert _relative(logits, arrays["logits"]) < 1e-4 and _relative(loss, arrays["loss"]) < 1e-5
    # In float64: rounding at float32 moves the gradient by as much as the bound.
    for gradient, kind in zip(tape.gradient(loss, [a.value for a in net.alphas]), KINDS, strict=True):
        assert _relative(gradient, arrays[f"dalpha_{kind}"]) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("order", ["first", "second"])
def test_a_step_of_alpha_is_that_of_the_reference(golden, eagerly, order):
    arrays = golden("course_supernet.npz")
    search = Search(net := _supernet(arrays, "float64"), order=order)
    search.compile()
    train, valid = ((_images(arrays[x], "float64"), arrays[y]) for x, y in (("x", "y"), ("x_val", "y_val")))
    found = search.architecture_gradients(train, valid)
    search.arch_optimizer.apply(found, net.architecture)
    for gradient, alpha, kind in zip(found, net.alphas, KINDS, strict=True):
        assert _relative(gradient, arrays[f"{order}_grad_{kind}"]) < 1e-5
        np.testing.assert_allclose(alpha, arrays[f"{order}_alpha_{kind}_after"], rtol=0, atol=1e-6)


def _learned(arrays) -> Genotype:
    """The cells of the reference's file, entry by entry."""
    cells = []
    for kind in KINDS:
        named = {edge: str(arrays["ops"][k]) for edge, k in json.loads(str(arrays[f"edge2oper_{kind}"])).items()}
        cells.append([(NAMES.get(name, name), int(edge[2]), int(edge[0])) for edge, name in named.items()])
    return Genotype(cells, [(2, 3, 4)] * 2)


def test_the_final_network_is_that_of_the_reference(golden):
    arrays = golden("course_learned.npz")
    genotype, frame = _learned(arrays), MacroConfig((16, 12, 8), "after", 1e-3)
    net = build_network(genotype, (32, 32, 3), 10, channels=2, cells=14, stem="none", frame=frame)
    state = course_state(state_dict(arrays), genotype)
    load_reference_state(net, state)
    x = _images(arrays["x"])
    np.testing.assert_allclose(net(x, training=False), arrays["logits_eval"], rtol=0, atol=5e-6)
    np.testing.assert_allclose(net(x, training=True), arrays["logits_train"], rtol=0, atol=2e-5)
    with pytest.raises(KdartsError, match="no edge of the genotype"):
        course_state(state_dict(arrays), Genotype.load("COURSE_V1"))


@pytest.mark.parametrize("name, figure", [("COURSE_V1", "xi=0 (Fig 5)"), ("COURSE_V2", "xi>0 (Fig 6)")])
def test_the_published_cells_follow_from_the_published_heat_maps(golden, name, figure):
    read, space = golden("course_figures.json"), get_space("course")
    assert [NAMES.get(operation, operation) for operation in read["ops"]] == list(space.operations)
    rows = sorted(range(9), key=lambda k: (int(read["edges"][k][2]), int(read["edges"][k][0])))
    weights = [np.array(read["figures"][figure][kind]).T[rows] for kind in KINDS]
    found, published = discretize(weights, space), Genotype.load(name)
    assert [sorted(cell) for cell in found.cells] == [sorted(cell) for cell in published.cells]
    assert found.concats == published.concats
    printed = golden("darts_genotypes.json")["course_project_cells"]["cells"]["xi0" if "V1" in name else "xi_pos"]
    for cell, kind in zip(published.cells, KINDS, strict=True):
        assert {f"{a}_{b}": op for op, b, a in cell} == {e: NAMES.get(op, op) for e, op in printed[kind].items()}


def test_sizes_are_those_of_the_reference(golden):
    counts = golden("course_figures.json")["param_counts"]
    net = Supernet("course", (32, 32, 3), 10)
    assert net.cost().params == sum(v.shape.num_elements() for v in net.network_variables)
    assert net.cost().params == counts["search_net_8_16"]["total"]
    head = sum(w.shape.num_elements() for layer in (*net.hidden, net.classifier) for w in layer.weights)
    assert head == counts["search_net_8_16"]["classifier"]
    for name, key in (("COURSE_V1", "xi0"), ("COURSE_V2", "xi_pos")):
        for classes in (10, 100):
            cost = network_cost(Genotype.load(name), (32, 32, 3), classes, 16, 14, "none", FINAL)
            assert cost.params == counts[f"{key}_final14_{classes}"]["total"]


def test_its_heat_maps_have_the_edges_by_the_node_that_they_leave(golden, tmp_path):
    figures, path = golden("course_figures.json"), tmp_path / "alphas.svg"
    weights = np.arange(18).reshape(9, 2) / 20  # α's rows: by the node that they lead to
    draw_alphas({"normal cell": weights, "reduction cell": weights}, ["sep_conv_3x3", "zero"], path, order="source")
    text = path.read_text("utf-8")
    assert re.findall(r">(\d, \d)<", text) == 2 * [edge.replace("_", ", ") for edge in sorted(figures["edges"])]
    rows = [0, 2, 5, 1, 3, 6, 4, 7, 8]
    values = [f"{weights[row, column]:.2f}" for column in range(2) for row in rows]
    assert re.findall(r">(\d\.\d\d)<", text)[:36] == 2 * values


FRAMES = [("none", MacroConfig()), ("small", MacroConfig((6,), "after")), ("imagenet", MacroConfig((6, 4)))]


@pytest.mark.parametrize("stem, frame", FRAMES)
def test_any_space_takes_any_frame(stem, frame):
    shape = (33, 36, 2)
    genotype = Genotype.load("DARTS_V2")
    network = build_network(genotype, shape, 3, channels=2, cells=3, stem=stem, frame=frame, auxiliary=True)
    main = sum(v.shape.num_elements() for v in network.trainable_variables if "auxiliary" not in v.path)
    assert network_cost(genotype, shape, 3, 2, 3, stem, frame).params == main
    net = Supernet("darts", shape, 3, channels=2, cells=3, nodes=1, stem=stem, frame=frame)
    assert net.cost().params == sum(v.shape.num_elements() for v in net.network_variables)
    again = Supernet.from_config(net.get_config())
    assert again.frame == frame and again.plan == net.plan and len(again.hidden) == len(frame.head)
    x = tf.random.stateless_normal((2, *shape), [1, 2])
    again.set_weights(net.get_weights())
    np.testing.assert_array_equal(again(x), net(x))
    assert network(x).shape == net(x).shape == (2, 3)


def test_the_width_doubles_where_the_frame_says():
    for widen, widths in (("at", [2, 4, 8, 8]), ("after", [2, 2, 4, 8])):
        assert [cell.filters for cell in plan_cells(4, 2, (1, 2), widen=widen)] == widths


def test_a_frame_refuses_what_makes_no_sense():
    for wrong in ({"head": (0,)}, {"head": (1.5,)}, {"widen": "before"}, {"epsilon": 0.0}):
        with pytest.raises(KdartsError):
            MacroConfig(**wrong)
