"""Topologies: their order, their text, their edges."""

import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.topology import (
    check_topology,
    parse_topology,
    topologies,
    topology_count,
    topology_edges,
    topology_text,
)


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
