"""On which images a search learns: halves of its own, or all of them for the weights and for α."""

import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli import idle
from kdarts.cli.options import chosen_method
from kdarts.cli.search import SEARCH, assembled, halves
from kdarts.data import datasets
from kdarts.data.datasets import ImageData
from kdarts.data.pipeline import search_dataset
from kdarts.genotypes.errors import KdartsError
from kdarts.networks.examples import Expected
from kdarts.search.loop import search_data
from kdarts.search.method import get_method
from kdarts.search.search import Search
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

FEW = SearchSpace("few", ("none", "skip_connect", "dil_conv_3x3"), nodes=1, multiplier=1)
X = np.tile(np.arange(24, dtype=np.float32)[:, None, None, None], (1, 8, 8, 3))
Y = np.arange(24) % 3


def numbers(dataset, steps: int):
    """The images of the weights' batches and of α's in some steps."""
    pairs = [(x[:, 0, 0, 0].numpy(), v[:, 0, 0, 0].numpy()) for (x, _), (v, _) in dataset.take(steps)]
    return [np.concatenate(part) for part in zip(*pairs, strict=True)]


def test_with_one_level_both_learn_from_all_of_an_array():
    two, one = (search_data(X, Y, Expected((8, 8, 3), 3), 4, 0, None, level) for level in (False, True))
    assert (two.steps, one.steps) == (3, 6)
    assert not set.intersection(*map(set, numbers(two.pairs(), 3)))
    weights, alphas = numbers(one.pairs(), 6)
    assert sorted(weights) == sorted(alphas) == list(range(24)) and list(weights) != list(alphas)
    with pytest.raises(KdartsError, match="batch_size 25: allowed is 1 to 24, the 24 examples"):
        search_data(X, Y, Expected((8, 8, 3), 3), 25, 0, None, True)


@pytest.mark.parametrize(
    ("sizes", "count", "kept_out"),
    [((None, None), 20, 0), ((None, 6), 14, 6), ((7, None), 7, 7), ((7, 4), 7, 4)],
)
@pytest.mark.parametrize("stratified", [False, True])
def test_with_one_level_sizes_keep_images_out(sizes, count, kept_out, stratified):
    names = tuple(map(str, range(20)))
    data = ImageData(np.zeros((20, 8, 8, 1), np.uint8), np.arange(20, dtype=np.int32), names, "numbered")
    how = data, *sizes, 3, stratified
    whole, (_, valid) = datasets.for_both(*how), datasets.halves(*how)
    both, held = set(whole.labels), set(valid.labels)
    assert len(both) == len(whole) == count
    assert len(held - both) == kept_out and (kept_out == len(held) or not kept_out)


def test_the_command_takes_the_same_images_as_the_library():
    data = search_dataset("digits", 16, seed=3, valid_examples=37).search_data.at(True)
    words = ["--level=single", "--space=none,skip_connect", "--channels=4", "--cells=1", "--seed=3"]
    values = SEARCH.parse(["search", *words, "--batch_size=16", "--valid_examples=37"])
    _, batches = assembled(values, chosen_method(values), halves(values), compiled=False)
    assert batches.steps == data.steps == (1437 - 37) // 16
    for ours, theirs in zip(batches.pairs(5).take(1), data.pairs(5).take(1), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)
    assert len(batches.valid) == len(data.valid) == 37


def small_search(**choices) -> Search:
    net = Supernet(FEW, (8, 8, 3), 3, channels=2, cells=2, reductions=(1,), dtype="float64")
    for index, variable in enumerate(net.trainable_variables):
        variable.assign(np.random.default_rng(index).normal(size=variable.shape))
    search = Search(net, **choices)
    search.compile()
    return search


def batches():
    rng = np.random.default_rng(0)
    return [(tf.constant(rng.normal(size=(6, 8, 8, 3))), tf.constant([0, 1, 2] * 2)) for _ in range(2)]


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_a_step_with_one_level_is_that_of_darts_on_its_two_batches():
    one, two = small_search(level="single"), small_search()
    for search in (one, two):
        search.train_step(batches())
    for ours, theirs in zip(one.supernet.trainable_variables, two.supernet.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.usefixtures("eagerly")
def test_the_terms_of_the_loss_count_where_one_batch_gives_both_gradients():
    plain, decayed = small_search(order="joint"), small_search(order="joint", beta_weight=1e6)
    for search in (plain, decayed):
        search.supernet.mixture.progress.assign(0.5)
        before = [alpha.numpy() for alpha in search.supernet.alphas]
        search.train_step(batches())
    # Beside such a weight the first step of Adam has the sign of the decay alone: every α falls.
    assert all((alpha.numpy() < b).all() for alpha, b in zip(decayed.supernet.alphas, before, strict=True))
    assert any((alpha.numpy() > b).any() for alpha, b in zip(plain.supernet.alphas, before, strict=True))


def test_one_batch_for_both_has_one_level_and_says_so():
    assert get_method("snas").one_level and get_method("gaea").override(level="single").one_level
    assert not get_method("darts").one_level
    with pytest.raises(KdartsError, match="level 'single': order 'joint' takes the gradients of α and of the weights"):
        Search("snas", (8, 8, 1), 10, channels=2, cells=1, level="single")
    values = SEARCH.parse(["search", "--method=snas", "--level=bilevel"])
    [note] = idle.in_search(values, chosen_method(values))
    assert note.startswith("--level=bilevel: has no effect with --order=joint")
