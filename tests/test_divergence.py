"""A run that diverges stops with one line, before the step that did it, and a step that float16 skips is counted."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli.main import main
from kdarts.search.loop import run_epochs
from kdarts.search.optimizers import SGD
from kdarts.search.search import Search
from kdarts.search.step import NotFinite, Step
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet
from kdarts.training.session import Divergence, RunSession
from kdarts.training.workdir import STOPPED, Workdir

STEPS = 3
SPACE = SearchSpace("few", ("none", "skip_connect", "max_pool_3x3"))


def _search(**options):
    keras.utils.set_random_seed(0)
    net = Supernet(SPACE, (8, 8, 1), 2, channels=2, cells=2, nodes=2, sharing="individual", **options)
    search = Search(net, sharing="individual")
    search.compile()
    return search


def _batches(bad=None, half=0, value=np.inf):
    """Six batches of a search; in number `bad` a pixel of one half is `value`."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(2, 6, 4, 8, 8, 1)).astype(np.float32), rng.integers(0, 2, (2, 6, 4))
    if bad is not None:
        images[half, bad, 0, 3, 3] = value
    pairs = [(images[part], labels[part].astype(np.int32)) for part in (0, 1)]
    return tf.data.Dataset.from_tensor_slices(tuple(pairs))


def _run(step, batches, folder):
    session = RunSession(Workdir(folder))
    run_epochs(step.model, batches.skip, steps=STEPS, epochs=2, session=session, step=step)
    return session.checkpoint


@pytest.fixture(scope="module")
def searches():
    """The steps of two searches that are alike, put back to where they began by each test."""
    steps = [Step(_search()) for _ in range(2)]
    begun = [step.values() for step in steps]

    def anew():
        for step, values in zip(steps, begun, strict=True):
            step.assign(values)
        return steps

    return anew


@pytest.mark.parametrize(
    ("bad", "half", "where", "what"),
    [
        (1, 0, "epoch 1, step 2: ", "the training loss is nan"),
        (4, 1, "epoch 2, step 2: ", "the gradient of α of cell_"),
    ],
)
def test_the_state_before_the_step_is_saved_and_the_next_run_says_the_same(
    bad, half, where, what, searches, tmp_path, capsys
):
    search, clean = searches()
    with pytest.raises(Divergence, match=where + what) as first:
        _run(search, _batches(bad, half), tmp_path)
    record = json.loads((tmp_path / STOPPED).read_text())
    assert record["stopped_by"] == "divergence" and record["what"].startswith(what)
    assert (record["epoch"], record["step"]) == (bad // STEPS + 1, bad % STEPS + 1)

    for batch in _batches().take(bad):
        clean(batch)
    assert all(np.isfinite(v.numpy()).all() for v in search.variables)
    with pytest.raises(Divergence) as second:
        _run(search, _batches(bad, half), tmp_path)
    assert str(first.value) == str(second.value)
    for found, expected in zip(search.model.variables, clean.model.variables, strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=found.path)


def test_the_record_goes_once_the_run_is_through(searches, tmp_path):
    (tmp_path / STOPPED).write_text("{}")
    _run(searches()[0], _batches(), tmp_path)
    assert not (tmp_path / STOPPED).exists()


def test_alpha_itself_is_watched(searches):
    step, _ = searches()
    step.model.arch_optimizer.learning_rate = np.inf
    with pytest.raises(NotFinite, match=r"^α of cell_0 is"):
        step(next(iter(_batches())))


def test_the_gradient_of_the_weights_is_watched_in_a_plain_training():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(SGD(0.1), lambda y, z: tf.sqrt(tf.reduce_sum(z, -1) * 0.0))  # a loss of 0 whose slope is infinite
    step, before = Step(model), [v.numpy() for v in model.variables]
    with pytest.raises(NotFinite, match=r"the gradient of the weights .*kernel is nan"):
        step((tf.ones((3, 2)), tf.ones((3, 1))))
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def _scaled(factor):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, dtype="mixed_float16")])
    model.compile(keras.optimizers.LossScaleOptimizer(SGD(0.0)), lambda y, z: factor * tf.cast(z, tf.float32))
    return model, tf.data.Dataset.from_tensors((tf.ones((4, 2)), tf.ones((4, 1)))).repeat()


def test_skipped_steps_are_no_divergence_and_are_counted(tmp_path):
    model, batches = _scaled(100.0)  # too much for float16 at the first scales, not at the later ones
    step = Step(model)
    checkpoint = _run(step, batches, tmp_path)
    counts = [row["skipped_steps"] for row in checkpoint.records["history"]]
    assert sum(counts) == step.skipped > 0
    assert counts[0] > 0
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0 ** (15 - step.skipped)


def test_a_batch_whose_loss_overflows_in_float16_leaves_nothing_behind_but_a_lower_scale():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((2,)), keras.layers.BatchNormalization(), keras.layers.Dense(1, dtype="mixed_float16")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.LossScaleOptimizer(SGD(0.1)), "mse")
    step, good = Step(model), (tf.ones((4, 2)), tf.ones((4, 1)))
    step(good)
    before, skipped = [v.numpy() for v in (*model.variables, *model.metrics_variables)], step.skipped
    scale = float(model.optimizer.dynamic_scale.numpy())
    logs = step((good[0] * np.inf, good[1]))
    assert np.isfinite(float(logs["loss"]))
    for variable, value in zip((*model.variables, *model.metrics_variables), before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert (step.skipped, float(model.optimizer.dynamic_scale.numpy())) == (skipped + 1, scale / 2)


def test_a_loss_scale_that_collapses_is_a_divergence():
    model, batches = _scaled(1e30)
    step = Step(model)
    with pytest.raises(NotFinite, match="float16 overflows at any loss scale"):
        for batch in batches.take(20):
            step(batch)
    assert step.skipped == 15


def test_the_command_says_so_in_one_line(tmp_path, capsys):
    arguments = ["search", "--operations=none,skip_connect,max_pool_3x3", "--cells=2", "--channels=2", "--nodes=1"]
    arguments += ["--learning_rate=1000", "--l2=1000", "--epochs=1", f"--workdir={tmp_path / 'run'}"]
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert said.startswith("kdarts: epoch 1, step ")
    assert "Try a lower --learning_rate" in said
    assert not (tmp_path / "run" / "summary.json").exists()
