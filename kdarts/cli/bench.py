"""`kdarts bench`: time and memory of the search step."""

import json
import statistics
import sys
import time

from absl import flags

from kdarts.cli import options
from kdarts.cli import search as search_command
from kdarts.cli.command import Command
from kdarts.cli.process import start_tensorflow


def define(values: flags.FlagValues) -> None:
    """Declares the flags."""
    flags.DEFINE_string("method", "darts", "method of the search", flag_values=values)
    search_command.define_supernet(values)
    options.define_classes(values)
    options.positive("steps", 10, "steps to time, after the first two", values, 1_000_000)
    search_command.define_step(values)
    options.define_seed(values, "seed of weights and images")
    text = "run one step for each line of standard input and print its milliseconds, to alternate with another program"
    flags.DEFINE_bool("paced", False, text, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Times the steps of a search on random images; with --update=epoch, those that do not change α."""
    start, method = search_command.chosen_start(values, options.chosen_method(values))
    if method.stages:
        method = method.at(method.stages[0])
    shape = options.image_shape(values)
    start_tensorflow()
    from kdarts.training.distribution import configure_threads
    from kdarts.training.session import peak_memory_mb

    configure_threads()
    began = time.perf_counter()
    search = search_command.build(values, method, shape, values.num_classes, start)
    built = time.perf_counter() - began
    step, traced = _step(search, shape, values)
    began = time.perf_counter()
    step()
    first = time.perf_counter() - began
    step()
    if values.paced:
        print(json.dumps({"ready": True}), flush=True)
        for _ in sys.stdin:
            print(_milliseconds(step), flush=True)
        print(json.dumps({"peak_memory_mb": peak_memory_mb()}), flush=True)
        return
    times = [_milliseconds(step) for _ in range(values.steps)]
    result = {
        "method": method.name,
        "order": method.order,
        "update": method.update,
        "ablation": method.ablation if method.ablation_weight else None,
        "precision": values.precision,
        "recompute": values.recompute,
        "batch_size": method.batch_size,
        "channels": method.channels,
        "cells": method.cells,
        "step_ms": statistics.median(times),
        "step_ms_min": min(times),
        "step_ms_max": max(times),
        "build_s": built,
        "trace_s": traced,
        "first_call_s": first,
        "peak_memory_mb": peak_memory_mb(),
    }
    print(json.dumps(result))


def _step(search, shape, values):
    """Returns the step of a search on one random batch, and the seconds that tracing it took."""
    import tensorflow as tf

    from kdarts.search.objective import loss_scale, without_graph_rewriting
    from kdarts.search.step import Step

    size = search.method.batch_size
    generator = tf.random.Generator.from_seed(values.seed)
    halves = tuple(
        (generator.normal((size, *shape)), generator.uniform((size,), 0, values.num_classes, tf.int32))
        for _ in range(2)
    )
    taken = Step(search)

    def step():
        with without_graph_rewriting():
            return float(taken(halves)["loss"])

    began = time.perf_counter()
    with without_graph_rewriting():
        search.objective.trace(halves[0], loss_scale(search.optimizer))
    return step, time.perf_counter() - began


def _milliseconds(step) -> float:
    began = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - began)


BENCH = Command(
    "time and memory of the search step, as JSON",
    define,
    run,
    example="kdarts bench --method=darts --batch_size=16 --channels=16 --cells=8",
)
