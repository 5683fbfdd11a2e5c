"""HyperCuboids: the supernet, against sharpDARTS' MultiChannelNet and on its own, and the networks of paths."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import state_dict

from kdarts.genotypes.best_path import best_path
from kdarts.nets.hyper_network import build_path_network
from kdarts.nets.hypercuboid import HyperCuboid
from kdarts.nets.multichannelnet import multichannelnet_axes, multichannelnet_parts
from kdarts.nets.reference import load_reference_state

AXES = multichannelnet_axes(4, 4, 2)
"""Those of the reference arrays."""


def images(array):
    """From the reference's channels first."""
    return array.transpose(0, 2, 3, 1).astype("float32")


def by_stage(array):
    """From the reference's `[stride, layer, ...]` to α's rows."""
    return array.swapaxes(0, 1).reshape(4, 8)


def of_reference(arrays, mixing, alphas):
    """The HyperCuboid of the reference arrays, with their weights."""
    parts = vars(multichannelnet_parts(AXES, 10, 16))
    axes = AXES.sequence, AXES.states, AXES.choices
    cuboid = HyperCuboid((16, 16, 3), *axes, **parts, mixing=mixing, space="multichannelnet")
    load_reference_state(cuboid, state_dict({k: v for k, v in arrays.items() if k.startswith("param:")}))
    cuboid.alphas[0].assign(by_stage(alphas))
    return cuboid


@pytest.mark.parametrize(("mixing", "algorithm"), [("softmax", "scalar"), ("max_w", "max_w")])
def test_multichannelnet_is_the_reference(golden, eagerly, mixing, algorithm):
    arrays = golden("multichannelnet.npz")
    cuboid = of_reference(arrays, mixing, arrays["alphas_A"])
    for name in "AB":
        cuboid.alphas[0].assign(by_stage(arrays[f"alphas_{name}"]))
        wanted = {key: arrays[f"{name}/{algorithm}/all/{key}"] for key in ("logits", "loss", "dalphas")}
        with tf.GradientTape() as tape:
            logits = cuboid(images(arrays["x"]), training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(arrays["y"], logits))
        variables = [cuboid.alphas[0].value, *(v.value for v in cuboid.operation_weights)]
        by_alpha, *by_weights = tape.gradient(loss, variables)
        np.testing.assert_allclose(logits, wanted["logits"], atol=1e-4)
        np.testing.assert_allclose(loss, wanted["loss"], atol=1e-5)
        np.testing.assert_allclose(by_alpha, by_stage(wanted["dalphas"]), atol=2e-5)
        norm = arrays[f"{name}/{algorithm}/all/grad_global_norm"]
        np.testing.assert_allclose(tf.linalg.global_norm(by_weights), norm, rtol=1e-4)
    weights = cuboid.mixture.strengths()[0]
    np.testing.assert_allclose(weights, by_stage(arrays["B/weights"]), atol=1e-6)


def test_the_network_of_the_longest_path_is_the_reference(golden, eagerly):
    arrays = golden("multichannelnet.npz")
    cuboid = of_reference(arrays, "softmax", arrays["alphas_A"])
    path = cuboid.path(*best_path(cuboid.path_weights())[:2])
    nodes = [f"layer_{s['layer']}_add_c_out_{s['filters']}_stride_{s['stride']}" for s in path.steps]
    assert [node for node in str(arrays["path"]).split('"') if node in nodes] == nodes
    network = build_path_network(path, (16, 16, 3), multichannelnet_parts(AXES, 10, 16))
    prefix = "final_fixed/param:"
    load_reference_state(network, {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
    logits = network(images(arrays["x"]), training=True)
    np.testing.assert_allclose(logits, arrays["final_fixed/logits"], atol=1e-4)
