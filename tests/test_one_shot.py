"""SPOS and FairNAS: which paths train the weights, and the paths through a trained supernet."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.paths.fair import SAMPLERS, FairTraining
from kdarts.paths.inherited import network_of, paths_of
from kdarts.paths.network import PathNetwork
from kdarts.paths.prune import Evolution
from kdarts.search.method import get_method
from kdarts.search.objective import without_graph_rewriting
from kdarts.search.relaxations import FairDraws, UniformPath
from kdarts.search.search import Search
from kdarts.supernet.supernet import Supernet

SPACE = "none,skip_connect,max_pool_3x3,dil_conv_3x3"
SIZE = {"channels": 2, "cells": 1, "nodes": 2, "space": SPACE}


def drawn(kind, steps: int, operations: int = 4, edges: int = 5) -> np.ndarray:
    """How often each operation of each edge was taken after some steps, `[steps, edges, operations]`."""
    weights, count = tf.fill((edges, operations), 1 / operations), kind().paths(operations)
    passes = [
        kind().draw(weights, None, 0, 0.0, tf.constant([number, 0], tf.int64)).numpy()
        for number in range(count, count * (steps + 1))
    ]
    return np.cumsum(np.reshape(passes, (steps, count, edges, operations)).sum(1), 0)


def test_fair_paths_take_every_operation_once_a_step():
    times = drawn(FairDraws, 12)
    np.testing.assert_array_equal(times, np.arange(1, 13)[:, None, None] * np.ones((5, 4)))
    weights = tf.fill((5, 4), 0.25)
    first = [FairDraws().draw(weights, None, 0, 0.0, tf.constant([k, 0], tf.int64)).numpy() for k in range(4, 24)]
    assert len({each.tobytes() for each in first}) > 15  # Other orders in other steps, on each edge.
    assert all((each.sum(1) == 1).all() for each in first)
    np.testing.assert_array_equal(FairDraws().draw(weights, None, 0, 0.0, None), weights)


def test_uniform_paths_take_each_operation_equally_often_on_average():
    times = drawn(UniformPath, 400)
    assert (times[-1].sum(1) == 400).all() and times[-1].std() > 0
    np.testing.assert_allclose(times[-1] / 400, 0.25, atol=0.08)
    some = tf.constant([[0.5, 0.0, 0.5]] * 5)
    assert all(not UniformPath().draw(some, None, 0, 0.0, [k, 0])[:, 1].numpy().any() for k in range(20))


def images(count=6, seed=0):
    x = np.random.default_rng(seed).normal(size=(count, 8, 8, 1)).astype("float32")
    return tf.constant(x), tf.constant(np.arange(count) % 3)


def made(method, **choices) -> Search:
    search = Search(method, (8, 8, 1), 3, **{**SIZE, **choices})
    search.compile()
    return search


def test_a_step_moves_the_weights_along_the_sum_over_fair_paths():
    search = made("fairnas", momentum=0.0, l2=0.0, clip=0.0, learning_rate=0.5)
    net, batch = search.supernet, images()
    before = [variable.numpy() for variable in net.network_variables]
    with without_graph_rewriting():
        tf.function(search.train_step, autograph=False)((batch, batch))
    assert int(net.mixture.draws) == 7  # The draws 4 to 7 of four operations.
    moved = [(b - v.numpy()) / 0.5 for b, v in zip(before, net.network_variables, strict=True)]
    for variable, value in zip(net.network_variables, before, strict=True):
        variable.assign(value)
    total = [np.zeros(value.shape) for value in before]
    for number in range(4, 8):
        net.mixture.draws.assign(number)
        values = search.objective.values()
        found = search.objective.gradients(*values, batch)["by_weights"]
        total = [t + g.numpy() for t, g in zip(total, found, strict=True)]
    for one, other in zip(moved, total, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    for method in ("spos", "fairnas"):
        assert get_method(method).update == "frozen" and get_method(method).path_choice == "evolution"


@pytest.mark.parametrize("space", [SPACE, pytest.param("nasbench201", marks=pytest.mark.slow)])
def test_a_path_computes_what_the_supernet_does_along_it(space):
    keras.utils.set_random_seed(1)
    net = Supernet(space, (8, 8, 1), 3, channels=4, cells=1, **({} if space != SPACE else {"nodes": 2}))
    for variable in net.network_variables:
        variable.assign_add(0.1 * tf.random.stateless_normal(variable.shape, [1, 2]))
    network, x = network_of(net), images()[0]
    rng = np.random.default_rng(0)
    for _ in range(2):
        path = rng.integers(0, network.space.kept, network.space.edges)
        names = [slot[2][choice] for slot, choice in zip(network.space.slots, path, strict=True)]
        columns = np.reshape([net.space.operations.index(name) for name in names], (-1, len(net.edges)))
        mixtures = [(tf.one_hot(row, len(net.space.operations)), None) for row in columns][-len(net.alphas) :]
        expected = net.classify(net.states(x, training=True, mixtures=mixtures)[-1])
        network.chosen.assign(path)
        np.testing.assert_allclose(network(x, training=True), expected, atol=1e-4)


def test_evolution_finds_the_best_path_of_a_separable_measure_and_never_measures_one_twice():
    net = Supernet(SPACE, (8, 8, 1), 3, channels=2, cells=1, nodes=2)
    space, worth = paths_of(net), np.random.default_rng(3).random((10, 4))
    evolution, measured = Evolution(space, 50, 20, 0, lambda path: True), []
    while len(measured) < evolution.limit and (new := evolution.next_round(measured)):
        measured += [(path, worth[np.arange(10), path].sum()) for path in new]
    assert len({path for path, _ in measured}) == len(measured) == 1000
    best = max(measured, key=lambda pair: pair[1])
    assert best[0] == tuple(worth.argmax(1)) and best not in measured[:50]


def test_other_samplers_of_shared_paths():
    permuted, uniform = (SAMPLERS[name](6, 3, 5) for name in ("fairnas", "spos"))
    groups = permuted.groups(0, 20)
    np.testing.assert_array_equal(np.sort(groups, 1), np.tile(np.arange(3)[:, None], (20, 1, 6)))
    assert uniform.groups(0, 20).shape == (20, 1, 6) and uniform.groups(0, 300).max() == 2
    for sampler in (permuted, uniform):
        whole = sampler.groups(0, 20)
        np.testing.assert_array_equal(sampler.groups(7, 20), whole[7:])
        assert len({each.tobytes() for each in whole}) == 20
    assert SAMPLERS["fair"](6, 3, 5).groups(0, 4).dtype == np.uint8
    with pytest.raises(KdartsError, match="path_cycles 2: path_sampler 'spos' has no cycles"):
        Search("dartspd", (8, 8, 1), 3, channels=8, cells=1, path_cycles=2, path_sampler="spos")


def test_a_single_path_trains_its_own_operations_alone(eagerly):
    net = Supernet(SPACE, (8, 8, 1), 3, channels=2, cells=1, nodes=1)
    training = FairTraining(PathNetwork(paths_of(net), (8, 8, 1), 3, 2, 1), "darts", momentum=0.0, l2=0.0)
    training.compile()
    before = [variable.numpy() for variable in training.trainable_variables]
    path = np.array([[0, 2, 2, 1]])  # The last two are of the reduction cell, the only one here.
    training.train_step((images(), tf.constant(path)))
    moved = {
        variable.path.split("/")[-2]
        for variable, value in zip(training.trainable_variables, before, strict=True)
        if not np.array_equal(variable, value) and "from_" in variable.path
    }
    assert moved == {"from_0_to_2_dil_conv_3x3"}


def test_what_the_paths_through_a_supernet_cannot_be_is_refused():
    for choices, message in (
        ({"paths": 2}, "paths 2: path_choice 'evolution' goes through all 4 operations; allowed is from 4 to 100"),
        ({"update": "step"}, "sampling 'fair_paths': 4 passes a step do not go with update 'step'"),
        ({"auxiliary_skip": True}, "goes through whole operations alone, not with auxiliary_skip"),
        ({"sharing": "individual"}, "needs sharing 'shared'"),
        ({"size_by": "latency_ms"}, "size_by 'latency_ms': needs size_latencies=FILE"),
        ({"space": "noise,skip_connect"}, "shared paths know no noise"),
    ):
        with pytest.raises(KdartsError, match=message):
            made("fairnas", **choices)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("method", ["spos", "fairnas"])
def test_a_search_ends_in_its_best_path(method):
    search = made(method, space="nasbench201", nodes=None, population=2, generations=2, calibration_batches=1)
    pairs = tf.data.Dataset.from_tensors((images(), images(seed=1)))
    search.fit(pairs, epochs=1, verbose=0)
    rows = search.path_result.rows
    assert len(rows) == 4 and search.genotype() == search.path_result.genotype
    assert search.path_result.accuracy == max(row["accuracy"] for row in rows)
    assert search.genotype().stages == 3 and search.path_result.about["paths"] == 5
