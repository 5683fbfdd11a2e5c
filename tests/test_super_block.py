"""Blocks that share their weights: one that is chosen is its own network, and every mixing weight has a gradient."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import copy_edge

import kdarts
from kdarts.cli.main import main
from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.ops.operations import inverted_residual
from kdarts.supernet.cuboids import PublishedHyperCuboid
from kdarts.supernet.mobile import block_costs
from kdarts.supernet.super_block import SuperBlock

BLOCKS = "mb_k3_e2,mb_k3_e3,mb_k5_e3,skip"


def supernet(**choices):
    """A supernet of narrow blocks that share weights, on small images, with some running statistics."""
    keras.utils.set_random_seed(0)
    net = PublishedHyperCuboid(
        "mobile", (9, 8, 1), 3, mixing="softmax", width=0.5, blocks=BLOCKS, form="shared", **choices
    )
    for number, variable in enumerate(net.variables):
        if variable.path.endswith(("mean", "var", "gamma", "beta", "bias")):
            variable.assign(variable + 0.3 * np.abs(np.random.default_rng(number).normal(size=variable.shape)))
    return net


def part_of(block, size, expansion, stride):
    """One of the blocks of a `SuperBlock`, as a `GroupedOperation` has it."""
    channels = block.expand.shape[2]
    wide, edge = expansion * channels, block.sizes.index(size)
    first, second, last = block.statistics
    kernels = {"expand": block.expand[..., :wide], "own": block.kernels[edge][..., :wide]}
    weights = [
        [kernels["expand"]],
        [value[:wide] for value in first],
        [],
        [kernels["own"]],
        [value[:wide] for value in second],
        [],
        [block.project[:, :, :wide]],
        [tf.convert_to_tensor(value) for value in last],
    ]
    operation = inverted_residual("mb", channels, size, expansion)
    return SimpleNamespace(operation=operation, stride=stride, copies=1, step_weights=weights)


@pytest.mark.parametrize("choices", [(0, 1, 2, 2, 0, 3, 1, 2, 3)])
def test_a_block_that_is_chosen_is_its_own_network(choices, eagerly):
    net = supernet()
    alpha = np.full(net.allowed.shape[::3], -200.0)
    alpha[np.arange(9), choices] = 200
    net.alphas[0].assign(alpha)
    path = HyperPath(net.cuboid, (0,) * 10, choices, "mobile")
    network, chains = net.network(path), net.chains
    for number, stack in enumerate(chains["stem.0"].layers):
        copy_edge(stack, 0, network, f"stem.0.{number}")
    for stage, step in enumerate(path.steps):
        if step["block"] != "skip":
            size, expansion = (int(word[1]) for word in step["block"].split("_")[1:])
            copy_edge(
                part_of(net.joined[stage], size, expansion, net.joined[stage].stride), 0, network, f"op_grid.{stage}"
            )
    network.get_layer("classifier").set_weights(chains["tail"].layers[1].get_weights())
    x = np.random.default_rng(1).normal(size=(4, 9, 8, 1)).astype("float32")
    for training in (False, True):
        np.testing.assert_allclose(net(x, training=training), network(x, training=training), atol=1e-5)


@pytest.mark.parametrize("residual", [True, False])
def test_every_mixing_weight_has_the_gradient_of_the_loss(residual, eagerly):
    """A factor in front of a normalisation of its own channel would have none."""
    keras.config.set_dtype_policy("float64")
    blocks = [(3, 2), (3, 3), (5, 3), (5, 4), *([None] if residual else [])]
    block, rng = SuperBlock(blocks, 4, 1 if residual else 2, residual), np.random.default_rng(0)
    x, upstream = rng.normal(size=(3, 5, 6, 4)), rng.normal(size=(3, 5, 6, 4) if residual else (3, 3, 3, 4))
    block.build((None, 5, 6, 4))
    start = tf.constant(rng.normal(size=len(blocks)))

    def loss(alpha):
        return tf.reduce_sum(block(x, tf.nn.softmax(alpha), training=True) * upstream)

    with tf.GradientTape() as tape:
        tape.watch(start)
        value = loss(start)
    gradient = tape.gradient(value, start).numpy()
    steps = 1e-6 * np.eye(len(blocks))
    np.testing.assert_allclose(gradient, [(loss(start + s) - loss(start - s)) / 2e-6 for s in steps], rtol=1e-4)
    assert (np.abs(gradient) > 1e-3 * np.abs(gradient).max()).all()


def test_a_place_that_is_left_out_passes_its_input_on(eagerly):
    block, x = SuperBlock([(3, 2), (5, 3), None], 4, 1, True), np.random.default_rng(0).normal(size=(2, 5, 6, 4))
    block.build((None, 5, 6, 4))
    weights = tf.constant([0.0, 0.0, 1.0])
    with tf.GradientTape() as tape:
        tape.watch(weights)
        output = block(x, weights, training=True)
        value = tf.reduce_sum(output)
    np.testing.assert_allclose(output, x, rtol=1e-6)
    assert np.isfinite(tape.gradient(value, weights)).all()


def test_it_costs_what_its_largest_network_does_and_alpha_means_the_same():
    """MACs of macro 32 are those of all mb_k5_e6; the paths cost what they do with weights of their own."""
    at = {"space": "mobile", "input_shape": (32, 32, 3), "num_classes": 10, "mixing": "softmax"}
    shared = PublishedHyperCuboid(**at, form="shared")
    assert shared.cost().macs == 18_359_776
    assert shared.cost().params < 1.2 * 171_722
    found, (costs, _) = shared.transition_costs(), block_costs(shared.cuboid, 10)
    assert {index[::3] for index in found} == {tuple(index) for index in np.argwhere(costs != None).tolist()}  # noqa: E711
    assert all(found[stage, 0, 0, k] == costs[stage, k] for stage, _, _, k in found if 0 < stage < 8)
    again = PublishedHyperCuboid.from_config(shared.get_config())
    assert again.form == "shared" and [w.shape for w in again.weights] == [w.shape for w in shared.weights]


def test_a_search_moves_all_of_it(eagerly):
    search = kdarts.Search(
        "darts", (8, 8, 1), 3, space="mobile", width=0.5, blocks=BLOCKS, form="shared", max_ram=1800.0
    )
    search.compile()
    rng, net = np.random.default_rng(0), search.supernet
    batches = [(tf.constant(rng.normal(size=(4, 8, 8, 1)), tf.float32), tf.constant([0, 1, 2, 0])) for _ in range(2)]
    before = [(v, v.numpy()) for v in (*net.alphas, *net.network_variables)]
    search.train_step(batches)
    for variable, value in before:
        there = net.allowed[:, 0, 0] if variable is net.alphas[0] else True
        assert (np.any(variable.numpy() != value)) and np.isfinite(variable.numpy()).all(), variable.path
        assert variable is not net.alphas[0] or (variable.numpy() != value)[there].all()
    assert len(search.genotype().choices) == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--space=mobile", "--blocks=mb_k3_e1,mb_k3_e3"], "share a convolution that expands, and mb_k3_e1 has none"),
        (["--space=mobile", "--blocks=mb_k3_e3,mb_k3_e3_se"], "--form=shared: has no squeeze-and-excitation"),
        (["--space=darts"], "--form=shared: has no effect in --space=darts; it is for mobile"),
    ],
)
def test_what_cannot_share_weights_is_refused(arguments, said, tmp_path, capsys):
    assert main(["search", "--form=shared", *arguments, "--dry_run", f"--workdir={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_a_grid_of_a_programs_own_has_no_shared_form():
    with pytest.raises(KdartsError, match="form 'shared': is for a chain whose blocks share weights, such as space"):
        PublishedHyperCuboid("multichannelnet", (8, 8, 1), 3, 2, 2, 2, form="shared")
