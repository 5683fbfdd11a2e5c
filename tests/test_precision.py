"""Sixteen bits: in search, in training, and not in what is served; and every mix of the axes."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import state_dict  # noqa: F401  (starts TensorFlow quietly, first)
from keras.optimizers import LossScaleOptimizer

from kdarts.cli.main import main
from kdarts.networks.models import load_model
from kdarts.search.ablation import MODES, REMOVALS
from kdarts.search.gradients import LOW_PRECISION_RADIUS, RADIUS, get_order
from kdarts.search.search import Search
from kdarts.serving.export import serving_model
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

ABLATIONS = list(itertools.product(REMOVALS, MODES))
MIXES = list(
    itertools.product(
        ("shared", "individual"), ("softmax", "sigmoid"), ("first", "second"), ("float32", "mixed_bfloat16")
    )
)
CASES = [(*mix, *ABLATIONS[number % len(ABLATIONS)]) for number, mix in enumerate(MIXES)]
"""Every mix once; between them they take every removal in every mode."""

FEW = SearchSpace("few", ("avg_pool_3x3", "skip_connect", "dil_conv_3x3"), nodes=1, multiplier=1)


def _random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def _batches():
    return [(tf.constant(_random(8, 8, 8, 3, seed=s)), tf.constant(np.arange(s, s + 8) % 3)) for s in (1, 2)]


def _search(dtype, sharing="individual", mixing="sigmoid", method="ddarts", **overrides) -> Search:
    keras.utils.set_random_seed(0)
    net = Supernet(FEW, (8, 8, 3), 3, channels=4, cells=2, sharing=sharing, mixing=mixing, dtype=dtype)
    search = Search(net, method, sharing=sharing, mixing=mixing, **overrides)
    search.compile()
    return search


def test_the_cases_take_every_removal_in_every_mode():
    assert len(MIXES) == 16 and {case[4:] for case in CASES} == set(ABLATIONS)


@pytest.mark.parametrize(("sharing", "mixing", "order", "precision", "removal", "mode"), CASES)
def test_every_mix_takes_steps(eagerly, sharing, mixing, order, precision, removal, mode):
    choices = {"order": order, "removal": removal, "ablation": mode, "ablation_margin": -1e9}
    search = _search(precision, sharing, mixing, **choices)
    before = [v.numpy() for v in search.supernet.trainable_variables]
    data = tf.data.Dataset.from_tensors(tuple(_batches())).repeat()
    history = search.fit(data, steps_per_epoch=2, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["contribution"]).all()
    used = {id(search.supernet.alphas[index]) for index in search.supernet.sequence}
    for variable, old in zip(search.supernet.trainable_variables, before, strict=True):
        assert np.isfinite(variable).all() and variable.dtype == "float32"
        moved = not np.array_equal(variable, old)
        assert moved or ("alpha" in variable.name and id(variable) not in used), variable.path
    assert search.genotype().sequence is not None or sharing == "shared"


@pytest.mark.parametrize(("precision", "error"), [("mixed_bfloat16", 0.1), ("mixed_float16", 0.1)])
def test_gradients_of_alpha_keep_to_those_of_float32(eagerly, precision, error):
    def gradients(dtype, seed):
        search = _search(dtype, ablation_margin=-1e9)
        for alpha in search.supernet.alphas:
            alpha.assign(_random(*alpha.shape, seed=seed))
        found = search.architecture_gradients(*_batches())
        assert all(g.dtype == tf.float32 for g in found)
        return np.concatenate([np.ravel(g) for g in found])

    errors = []
    for seed in range(5):  # Where a rectifier turns over by rounding, one of them may be off by more.
        exact = gradients("float32", seed)
        errors.append(np.linalg.norm(gradients(precision, seed) - exact) / np.linalg.norm(exact))
    assert 0 < np.median(errors) < error


def test_in_sixteen_bits_finite_differences_reach_further(eagerly):
    """Where activations are rounded, a short reach would measure the rounding."""
    for dtype, reach in (("float32", RADIUS), ("mixed_bfloat16", LOW_PRECISION_RADIUS)):
        search, second = _search(dtype, method="darts", sharing="shared", mixing="softmax"), get_order("second")
        given = search.objective, *_batches(), search.optimizer
        usual, *others = (second(*given, radius=radius).gradients for radius in (None, RADIUS, LOW_PRECISION_RADIUS))
        same = [all(np.array_equal(a, b) for a, b in zip(usual, other, strict=True)) for other in others]
        assert same == [reach == RADIUS, reach == LOW_PRECISION_RADIUS]


def test_float16_scales_both_losses_and_skips_what_overflows():
    search = _search("mixed_float16")
    assert isinstance(search.optimizer, LossScaleOptimizer) and isinstance(search.arch_optimizer, LossScaleOptimizer)
    data = tf.data.Dataset.from_tensors(tuple(_batches())).repeat()
    search.fit(data, steps_per_epoch=1, epochs=1, verbose=0)
    for optimizer in (search.optimizer, search.arch_optimizer):
        optimizer.dynamic_scale.assign(2.0**100)
    before = [v.numpy() for v in search.supernet.trainable_variables]
    search.fit(data, steps_per_epoch=1, epochs=1, verbose=0)
    for variable, old in zip(search.supernet.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, old)
    for optimizer in (search.optimizer, search.arch_optimizer):
        assert float(optimizer.dynamic_scale) == 2.0**99
    assert search.arch_optimizer.inner_optimizer.l2 == 1e-3


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_network_trained_in_sixteen_bits_is_served_in_float32(tmp_path, precision, capsys):
    sizes = ["--channels=4", "--cells=2", "--epochs=1", "--train_examples=128", "--batch_size=32", "--auxiliary"]
    workdir = tmp_path / "run"
    assert main(["train", "--genotype=DARTS_V2", f"--workdir={workdir}", f"--precision={precision}", *sizes]) == 0
    assert json.loads((workdir / "summary.json").read_text())["epochs"] == 1
    network = load_model(workdir / "model.keras")
    assert network.layers[1].compute_dtype == precision.removeprefix("mixed_")
    served = serving_model(network)
    assert {layer.compute_dtype for layer in served.layers[1].layers} == {"float32"}
    images = _random(4, 8, 8, 1)
    ours, theirs = network(images, training=False), served(images)
    assert ours.dtype == theirs.dtype == tf.float32
    np.testing.assert_allclose(ours, theirs, atol=0.1 * np.abs(theirs).max())
    capsys.readouterr()
