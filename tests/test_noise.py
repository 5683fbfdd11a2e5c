"""Noise as a candidate: N(0, 1) of the output's shape, whatever the input is, the same in a run that is repeated."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.networks.network import build_network
from kdarts.ops.mixed import MixedEdges
from kdarts.ops.operations import get_operation
from kdarts.paths.derivation import Family
from kdarts.search.method import get_method
from kdarts.supernet.cost import network_cost
from kdarts.supernet.macro import MacroConfig
from kdarts.supernet.spaces import get_space
from kdarts.supernet.supernet import Supernet


@pytest.mark.parametrize("stride, sides", [(1, (7, 8)), (2, (4, 4))])
def test_edges_of_noise_are_normal_apart_and_do_not_see_the_input(stride, sides):
    mixed = MixedEdges((get_operation("noise"), get_operation("skip_connect")), 2, 64, stride)
    mixed.build((None, None, None, 64))
    weights = tf.constant([[1.0, 0.0], [0.5, 0.0]])
    first, second = mixed(tf.zeros((3, 7, 8, 64)), weights, training=True, noise=[1, 2])
    assert first.shape == second.shape == (3, *sides, 64)
    assert abs(np.mean(first)) < 0.05 and np.std(first) == pytest.approx(1, abs=0.05)
    assert np.std(second) == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]) < 0.1
    again, _ = mixed(tf.ones((3, 7, 8, 64)), weights, training=True, noise=[1, 2])
    other, _ = mixed(tf.zeros((3, 7, 8, 64)), weights, training=True, noise=[1, 3])
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_supernet_draws_its_noise_by_the_count_of_its_draws(eagerly):
    net = Supernet("s4", (8, 8, 1), 3, channels=2, cells=2, nodes=2, sampling="gumbel")
    x = tf.ones((2, 8, 8, 1))

    def states():
        return net.states(x, training=True, mixtures=[(tf.constant([[1.0, 0.0]] * 5), None)] * len(net.alphas))

    before, again = states()[-1], states()[-1]
    net.mixture.redraw()
    np.testing.assert_array_equal(before, again)
    assert not np.array_equal(before, states()[-1])
    assert np.isfinite(net(x, training=True)).all() and np.array_equal(net(x), net(x))


def test_a_network_of_noise_is_built_costs_nothing_there_and_answers_alike():
    cell = (("noise", 2, 0), ("sep_conv_3x3", 2, 1))
    genotype = Genotype((cell, cell), ((2,), (2,)))
    network = build_network(genotype, (8, 8, 1), 3, channels=4, cells=2)
    x = np.ones((2, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(network(x), network(x))
    assert not np.array_equal(network(x, training=True), network(x, training=True))
    skips = Genotype(((("max_pool_3x3", 2, 0), cell[1]),) * 2, ((2,), (2,)))
    assert network_cost(genotype, (8, 8, 1), 3, 4, 2) == network_cost(skips, (8, 8, 1), 3, 4, 2)


def test_shared_paths_have_no_noise():
    with pytest.raises(KdartsError, match="shared paths know no noise"):
        Family(paths=2).check(get_method("darts"), get_space("s4"), MacroConfig())
