"""A search is saved and loaded, whatever its supernet is made of."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT

import kdarts
from kdarts.genotypes.errors import KdartsError

FRAME = kdarts.MacroConfig(head=(8,), widen="after")
OWN = kdarts.SearchSpace("never registered", ("none", "skip_connect", "sep_conv_3x3"), 2, 2, frame=FRAME, affine=True)


def _search(kind: str) -> kdarts.Search:
    if kind == "own space":
        return kdarts.Search(kdarts.Supernet(OWN, (8, 8, 1), 10, channels=2, cells=2), "darts", order="second")
    if kind == "listed":
        return kdarts.Search("pcdarts", (8, 8, 1), 10, channels=4, cells=2, space="skip_connect,sep_conv_3x3")
    if kind == "multichannelnet":
        return kdarts.Search(kind, (8, 8, 1), 10, channels=2, cells=2)
    return kdarts.Search(kind, (8, 8, 1), 10, channels=2, cells=2, temperature=3.0)


@pytest.mark.parametrize("kind", ["own space", "listed", "multichannelnet", "gdas"])
def test_a_loaded_search_is_the_one_that_was_saved(kind, eagerly, tmp_path):
    search = _search(kind)
    data = kdarts.search_dataset("digits", 4, train_examples=4, valid_examples=4)
    search.fit(data, epochs=1, verbose=0)
    search.save(tmp_path / "search.keras")
    again = kdarts.Search.load(tmp_path / "search.keras")
    assert again.method == search.method and again.genotype() == search.genotype()
    assert getattr(again.supernet, "space", None) == getattr(search.supernet, "space", None)
    for ours, theirs in zip(again.variables, search.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in ((again.optimizer, search.optimizer), (again.arch_optimizer, search.arch_optimizer)):
        for one, other in zip(ours.variables, theirs.variables, strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_cannot_be_saved_is_refused(tmp_path):
    def dense(state):
        return keras.layers.Dense(2)

    cuboid = kdarts.HyperCuboid((3,), {"block": (1, 2)}, {"width": (2,)}, stem=dense, build=dense, head=dense)
    search = kdarts.Search(cuboid, "darts", discretization="best_path")
    search.compile()
    with pytest.raises(KdartsError, match="of a program's own functions cannot be saved whole"):
        search.save(tmp_path / "search.keras")
    keras.Sequential([keras.Input((3,)), dense(None)]).save(tmp_path / "network.keras")
    with pytest.raises(KdartsError, match="holds a Sequential, not a search"):
        kdarts.Search.load(tmp_path / "network.keras")
    with pytest.raises(KdartsError, match="no model file"):
        kdarts.Search.load(tmp_path / "none.keras")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own space", "multichannelnet"])
def test_a_search_is_loaded_in_another_process(kind, tmp_path):
    search = _search(kind)
    search.compile()
    search.save(tmp_path / "search.keras")
    program = f"import kdarts; print(kdarts.Search.load({str(tmp_path / 'search.keras')!r}).genotype().to_json())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == search.genotype().to_json().strip()


def test_keras_own_ways_of_saving_and_copying_work(eagerly, tmp_path):
    search = _search("own space")
    data = kdarts.search_dataset("digits", 4, train_examples=4, valid_examples=4)
    path = tmp_path / "best.keras"
    keep = keras.callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True)
    search.fit(data, epochs=1, verbose=0, callbacks=[keep])
    assert kdarts.Search.load(path).genotype() == search.genotype()
    copy = keras.models.clone_model(search)
    assert copy.method == search.method and copy.supernet is not search.supernet
    assert [v.shape for v in copy.variables] == [v.shape for v in search.supernet.variables]
