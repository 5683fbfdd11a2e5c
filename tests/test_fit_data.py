"""What `fit` is given in Python: arrays are divided, and what cannot be learned from is refused in one line."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

import kdarts
from kdarts import KdartsError, Search
from kdarts.networks.examples import Expected
from kdarts.search.loop import SearchData, search_data

X = np.random.default_rng(0).normal(size=(24, 8, 8, 3)).astype(np.float32)
Y = np.arange(24) % 3
IMAGES = Expected((8, 8, 3), 3)


def _spoilt(value):
    x = X.copy()
    x[5, 1, 1, 1] = value
    return x


WRONG = {
    "one-hot": (X, np.eye(3)[Y], r"y is of shape \(\S+ 3\): labels are integers, 0 to 2, not one-hot: y.argmax"),
    "text labels": (X, np.array(["cat", "dog", "cow"] * 8), "y holds text.*numpy.unique"),
    "text list": (X, ["cat"] * 24, "y holds text"),
    "label too high": (X, Y + 1, "y holds 3: labels are integers, 0 to 2"),
    "negative label": (X, Y - 1, "y holds -1"),
    "broken label": (X, Y + 0.5, "y holds 0.5"),
    "label NaN": (X, np.where(Y > 1, np.nan, Y), "y holds nan"),
    "picture size": (X[:, :6], Y, r"x is of shape \(\S+ 6, 8, 3\): needs \(examples, 8, 8, 3\)"),
    "channels": (X[..., :1], Y, "as of input_shape"),
    "channels first": (X.transpose(0, 3, 1, 2), Y, "channels last"),
    "one picture": (X[0], Y[:1], "batches of examples"),
    "NaN": (_spoilt(np.nan), Y, "x: example 5 holds NaN"),
    "infinite": (_spoilt(np.inf), Y, "x: example 5 holds NaN or infinite"),
    "lengths": (X, Y[:5], "x has 24 examples and y 5"),
    "empty": (X[:0], Y[:0], "empty"),
    "text pictures": (np.array(["a.png"] * 24), Y, "x is of type <U5"),
    "objects": ([None], Y, "x: needs an array"),
    "ragged": ([[1], [1, 2]], Y, "x: needs an array"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_arrays_that_no_model_learns_from_are_refused(kind):
    x, y, message = WRONG[kind]
    with pytest.raises(KdartsError, match=message) as refused:
        search_data(x, y, IMAGES, 4, 0)
    assert "\n" not in str(refused.value)


def test_a_missing_channel_is_named():
    with pytest.raises(KdartsError, match=r"x\[\.\.\., None\] adds the channel"):
        Expected((8, 8, 1), 3).arrays(X[..., 0], Y)


def test_pixels_that_nobody_normalised_are_told_of():
    for x in (np.full((3, 8, 8, 3), 255, np.uint8), np.full((3, 8, 8, 3), 255.0)):
        with pytest.warns(UserWarning, match="up to 255: images train best normalised"):
            IMAGES.arrays(x, Y[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IMAGES.arrays(X, Y[:, None].astype(np.uint8))
        Expected((2,), 3).arrays(np.full((3, 2), 1000.0), Y[:3])


def test_arrays_are_divided_between_weights_and_alpha():
    data = search_data((X, Y), None, IMAGES, 4, 0)
    assert data.steps == 3
    epochs = [[(x, v) for (x, _), (v, _) in data.dataset.as_numpy_iterator()] for _ in range(2)]
    train, valid = ({image.tobytes() for pair in epochs[0] for image in pair[part]} for part in (0, 1))
    assert len(train) == len(valid) == 12 and not train & valid
    assert train == {image.tobytes() for pair in epochs[1] for image in pair[0]}
    assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])
    for (x, y), _ in data.dataset.as_numpy_iterator():
        assert all(
            Y[np.flatnonzero((image == X).all((1, 2, 3)))[0]] == label for image, label in zip(x, y, strict=True)
        )
    with pytest.raises(KdartsError, match="batch_size 64: allowed is 1 to 12, half of the 24 examples"):
        search_data(X, Y, IMAGES, 64, 0)


def _dataset(x=X, y=Y):
    single = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    return tf.data.Dataset.zip(single, single)


@pytest.mark.parametrize("kind", ["one-hot", "text labels", "picture size", "channels"])
def test_the_shapes_and_types_of_a_dataset_are_looked_at(kind):
    x, y, message = WRONG[kind]
    with pytest.raises(KdartsError, match=message):
        search_data(_dataset(x, y), None, IMAGES, 4, 0)


def test_a_dataset_of_other_elements_is_refused_with_what_to_do():
    single = tf.data.Dataset.from_tensor_slices((X, Y))
    for given, labels, message in (
        (single.batch(8), None, r"tf.data.Dataset.zip\(train, valid\) makes one"),
        (tf.data.Dataset.zip(single, single), None, "batches of examples: dataset.batch"),
        (_dataset(), 5, "epochs are named"),
        (X, None, r"fit\(ndarray\): needs images and labels"),
    ):
        with pytest.raises(KdartsError, match=message):
            search_data(given, labels, IMAGES, 4, 0)
    with pytest.warns(UserWarning, match="x(_valid)? is of type uint8"):
        assert isinstance(search_data(_dataset(X.astype(np.uint8)), None, IMAGES, 4, 0), SearchData)


def test_a_network_of_keras_has_the_same_check():
    network = kdarts.build_network(kdarts.Genotype.load("DARTS_V2"), (8, 8, 3), 3, 4, 1, auxiliary=False)
    kdarts.check_examples(network, X, Y)
    with pytest.raises(KdartsError, match="labels are integers, 0 to 2"):
        kdarts.check_examples(network, X, Y + 1)


def _search():
    return Search("darts", (8, 8, 3), 3, channels=4, cells=1, nodes=1, batch_size=6, epochs=1)


def test_fit_refuses_before_its_first_step():
    search = _search()
    with pytest.raises(KdartsError, match="y holds 3: labels are integers, 0 to 2"):
        search.fit(X, Y + 1)
    # Of a dataset the numbers are seen as the batches come.
    for x, y, message in ((X, Y - 1, "^y holds -1"), (_spoilt(np.nan), Y, "^x holds NaN or infinite numbers")):
        with pytest.raises(KdartsError, match=message):
            search.fit(_dataset(x, y), verbose=0)
    with pytest.raises(KdartsError, match="y holds 3"):
        search.fit(X, Y, validation_data=(X, Y + 1))
    with pytest.raises(KdartsError, match="num_classes 3: the data have 10 classes"):
        search.fit(kdarts.search_dataset("digits", 8))
    assert search.optimizer.iterations == 0


@pytest.mark.slow
def test_fit_takes_arrays():
    search = _search()
    assert search.fit(X, Y, validation_data=(X, Y), verbose=0).history["val_accuracy"]
    assert search.optimizer.iterations == 2
