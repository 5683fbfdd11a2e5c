"""What a program, a `keras.json` or an earlier command sets does not change what kdarts computes."""

import itertools
import json

import keras
import numpy as np
import pytest

import kdarts
from kdarts.cli.main import main
from kdarts.data import datasets, pipeline
from kdarts.data.augmentation import Augmentation

SIZES = ["--channels=2", "--cells=1", "--epochs=1", "--train_examples=16", "--batch_size=8", "--limit=32"]


@pytest.fixture
def unusual():
    """A configuration as another program may have it."""
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float64")
    keras.config.set_epsilon(1e-3)
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy("float32")


def test_batches_follow_their_own_seed_alone():
    def drawn(seed):
        keras.utils.set_random_seed(seed)
        dataset = kdarts.search_dataset("digits", 4, train_examples=8, valid_examples=12)
        return [[part.numpy() for pair in step for part in pair] for _ in range(2) for step in dataset]

    one, other = drawn(1), drawn(7)
    for ours, theirs in zip(one, other, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(one[0], one[2], strict=True))  # Another epoch has another order.


def test_each_time_through_the_batches_is_another_epoch():
    data = datasets.load("digits", limit=12)
    dataset = pipeline.train_dataset(data, 4, 0, Augmentation(), [0.0], [1.0])
    epochs = [np.concatenate([labels for _, labels in dataset]) for _ in range(3)]
    assert all((a != b).any() for a, b in itertools.pairwise(epochs))
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)


def test_a_network_has_its_channels_last_whatever_the_default_is(unusual, tmp_path):
    image = np.random.default_rng(0).normal(size=(1, 12, 8, 3))
    one = kdarts.build_network("DARTS_V2", (12, 8, 3), 4, channels=4, cells=3, auxiliary=True)
    keras.config.set_image_data_format("channels_last")
    other = kdarts.build_network("DARTS_V2", (12, 8, 3), 4, channels=4, cells=3, auxiliary=True)
    other.set_weights(one.get_weights())
    np.testing.assert_array_equal(one(image), other(image))
    keras.config.set_image_data_format("channels_first")
    net = kdarts.Supernet("darts", (12, 8, 3), 4, channels=4, cells=3, nodes=1)
    assert net(image).shape == (1, 4)
    backbone = kdarts.build_backbone("DARTS_V2", channels=4, cells=3)
    assert [level.shape[-1] for level in backbone(np.zeros((1, 64, 64, 3))).values()]


def test_a_command_computes_alike_after_others_and_leaves_the_configuration(unusual, tmp_path):
    common = ["train", "--genotype=DARTS_V1", *SIZES]

    def losses(name, *more):
        assert main([*common, f"--workdir={tmp_path / name}", *more]) == 0
        return json.loads((tmp_path / name / "summary.json").read_text())["test_loss"]

    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    plain = losses("plain")
    assert losses("half", "--precision=mixed_bfloat16") != plain
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    assert losses("again") == plain
    assert keras.config.image_data_format() == "channels_first" and keras.config.floatx() == "float64"
    assert keras.config.dtype_policy().name == "float64"
