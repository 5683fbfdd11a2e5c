"""NAS-Bench-201: its strings, its networks and its supernet, against the benchmark's own code."""

import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import state_dict

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.path_space import PathSpace
from kdarts.networks.network import build_network
from kdarts.networks.reference import load_reference_state
from kdarts.paths.network import PathNetwork
from kdarts.paths.prune import soft_prune
from kdarts.search.search import Search
from kdarts.search.selection import discretize
from kdarts.supernet.cost import network_cost
from kdarts.supernet.spaces import get_space
from kdarts.supernet.supernet import Supernet

SPACE = get_space("nasbench201")
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def _text(operations) -> str:
    ends = [(to, source) for to in range(1, 4) for source in range(to)]
    named = {end: f"{name}~{end[1]}" for end, name in zip(ends, operations, strict=True)}
    return "+".join("|" + "|".join(named[to, source] for source in range(to)) + "|" for to in range(1, 4))


def _parts(golden, which):
    arrays = golden("nasbench201.npz")
    state = {k.removeprefix(f"{which}/"): v for k, v in arrays.items() if k.startswith(f"{which}/")}
    x = tf.constant(arrays["x"].transpose(0, 2, 3, 1))
    return state, x, tf.constant(arrays["y"]), json.loads(str(arrays["meta"]))


def test_every_string_of_the_space_comes_back():
    texts = [_text(operations) for operations in itertools.product(SPACE.operations, repeat=6)]
    assert len(set(texts)) == SPACE.size() == 15625
    for text in texts:
        assert Genotype.from_text(text).to_text() == text


def test_a_genotype_with_stages_comes_back_from_json(tmp_path):
    genotype = Genotype.from_text(BEST)
    genotype.save(tmp_path / "genotype.json")
    assert Genotype.load(tmp_path / "genotype.json") == genotype == Genotype.load(BEST)
    assert genotype.at_depth(5) == ((0,) * 15, ())


@pytest.mark.parametrize(
    "text",
    [
        "|",
        "||",
        "|skip_connect~1|",
        "|skip_connect~0|+|none~0|",
        "|skip_connect~0|+|none~0|none~1|x",
        "|skip connect~0|",
        BEST[:-1],
        BEST + "+",
    ],
)
def test_anything_else_is_no_string(text):
    with pytest.raises(KdartsError, match="architecture string"):
        Genotype.from_text(text)


def test_a_genotype_that_is_no_such_cell_has_no_string():
    two = Genotype((Genotype.from_text(BEST).cells[0],) * 2, ((4,),) * 2, None, (0, 1, 1), stages=3)
    for genotype in (Genotype.load("DARTS_V2"), two):
        with pytest.raises(KdartsError, match="no architecture string"):
            genotype.to_text()


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"stages": 0}, "stages"),
        ({"stages": 3, "reductions": (1,)}, "residual blocks reduce"),
        ({"stages": 3, "sequence": (0, 0)}, "no 3 stages"),
        ({"stages": 3, "cells": ((("skip_connect", 2, 0),),)}, "node 0"),
        ({"stages": None}, "need a sequence"),
    ],
)
def test_a_genotype_with_stages_is_checked(fields, message):
    usual = {"cells": ((("skip_connect", 2, 1),),), "concats": ((2,),), "stages": 3}
    with pytest.raises(KdartsError, match=message):
        Genotype(**{**usual, **fields})


def test_the_sizes_are_the_benchmarks(golden):
    for row in golden("nasbench201_params.json")["rows"]:
        genotype = Genotype.from_text(row["architecture"])
        size = (32, 32, 3), row["num_classes"], row["C"], row["N"]
        assert network_cost(genotype, *size).params == row["params"]


def test_the_cost_is_that_of_the_network():
    genotype = Genotype.from_text(BEST)
    network = build_network(genotype, (16, 16, 3), 10, channels=4, cells=2)
    assert network.count_params() - sum(v.shape.num_elements() for v in _running(network)) == (
        network_cost(genotype, (16, 16, 3), 10, 4, 2).params
    )


def _running(network):
    return [tf.convert_to_tensor(v) for v in network.non_trainable_variables]


def test_a_network_is_the_benchmarks(golden):
    state, x, _, meta = _parts(golden, "net")
    network = build_network(Genotype.from_text(meta["net_architecture"]), (16, 16, 3), 10, meta["C"], meta["N"])
    load_reference_state(network, state_dict(state))
    np.testing.assert_allclose(network(x, training=True), state["logits"], atol=1e-4)


def test_the_supernet_and_the_gradient_of_alpha_are_the_benchmarks(golden):
    state, x, y, meta = _parts(golden, "supernet")
    net = Supernet(SPACE, (16, 16, 3), 10, channels=meta["C"], cells=meta["N"])
    load_reference_state(net, state_dict(state))
    [alpha] = net.alphas
    alpha.assign(state["alphas"])
    np.testing.assert_allclose(net(x, training=True), state["logits"], atol=1e-4)
    search = Search(net, "darts")
    assert search.genotype().to_text() == meta["genotype_of_alphas"]
    [gradient] = search.architecture_gradients((x, y), (x, y))
    np.testing.assert_allclose(gradient, state["dalphas"], atol=1e-3 * np.abs(state["dalphas"]).max())


def test_the_strongest_operation_of_every_edge_is_kept():
    weights = np.random.default_rng(0).random((6, 5))
    expected = _text([SPACE.operations[k] for k in weights.argmax(1)])
    for rule in ("darts", "argmax"):
        assert discretize([weights], SPACE, rule).to_text() == expected


MIXES = [
    ("fairdarts", {}, {"mixing": "sigmoid"}),
    ("ddarts", {"ablation_margin": 0.0}, {"mixing": "sigmoid", "sharing": "individual"}),
    ("darts", {"order": "second"}, {"partial_channels": 2, "mixing": "max_w"}),
    ("gdas", {}, {"sampling": "gumbel"}),
    ("oles", {"freeze_window": 1, "freeze_below": 1.0}, {}),
    ("reinmax", {}, {"sampling": "reinmax"}),
    ("drnas", {"anchor_weight": 0.1}, {"mixing": "concentration", "sampling": "dirichlet"}),
    ("random", {"samples": 20}, {"sampling": "random"}),
    ("darts_minus", {}, {"auxiliary_skip": True}),
    ("i_darts", {"order": "exact"}, {"mixing": "node_softmax"}),
    ("beta_darts", {"target_params": 9000.0}, {}),
]


LONG = ("drnas", "oles", "reinmax")
"""Methods of which what is their own is tested elsewhere."""


@pytest.mark.parametrize(
    "method, choices, sizes",
    [pytest.param(*mix, id=mix[0], marks=pytest.mark.slow if mix[0] in LONG else []) for mix in MIXES],
)
def test_every_method_takes_steps_there(eagerly, method, choices, sizes):
    net = Supernet(SPACE, (8, 8, 1), 3, channels=4, cells=1, **sizes)
    search = Search(net, method, **choices, **sizes)
    x = np.random.default_rng(0).normal(size=(12, 8, 8, 1)).astype("float32")
    batches = tf.data.Dataset.from_tensors(((x, np.arange(12) % 3),) * 2).repeat(2)
    search.fit(batches, epochs=1, verbose=0)
    genotype = search.genotype()
    assert genotype.stages == 3 and np.isfinite(search.evaluate(x, np.arange(12) % 3, verbose=0)).all()
    build_network(genotype, (8, 8, 1), 3, channels=4, cells=1)


def test_the_commands_know_the_space(capsys, tmp_path):
    assert main(["info", BEST, "--channels=16", "--cells=5"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 1073466
    assert main(["draw", BEST, f"--to={tmp_path / 'cell.svg'}"]) == 0
    assert main(["search", "--space=nasbench201", "--topology=0", f"--workdir={tmp_path / 'run'}"]) == 2
    assert "stages" in capsys.readouterr().err


def test_shared_paths_are_those_of_the_space():
    weights = np.random.default_rng(1).random((6, 5))
    space = soft_prune([weights], SPACE)
    assert (space.kept, space.edges, space.stages) == (2, 6, 3)
    net = PathNetwork(space, (8, 8, 1), 3, channels=4, cells=1)
    x = tf.constant(np.random.default_rng(2).normal(size=(5, 8, 8, 1)), tf.float32)
    paths = np.array([[0, 1, 0, 0, 1, 1], [1, 0, 1, 1, 0, 0]])
    together = net.group(x, paths)
    for path, logits in zip(paths, together, strict=True):
        net.chosen.assign(path)
        np.testing.assert_allclose(net(x, training=True), logits, atol=1e-5)
        assert space.genotype(path).stages == 3
    with pytest.raises(KdartsError, match="one set of weights"):
        soft_prune([weights, weights], SPACE)


def test_a_path_space_comes_back_from_json(tmp_path):
    space = soft_prune([np.random.default_rng(1).random((6, 5))], SPACE)
    space.save(tmp_path / "paths.json")
    assert PathSpace.load(tmp_path / "paths.json") == space


def test_the_one_skip_connection_stands_where_it_leads_by_most():
    weights = np.full((6, 5), 0.1)
    weights[:, 3] = 0.2  # nor_conv_3x3
    weights[[0, 3, 5], 1] = 0.3, 0.35, 0.25  # skip_connect
    weights[5, 4] = 0.3  # avg_pool_3x3
    texts = [discretize([weights], SPACE, "residual", max_skips=count).to_text() for count in (0, 1, 2, 3, None)]
    conv, skip, pool = "nor_conv_3x3", "skip_connect", "avg_pool_3x3"
    assert texts == [
        _text([conv, conv, conv, conv, conv, pool]),
        _text([conv, conv, conv, skip, conv, pool]),
        _text([skip, conv, conv, skip, conv, pool]),
        _text([skip, conv, conv, skip, conv, skip]),
        _text([skip, conv, conv, skip, conv, pool]),
    ]


def test_in_cells_of_two_inputs_the_rule_limits_the_normal_cell():
    darts, weights = get_space("darts"), np.full((14, 8), 0.05)
    weights[:, 3] = np.linspace(0.3, 0.6, 14)  # skip_connect
    weights[:, 4] = 0.25
    normal, reduce = discretize([weights, weights], darts, "residual", max_skips=1).cells
    assert [operation for operation, _, _ in normal].count("skip_connect") == 1
    assert [operation for operation, _, _ in reduce].count("skip_connect") == 8


def test_info_counts_the_operations_of_each_cell_once(capsys):
    """15 cells of six edges."""
    assert main(["info", BEST, "--cells=5", "--channels=16"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cells"] == 15 and sum(found["operations"].values()) == 15 * 6
