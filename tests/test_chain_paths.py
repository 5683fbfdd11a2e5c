"""Shared paths through a chain of choices: their networks, soft pruning, the family within limits, and who may."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import copy_edge

import kdarts
from kdarts.cli.main import main
from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.ops.layers import model_cost
from kdarts.paths.chain import ChainNetwork, chain_of, paths_of_chain, prune_chain
from kdarts.supernet.cuboids import PublishedHyperCuboid

BLOCKS = "mb_k3_e2,mb_k5_e3,skip"
SMALL = {"space": "mobile", "width": 0.25, "blocks": BLOCKS}
PATHS = {"path_batch_size": 8, "calibration_batches": 1, "population": 3, "generations": 2}
X = np.random.default_rng(1).normal(size=(4, 9, 8, 1)).astype("float32")


def supernet(**choices):
    """A supernet of narrow blocks on small images, its α at random."""
    keras.utils.set_random_seed(0)
    net = PublishedHyperCuboid(**SMALL, input_shape=(9, 8, 1), num_classes=3, mixing="softmax", **choices)
    net.alphas[0].assign(np.random.default_rng(0).normal(size=net.alphas[0].shape))
    return net


def test_soft_pruning_keeps_the_strongest_blocks_behind_what_is_derived():
    net = supernet()
    weights, allowed = net.path_weights()[:, 0, 0], net.allowed[:, 0, 0]
    derived = HyperPath(net.cuboid, (0,) * 10, (0,) * 9, "mobile")
    space = prune_chain(net, 2, derived)
    assert (space.kept, space.edges, space.paths) == (2, 9, 2**9)
    assert space.genotype([0] * 9) == derived
    for row, there, (first, second) in zip(weights, allowed, space.options, strict=True):
        assert first == 0 and second == max(np.flatnonzero(there)[1:], key=lambda k: row[k])
    assert json.loads(space.to_json())["places"] == {name: list(names) for name, names in space.named.items()}
    with pytest.raises(KdartsError, match="paths 3: a place here has 2 blocks to choose from; allowed are 1 to 2"):
        prune_chain(net, 3, derived)
    whole = paths_of_chain(net)
    assert whole.kept == 3 and whole.paths == 3**6 * 2**3
    assert [whole.possible(path) for path in ([2] * 9, [1] * 9)] == [False, True]


def test_a_path_is_the_network_that_is_built_of_it(eagerly):
    net = supernet()
    space = prune_chain(net, 2, HyperPath(net.cuboid, (0,) * 10, (0,) * 9, "mobile"))
    shared = ChainNetwork(space, net)
    for number, variable in enumerate(shared.variables):
        if variable.path.endswith(("mean", "var", "gamma", "beta")):
            variable.assign(variable + 0.3 * np.abs(np.random.default_rng(number).normal(size=variable.shape)))
    paths = [[0, 1, 0, 1, 1, 0, 0, 1, 1], [1, 0, 1, 0, 0, 1, 1, 0, 0]]
    for path in paths:
        shared.chosen.assign(path)
        network = net.network(space.genotype(path))
        for number, stack in enumerate(shared._stem.layers):
            copy_edge(stack, 0, network, f"stem.0.{number}")
        for place, (chains, choice) in enumerate(zip(shared._places, path, strict=True)):
            for stack in chains[choice].layers:
                copy_edge(stack, 0, network, f"op_grid.{place}")
        network.get_layer("classifier").set_weights(shared._tail.layers[1].get_weights())
        np.testing.assert_allclose(shared(X), network(X), atol=1e-5)
        assert shared.cost_of(path).macs == model_cost(network).macs
        assert shared.cost_of(path).params == model_cost(network).params
    together = shared.group(X, tf.constant(paths))
    for path, logits in zip(paths, together, strict=True):
        np.testing.assert_allclose(shared.group(X, tf.constant([path]))[0], logits, atol=1e-5)


def test_the_paths_of_a_supernet_have_its_weights(eagerly):
    net = supernet(sampling="path")
    network, choices = chain_of(net), [0, 1, 2, 1, 0, 2, 0, 2, 1]
    one = tf.one_hot(choices, 3)
    logits = net.classify(net.states(X, training=True, mixtures=[(one, None)])[-1])
    np.testing.assert_allclose(network.group(X, tf.constant([choices]))[0], logits, atol=1e-5)


def search_of(method="darts", **choices):
    """A tiny finished search of the digits."""
    search = kdarts.Search(method, (8, 8, 1), 10, **SMALL, **choices, epochs=1, batch_size=8)
    data = kdarts.search_dataset("digits", 8, train_examples=16, valid_examples=16)
    search.fit(data, verbose=0)
    return search


@pytest.mark.slow
def test_a_family_is_found_within_the_limits(eagerly):
    search = search_of(**PATHS, paths=2, path_epochs=1, path_cutout=0, max_macs=60e3, size_bin=0.001)
    result, net = search.path_result, search.supernet
    assert len(result.rows) == 6 and result.family and search.genotype() == result.genotype
    assert set(result.genotypes) == {row["name"] for row in result.family}
    for row in result.rows:
        path = result.space.genotype([int(word) for word in row["path"].split()])
        cost = net.cost_of(path)
        assert (cost.macs, cost.params) == (row["macs"], row["params"]) and cost.macs <= 60e3
    assert result.space.genotype([0] * 9) == search.genotype("best_path") or search.cost_target.limits


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dartspd", "spos"])
def test_the_methods_of_shared_paths_search_a_chain(method, eagerly, tmp_path, capsys):
    few = ["--train_examples=64", "--valid_examples=32", "--epochs=1", "--batch_size=8", "--calibration_batches=1"]
    few += ["--population=3", "--generations=2", "--path_batch_size=8", "--blocks=mb_k3_e2,mb_k5_e3,skip"]
    few += ["--path_epochs=1"] if method == "dartspd" else []
    run = tmp_path / "run"
    search = ["search", f"--method={method}", "--space=mobile", "--width=0.25", "--max_macs=60k", *few]
    assert main([*search, f"--workdir={run}"]) == 0
    told = capsys.readouterr().out
    assert "Found a family of" in told and f"--family={run / 'family'}" in told
    summary = json.loads((run / "summary.json").read_text())
    path = HyperPath.load(run / "genotype.json")
    assert summary["macs"] <= 60_000 and path.space == "mobile"
    assert main(["train", f"--family={run / 'family'}", "--epochs=1", f"--workdir={tmp_path / 'train'}"]) == 0
    assert (tmp_path / "train" / "family.csv").exists()


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"paths": 2, "path_choice": "skips"}, "path_choice 'skips' is about cells"),
        ({"paths": 3}, "paths 3: a place here has 2 blocks to choose from"),
        ({"paths": 2, "path_choice": "evolution"}, "goes through all 3 operations; allowed is from 3 to 100"),
        ({"paths": 3, "path_choice": "evolution", "form": "shared"}, "takes blocks with weights of their own"),
        ({"paths": 2, "size_by": "latency_ms"}, "size_by 'latency_ms': needs size_latencies=FILE"),
        ({"paths": 2, "target_macs": 60e3}, "target_macs: with paths the network is not derived from α"),
    ],
)
def test_paths_that_a_chain_has_not_are_refused(choices, said):
    with pytest.raises(KdartsError, match=said):
        kdarts.Search("darts", (8, 8, 1), 10, **SMALL, **choices)


def test_states_have_no_shared_paths(tmp_path, capsys):
    with pytest.raises(KdartsError, match="paths 2: needs a chain of placed operations, without states"):
        kdarts.Search("multichannelnet", (8, 8, 1), 10, channels=2, cells=2, nodes=2, paths=2)
    words = ["search", "--method=dartspd", "--space=mobile", "--family_cells=7", "--dry_run", f"--workdir={tmp_path}"]
    assert main(words) == 0
    assert "--family_cells=7: has no effect with --space=mobile" in capsys.readouterr().err
