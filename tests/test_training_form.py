"""The form of a network in which it is trained: the same function, the same variables, and a file without it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.networks.network import build_network
from kdarts.networks.training_form import training_form


@pytest.fixture(scope="module", params=["float32", "mixed_bfloat16"])
def network(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    keras.utils.set_random_seed(0)
    yield build_network("DARTS_V2", (8, 8, 3), 4, channels=4, cells=3, auxiliary=True)
    keras.config.set_dtype_policy(before)


def results(model, network, x, y):
    """Loss, gradients and new running statistics of a pass in training, from one state of the network."""
    before = [variable.numpy() for variable in network.variables]
    with tf.GradientTape() as tape:
        outputs = model(x, training=True)
        loss = tf.add_n([tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, o, True)) for o in outputs])
    gradients = tape.gradient(loss, network.trainable_variables)
    statistics = [variable.numpy() for variable in network.non_trainable_variables]
    for variable, value in zip(network.variables, before, strict=True):
        variable.assign(value)
    return float(loss), gradients, statistics


def test_a_training_form_computes_what_the_network_does(network):
    form = training_form(network)
    assert type(form) is type(network) and len(form.layers) == len(network.layers)
    assert {v.path for v in form.variables} == {v.path for v in network.variables}
    kinds = {type(layer).__name__ for layer in form.layers}
    assert "BatchNormalization" not in kinds and "Cropping2D" not in kinds
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 8, 8, 3)).astype("float32"), rng.integers(0, 4, 6)
    (loss, gradients, statistics), (same, others, theirs) = (results(m, network, x, y) for m in (form, network))
    wide = network.compute_dtype == "float32"
    assert loss == pytest.approx(same, rel=1e-5 if wide else 2e-2)
    scale = max(float(tf.reduce_max(tf.abs(g))) for g in others)
    for one, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(one, other, atol=(1e-4 if wide else 0.1) * scale)
    for one, other in zip(statistics, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3 if wide else 5e-2, atol=1e-4 if wide else 2e-2)


def test_a_frozen_layer_and_inference_use_the_running_statistics(network):
    form, x = training_form(network), np.ones((2, 8, 8, 3), "float32")
    np.testing.assert_array_equal(form(x, training=False), network(x, training=False))
    layers = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    statistics = [layer.moving_mean.numpy() for layer in layers]
    for layer in layers:
        layer.trainable = False
    form(x, training=True)
    for layer, before in zip(layers, statistics, strict=True):
        layer.trainable = True
        np.testing.assert_array_equal(layer.moving_mean, before)


def test_a_network_is_saved_without_its_form(network, tmp_path):
    training_form(network)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in network.layers]


def test_other_models_stay_as_they_are():
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.BatchNormalization()])
    assert training_form(model) is model
