"""The search as a Keras model: its step, what fit does, saving, and every mix of choices."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.method import get_method
from kdarts.search.objective import Objective
from kdarts.search.optimizers import SGD, Adam
from kdarts.search.search import Search
from kdarts.search.selection import discretize
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet

FEW = SearchSpace("few", ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3"), 2, 2)


def _supernet(**kwargs) -> Supernet:
    return Supernet(FEW, (8, 8, 3), 3, **{"channels": 4, "cells": 2, "reductions": (1,), **kwargs})


SMALLER = {"nodes": 1, "multiplier": 1}


def _search(supernet=None, compiled=None, **kwargs) -> Search:
    search = Search(supernet or _supernet(), **kwargs)
    search.compile(**(compiled or {}))
    return search


def _examples(count, seed=0):
    """Images whose mean tells their class."""
    y = np.arange(count) % 3
    noise = np.random.default_rng([seed, count]).normal(size=(count, 8, 8, 3))
    return (noise + 2 * y[:, None, None, None]).astype("float32"), y


def _pairs(steps=4, batch=12, seed=0):
    halves = [tf.data.Dataset.from_tensor_slices(_examples(steps * batch, seed + i)) for i in (0, 1)]
    return tf.data.Dataset.zip(*(half.batch(batch, drop_remainder=True) for half in halves))


def _values(variables):
    return [variable.numpy() for variable in variables]


def _same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def _graph_rewriting_is_off():
    return tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)


def test_compile_takes_the_papers_optimizers():
    search = _search()
    weights, alphas = search.optimizer, search.arch_optimizer
    assert type(weights) is SGD and type(alphas) is Adam
    np.testing.assert_allclose(weights.learning_rate, 0.025)
    assert (weights.momentum, weights.l2, weights.global_clipnorm, weights.nesterov) == (0.9, 3e-4, 5.0, False)
    np.testing.assert_allclose(alphas.learning_rate, 3e-4)
    assert (alphas.beta_1, alphas.beta_2, alphas.epsilon, alphas.l2) == (0.5, 0.999, 1e-8, 1e-3)
    assert alphas.global_clipnorm is None
    assert len(weights.buffers) == len(search.supernet.network_variables)


def test_overrides_reach_the_optimizers():
    search = _search(learning_rate=0.1, momentum=0.5, l2=0.01, clip=3.0, arch_learning_rate=0.2, arch_l2=0.3)
    np.testing.assert_allclose(search.optimizer.learning_rate, 0.1)
    np.testing.assert_allclose(search.arch_optimizer.learning_rate, 0.2)
    optimizers = search.optimizer, search.arch_optimizer
    assert (optimizers[0].momentum, optimizers[0].l2, optimizers[0].global_clipnorm) == (0.5, 0.01, 3.0)
    assert optimizers[1].l2 == 0.3
    assert get_method("darts").learning_rate == 0.025


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"method": "dart"}, "unknown method 'dart' .did you mean 'darts'"),
        ({"learning": 1}, "no axis 'learning'"),
        ({"order": "third"}, "unknown order 'third'"),
    ],
)
def test_what_does_not_exist_is_refused(choices, message):
    with pytest.raises(KdartsError, match=message):
        Search(_supernet(), **choices)


@pytest.mark.parametrize("order", ["second", "exact"])
def test_an_optimizer_that_cannot_be_unrolled_is_refused(order):
    with pytest.raises(KdartsError, match="virtual_step"):
        _search(order=order, compiled={"optimizer": "adam"})


def test_fit_trains_the_weights_and_moves_the_alphas():
    keras.utils.set_random_seed(0)
    search = _search(learning_rate=0.1)
    net = search.supernet
    statistics = [v for v in net.non_trainable_variables if "mixture" not in v.path]
    groups = [net.alphas, net.network_variables, statistics]
    before = [_values(group) for group in groups]
    stopping = keras.callbacks.EarlyStopping("val_loss", min_delta=100.0, patience=5)
    history = search.fit(
        _pairs(), validation_data=_pairs().map(lambda _, valid: valid), epochs=8, verbose=0, callbacks=[stopping]
    ).history
    assert stopping.stopped_epoch == 5 and len(history["loss"]) == 6
    measured = {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert set(history) == {*measured, "learning_rate", "skip_connects"}
    assert history["learning_rate"] == pytest.approx([search.method.axes["weights"].rate(8, 0)(e) for e in range(6)])
    assert history["loss"][-1] < 0.8 * history["loss"][0] and history["accuracy"][-1] > history["accuracy"][0]
    for values, group in zip(before, groups, strict=True):
        for value, variable in zip(values, group, strict=True):
            assert not np.array_equal(value, variable.numpy()), variable.path
            assert np.isfinite(variable).all(), variable.path
    assert search.objective._gradients.experimental_get_tracing_count() == 1
    assert search.optimizer.iterations == search.arch_optimizer.iterations == 24
    assert search.predict(_examples(5)[0], verbose=0).shape == (5, 3)
    scores = search.evaluate(*_examples(12), verbose=0, return_dict=True)
    logits = search(_examples(12)[0])
    np.testing.assert_allclose(scores["accuracy"], np.mean(np.argmax(logits, 1) == _examples(12)[1]), rtol=1e-5)


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_step_moves_alphas_first_and_then_the_weights_at_the_new_alphas(order):
    search = _search(order=order, arch_learning_rate=0.5, clip=0.1)
    net = search.supernet
    (train, valid), second = _pairs(2)
    search.fit(tf.data.Dataset.from_tensors(second), epochs=1, verbose=0)  # fills the momentum buffers
    alphas, weights, statistics = (
        [tf.Variable(v) for v in g] for g in (net.alphas, net.network_variables, net.non_trainable_variables)
    )
    buffers, moments = _values(search.optimizer.buffers), search.arch_optimizer.variables
    manual = Adam(0.5, 0.5, 0.999, 1e-8, l2=1e-3)
    manual.build(alphas)
    for ours, theirs in zip(manual.variables, moments, strict=True):
        ours.assign(theirs)
    manual.apply(search.architecture_gradients(train, valid), alphas)
    step = search.objective.gradients(weights, alphas, statistics, train)
    norm = tf.linalg.global_norm(step["by_weights"])
    assert norm > 0.2
    history = search.fit(tf.data.Dataset.from_tensors((train, valid)), epochs=1, verbose=0).history
    np.testing.assert_allclose(history["loss"], [step["loss"]], rtol=1e-5)
    np.testing.assert_allclose(history["accuracy"], [np.mean(np.argmax(step["logits"], 1) == train[1])], rtol=1e-5)
    for ours, theirs in zip(net.alphas, alphas, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    for ours, old, gradient, buffer in zip(net.network_variables, weights, step["by_weights"], buffers, strict=True):
        expected = old - 0.025 * (0.9 * buffer + gradient * 0.1 / norm + 3e-4 * old)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6, err_msg=ours.path)
    for ours, theirs in zip(net.non_trainable_variables, step["statistics"], strict=True):
        if ours is not net.mixture.draws:
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_rate_of_the_moment_is_unrolled():
    search = _search(order="second")
    train, valid = next(iter(_pairs(1)))
    unrolled = search.architecture_gradients(train, valid)
    search.optimizer.learning_rate = 0.0
    still = search.architecture_gradients(train, valid)
    first = search.objective.gradients(*search.objective.values(), valid)["by_alphas"]
    for a, b, c in zip(unrolled, still, first, strict=True):
        np.testing.assert_allclose(b, c, rtol=0, atol=1e-6)
        assert not np.allclose(a, c, rtol=0, atol=1e-5)
    assert search.objective._gradients.experimental_get_tracing_count() == 1


def test_architecture_gradients_change_nothing():
    search = Search(_supernet(**SMALLER), order="second")
    train, valid = next(iter(_pairs(1)))
    assert [g.shape for g in search.architecture_gradients(train, valid)] == [a.shape for a in search.supernet.alphas]
    variables = [*search.variables, *search.optimizer.variables, *search.arch_optimizer.variables]
    before = _values(variables)
    off = _graph_rewriting_is_off()
    search.architecture_gradients(train, valid)
    assert _same(before, _values(variables)) and _graph_rewriting_is_off() == off


@pytest.mark.parametrize("off", [False, True])
def test_the_process_wide_setting_is_put_back(off):
    class Watch(keras.callbacks.Callback):
        seen = None

        def on_train_batch_end(self, batch, logs=None):
            self.seen = _graph_rewriting_is_off()
            raise KeyboardInterrupt

    start, watch = _graph_rewriting_is_off(), Watch()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": off})
    try:
        search = _search(_supernet(**SMALLER))
        with pytest.raises(KeyboardInterrupt):
            search.fit(_pairs(1), epochs=1, verbose=0, callbacks=[watch])
        assert watch.seen is True and _graph_rewriting_is_off() == off
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": start})


def test_saved_weights_bring_back_the_state_of_both_optimizers(tmp_path, eagerly):
    search, other = (_search(_supernet(**SMALLER)) for _ in range(2))
    search.fit(_pairs(2), epochs=1, verbose=0)
    search.save_weights(tmp_path / "search.weights.h5")
    other.load_weights(tmp_path / "search.weights.h5")
    parts = (
        lambda s: s.supernet.variables,
        lambda s: s.optimizer.variables,
        lambda s: s.arch_optimizer.variables,
    )
    for part in parts:
        assert _same(_values(part(search)), _values(part(other)))
    assert other.optimizer.iterations == other.arch_optimizer.iterations == 2
    assert any(np.any(buffer) for buffer in other.optimizer.buffers)


def test_the_compiled_configuration_keeps_both_optimizers():
    search, other = _search(learning_rate=0.3, arch_learning_rate=0.4), Search(_supernet())
    other.compile_from_config(search.get_compile_config())
    assert type(other.optimizer) is SGD and type(other.arch_optimizer) is Adam
    assert other.optimizer.get_config() == search.optimizer.get_config()
    assert other.arch_optimizer.get_config() == search.arch_optimizer.get_config()


@pytest.mark.parametrize(
    "choices, reductions, sequence",
    [
        ({"cells": 3, "reductions": None}, None, None),
        ({"cells": 3, "reductions": (0,)}, (0,), (1, 0, 0)),
        ({"cells": 3, "reductions": None, "sharing": "individual"}, (1, 2), (0, 1, 2)),
        ({"cells": 3, "reductions": (2,), "sharing": [0, 1, 0], "multiplier": 1}, (2,), (0, 1, 0)),
    ],
)
def test_the_genotype_is_what_alphas_stand_for(choices, reductions, sequence):
    own = {"sharing": "individual"} if choices.get("sharing") == "individual" else {}
    search = Search(_supernet(**choices), **own)
    net = search.supernet
    for index, alpha in enumerate(net.alphas):
        alpha.assign(np.random.default_rng(index).normal(size=alpha.shape))
    genotype = search.genotype()
    assert (genotype.reductions, genotype.sequence) == (reductions, sequence)
    probabilities = [weights.numpy() for weights in net.mixing_weights()]
    assert genotype == discretize(probabilities, FEW, "darts", 0.85, reductions, sequence, net.multiplier)
    assert genotype.concats == ((3,) if net.multiplier == 1 else (2, 3),) * len(net.alphas)
    assert all(len(cell) == 4 for cell in genotype.cells)


MIXES = list(itertools.product(["shared", "individual"], ["softmax", "sigmoid", "max_w"], ["first", "second"]))


@pytest.mark.parametrize("sharing, mixing, order", [*MIXES, ([1, 0], "softmax", "exact")])
def test_every_mix_of_choices_searches(sharing, mixing, order, eagerly):
    choices = {"sharing": sharing if isinstance(sharing, str) else "individual", "mixing": mixing}
    search = _search(_supernet(sharing=sharing, mixing=mixing, **SMALLER), order=order, **choices)
    net = search.supernet
    before = _values(net.trainable_variables)
    history = search.fit(_pairs(2), epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for value, variable in zip(before, net.trainable_variables, strict=True):
        assert np.isfinite(variable).all() and not np.array_equal(value, variable.numpy()), variable.path
    assert search.genotype().operations


def test_an_objective_reads_and_writes_no_variable():
    net = _supernet()
    objective = Objective(net, lambda y, logits: tf.reduce_mean(logits**2))
    (x, y), _ = next(iter(_pairs(1)))
    before = _values(net.variables)
    values = objective.values()
    found = objective.gradients(*values, (x, y))
    assert _same(before, _values(net.variables))
    for variable in net.trainable_variables:
        variable.assign(variable * 2 + 1)
    again = objective.gradients(*values, (x, y))
    np.testing.assert_array_equal(found["loss"], again["loss"])
    moved = objective.gradients(*objective.values(), (x, y))
    assert found["loss"] != moved["loss"]


@pytest.mark.slow
def test_once_an_epoch_alpha_moves_after_the_last_step_on_its_batches():
    search = _search(_supernet(**SMALLER), method="edarts", topology="", arch_learning_rate=0.1)
    plain = _search(_supernet(**SMALLER), method="edarts", topology="", update="frozen")
    plain.supernet.set_weights(search.supernet.get_weights())
    pairs, moved = list(_pairs(steps=3, batch=6)), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.before = _values(search.supernet.alphas)

        def on_train_batch_end(self, batch, logs=None):
            moved.append(not _same(_values(search.supernet.alphas), self.before))

    history = search.fit(_pairs(steps=3, batch=6), epochs=1, callbacks=Watch(), verbose=0)
    assert moved == [False, False, True]
    assert int(search.supernet.mixture.draws) == 4, "three passes of the weights, one of α"
    assert int(search.arch_optimizer.iterations) == 1 and np.isfinite(history.history["loss"][0])
    plain.fit(_pairs(steps=3, batch=6), epochs=1, verbose=0)
    assert _same(_values(plain.supernet.network_variables), _values(search.supernet.network_variables))
    plain = Search(plain.supernet, "edarts", topology="")
    plain.compile(search.optimizer, Adam(0.1, 0.5, 0.999, 1e-8, l2=1e-3))
    gradients = plain.architecture_gradients(*pairs[-1])
    alphas = plain.supernet.alphas
    plain.arch_optimizer.apply(gradients, alphas)
    for ours, theirs in zip(search.supernet.alphas, alphas, strict=True):
        np.testing.assert_allclose(ours, theirs + np.float32([0, 0, 0, -0.0004]), rtol=1e-4, atol=1e-5)


def test_an_epoch_of_unknown_length_is_refused():
    search = _search(_supernet(**SMALLER))
    for endless in (_pairs(steps=2, batch=6).repeat(), _pairs(steps=2, batch=6).repeat().filter(lambda *_: True)):
        with pytest.raises(KdartsError, match="steps_per_epoch"):
            search.fit(endless, verbose=0)
    with pytest.raises(KdartsError, match="empty"):
        search.fit(_pairs(steps=2, batch=6).take(0), verbose=0)


@pytest.mark.parametrize(
    "choices",
    [
        {"method": "ddarts", "mixing": "softmax", "ablation_margin": -9.0},
        {"order": "exact"},
        {"order": "second", "sharing": "individual"},
    ],
)
def test_every_choice_moves_alpha_at_the_end_of_its_epoch(choices, eagerly):
    individual = "method" in choices or "sharing" in choices
    net = _supernet(**SMALLER, **({"sharing": "individual"} if individual else {}))
    search = _search(net, update="epoch", **choices)
    before = _values(net.alphas)
    search.fit(_pairs(steps=2, batch=6), epochs=1, verbose=0)
    assert int(search.arch_optimizer.iterations) == 1
    assert not any(np.array_equal(a, b) for a, b in zip(before, net.alphas, strict=True))


def test_alpha_rests_while_the_weights_alone_are_trained(eagerly):
    search, moved = _search(_supernet(**SMALLER), pretrain_epochs=1, warmup_epochs=25, epochs=50), []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            moved.append((int(search.arch_optimizer.iterations), int(search.optimizer.iterations)))

    search.fit(_pairs(steps=2, batch=6), callbacks=Watch(), epochs=2, verbose=0)
    assert moved == [(0, 2), (0, 4), (2, 6)]
    assert [row["epoch"] for row in search.record.history] == [0, 1, 2]
    for epochs, warmup in ((1, 0), (3, 1), (4, 2)):  # in proportion to the method's own length, whatever came before
        search.fit(_pairs(steps=1, batch=6), epochs=epochs, verbose=0)
        assert (search.method.epochs, search.method.warmup_epochs) == (epochs, warmup)


@pytest.mark.parametrize("given", [False, True])
def test_the_rate_of_alpha_falls_along_its_cosine_after_a_pretraining(given, eagerly):
    """A rate of the method's follows its schedule; that of an optimizer of the user's own stays."""
    rates = {"arch_learning_rate": 0.4, "arch_final_learning_rate": 0.1, "pretrain_epochs": 1}
    compiled = {"arch_optimizer": Adam(0.7), "optimizer": SGD(0.6)} if given else {}
    search, seen = _search(_supernet(**SMALLER), compiled, learning_rate=0.2, final_learning_rate=0.0, **rates), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append([float(optimizer.learning_rate) for optimizer in (search.arch_optimizer, search.optimizer)])

    search.fit(_pairs(steps=1, batch=6), epochs=4, callbacks=Watch(), verbose=0)
    count = len(seen)
    assert count == search.method.pretrain_epochs + 4 > 4
    done = [max(0, epoch - search.method.pretrain_epochs) / 4 for epoch in range(count)]
    falling = [(1 + np.cos(np.pi * d)) / 2 for d in done]
    expected = [[0.7, 0.6]] * count if given else [[0.1 + 0.3 * share, 0.2 * share] for share in falling]
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-7)
