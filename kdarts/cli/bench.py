"""`kdarts bench`: time and memory of the step of a search, or of a training."""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from absl import flags

from kdarts.cli import options
from kdarts.cli import search as search_command
from kdarts.cli.command import Command, titled
from kdarts.cli.process import start_tensorflow
from kdarts.cli.train import PAPER, TRAIN, compiled
from kdarts.genotypes.cuboid import load_architecture
from kdarts.genotypes.errors import KdartsError

_TRAINING = ("auxiliary", "auxiliary_weight", "c_mid", "drop_last_step", "drop_path", "label_smoothing")
"""Flags of `kdarts train` that a search does not have."""

_OWN = ("help", "train", "num_classes", "input_shape", "steps", "paced")
"""Flags of this command alone."""


def define(values: flags.FlagValues) -> None:
    """Declares the flags."""
    flags.DEFINE_string("method", "darts", "method of the search", flag_values=values)
    text = "genotype, by path or name, whose training step is timed in place of a search's; flags are then those of "
    text += (
        f"`kdarts train`, by default {PAPER['channels']} channels, {PAPER['cells']} cells, batch {PAPER['batch_size']}"
    )
    flags.DEFINE_string("train", None, text, flag_values=values)
    search_command.define_supernet(values)
    options.define_classes(values)
    options.positive("steps", 10, "steps to time, after the first two", values, 1_000_000)
    search_command.define_step(values)
    options.define_seed(values, "seed of weights and images")
    text = "run one step for each line of standard input and print its milliseconds, to alternate with another program"
    flags.DEFINE_bool("paced", False, text, flag_values=values)
    _define_training(values)


@titled("Training, with --train")
def _define_training(values: flags.FlagValues) -> None:
    known = TRAIN.values()
    for name in _TRAINING:
        values[name] = known[name]


class Timed(NamedTuple):
    """A step to time.

    Attributes:
        about: What it is the step of, for the result.
        params: The number of trained weights, without α.
        step: Takes it.
        build_s, trace_s: The seconds that it took to build the model and to trace the step.
    """

    about: dict
    params: int
    step: Callable
    build_s: float
    trace_s: float


def run(values: flags.FlagValues) -> None:
    """Times steps on random images: of a search, with --update=epoch those that do not change α, or of a training."""
    timed = (_search if values.train is None else _training)(values)
    from kdarts.training.session import peak_memory_mb

    began = time.perf_counter()
    timed.step()
    first = time.perf_counter() - began
    timed.step()
    if values.paced:
        print(json.dumps({"ready": True, "params": timed.params}), flush=True)
        for _ in sys.stdin:
            print(_milliseconds(timed.step), flush=True)
        print(json.dumps({"peak_memory_mb": peak_memory_mb()}), flush=True)
        return
    times = [_milliseconds(timed.step) for _ in range(values.steps)]
    result = {
        **timed.about,
        "params": timed.params,
        "step_ms": statistics.median(times),
        "step_ms_min": min(times),
        "step_ms_max": max(times),
        "build_s": timed.build_s,
        "trace_s": timed.trace_s,
        "first_call_s": first,
        "peak_memory_mb": peak_memory_mb(),
    }
    print(json.dumps(result))


def _search(values) -> Timed:
    """Returns the step of the search that the flags ask for."""
    for name in _TRAINING:
        if values[name].present:
            raise KdartsError(
                f"--{name}={options.as_text(values[name].value)}: a search has none; it needs --train=NAME"
            )
    start, method = search_command.chosen_start(values, options.chosen_method(values))
    if method.stages:
        method = method.at(method.stages[0])
    shape = options.image_shape(values)
    _start()
    from kdarts.search.objective import loss_scale, without_graph_rewriting
    from kdarts.search.step import Step

    began = time.perf_counter()
    search = search_command.build(values, method, shape, values.num_classes, start)
    built = time.perf_counter() - began
    halves = _batches(values, shape, method.batch_size, 2)
    taken = Step(search)

    def step():
        with without_graph_rewriting():
            return float(taken(halves)["loss"])

    began = time.perf_counter()
    with without_graph_rewriting():
        search.objective.trace(halves[0], loss_scale(search.optimizer))
    traced = time.perf_counter() - began
    about = {
        "method": method.name,
        "order": method.order,
        "update": method.update,
        "ablation": method.ablation if method.ablation_weight else None,
        "precision": values.precision,
        "recompute": values.recompute,
        "batch_size": method.batch_size,
        "channels": method.channels,
        "cells": method.cells,
    }
    return Timed(about, _count(search.supernet.network_variables), step, built, traced)


def _training(values) -> Timed:
    """Returns the step of the training of `--train`, which is that of `kdarts train` with the same flags."""
    known, words = TRAIN.values(), [f"--genotype={values.train}"]
    for name in (name for name in values if values[name].present and name not in _OWN):
        word = f"--{name}={options.as_text(values[name].value)}"
        if name not in known:
            raise KdartsError(f"{word}: applies to searches, but --train={values.train} times a training")
        words.append(word)
    chosen = TRAIN.parse(["train", *words])
    genotype, shape = load_architecture(values.train), options.image_shape(values)
    options.check(chosen, genotype)
    sizes = {**PAPER, "batch_size": chosen.batch_size or PAPER["batch_size"]}
    _start()
    from kdarts.search.step import Step

    began = time.perf_counter()
    network = compiled(chosen, genotype, shape, values.num_classes, sizes, values.seed)
    built = time.perf_counter() - began
    [batch] = _batches(values, shape, sizes["batch_size"], 1)
    taken = Step(network)
    began = time.perf_counter()
    taken.graph(batch)
    traced = time.perf_counter() - began
    about = {
        "genotype": genotype.name or values.train,
        **{name: chosen[name].value for name in ("auxiliary", "drop_path", "precision")},
        "batch_size": sizes["batch_size"],
        **options.sizes(chosen, genotype, shape, values.num_classes, sizes),
    }
    return Timed(about, _count(network.trainable_variables), lambda: float(taken(batch)["loss"]), built, traced)


def _start() -> None:
    start_tensorflow()
    from kdarts.training.distribution import configure_threads

    configure_threads()


def _batches(values, shape, size: int, count: int) -> tuple:
    """Returns batches of random images and classes."""
    import tensorflow as tf

    generator = tf.random.Generator.from_seed(values.seed)
    return tuple(
        (generator.normal((size, *shape)), generator.uniform((size,), 0, values.num_classes, tf.int32))
        for _ in range(count)
    )


def _count(variables) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _milliseconds(step) -> float:
    began = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - began)


BENCH = Command(
    "time and memory of the step of a search or a training, as JSON",
    define,
    run,
    example="kdarts bench --method=darts --batch_size=16 --channels=16 --cells=8",
)
