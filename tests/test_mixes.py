"""Every relaxation with every sampling, each beside other choices in turn: the search takes a step."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.method import AXES
from kdarts.search.perturbations import PERTURBATIONS
from kdarts.search.search import Search
from kdarts.supernet.relaxation import RELAXATIONS, SAMPLINGS

BESIDE = (
    {"partial_channels": 2, "level": "single"},
    {"auxiliary_skip": True, "skip_dropout": 0.3},
    {"order": "joint", "recompute": True},
    {"alignment_weight": 0.5, "search_drop_path": 0.4},
    {"order": "second", "arch_optimizer": "sgd"},
    {"topology": "0", "beta_weight": 1.0},
    {"sharing": "individual", "zero_one_weight": 1.0},
)
PAIRS = [*itertools.product(RELAXATIONS.names(), SAMPLINGS.names())]


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(("number", "pair"), [*enumerate(PAIRS)], ids=["-".join(pair) for pair in PAIRS])
def test_choices_mix(number, pair):
    assert {"mixing", "sampling", "perturbation"} <= {slot.key for slot in AXES}
    perturbation = PERTURBATIONS.names()[number % len(PERTURBATIONS.names())]
    choices = {"mixing": pair[0], "sampling": pair[1], "perturbation": perturbation, **BESIDE[number % len(BESIDE)]}
    if pair[1] == "fair_paths":  # Several passes a step, for weights that are trained alone.
        choices = {"mixing": pair[0], "sampling": pair[1], "update": "frozen"}
    sizes = {"channels": 4, "cells": 3, "nodes": 2, "reductions": (1,), "space": "none,skip_connect,dil_conv_3x3"}
    if pair[1] == "two_paths" and pair[0] != "softmax":  # A step keeps the probability of those that were not drawn.
        with pytest.raises(KdartsError, match="needs mixing 'softmax'"):
            Search("darts", (8, 8, 3), 3, **sizes, **choices)
        return
    search = Search("darts", (8, 8, 3), 3, **sizes, **choices)
    search.compile()
    search.supernet.mixture.progress.assign(0.5)
    rng = np.random.default_rng(0)
    pair = [(tf.constant(rng.normal(size=(6, 8, 8, 3)), tf.float32), tf.constant([0, 1, 2] * 2)) for _ in range(2)]
    before = [v.numpy() for v in search.supernet.network_variables]
    assert np.isfinite(float(search.train_step(pair)["loss"]))
    values = [v.numpy() for v in search.supernet.trainable_variables]
    assert all(np.isfinite(value).all() for value in values)
    assert any(not np.array_equal(v, b) for v, b in zip(search.supernet.network_variables, before, strict=True))
