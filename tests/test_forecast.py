"""A forecast costs nothing but time: two steps that leave no trace, and an estimate from the graph alone."""

import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli.options import megabytes
from kdarts.cli.search import SEARCH
from kdarts.genotypes.errors import KdartsError
from kdarts.search.method import get_method
from kdarts.search.search import Search
from kdarts.search.step import Step
from kdarts.supernet.spaces import SearchSpace
from kdarts.supernet.supernet import Supernet
from kdarts.training.forecast import Memory, estimate, forecast, live_bytes, passes_of_step, refusal
from kdarts.training.session import StepTime

ROOT = pathlib.Path(__file__).parent.parent
SPACE = SearchSpace("few", ("none", "skip_connect", "max_pool_3x3"))


def _search(**overrides):
    keras.utils.set_random_seed(0)
    net = Supernet(SPACE, (8, 8, 1), 2, channels=2, cells=2, nodes=2, sampling="gumbel")
    search = Search(net, "gdas", cells=2, channels=2, batch_size=4, **overrides)
    search.compile()
    return search


def _batches():
    rng = np.random.default_rng(0)
    halves = [(rng.normal(size=(6, 4, 8, 8, 1)).astype(np.float32), np.zeros((6, 4), np.int32)) for _ in range(2)]
    return tf.data.Dataset.from_tensor_slices(tuple(halves)).repeat()


def test_it_leaves_no_trace_and_traces_the_step_of_the_run():
    search = _search()
    step = Step(search)
    for batch in _batches().take(1):
        step(batch)  # so that momentum and metrics are there, too
    before = [v.numpy() for v in step.variables]
    searching = search.searching
    found = forecast(search, step, _batches(), 6, 1, 2, None, {})
    assert search.searching == searching
    for variable, value in zip(step.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    step(next(iter(_batches())))
    assert step.function.experimental_get_tracing_count() == 1
    assert re.fullmatch(
        r"2 cells, 2 channels: [\d,]+ weights, [\d,]+ MACs a step/image, about \d+ MB, "
        r"6 steps an epoch, about [\d.]+ s, then [\d.]+ s \(0:\d\d in all\)",
        str(found),
    )
    assert found.macs == 6 * search.supernet.cost().macs
    small, large = (estimate(step, batches.element_spec, 4) for batches in (_batches(), _batches().map(_doubled)))
    assert large.living > 1.8 * small.living


def _doubled(*halves):
    return tuple((tf.concat([x, x], 0), tf.concat([y, y], 0)) for x, y in halves)


def test_living_tensors_are_counted_through_calls_and_branches():
    mb = 250_000  # float32

    @tf.function(autograph=False)
    def inner(x):
        return tf.concat([x, x, x], 0)[:mb]

    def step(x, which):
        y = tf.tile(x, [2])  # 2 MB, needed to the end
        z = inner(tf.nn.relu(x))  # 1 + 3 + 1 MB for a moment; 1 MB stays
        w = tf.cond(which, lambda: tf.reduce_sum(tf.tile(z, [5])), lambda: 0.0)  # 5 MB inside
        return tf.reduce_sum(y * w) + tf.reduce_sum(z)

    spec = tf.TensorSpec((mb,), tf.float32), tf.TensorSpec((), tf.bool)
    living, operations = live_bytes(tf.function(step, autograph=False).get_concrete_function(*spec).graph)
    assert 8.0e6 <= living < 8.1e6
    assert 10 < operations < 40


def test_what_would_fit_is_computed():
    memory = Memory(standing=500, nodes=100, living=800, batch_size=64)
    said = refusal(memory, 850, _batches().element_spec, {"--recompute": _search})
    assert said.startswith("--memory_limit=850MB: this search needs about 1400 MB at batch size 64")
    assert re.search(r"would fit: --batch_size=16 \(800 MB\), --recompute \(\d+ MB\)$", said)
    assert refusal(memory, 100, None, {}).endswith("nothing that was tried fits: a smaller --batch_size")
    with pytest.raises(KdartsError, match="--memory_limit=1MB: this search needs about"):
        search = _search()
        forecast(search, Step(search), _batches(), 6, 0, 1, 1.0, {})


@pytest.mark.parametrize(
    ("choices", "passes"),
    [
        ({}, 6),
        ({"order": "second"}, 15),
        ({"order": "exact"}, 15),
        ({"update": "epoch"}, 3),
        ({"ablation_weight": 1.0, "ablation": "own"}, 6 + 1.5),
        ({"ablation_weight": 1.0}, 6 + 1.5 + 3),
        ({"ablation_weight": 1.0, "ablation": "exact"}, 6 + 4.5 + 3),
    ],
)
def test_passes_of_a_step(choices, passes):
    method = get_method("darts").override(**{"order": "first", **choices})
    assert passes_of_step(method, 2) == passes
    assert passes_of_step(method, 2, searching=False) == 3


def test_passes_of_what_the_weights_are_trained_for():
    assert passes_of_step(get_method("sdarts_rs"), 2) == 6
    assert passes_of_step(get_method("sdarts_adv"), 2) == 6 + 8 * 3
    assert passes_of_step(get_method("lambda_darts"), 2, searching=False) == 3 + 2 * 3


@pytest.mark.parametrize("mode", ["drawn", "exact", "own", "constant"])
def test_one_cell_alone_is_removed_without_a_gradient(mode):
    assert passes_of_step(get_method("darts").override(ablation_weight=1.0, ablation=mode), 1) == 6 + 1


@pytest.mark.parametrize(("text", "expected"), [("8GB", 8000), ("900MB", 900), ("1.5gb", 1500), (None, None)])
def test_a_limit_is_read(text, expected):
    assert megabytes(SEARCH.parse(["search", *([f"--memory_limit={text}"] if text else [])])) == expected


@pytest.mark.parametrize("text", ["8", "GB", "-1GB", "0MB", "8TB"])
def test_a_limit_needs_a_unit(text):
    with pytest.raises(KdartsError, match=r"--memory_limit=.*needs a number and MB or GB"):
        megabytes(SEARCH.parse(["search", f"--memory_limit={text}"]))


def test_the_share_of_waiting():
    clock = StepTime()
    assert clock.wait_share is None
    for waited, computed in ((5, 5), (1, 3), (0, 4)):
        clock.add(waited, computed)
    assert clock.wait_share == 1 / 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [["--batch_size=16"], ["--batch_size=64"], ["--batch_size=64", "--recompute"]], ids=str
)
def test_the_estimate_is_near_the_peak(more, tmp_path):
    arguments = ["--image_size=32", "--cells=4", "--channels=8", "--epochs=1", "--train_examples=200", *more]
    command = [
        sys.executable,
        "-m",
        "kdarts",
        "search",
        "--valid_examples=200",
        *arguments,
        f"--workdir={tmp_path / 'run'}",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    said = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=600).stdout
    expected = float(re.search(r"about (\d+) MB", said)[1])
    measured = json.loads((tmp_path / "run" / "summary.json").read_text())["peak_memory_mb"]
    assert 0.75 < expected / measured < 1.25, (expected, measured)
