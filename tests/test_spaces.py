"""Search spaces: their sizes, and what is refused."""

import dataclasses
import math

import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.ops.operations import operation_names
from kdarts.supernet.spaces import SearchSpace, get_space, listed_space, register_space, space_names


@pytest.mark.parametrize("name", ["darts", "ddarts"])
def test_the_sizes_of_s_are_those_of_ddarts(name):
    space = get_space(name)
    assert space.size() == space.size(1) == 180 * 49**4 == 1_037_664_180
    assert space.size(2) == pytest.approx(1e18, rel=0.1) and space.size(8) == pytest.approx(1.3e72, rel=0.05)


def test_a_size_counts_two_inputs_of_each_node_and_an_operation_on_each():
    twelve = SearchSpace("twelve", tuple(name for name in operation_names() if name != "none")[:12])
    assert twelve.size() == get_space("dartopti").size() == 180 * 144**4 == pytest.approx(7.74e10, rel=1e-3)
    for nodes in (1, 2, 5):
        space = SearchSpace("s", ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"), nodes)
        by_hand = math.prod(math.comb(inputs, 2) * 3**2 for inputs in range(2, nodes + 2))
        assert space.size() == by_hand and space.size(3) == by_hand**3


def test_spaces_are_known_by_name():
    assert {"darts", "ddarts", "dartopti"} <= set(space_names())
    assert get_space("darts").operations[0] == "none" and "none" not in get_space("ddarts").operations
    with pytest.raises(KdartsError, match="did you mean 'darts'"):
        get_space("dart")
    assert register_space(get_space("darts")) is get_space("darts")
    with pytest.raises(KdartsError, match="exists already, with another definition"):
        register_space(dataclasses.replace(get_space("darts"), nodes=3))
    with pytest.raises(KdartsError, match="two or more different operations"):
        SearchSpace("s", ("none", "none"))
    with pytest.raises(KdartsError, match="unknown operation"):
        SearchSpace("s", ("none", "warp_drive"))


def test_sub_spaces_are_those_of_the_papers_table(golden):
    for name, learned in golden("edarts_tables.json")["table_I_subspaces"].items():
        assert get_space(name.lower()).operations == ("none", "max_pool_3x3", "skip_connect", *learned)


def test_a_list_of_operations_is_a_space():
    space = get_space("none, skip_connect,sep_conv_3x3")
    assert space.operations == ("none", "skip_connect", "sep_conv_3x3") and space.name == ",".join(space.operations)
    assert listed_space("skip_connect,none") == get_space("skip_connect,none")
    with pytest.raises(KdartsError, match="unknown operation 'warp'"):
        get_space("none,warp")
    with pytest.raises(KdartsError, match="two or more different"):
        listed_space("sep_conv_3x3")
