"""The oldest Keras that opens a saved network, by the arguments of layers in its file (see docs/serving.md)."""

import json
import zipfile

import keras
import pytest
from conftest import ROOT  # (starts TensorFlow quietly, first)

import kdarts

OLDEST = "3.14"
_KERNEL = "activation activity_regularizer bias_constraint bias_initializer bias_regularizer data_format dilation_rate "
_KERNEL += "kernel_size padding strides use_bias "
_NORMALIZED = " ".join(f"{name}_{what}" for name in ("beta", "gamma") for what in ("constraint", "regularizer"))
ARGUMENTS = {
    "Add": "",
    "AveragePooling2D": "data_format padding pool_size strides",
    "BatchNormalization": "axis beta_initializer center epsilon gamma_initializer momentum moving_mean_initializer "
    f"moving_variance_initializer renorm renorm_clipping renorm_momentum scale synchronized {_NORMALIZED}",
    "Concatenate": "axis",
    "Conv2D": f"{_KERNEL} filters groups kernel_constraint kernel_initializer kernel_regularizer",
    "Cropping2D": "cropping data_format",
    "Dense": "activation bias_constraint bias_initializer bias_regularizer kernel_constraint kernel_initializer "
    "kernel_regularizer quantization_config units use_bias",
    "DepthwiseConv2D": f"{_KERNEL} depth_multiplier depthwise_constraint depthwise_initializer depthwise_regularizer",
    "Flatten": "data_format",
    "GlobalAveragePooling2D": "data_format keepdims",
    "Identity": "",
    "InputLayer": "batch_shape optional ragged sparse",
    "MaxPooling2D": "data_format padding pool_size strides",
    "Permute": "dims",
    "ReLU": "max_value negative_slope threshold",
    "RandomUniform": "maxval minval seed",
    "Ones": "",
    "Zeros": "",
    "DTypePolicy": "",
    "ZeroPadding2D": "data_format padding",
}
"""What Keras `OLDEST` takes besides `name`, `dtype` and `trainable`; Keras 3.13 does not know `renorm`."""


def _described(config):
    """Every object of Keras in a configuration: its class and its arguments."""
    if isinstance(config, dict):
        if str(config.get("module")).split(".")[0] == "keras" and config["class_name"] != "Functional":
            yield config["class_name"], config["config"]
        config = list(config.values())
    for part in config if isinstance(config, list) else ():
        yield from _described(part)


@pytest.mark.parametrize("name", ["DARTS_V2", "SHARP_DARTS", "DO-1-ResNet18"])
def test_saved_networks_have_no_argument_that_the_oldest_keras_refuses(name, tmp_path):
    genotype = kdarts.Genotype.load(name)
    how = {"cells": None if genotype.sequence else 3, "frame": kdarts.MacroConfig(head=(8,) if "V2" in name else ())}
    network = kdarts.build_network(genotype, (16, 16, 3), 10, 4, **how, auxiliary="V2" in name, drop_path=0.2)
    network.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        described = list(_described(json.loads(archive.read("config.json"))))
    assert len(described) > 50
    for kind, arguments in described:
        unknown = set(arguments) - set(ARGUMENTS[kind].split()) - {"name", "dtype", "trainable"}
        assert not unknown, f"{kind}: Keras {OLDEST} refuses {unknown}; docs/serving.md names the oldest that does not"


def test_the_page_names_the_oldest_keras():
    assert f"The file needs Keras {OLDEST} or newer" in (ROOT / "docs" / "serving.md").read_text()
    assert tuple(map(int, keras.__version__.split(".")[:2])) >= tuple(map(int, OLDEST.split(".")))
