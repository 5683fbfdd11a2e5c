"""Candidates that are computed for the edges that drew them alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.ops import kernels
from kdarts.ops.mixed import MixedEdges
from kdarts.ops.operations import get_operation
from kdarts.search.search import Search
from kdarts.supernet.parameters import Mixture

pytestmark = pytest.mark.skipif(
    not kernels.has_grouped_gradients(tf.float32), reason="this CPU has no grouped convolutions"
)

NAMES = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_5x5", "dil_conv_3x3", "bottleneck_1x3x1")


@pytest.mark.parametrize("copies, stride, affine", [(1, 1, False), (3, 1, True), (3, 2, False), (1, 2, True)])
def test_drawn_edges_are_the_edges_of_all_candidates(copies, stride, affine):
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(copies)
    mixed = MixedEdges(tuple(map(get_operation, NAMES)), copies, 4, stride, affine=affine)
    x = tf.constant(random.normal(size=(3, 9, 8, 4)), tf.float32)
    mixed.build(x.shape)
    upstream = [random.normal(size=(3, -(-9 // stride), 8 // stride, 4)).astype("float32") for _ in range(copies)]

    @tf.function(autograph=False)
    def run(mixing):
        found = []
        for drawn in (False, True):
            with tf.GradientTape() as tape:
                tape.watch((x, mixing))
                edges = mixed(x, mixing, training=True, drawn=drawn)
                loss = tf.add_n([tf.reduce_sum(e * u) for e, u in zip(edges, upstream, strict=True)])
            sources = [x, mixing, *(v.value for v in mixed.trainable_variables)]
            found.append((edges, tape.gradient(loss, sources, unconnected_gradients="zero")))
        return found

    for draw in range(2 * len(NAMES)):
        columns = (draw + np.arange(copies) * (draw % 3)) % len(NAMES)
        mixing = np.zeros((copies, len(NAMES)), np.float32)
        mixing[range(copies), columns] = random.uniform(0.5, 2, copies)
        (edges, whole), (drawn_edges, drawn) = run(tf.constant(mixing))
        for one, other in zip(edges, drawn_edges, strict=True):
            np.testing.assert_allclose(other, one, atol=2e-4)
        # What was not drawn has no gradient of its own.
        np.testing.assert_allclose(drawn[1], whole[1] * (mixing != 0), rtol=1e-3, atol=2e-3)
        for one, other in zip((whole[0], *whole[2:]), (drawn[0], *drawn[2:]), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=3e-3)


def test_what_no_edge_drew_is_not_computed_for_the_output():
    mixed = MixedEdges(tuple(map(get_operation, NAMES)), 2, 4)
    x = tf.random.stateless_normal((2, 8, 8, 4), (0, 1))
    mixed.build(x.shape)
    for column, stack in mixed.stacks.items():
        for variable in stack.trainable_variables if NAMES[column] != "dil_conv_3x3" else ():
            variable.assign(variable * np.nan)
    before = [variable.numpy() for variable in mixed.non_trainable_variables]
    drawn = np.eye(len(NAMES), dtype=np.float32)[[NAMES.index("dil_conv_3x3"), NAMES.index("max_pool_3x3")]]
    assert np.isfinite(mixed(x, tf.constant(drawn), training=True, drawn=True)).all()
    for variable, value in zip(mixed.non_trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert np.isnan(mixed(x, tf.constant(drawn), training=True)).any()


@pytest.mark.parametrize(
    "choices",
    [
        {"space": "nasbench201"},
        *(
            pytest.param(c, marks=pytest.mark.slow)
            for c in (
                {"partial_channels": 2},
                {"recompute": True},
                {"space": "nasbench201", "sampling": "two_paths"},
                {"partial_channels": 2, "sampling": "two_paths"},
            )
        ),
    ],
)
def test_a_step_is_that_of_a_supernet_that_computes_everything(choices, monkeypatch):
    random = np.random.default_rng(0)
    batches = [(random.normal(size=(4, 8, 8, 3)).astype("float32"), random.integers(3, size=4)) for _ in range(2)]
    found = []
    for single in (True, False):
        if not single:
            monkeypatch.setattr(Mixture, "leaves", 0)
        search = Search(
            "gdas",
            (8, 8, 3),
            3,
            channels=4,
            cells=2,
            seed=3,
            **({"nodes": 2} if "space" not in choices else {}),
            **choices,
        )
        search.compile()
        found.append(search.architecture_gradients(*batches))
    assert any(np.any(gradient) for gradient in found[0])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
