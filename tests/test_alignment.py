"""Λ-DARTS: the agreement of the cells' gradients as a term in the loss of the weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli import idle
from kdarts.cli.options import chosen_method
from kdarts.cli.search import SEARCH
from kdarts.genotypes.errors import KdartsError
from kdarts.ops import kernels
from kdarts.search.alignment import Alignment, agreement, groups
from kdarts.search.search import Search

RNG = np.random.default_rng(0)


def gradients(*arrays):
    return [tf.constant(array, tf.float64) for array in arrays]


def test_the_derivatives_of_the_agreement():
    given = gradients(*(RNG.normal(size=(5, 3)) * scale for scale in (1, 10, 0.1)))
    with tf.GradientTape() as tape:
        tape.watch(given)
        value, found = agreement(given)
    for v, derivative in zip(found, tape.gradient(value, given), strict=True):
        np.testing.assert_allclose(v, derivative, rtol=1e-10)
    flat = [np.ravel(g) for g in given]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for i, a in enumerate(flat) for b in flat[i + 1 :]]
    np.testing.assert_allclose(value, np.mean(cosines), rtol=1e-12)
    # No cell gains by a longer gradient.
    assert abs(sum(np.sum(g * v) for g, v in zip(given, found, strict=True))) < 1e-12


def test_cells_that_agree_and_cells_at_right_angles():
    g = RNG.normal(size=(5, 3))
    value, found = agreement(gradients(g, g, g))
    np.testing.assert_allclose(value, 1, rtol=1e-12)
    np.testing.assert_allclose(found, np.zeros((3, 5, 3)), atol=1e-12)
    value, found = agreement(gradients([[3.0, 0.0]], [[0.0, 5.0]]))
    assert float(value) == 0
    np.testing.assert_allclose(found, [[[0, 1 / 3]], [[1 / 5, 0]]], rtol=1e-12)
    value, found = agreement(gradients([[3.0, 0.0]], [[0.0, 0.0]]))
    assert float(value) == 0 and not np.any(found), "a gradient of 0 is no number"


def search_of(cells=3, **choices) -> Search:
    choices = {"channels": 2, "nodes": 1, "space": "none,skip_connect,dil_conv_3x3", "dtype": "float64", **choices}
    search = Search("darts", (8, 8, 3), 3, cells=cells, reductions=(1,), **choices)
    search.compile()
    for index, variable in enumerate(search.supernet.trainable_variables):
        variable.assign(np.random.default_rng(index).normal(size=variable.shape))
    return search


def batch(seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(6, 8, 8, 3))), tf.constant([0, 1, 2] * 2)


@pytest.mark.usefixtures("eagerly")
def test_the_correction_is_the_slope_of_the_agreement(monkeypatch):
    """Its error falls with the square of the reach where the network has no kinks."""
    monkeypatch.setattr(tf.nn, "relu", lambda x: tf.math.softplus(3 * x) / 3)
    search = search_of()
    objective = search.objective
    values, shifts = objective.values(), [tf.zeros((2, 3), tf.float64)] * 3
    with kernels.twice_differentiable(), tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(values[0])
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            own = [tf.identity(s) for s in shifts]
            inner.watch(own)
            loss = objective.loss(*values, batch(), own)["loss"]
        by_shifts = inner.gradient(loss, own)
        value, _ = agreement([by_shifts[0], by_shifts[2]])
    true = outer.gradient(value, values[0], unconnected_gradients="zero")
    assert -1 < float(value) < 1 and tf.linalg.global_norm(true) > 1e-3
    errors = []
    for radius in (1e-2, 1e-3):
        kind = Alignment(alignment_weight=0.5, alignment_radius=radius)
        found = kind.correction(objective, values, batch(), by_shifts, shifts, tf.constant(0.75), 4)
        wrong = [f + 0.5 * t for f, t in zip(found, true, strict=True)]  # In the last of 4 epochs λ is all of it.
        errors.append(float(tf.linalg.global_norm(wrong) / (0.5 * tf.linalg.global_norm(true))))
    assert errors[1] < 1e-4 and 50 < errors[0] / errors[1] < 200


@pytest.mark.usefixtures("eagerly")
def test_it_moves_the_weights_alone_and_not_in_the_first_epoch():
    usual, aligned, later = search_of(), search_of(alignment_weight=1.0), search_of(alignment_weight=1.0)
    later.supernet.mixture.progress.assign(0.5)
    for search in (usual, aligned, later):
        search.train_step((batch(), batch(1)))
    for name, same in (("network_variables", False), ("alphas", True), ("non_trainable_variables", True)):
        parts = [getattr(search.supernet, name) for search in (usual, aligned, later)]
        for one, first, _ in zip(*parts, strict=True):
            np.testing.assert_array_equal(one, first)
        equal = [
            np.array_equal(*pair) for pair in zip(parts[0], parts[2], strict=True) if "progress" not in pair[0].path
        ]
        assert all(equal) if same else not any(equal)


def test_it_needs_two_normal_cells_that_share_an_alpha():
    plan = [SimpleNamespace(reduction=index == 1) for index in range(3)]
    for sequence in ((0, 1), (0, 1, 2)):
        net = SimpleNamespace(grid=False, sequence=sequence, plan=plan[: len(sequence)])
        with pytest.raises(KdartsError, match=r"alignment_weight 0\.25: needs two normal cells or more that share"):
            Alignment(alignment_weight=0.25).check(net)
    assert groups(SimpleNamespace(sequence=(0, 1, 0), plan=plan)) == [[0, 2]]
    values = SEARCH.parse(["search", "--alignment_radius=0.01"])
    [note] = idle.in_search(values, chosen_method(values))
    assert note == "--alignment_radius=0.01: has no effect without --alignment_weight"


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "choices",
    [
        {"perturbation": "random", "mixing": "softmax_eg", "partial_channels": 2, "channels": 4},
        {"sampling": "gumbel", "order": "joint", "recompute": True},
    ],
)
def test_it_mixes_with_the_other_axes(choices):
    search = search_of(alignment_weight=0.5, **choices)
    search.supernet.mixture.progress.assign(0.5)
    before = [v.numpy() for v in search.supernet.trainable_variables]
    assert np.isfinite(float(search.train_step((batch(), batch(1)))["loss"]))
    moved = [not np.array_equal(v, b) for v, b in zip(search.supernet.trainable_variables, before, strict=True)]
    assert np.mean(moved) > 0.8
