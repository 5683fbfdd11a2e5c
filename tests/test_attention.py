"""Operation attention: what a text means, and when α gets its constants."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.search import Search
from kdarts.supernet.parameters import attention_row, parse_attention
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

FEW = SearchSpace("few", ("none", "skip_connect", "dil_conv_3x3"), 2, 2)
GIVEN = (("dil_conv_3x3", -0.5), ("sep_conv_3x3", 9.0))
ROW = np.array([0, 0, -0.5], np.float32)


def test_a_text_names_operations_and_their_constants():
    assert parse_attention("sep_conv_3x3:0.0006, dil_conv_5x5:-6e-4") == (
        ("sep_conv_3x3", 0.0006),
        ("dil_conv_5x5", -0.0006),
    )
    assert parse_attention("") == ()
    np.testing.assert_array_equal(attention_row(GIVEN, FEW.operations), ROW)


@pytest.mark.parametrize(
    "text, told",
    [
        ("sep_conv_3x3", "needs operation:constant"),
        ("sep_conv_3x3:nan", "needs operation:constant"),
        ("warp:1", "unknown operation 'warp'.*allowed"),
        ("sep_conv_3x3:1,sep_conv_3x3:2", "twice"),
    ],
)
def test_what_is_no_attention_is_refused(text, told):
    with pytest.raises(KdartsError, match=told):
        parse_attention(text)


def _search(mode, given=GIVEN, candidates=None, **options) -> Search:
    keras.utils.set_random_seed(0)
    net = Supernet(FEW, (8, 8, 1), 3, channels=2, cells=1, reductions=(), candidates=candidates, **options)
    search = Search(net, attention=given, attention_mode=mode)
    search.compile()
    return search


def _step(search):
    x = tf.constant(np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype("float32"))
    batch = x, tf.constant([0, 1, 2] * 2)
    search.train_step((batch, batch))
    return search.supernet.alphas[0].numpy()


def test_every_update_adds_the_constants_to_what_an_edge_still_has(eagerly):
    left = np.ones((5, 3), bool)
    left[1, 2] = False
    for candidates in (None, [left]):
        plain, given = (_step(_search("each_update", g, candidates)) for g in ((), GIVEN))
        there = True if candidates is None else left
        np.testing.assert_allclose(given - plain, np.where(there, ROW, 0) * np.ones((5, 1)), atol=1e-6)


def test_once_is_at_the_start_alone(eagerly):
    plain, search = _search("once", ()), _search("once")
    shift = search.supernet.alphas[0].numpy() - plain.supernet.alphas[0].numpy()
    np.testing.assert_allclose(shift, ROW * np.ones((5, 1)), atol=1e-6)
    start = search.supernet.alphas[0].numpy()
    assert np.abs(_step(search) - start).max() < 1e-3  # Adam's first step is its rate, 3e-4


def test_an_offset_stays_out_of_alpha_and_counts_in_mixing():
    search = _search("offset", offsets=dict(GIVEN))
    net = search.supernet
    expected = np.exp(net.alphas[0].numpy() + ROW)
    np.testing.assert_allclose(net.mixing_weights()[0], expected / expected.sum(1, keepdims=True), rtol=1e-5)
    again = Supernet.from_config({**net.get_config(), "space": FEW})
    assert again.offsets == dict(GIVEN)
    with pytest.raises(KdartsError, match=r"attention: method 'darts' has .*; build it with offsets="):
        _search("offset")
