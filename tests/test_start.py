"""α from a genotype: by hand, and back again."""

import numpy as np
import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, get_genotype
from kdarts.search.building import alphas_from, start_from
from kdarts.search.selection import discretize
from kdarts.supernet.relaxation import Sigmoid
from kdarts.supernet.spaces import get_space
from kdarts.supernet.supernet import Supernet

sigmoid = Sigmoid().weights

BACK = ["ResNet18", "InceptionV4", "resnet18", "resnet50", "xception", "DO-1-ResNet18", "DO-2-ResNet50"]
BACK += ["ResNet18_cifar100_threshold_edge_0.85", "ResNet50_cifar10_threshold_edge_0.85"]


def _sorted(genotype: Genotype) -> list:
    return [sorted(cell, key=lambda edge: (edge[1:], edge[0])) for cell in genotype.cells]


@pytest.mark.parametrize("rule", ["complete", "edge"])
@pytest.mark.parametrize("name", BACK)
def test_the_rules_give_the_genotype_back(name, rule):
    genotype, space = get_genotype(name), get_space("dartopti")
    alphas = alphas_from(genotype, space)
    nodes = max(4, genotype.nodes)
    assert len(alphas) == len(genotype.cells) and alphas[0].shape == (nodes * (nodes + 3) // 2, 12)
    probabilities = [sigmoid(alpha).numpy() for alpha in alphas]
    multiplier = len(genotype.concats[0])
    back = discretize(probabilities, space, rule, 0.85, genotype.reductions, genotype.sequence, multiplier)
    assert _sorted(back) == _sorted(genotype)
    assert (back.sequence, back.reductions) == (genotype.sequence, genotype.reductions)
    if set(genotype.concats) == {tuple(range(nodes + 2 - multiplier, nodes + 2))}:
        assert back.concats == genotype.concats


def test_rows_are_edges_and_columns_operations():
    space = get_space("dartopti")
    cell = [("max_pool_3x3", 3, 2), ("conv_3x1_1x3", 2, 0), ("bottleneck_1x3x1", 3, 2)]
    genotype = Genotype((cell, []), ((2, 3),) * 2, (), (0, 1, 0))
    alpha, empty = alphas_from(genotype, "dartopti", nodes=2)
    expected = np.zeros((5, 12))  # 0→2, 1→2, 0→3, 1→3, 2→3
    expected[0, 0] = expected[4, space.operations.index("max_pool_3x3")] = expected[4, 11] = 10
    np.testing.assert_array_equal(alpha, expected)
    assert alpha.dtype == "float32" and not empty.any()
    assert [a.shape for a in alphas_from(genotype, "dartopti")] == [(14, 12)] * 2
    assert alphas_from(get_genotype("ResNet50"), "dartopti")[0].shape == (27, 12)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "xception"])
def test_a_faithful_network_comes_back_whole(name):
    """All its cells end at the last node, which is what the cells of its supernet pass on."""
    genotype = get_genotype(name)
    probabilities = [sigmoid(alpha).numpy() for alpha in alphas_from(genotype, "dartopti", genotype.nodes)]
    back = discretize(probabilities, get_space("dartopti"), "edge", 0.85, *genotype.at_depth(None)[::-1], multiplier=1)
    assert _sorted(back) == _sorted(genotype) and back.concats == genotype.concats and not back.gaps()


def test_it_fits_a_supernet_whose_cells_are_shared_like_the_genotypes():
    genotype = get_genotype("resnet18")
    sizes = {"channels": 2, "cells": 4, "reductions": genotype.reductions, "sharing": genotype.sequence}
    net = Supernet("dartopti", (16, 16, 3), 4, mixing="sigmoid", multiplier=1, **sizes)
    for alpha, value in zip(net.alphas, alphas_from(genotype, net.space, net.nodes), strict=True):
        alpha.assign(value)
    found = discretize(net.mixing_weights(), net.space, "edge", 0.85, net.reductions, net.sequence, net.multiplier)
    assert _sorted(found) == _sorted(genotype) and found.concats == genotype.concats


def test_a_cell_that_ends_before_the_supernets_is_no_start():
    """Its function would not be in the supernet, whose outputs nothing leads to."""
    cells = ((("skip_connect", 2, 1),), (("skip_connect", 2, 1), ("max_pool_3x3", 3, 2)))
    net = Supernet("dartopti", (8, 8, 1), 2, 2, 2, (), sharing=[0, 1], mixing="sigmoid", nodes=2, multiplier=1)
    with pytest.raises(KdartsError, match=r"start: cell 0 ends at node 2, .* at node 3"):
        start_from(net, Genotype(cells, ((2,), (3,)), (), (0, 1)))
    start_from(net, Genotype(((("skip_connect", 3, 1),), cells[1]), ((3,), (3,)), (), (0, 1)))


def test_what_a_space_cannot_hold_is_refused():
    with pytest.raises(KdartsError, match="space 'ddarts' lacks simple_conv_3x3; it has max_pool_3x3"):
        alphas_from(get_genotype("ResNet18"), "ddarts")
    with pytest.raises(KdartsError, match="nodes 4: the genotype has 6"):
        alphas_from(get_genotype("ResNet50"), "dartopti", nodes=4)
    with pytest.raises(KdartsError, match="unknown space"):
        alphas_from(get_genotype("ResNet50"), "dartopt")
