"""Signs of a collapse: the Hessian of the validation loss in α, skips by cell, and what is done about them."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.ops.operations import get_operation
from kdarts.search.method import get_method
from kdarts.search.objective import Curvature, without_graph_rewriting
from kdarts.search.search import Search
from kdarts.search.stopping import Eigenvalue, SoFar
from kdarts.supernet.hypercuboid import HyperCuboid
from kdarts.supernet.parts import Placed
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet
from kdarts.training.search_run import write_record

FEW = SearchSpace("few", ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3"), 1, 1)


def _batch(dtype="float64", channels=2, size=8, count=6):
    x = np.random.default_rng(3).normal(size=(count, size, size, channels))
    return tf.constant(x, dtype), tf.constant(np.arange(count) % 3)


def _search(net, **choices) -> Search:
    """With α and weights spread as in the midst of a search."""
    rng = np.random.default_rng(5)
    for scale, variables in ((1, net.architecture), (0.5, net.network_variables)):
        for variable in variables:
            variable.assign(scale * rng.normal(size=variable.shape))
    search = Search(net, **choices)
    search.compile()
    return search


def _cells(**choices) -> Search:
    net = Supernet(FEW, (8, 8, 2), 3, channels=4, cells=1, reductions=(0,), dtype="float64", **choices)
    return _search(net, **choices)


def _grid() -> Search:
    net = HyperCuboid(
        (8, 8, 2),
        {"block": (1, 2)},
        {"width": (2, 4)},
        {"operation": ("dil_conv_3x3", "sep_conv_3x3")},
        build=lambda step: Placed(get_operation(step["operation"]), step["width"]),
        stem=lambda state: Placed(get_operation("sep_conv_3x3"), 2) if state["width"] == 2 else None,
        head=lambda state: [Flat(), Logits(state["width"])],
        dtype="float64",
    )
    return _search(net, discretization="best_path")


class Flat(keras.layers.GlobalAveragePooling2D):
    """In the precision of the rest."""

    def __init__(self):
        super().__init__(dtype="float64")


class Logits(keras.layers.Dense):
    """Likewise."""

    def __init__(self, width):
        super().__init__(3, dtype="float64")


def _numeric_hessian(search: Search, batch, step=1e-6) -> np.ndarray:
    """By central differences of gradients, in steps so short that they meet no kink of a ReLU."""
    net, objective = search.supernet, search.objective
    start = [alpha.numpy() for alpha in net.alphas]
    flat = np.concatenate([a.ravel() for a in start])
    ends = np.cumsum([a.size for a in start])[:-1]

    def slope(values):
        for alpha, part in zip(net.alphas, np.split(values, ends), strict=True):
            alpha.assign(part.reshape(alpha.shape))
        found = objective.gradients(*objective.values(), batch)["by_alphas"][: len(net.alphas)]
        return np.concatenate([np.asarray(g).ravel() for g in found])

    columns = [(slope(flat + e) - slope(flat - e)) / (2 * step) for e in step * np.eye(flat.size)]
    slope(flat)
    return np.stack(columns)


@pytest.mark.parametrize(
    "make",
    [lambda: _cells(sharing="individual", mixing="sigmoid", partial_channels=2), _grid],
    ids=["cells", "hypercuboid"],
)
def test_the_dominant_eigenvalue_is_that_of_the_whole_hessian(make):
    search, batch = make(), _batch()
    curvature = Curvature(search.objective)
    with without_graph_rewriting():
        hessian = _numeric_hessian(search, batch)
        columns = np.stack([curvature.product(batch, e) for e in np.eye(len(hessian))])
    scale = np.abs(hessian).max()
    assert scale > 1e-6 and np.abs(columns - columns.T).max() < 1e-9 * scale
    assert np.abs(columns - hessian).max() < 1e-4 * scale
    values = np.linalg.eigvalsh(columns)
    dominant = values[np.abs(values).argmax()]
    before = [v.numpy() for v in search.variables]
    for seed in (0, 1):
        assert curvature.eigenvalue(batch, seed) == pytest.approx(dominant, rel=1e-4)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, search.variables, strict=True))


def test_what_cannot_be_measured_is_refused():
    net = Supernet(FEW, (8, 8, 2), 3, channels=2, cells=1, reductions=(), sampling="random")
    for choices in ({"watch_hessian": 2}, {"stop": "eigenvalue"}):
        with pytest.raises(KdartsError, match="does not depend on α"):
            Search(net, sampling="random", **choices)
    assert get_method("darts").override(stop="eigenvalue").stopping.watched_every == 1
    assert get_method("darts").override(stop="eigenvalue", watch_hessian=3).stopping.watched_every == 3
    assert get_method("darts").stopping.watched_every == 0
    stock = HyperCuboid(
        (4, 4, 1),
        {"block": (1,)},
        choices={"size": (1, 3)},
        build=lambda step: [keras.layers.Conv2D(2, step["size"], padding="same"), keras.layers.MaxPooling2D()],
        head=lambda state: [keras.layers.Flatten(), keras.layers.Dense(2)],
    )
    for choices in ({"watch_hessian": 1}, {"stop": "eigenvalue"}):
        with pytest.raises(
            KdartsError, match="the eigenvalue: TensorFlow's second derivative of MaxPooling2D is wrong"
        ):
            Search(stock, discretization="best_path", **choices)
    with pytest.raises(KdartsError, match="stop of a HyperCuboid"):
        Search(stock, discretization="best_path", stop="skips")


def test_the_rule_compares_means_and_goes_back():
    rule = Eigenvalue(stop_from=2, stop_window=3)

    def at(values):
        rows = [{"epoch": e} if v is None else {"epoch": e, "eigenvalue": v} for e, v in enumerate(values)]
        return SoFar(rows, Genotype.load("DARTS_V2"), [], ())

    level = [0.2] * 9
    assert not any(rule.should_stop(at(level[:n])) for n in range(1, 10))
    # Means of the last three against those of the three before: 0.2 / (0.2 + 0.1 n / 3) < 0.75 from n = 3 on.
    rising = [0.2] * 6 + [0.3] * 3
    assert [rule.should_stop(at(rising[:n])) for n in range(6, 10)] == [False, False, False, True]
    assert rule.goes_back_to(at(rising)) == 5
    assert not Eigenvalue(stop_from=2, stop_window=3, stop_ratio=0.6).should_stop(at(rising))
    assert not Eigenvalue(stop_from=6, stop_window=3).should_stop(at(rising))
    assert rule.should_stop(at([-v for v in rising]))  # of the size
    every_second = [v for value in rising for v in (None, value)]
    assert rule.should_stop(at(every_second)) and rule.goes_back_to(at(every_second)) == 11
    assert get_method("darts").stopping.goes_back_to(at(rising)) is None


def test_a_stopped_search_has_the_alphas_from_before(tmp_path, monkeypatch, eagerly):
    net = Supernet(FEW, (8, 8, 2), 3, channels=4, cells=3, partial_channels=2)
    search = Search(net, stop="eigenvalue", stop_from=0, stop_window=1, partial_channels=2)
    values, seen = iter([0.1, 0.11, 0.5]), []
    monkeypatch.setattr(Curvature, "eigenvalue", lambda self, batch: next(values))

    class Spread(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            for index, variable in enumerate(net.architecture):
                variable.assign(np.random.default_rng([len(seen), index]).normal(size=variable.shape))
            seen.append([variable.numpy() for variable in net.architecture])

    data = tf.data.Dataset.from_tensors((_batch("float32"), _batch("float32")))
    search.fit(data, epochs=9, callbacks=Spread(), verbose=0)
    assert len(seen) == 3 and search.stop_training
    assert search.record.notes["stopped_by"] == "eigenvalue" and search.record.notes["returned_to"] == 1
    for variable, value in zip(net.architecture, seen[1], strict=True):
        assert np.array_equal(variable, value)
    found = write_record(tmp_path, search.record.notes, search.record.arrays)
    texts = search.record.notes["genotypes"]
    assert found == search.genotype() and texts[1] == texts[2] == found.to_json() != texts[0]
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["eigenvalue"]) for row in rows] == [0.1, 0.11, 0.5]
    assert {"skips_normal", "skips_reduce"} <= set(rows[0])
    assert len(np.load(tmp_path / "betas.npz")["normal"]) == 3


def test_skips_are_counted_in_each_cell():
    skip, convolution = "skip_connect", "sep_conv_3x3"
    cells = (((skip, 2, 0), (skip, 2, 1)), ((skip, 2, 0), (convolution, 2, 1)))
    found = Genotype(cells, ((2,), (2,)))
    assert found.skips_by_cell() == [2, 1] and found.skip_connects() == 3
