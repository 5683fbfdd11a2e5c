"""Topologies: their order, their text, their edges, and supernets of these edges alone."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.edges import check_topology, edge_row, parse_topology, topologies, topology_count, topology_text
from kdarts.genotypes.errors import KdartsError
from kdarts.search.search import Search
from kdarts.supernet.cell import edge_sources
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet


def topology_edges(topology) -> list[int]:
    """The rows of the edges that a topology keeps."""
    return [edge_row(node, source) for node, pair in enumerate(topology, 2) for source in pair]


def test_all_topologies_of_four_nodes_stand_in_the_reference_order(golden):
    reference = golden("edarts_topologies.json")
    assert [[list(pair) for pair in topology] for topology in topologies()] == reference["topologies"]
    assert [topology_edges(topology) for topology in topologies()] == reference["edge_indices"]


def test_their_number_is_known_without_listing_them():
    assert [topology_count(nodes) for nodes in range(1, 5)] == [len(topologies(nodes)) for nodes in range(1, 5)]
    assert topology_count() == 180


def test_a_text_means_a_topology_by_its_inputs_or_its_number():
    assert parse_topology("0,1;0,1;0,1;0,1") == parse_topology("0") == ((0, 1),) * 4
    assert parse_topology("2", nodes=2) == ((0, 1), (1, 2))
    for number, topology in enumerate(topologies()):
        assert parse_topology(topology_text(topology)) == parse_topology(str(number)) == topology


def test_a_number_is_read_without_a_list_of_all_topologies():
    assert parse_topology("0", nodes=12) == ((0, 1),) * 12
    last = topology_count(8) - 1
    assert parse_topology(str(last), nodes=8) == tuple((node - 2, node - 1) for node in range(2, 10))


@pytest.mark.parametrize(
    "text, told",
    [
        ("180", "0 to 179"),
        ("-1", "0 to 179"),
        ("", "0 to 179"),
        ("²", "0 to 179"),
        ("0,1;;0,1;0,1", "0,1;0,1;0,1;0,1"),
        ("0,1;0,1", "has 2 nodes, the cell has 4"),
        ("0,1;0,3;0,1;0,1", "node 3 must read two different ones of 0 to 2"),
        ("0,1;1,0;0,1;0,1", "the lower first"),
        ("0,1;1,1;0,1;0,1", "two different"),
        ("0,1;0,1,2;0,1;0,1", "node 3"),
    ],
)
def test_what_is_no_topology_is_refused(text, told):
    with pytest.raises(KdartsError, match=told):
        parse_topology(text)


def test_a_topology_of_something_else_than_pairs_is_refused():
    with pytest.raises(KdartsError, match="pair"):
        check_topology([0, 1], 2)


# Supernets


def _small(**options) -> Supernet:
    space = SearchSpace("few", ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3"))
    return Supernet(space, (8, 8, 3), 3, **{"channels": 4, "cells": 2, "reductions": (1,), **options})


@pytest.mark.parametrize("topology", ["0", "0,1;0,2;1,2;2,4"])
def test_a_topology_is_the_whole_supernet_without_the_other_edges(topology):
    part, whole = _small(topology=topology), _small()
    rows = [edge_sources(4).index(edge) for edge in part.edges]
    assert rows == topology_edges(parse_topology(topology)) and [a.shape for a in part.alphas] == [(8, 4)] * 2
    for ours, theirs in zip((*part.stems, part.classifier), (*whole.stems, whole.classifier), strict=True):
        ours.set_weights(theirs.get_weights())
    for ours, theirs in zip(part.cells, whole.cells, strict=True):
        for mine, full in zip(ours.preprocess, theirs.preprocess, strict=True):
            mine.set_weights(full.get_weights())
        for source, mixed in zip(ours.sources, ours.mixed_edges, strict=True):
            kept = [to for to, start in part.edges if start == source]
            places = [[to for to, start in whole.edges if start == source].index(to) for to in kept]
            for column, stack in mixed.stacks.items():
                for value, full in zip(stack.weights, theirs.mixed_edges[source].stacks[column].weights, strict=True):
                    by_edge = full.numpy().reshape(*full.shape[:-1], theirs.mixed_edges[source].copies, -1)
                    value.assign(by_edge[..., places, :].reshape(value.shape))
    mixtures = []
    for weights in part.mixing_weights():
        expanded = np.zeros((14, 4), np.float32)
        expanded[rows] = weights
        mixtures.append((tf.constant(expanded), None))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    expected = whole.classify(whole.states(x, True, mixtures)[-1])
    np.testing.assert_allclose(part(x, training=True), expected, atol=1e-5)


def test_a_topology_has_the_weights_of_its_edges_alone():
    part = Supernet("darts", (32, 32, 3), 10, cells=5, topology="0")
    assert [alpha.shape for alpha in part.alphas] == [(8, 8)] * 2
    params = part.cost().params
    assert params == sum(np.prod(w.shape) for w in part.network_variables)
    # By hand: stem, classifier, the cells' first convolutions; then 8 edges of each cell. Separable convolutions have
    # two depthwise and two pointwise filters, dilated ones one of each; a skip of stride 2 has a pointwise one.
    stem, classifier, adapters = 27 * 48 + 2 * 48, 257 * 10, 0
    edges, before = 0, (48, 48)
    for width, reduction in ((16, False), (32, True), (32, False), (64, True), (64, False)):
        adapters, before = adapters + sum(before) * width, (before[1], 4 * width)
        edges += 8 * (3 * (9 + 25) * width + 6 * width**2 + reduction * width**2)
    assert params == stem + classifier + adapters + edges
    assert 2 * params > Supernet("darts", (32, 32, 3), 10, cells=5).cost().params > params


def test_the_configuration_keeps_the_topology():
    net = _small(topology=[(0, 1), (1, 2), (0, 3), (0, 1)])
    again = Supernet.from_config({**net.get_config(), "space": net.space})
    assert again.edges == net.edges == [(2, 0), (2, 1), (3, 1), (3, 2), (4, 0), (4, 3), (5, 0), (5, 1)]
    with pytest.raises(KdartsError, match="has 4 nodes, the cell has 2"):
        _small(topology="0,1;0,1;0,1;0,1", nodes=2)


MIXES = [
    {"sharing": "individual", "mixing": "max_w", "partial_channels": 2, "order": "second"},
    {"sharing": "shared", "mixing": "node_softmax", "sampling": "gumbel", "order": "first", "recompute": True},
    {"sharing": "shared", "mixing": "sigmoid", "sampling": "random", "order": "exact", "skip_dropout": 0.5},
    {"sharing": "individual", "mixing": "softmax", "auxiliary_skip": True, "order": "first"},
]


@pytest.mark.parametrize("discretization", ["darts", "pairs", "progressive", "edge"])
@pytest.mark.parametrize("choices", MIXES, ids=lambda c: c["mixing"])
def test_a_topology_mixes_with_every_choice(choices, discretization, eagerly):
    topology, ablation = "0,1;0,2;0,1;2,4", float(choices["sharing"] == "individual")
    net = _small(topology=topology, **{name: value for name, value in choices.items() if name != "order"})
    choices = {name: value for name, value in choices.items() if name != "recompute"}
    choices |= {"threshold": 0.0} if discretization == "edge" else {}
    search = Search(net, discretization=discretization, topology=topology, ablation_weight=ablation, **choices)
    search.compile()
    if discretization == "darts":
        before = [v.numpy() for v in net.architecture]
        x = tf.constant(np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32"))
        batch = x, tf.constant([0, 1, 2] * 2)
        search.train_step((batch, batch))
        moves = choices.get("sampling") != "random"
        assert all(np.any(v != b) == moves for v, b in zip(net.architecture, before, strict=True))
    genotype = search.genotype()
    for cell in genotype.cells:
        assert {(to, source) for _, to, source in cell} <= set(net.edges)
        if discretization != "pairs":
            assert {(to, source) for _, to, source in cell} == set(net.edges)
    if discretization == "darts":
        strongest = [np.asarray(w)[:, 1:].argmax(1) + 1 for w in net.mixing_weights()]
        for cell, best in zip(genotype.cells, strongest, strict=True):
            found = {(to, source): operation for operation, to, source in cell}
            assert [found[edge] for edge in net.edges] == [net.space.operations[k] for k in best]


def test_shares_and_joint_softmaxes_of_a_topology_are_of_its_own_edges():
    net = _small(topology="0,1;0,2;0,1;2,4", partial_channels=2, mixing="node_softmax")
    for share, weights in zip(net.mixture.shares(), net.mixing_weights(), strict=True):
        np.testing.assert_allclose(tf.reshape(share, [4, 2]).numpy().sum(1), 1, rtol=1e-6)
        np.testing.assert_allclose(tf.reshape(weights, [4, -1]).numpy().sum(1), 1, rtol=1e-6)
    for strength in net.mixture.selection_weights():
        assert strength.shape == (14, 4) and np.all((strength.numpy() > 0).all(1) == (strength.numpy() != -1).all(1))
