"""Backbones: levels and strides, weights of a trained network, and what KerasHub makes of them."""

import re

import keras
import numpy as np
import pytest
from conftest import ROOT, state_dict  # noqa: F401  (starts TensorFlow quietly, first)

import kdarts
from kdarts.genotypes.errors import KdartsError


def _images(count=2, side=64, seed=0):
    return np.random.default_rng(seed).normal(size=(count, side, side, 3)).astype("float32")


def _sides(backbone, side=64):
    return {name: x.shape[1:3] for name, x in backbone(_images(1, side)).items()}


@pytest.mark.parametrize(
    ("name", "cells", "stem", "levels"),
    [
        ("DARTS_V2", 3, "auto", (2, 3, 4, 5)),
        ("DO-2-ResNet18", None, "auto", (1, 2, 3, 4, 5)),
        ("DARTS_V2", 3, "cifar", (0, 1, 2)),
    ],
)
def test_level_pn_is_two_to_the_n_times_smaller(name, cells, stem, levels):
    backbone = kdarts.build_backbone(kdarts.Genotype.load(name), channels=2, cells=cells, stem=stem)
    assert _sides(backbone) == {f"P{n}": (64 >> n, 64 >> n) for n in levels}
    assert list(backbone.pyramid_outputs) == [f"P{n}" for n in levels]


def test_it_begins_with_the_weights_of_a_trained_network(tmp_path):
    genotype = kdarts.Genotype.load("DARTS_V1")
    network = kdarts.build_network(genotype, (32, 32, 3), 3, 2, 3, stem="imagenet", drop_path=0.2, auxiliary=False)
    rng = np.random.default_rng(0)
    network.set_weights([np.asarray(w + rng.uniform(0, 0.1, w.shape), w.dtype) for w in network.get_weights()])
    backbone = kdarts.build_backbone(genotype, (64, 64, 3), 2, 3, weights=network)
    last = backbone(_images())["P5"]
    # The network at the other size, from its own layers: what pooling and classifier read.
    same = kdarts.build_network(genotype, (64, 64, 3), 3, 2, 3, stem="imagenet", drop_path=0.2)
    same.set_weights(network.get_weights())
    np.testing.assert_allclose(last, keras.Model(same.input, same.get_layer("pool").input)(_images()), atol=1e-5)
    backbone.save(tmp_path / "backbone.keras")
    again = keras.saving.load_model(tmp_path / "backbone.keras")
    np.testing.assert_allclose(again(_images())["P3"], backbone(_images())["P3"], atol=1e-6)
    assert list(again.pyramid_outputs) == ["P2", "P3", "P4", "P5"]
    with pytest.raises(KdartsError, match=r"layer 'stem0-0' needs \(3, 3, 3, 2\), got \(3, 3, 3, 1\)"):
        kdarts.build_backbone(genotype, (64, 64, 3), 4, 3, weights=network)


@pytest.mark.parametrize(
    ("stem", "other", "named"),
    [
        ("imagenet", "imagenet_quarter", r"'stem0-3' needs Conv2D .*\(1, 1\), got Conv2D .*\(2, 2\)"),
        ("imagenet_quarter", "imagenet", r"'stem0-3' needs Conv2D .*\(2, 2\), got Conv2D .*\(1, 1\)"),
        ("small", "none", r"'cells-0-preprocess0-0-relu' needs the output of the image, got the output of stem-1"),
    ],
)
def test_another_stem_whose_weights_have_the_same_shapes_is_refused(stem, other, named):
    network = kdarts.build_network("DARTS_V1", (32, 32, 4), 3, 4, 1, stem=stem, drop_path=0.2)
    with pytest.raises(KdartsError, match=rf"layer {named}; allowed: .* stem='{other}'"):
        kdarts.build_backbone("DARTS_V1", (64, 64, 4), 4, 1, stem=other, weights=network)


def test_another_genotype_whose_weights_have_the_same_shapes_is_refused():
    text = kdarts.Genotype.load("DARTS_V1").to_json()
    assert "max_pool_3x3" in text
    network = kdarts.build_network(kdarts.Genotype.from_json(text), (36, 36, 3), 3, 2, 3, stem="imagenet")
    kdarts.build_backbone("DARTS_V1", (64, 64, 3), 2, 3, weights=network)  # 36: some maps have odd sides
    other = kdarts.Genotype.from_json(text.replace("max_pool_3x3", "avg_pool_3x3"))
    with pytest.raises(KdartsError, match=r"needs AveragePooling2D .* got MaxPooling2D"):
        kdarts.build_backbone(other, (64, 64, 3), 2, 3, weights=network)


def test_sizes_that_do_not_fit_are_refused():
    genotype = kdarts.Genotype.load("DARTS_V1")
    with pytest.raises(KdartsError, match="multiples of 32"):
        kdarts.build_backbone(genotype, (48, 64, 3), 2, 3)
    with pytest.raises(KdartsError, match="allowed: none, cifar"):
        kdarts.build_backbone(genotype, (64, 64, 3), 2, 3, stem="imagnet")


def test_keras_hub_takes_it_as_the_page_says():
    models = pytest.importorskip("keras_hub").models
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "backbone.md").read_text(), re.DOTALL):
        exec(block, names)
    anchors = 9 * (8 * 8 + 4 * 4 + 2 * 2 + 1)
    assert names["detector"](_images())["cls_logits"].shape == (2, anchors, 3)
    detector = names["detector"].backbone
    again = models.RetinaNetBackbone.from_config(detector.get_config())
    assert list(again.pyramid_outputs) == ["P3", "P4", "P5", "P6"]
    segmenter = models.DeepLabV3Backbone(names["backbone"], "P4", 4, [1, 2], "P2", 8, image_shape=(64, 64, 3))
    assert segmenter(_images()).shape == (2, 64, 64, 256)
