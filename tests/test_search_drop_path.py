"""R-DARTS' drop-path: the outputs of edges, dropped image by image while a supernet trains."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.method import get_method
from kdarts.search.search import Search
from kdarts.supernet.supernet import Supernet

X = tf.constant(np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32"))


def net_of(**choices) -> Supernet:
    sizes = {"channels": 4, "cells": 1, "nodes": 1, "reductions": ()}
    return Supernet("none,skip_connect,dil_conv_3x3", (8, 8, 3), 3, **{**sizes, **choices})


def test_each_edge_is_dropped_for_some_images_and_made_up_for():
    net = net_of(search_drop_path=0.25)
    for alpha in net.alphas:
        alpha.assign([[-100.0, 100.0, -100.0]] * 2)  # Both edges pass their input on.
    seen = []
    for rate in (0.0, 0.25):
        net.search_drop_path_rate.assign(rate)
        seen.append([net.states(X, training=True)[-1].numpy() for _ in range(2)])
    (whole, same), (some, again) = seen
    np.testing.assert_array_equal(whole, same)
    np.testing.assert_array_equal(some, again)
    net.mixture.redraw()
    other = net.states(X, training=True)[-1].numpy()
    assert not np.array_equal(some, other)
    gone = [~part.any(axis=(1, 2, 3)) for part in (some, other)]
    unchanged = [np.isclose(part, whole / 0.75, rtol=1e-4, atol=1e-5).all(axis=(1, 2, 3)) for part in (some, other)]
    assert 0.01 < np.mean(gone) < 0.15 and 0.4 < np.mean(unchanged) < 0.7  # 1/16 and 9/16
    np.testing.assert_array_equal(net.states(X)[-1], net.states(X)[-1])
    assert net.states(X)[-1].numpy().any(axis=(1, 2, 3)).all()


def test_a_rate_of_0_changes_no_bit():
    one, other = net_of(), net_of(search_drop_path=0.25, partial_channels=1)
    for variable, value in zip(other.trainable_variables, one.trainable_variables, strict=True):
        variable.assign(value)
    other.search_drop_path_rate.assign(0.0)
    np.testing.assert_array_equal(*(net.states(X, training=True)[-1] for net in (one, other)))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "choices",
    [{"partial_channels": 2}, pytest.param({"sampling": "gumbel", "recompute": True}, marks=pytest.mark.slow)],
)
def test_the_rate_grows_to_its_end_along_the_search(choices):
    sizes = {"channels": 4, "cells": 1, "nodes": 1, "space": "none,skip_connect,dil_conv_3x3"}
    search = Search("darts", (8, 8, 3), 3, search_drop_path=0.6, batch_size=8, **sizes, **choices)
    search.fit(X[:32].numpy(), np.arange(32) % 3, epochs=3, verbose=0)
    assert [row["search_drop_path"] for row in search.record.history] == pytest.approx([0, 0.3, 0.6])
    assert float(search.supernet.search_drop_path_rate.numpy()) == pytest.approx(0.6)


def test_what_r_darts_asks_for_and_what_is_refused():
    assert get_method("r_darts").differences() == {"order": "second", "l2": 27e-4}
    with pytest.raises(KdartsError, match=r"search_drop_path 1\.0"):
        net_of(search_drop_path=1.0)
    with pytest.raises(KdartsError, match="search_drop_path: method 'darts' has "):
        Search(net_of(search_drop_path=0.2), "darts")
    config = net_of(search_drop_path=0.2).get_config()
    assert Supernet.from_config(config).search_drop_path == 0.2
