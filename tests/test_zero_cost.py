"""Scores without training: NASWOT, AZ-NAS, live parameters, the rule score, and the search by them."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdarts
from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, get_genotype
from kdarts.genotypes.rule import live_part, rule_parts
from kdarts.search.zero_cost import (
    Sizes,
    activation_kernel,
    az_nas,
    compared,
    draw_weights,
    entropy,
    figures,
    log_determinant,
    naswot,
    trainability,
)
from kdarts.supernet.cost import network_cost
from kdarts.supernet.supernet import Supernet


def _relus(units: int) -> keras.Model:
    """ReLUs of the inputs themselves, and logits of them."""
    x = keras.Input((units,))
    return keras.Model(x, keras.layers.Dense(3, kernel_initializer="ones")(keras.layers.ReLU()(x)))


def test_naswot_of_two_images_is_that_of_their_hamming_distance():
    signs = np.array([[1, 1, -1, -1, 1, -1, 1], [1, -1, -1, 1, 1, -1, -1]], np.float32)
    units, distance = 7, 3
    assert naswot(_relus(units), signs) == pytest.approx(np.log(distance * (2 * units - distance)))


def test_naswot_of_two_equal_images_is_minus_infinity():
    signs = np.array([[1, -1, 1, -1]] * 2 + [[1, 1, 1, 1]], np.float32)
    assert naswot(_relus(4), signs) == -np.inf
    assert log_determinant(np.diag([4.0, 4.0])) == pytest.approx(np.log(16))


def test_naswot_needs_relus():
    x = keras.Input((4,))
    with pytest.raises(KdartsError, match="no ReLU"):
        naswot(keras.Model(x, keras.layers.Dense(2)(x)), np.ones((2, 4), np.float32))


def test_naswot_of_a_supernet_depends_on_what_its_mixtures_leave_and_not_on_the_scale_of_its_weights(eagerly):
    """Nor does it change anything: the weights of what is cut off do not count, those of what is left do."""
    keras.utils.set_random_seed(0)
    net = Supernet("nasbench201", (8, 8, 1), 3, channels=4, cells=1)
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype("float32")
    kernel = activation_kernel(lambda x, mixing: net.classify(net.states(x, True, [(mixing, None)])[-1]))
    before = [variable.numpy() for variable in net.variables]

    def score(*columns):
        return log_determinant(kernel(images, tf.one_hot(columns, 5)).numpy())

    convolutions, cut = score(*[3] * 6), score(3, 3, 0, 0, 0, 3)
    assert convolutions != cut and np.isfinite([convolutions, cut]).all()
    assert all(np.array_equal(v, old) for v, old in zip(net.variables, before, strict=True))
    stack = net.cells[0].mixed_edges[0].stacks[3]
    stack.step_weights[1][0].assign(4 * stack.step_weights[1][0])
    assert score(*[3] * 6) == pytest.approx(convolutions, rel=1e-3)
    stack.step_weights[1][0].assign(stack.step_weights[1][0][::-1])  # Of node 1 to all, of which one edge is cut off.
    assert score(*[3] * 6) != convolutions
    left = score(3, 3, 0, 0, 0, 3)
    net.cells[0].mixed_edges[1].stacks[3].step_weights[1][0].assign(tf.zeros((3, 3, 4, 8)))
    assert score(3, 3, 0, 0, 0, 3) == left


def test_the_expressivity_of_isotropic_channels_is_the_logarithm_of_their_number():
    assert entropy(3.0 * np.eye(16)) == pytest.approx(np.log(16), abs=1e-6)
    assert entropy(np.diag([5.0, 0, 0])) == pytest.approx(0, abs=1e-6) and entropy(np.zeros((3, 3))) == 0


def test_the_trainability_of_an_orthogonal_layer_is_zero_and_of_others_less():
    orthogonal, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    assert trainability(orthogonal) == pytest.approx(0, abs=1e-5)
    assert [trainability(scale * orthogonal) for scale in (2, 0.5)] == pytest.approx([-0.5, -0.5], abs=1e-5)
    noise = np.random.default_rng(1).normal(size=(64, 8, 8, 8)).astype("float32")

    def score(*matrices):
        def maps(x):
            return [x, *(x := tf.matmul(x, tf.constant(matrix, tf.float32)) for matrix in matrices)]

        return az_nas(maps, noise)

    found = score(orthogonal, orthogonal)
    assert -0.02 < found["trainability"] <= 1e-5 and found["progressivity"] == pytest.approx(0, abs=1e-4)
    assert found["expressivity"] == pytest.approx(3 * np.log(8), abs=0.02)
    assert score(2 * orthogonal)["trainability"] == pytest.approx(-0.5, abs=0.1)
    assert score(np.eye(8))["trainability"] == -np.inf


def test_gradients_through_a_step_that_halves_the_image_are_stacked():
    """A mean of 2x2 pixels hands a quarter of each gradient on to four pixels: s = 4 * 0.25 / 2."""
    noise = np.random.default_rng(1).normal(size=(64, 8, 8, 4)).astype("float32")
    found = az_nas(lambda x: [x, tf.nn.avg_pool2d(x, 2, 2, "SAME")], noise)
    assert found["trainability"] == pytest.approx(2 - 0.5 - 2, abs=0.1)


def test_az_nas_compares_the_ranks_among_all_networks():
    rows = [
        dict(zip(("expressivity", "progressivity", "trainability", "macs"), v, strict=True))
        for v in ((1.0, 1.0, -np.inf, 10), (2.0, 0.5, -3.0, 20), (3.0, 2.0, -1.0, 30))
    ]
    expected = [np.log(1 / 3) * 3 + np.log(2 / 3), np.log(2 / 3) * 3 + np.log(1 / 3), 0.0]
    np.testing.assert_allclose(compared("az_nas", rows), expected)
    assert compared("naswot", [{"naswot": -np.inf}, {"naswot": 3.0}]).tolist() == [-np.inf, 3.0]


SIZES = Sizes((8, 8, 1), 3, 4, 1)
CELL = Genotype.from_text("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")


def test_figures_are_of_the_live_part_and_the_same_again():
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype("float32")
    assert figures(CELL, "params", SIZES, images)["params"] == network_cost(live_part(CELL), (8, 8, 1), 3, 4, 1).params
    found, again, other = (figures(CELL, "naswot", SIZES, images, seed) for seed in (0, 0, 1))
    assert found == again != other and np.isfinite(found["naswot"])
    with pytest.raises(KdartsError, match="rule score"):
        figures(CELL, "rule", SIZES, images)


def test_weights_are_drawn_by_fan_in():
    x = keras.Input((4, 4, 8))
    y = keras.layers.DepthwiseConv2D(3)(keras.layers.Conv2D(64, 1)(x))
    network = keras.Model(x, keras.layers.Dense(9, bias_initializer="ones")(y))
    draw_weights(network, 0)
    convolution, depthwise, dense = network.layers[1:]
    assert np.std(convolution.kernel) == pytest.approx(np.sqrt(2 / 8), rel=0.1)
    assert np.std(depthwise.kernel) == pytest.approx(np.sqrt(2 / 9), rel=0.1)
    assert np.std(dense.kernel) == pytest.approx(np.sqrt(2 / 64), rel=0.1) and not np.any(dense.bias)


TINY = {"channels": 2, "cells": 3, "batch_size": 8}


def test_a_search_without_training_keeps_the_best_of_its_draws():
    x, y = np.random.default_rng(0).normal(size=(32, 8, 8, 1)).astype("float32"), np.arange(32) % 3
    search = kdarts.Search("zero_cost", (8, 8, 1), 3, samples=12, score="rule", **TINY)
    before = [v.numpy() for v in search.supernet.network_variables]
    search.fit(x, y, verbose=0)
    assert all(np.array_equal(v, old) for v, old in zip(search.supernet.network_variables, before, strict=True))
    best = rule_parts(search.genotype())["rule"]
    other = kdarts.Search("zero_cost", (8, 8, 1), 3, samples=3, score="rule", **TINY)
    other.fit(x, y, verbose=0)
    assert search.record.history[-1]["score"] == best >= rule_parts(other.genotype())["rule"]


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"samples": 0}, "needs samples of 1 or more"),
        ({"score": "rule", "space": "nasbench201"}, "of the normal cell"),
        ({"score": "zen"}, "allowed"),
        ({"paths": 2}, "nothing is trained"),
    ],
)
def test_what_cannot_be_compared_is_told(choices, message):
    with pytest.raises(KdartsError, match=message):
        kdarts.Search("zero_cost", (8, 8, 1), 3, **TINY, **choices)


WORDS = ["search", "--method=zero_cost", "--samples=5", "--train_examples=16", "--valid_examples=16"]


@pytest.mark.slow
@pytest.mark.parametrize("score", ["params", "macs", "naswot", "az_nas", "rule"])
@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_the_command_finds_a_genotype_by_every_score_and_again(score, space, tmp_path, capsys):
    words = [*WORDS, f"--score={score}", f"--space={space}", f"--workdir={tmp_path / 'run'}"]
    words += [f"--{name}={value}" for name, value in TINY.items()]
    if (score, space) == ("rule", "nasbench201"):
        assert main(words) == 2
        return
    assert main(words) == 0
    found = (tmp_path / "run" / "genotype.json").read_text()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["score"] == score and summary["valid_accuracy"] is None
    assert f"{score} " in capsys.readouterr().out
    assert main(words) == 0 and (tmp_path / "run" / "genotype.json").read_text() == found
    assert main(["report", f"--workdir={tmp_path / 'run'}", f"--to={tmp_path / 'report.html'}"]) == 0


def test_info_has_the_rule_score(capsys):
    assert main(["info", "DARTS_V1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rule_score"] == {"rule": 10.9, "sep_convs": 5, "skips": 3, "from_inputs": 7}
    assert found["rule_score"] == rule_parts(get_genotype("DARTS_V1"))
    assert main(["info", "NASNet"]) == 0 and "rule_score" not in json.loads(capsys.readouterr().out)
