"""Searches that start from a genotype: their α, the epochs before α moves, and what ends them."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import state_dict  # noqa: F401  (starts TensorFlow quietly, first)

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.building import alphas_from, start_from
from kdarts.search.schedules import Cosine
from kdarts.search.search import Search
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

FEW = SearchSpace("few", ("avg_pool_3x3", "skip_connect", "dil_conv_3x3"), nodes=2, multiplier=2)
START = Genotype(
    (
        (("dil_conv_3x3", 2, 1), ("skip_connect", 3, 1), ("dil_conv_3x3", 3, 2)),
        (("avg_pool_3x3", 2, 0), ("skip_connect", 2, 0), ("skip_connect", 3, 2)),
    ),
    ((2, 3), (2, 3)),
    (1,),
    (0, 1, 0),
)


def _net(sharing, **kwargs) -> Supernet:
    sizes = {"channels": 4, "cells": 3, "reductions": (1,), "mixing": "sigmoid"}
    return Supernet(FEW, (8, 8, 3), 4, sharing=sharing, **{**sizes, **kwargs})


def _data():
    draw = np.random.default_rng(0)
    halves = [(draw.normal(size=(8, 8, 8, 3)).astype("float32"), np.arange(8) % 4) for _ in range(2)]
    return tf.data.Dataset.from_tensors(tuple(halves)).repeat()


@pytest.mark.parametrize("sharing", [[0, 1, 0], "individual"])
def test_alpha_stands_for_the_start_and_comes_back_as_it(sharing):
    choice = "start" if sharing == [0, 1, 0] else sharing
    search = Search(_net(sharing), "ddarts", start=START, sharing=choice)
    values = [alpha.numpy() for alpha in search.supernet.alphas]
    assert {float(v) for alpha in values for v in alpha.ravel()} == {0.0, 10.0}
    assert [int((alpha == 10).sum()) for alpha in values] == ([3, 3] if sharing != "individual" else [3, 3, 3])
    found = search.genotype()
    cells = [set(found.cells[index]) for index in found.sequence]
    assert cells == [set(START.cells[index]) for index in START.sequence] and found.reductions == START.reductions


def test_what_cannot_be_a_start_is_told():
    with pytest.raises(KdartsError, match="lacks sep_conv_3x3"):
        alphas_from(Genotype(((("sep_conv_3x3", 2, 0),),), ((2,),), (), (0,)), FEW, 2)
    with pytest.raises(KdartsError, match="the genotype has 2"):
        alphas_from(START, FEW, 1)
    with pytest.raises(KdartsError, match="one α for both"):
        start_from(_net([0, 0, 0]), START)
    with pytest.raises(KdartsError, match="reductions"):
        start_from(_net([0, 1, 0], reductions=(2,)), START)
    with pytest.raises(KdartsError, match="3 cells, 2 asked for"):
        start_from(_net([0, 1], cells=2), START)


def test_alpha_stands_still_while_the_weights_are_pretrained():
    keras.utils.set_random_seed(0)
    search = Search(_net("individual"), "ddarts", start=START, pretrain_epochs=2)
    search.compile()
    seen = []

    class Record(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            net = search.supernet
            seen.append(
                (net.alphas[0].numpy(), net.network_variables[0].numpy(), int(search.arch_optimizer.iterations))
            )

    before = search.supernet.alphas[0].numpy(), search.supernet.network_variables[0].numpy()
    search.fit(_data(), steps_per_epoch=2, epochs=1, verbose=0, callbacks=[Record()])
    for epoch in (0, 1):
        np.testing.assert_array_equal(seen[epoch][0], before[0])
        assert seen[epoch][2] == 0
    assert not np.array_equal(seen[2][0], before[0]) and seen[2][2] == 2
    weights = [before[1], *(row[1] for row in seen)]
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(weights))


def test_schedules_count_from_the_end_of_the_pretraining():
    plain, later = Cosine(0.1, 0.01, 10), Cosine(0.1, 0.01, 10, begin=5)
    assert [later(e) for e in range(6)] == [0.1] * 6
    assert [later(e + 5) for e in range(10)] == [plain(e) for e in range(10)]


@pytest.mark.slow
def test_a_search_ends_by_its_distance_and_is_known_to_be_finished(eagerly, tmp_path, capsys):
    START.save(tmp_path / "start.json")
    arguments = ["search", "--method=dartopti", f"--start={tmp_path / 'start.json'}", f"--workdir={tmp_path / 'run'}"]
    arguments += [
        "--channels=4",
        "--epochs=9",
        "--pretrain_epochs=1",
        "--arch_learning_rate=1e-9",
        "--validate_every=0",
    ]
    arguments += ["--stop_from=1", "--stop_window=2", "--space=ddarts", "--arch_final_learning_rate=0"]
    arguments += ["--train_examples=16", "--valid_examples=16", "--batch_size=16", "--ablation_weight=0"]
    arguments += ["--discretization=sparse"]  # which keeps one of the two operations of an edge of the start
    assert main(arguments) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["stopped_by"] == "distance" and summary["epochs"] == 4
    assert summary["distance"] == 0 and (tmp_path / "run" / "distance.png").stat().st_size > 1000
    assert main(arguments) == 0
    assert "finished before" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary


def test_a_start_is_asked_for_where_it_is_needed(tmp_path, capsys):
    assert main(["search", "--method=dartopti", f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--start" in error and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_step_of_a_search_from_a_start_can_be_timed(tmp_path, capsys):
    START.save(tmp_path / "start.json")
    arguments = ["bench", "--method=dartopti", "--space=ddarts", "--channels=2", "--batch_size=4", "--steps=1"]
    arguments += ["--ablation_weight=0", "--input_shape=8,8,1"]
    assert main(arguments) == 2 and "needs --start=NAME" in capsys.readouterr().err
    assert main([*arguments, f"--start={tmp_path / 'start.json'}"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == 3


def test_a_space_that_the_distance_does_not_know_is_refused(tmp_path, capsys):
    """Each epoch notes the distance to the start: better told before the first."""
    words = ["search", "--space=sharpdarts", "--start=SHARP_DARTS", f"--workdir={tmp_path / 'run'}"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--start: no distance to it is known in --space=sharpdarts" in error
    assert not (tmp_path / "run").exists()
