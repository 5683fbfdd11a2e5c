"""The axes of a method as flags."""

from dataclasses import fields, replace

from absl import flags

from kdarts.genotypes.errors import KdartsError
from kdarts.search.method import Method, get_method
from kdarts.search.stages import parse_stages
from kdarts.supernet.grids import cuboid_names
from kdarts.supernet.parameters import parse_attention
from kdarts.supernet.spaces import SearchSpace, get_space, listed_space

SMALL = {"channels": 8, "batch_size": 64, "learning_rate": 0.025}
"""For the built-in digits in place of a paper's sizes, which are meant for 50,000 photographs."""

SMALL_PATHS = {
    "path_epochs": 40,
    "path_batch_size": 64,
    "path_learning_rate": 0.025,
    "path_drop_path": 0.0,
    "path_cutout": 0,
    "population": 20,
    "generations": 5,
    "calibration_batches": 20,
    "size_bin": 0.01,
    "family_channels": 16,
    "family_cells": 5,
}
"""The same for what comes after a search; the stand-alone networks are those of `kdarts train`."""

SMALL_STEPS = 4
"""Cells of a HyperCuboid, whose steps come in pairs."""

SMALL_EPOCHS = 25
"""The least there; else half of the paper's."""

HASTE = 10
"""A search of 275 steps instead of 20,000 must move α in longer ones: how many times, for the digits.

Where α moves once an epoch, 25 times in all, it comes as far as 0.075 from a start within 0.003. Attention stays as it
is: a nudge of 0.015 in all, where at the paper's rate it outweighs all else."""

START_HASTE = 30
"""The same where α starts from a genotype, 10 away from where it may end."""

AXES = {
    "space": "search space: what may be found; or its operations, separated by commas",
    "topology": "the two inputs that each node reads, such as 0,1;0,2;1,3;0,1, or its number (0: 0,1 each); empty: all",
    "sharing": "which cells share an α: shared (normal and reduce), individual, or start (those identical in --start)",
    "mixing": "how α weighs the candidates of an edge: softmax, sigmoid, max_w, max_w_stopped, node_softmax",
    "partial_channels": "K: one of K channels goes through the candidates, and β weighs the edges; 1: all, and no β",
    "sampling": "which candidates a pass goes through: all, gumbel (one of each edge, GDAS) or random (a genotype)",
    "auxiliary_skip": "one more skip connection beside the candidates, which fades along the search (DARTS-)",
    "update": "when α moves: step (every one), epoch (once, after its last step) or frozen",
    "attention": "constants that α is given, such as sep_conv_3x3:0.0006,dil_conv_5x5:-0.0006; empty: none (eDARTS)",
    "attention_mode": "when α is given them: each_update, once (at the start) or offset (never, but in mixing)",
    "beta_weight": "of the beta-decay loss at the end of the search, grown from 0",
    "order": "architecture gradient: first, second (unrolled, finite differences), exact (unrolled)",
    "discretization": "rule that makes a genotype of α",
    "threshold": "least weight of an operation, for rules that have one",
    "max_skips": "most skip connections of a normal cell, for the rules progressive and residual",
    "zero_one_weight": "of the zero-one loss, which drives each mixing weight to 0 or 1; 0: none",
    "zero_one": "form of the zero-one loss: l2 or l1",
    "ablation_weight": "of the ablation loss, which rewards a cell by what its absence costs; 0: none",
    "ablation": "gradient of the ablation loss: own (from forward passes alone), exact, constant (none)",
    "removal": "what stands in for a removed cell: skip, zero, half or random",
    "ablation_sign": "what a cell gets that contributes more than its share: reward, or paper (the printed sign)",
    "ablation_margin": "the ablation loss counts while the mean contribution is below minus this",
    "ablation_clip": "greatest size of a factor in the ablation loss's gradient",
    "target_macs": "MACs that the network is to have at the search's size, such as 2.5M or 800k; unset: any",
    "target_params": "weights that it is to have there, likewise",
    "target_latency_ms": "milliseconds that it is to take there, by --latency_table",
    "latency_table": "file of measured latencies, which tools/latency_table.py writes",
    "learning_rate": "of the weights, at the start",
    "final_learning_rate": "of the weights, at the end",
    "schedule": "how the weights' learning rate falls: cosine, or cosine_power (sharpDARTS)",
    "power": "p of the cosine power, 1 (a cosine) or more",
    "learning_rate_warmup": "epochs in which it climbs to its first value, in proportion to epochs; 0: none",
    "momentum": "of the weights' SGD",
    "l2": "L2 penalty on the weights",
    "clip": "greatest norm of the weights' gradient",
    "arch_learning_rate": "of α, at the start",
    "arch_final_learning_rate": "of α, at the end of the cosine; unset: it stays",
    "arch_beta_1": "first decay of α's Adam",
    "arch_beta_2": "second decay of α's Adam",
    "arch_l2": "L2 penalty on α",
    "arch_clip": "greatest norm of the gradient of α and β together; 0: any",
    "pretrain_epochs": "epochs before those, in which the weights alone are trained",
    "warmup_epochs": "first of the epochs, in which the weights alone are trained; in proportion to epochs",
    "skip_dropout": "highest rate of the dropout on skip connections; it decays while α moves",
    "watch_hessian": "epochs between measurements of the dominant eigenvalue of α's Hessian; 0: none",
    "stop": "what may end the search early: epochs (nothing), distance (to --start, once stable), skips, ranking or "
    "eigenvalue (of the Hessian, once it grows too fast)",
    "stop_ratio": "the eigenvalue before, as a share of what it is now, below which it grows too fast",
    "stop_skips": "skip connections of a cell that end the search, with --stop=skips",
    "samples": "random genotypes that are compared at the end, of which the best is found; 0: α says",
    "stop_from": "first epoch that counts for the stop rule, those of the pretraining not counted",
    "stop_window": "epochs that must agree",
    "stop_tolerance": "how far apart they may be",
    "epochs": "length of the search",
    "batch_size": "examples in each of a step's two batches",
    "channels": "channels of a node before any reduction",
    "cells": "number of cells",
    "stages": "searches one after another, as cells:operations on an edge:skip dropout of each, such as 5:8:0,11:5:0.4",
    "paths": "operations kept on each edge for DARTS-PD's shared paths after the search; 0: none of it",
    "path_choice": "what is chosen of them: family (one network a size, by evolution) or skips (their best places)",
    "path_epochs": "length of the training of the shared paths",
    "path_cycles": "the same in cycles, after each of which all paths were trained equally often",
    "path_batch_size": "examples in each of its steps",
    "path_learning_rate": "of the shared paths' weights, at the start",
    "path_drop_path": "drop-path rate at the end of their training",
    "path_cutout": "side of the square cut out of each image of their training, in pixels",
    "population": "candidates in a generation of the evolution",
    "generations": "of the evolution, the first of which is random",
    "calibration_batches": "training batches that each candidate's running statistics are taken from",
    "size_limit": "greatest size of a candidate, in millions of weights; unset: any",
    "size_bin": "width of the size bins whose best candidates are the family, in millions of weights",
    "per_bin": "networks of the family in each bin",
    "family_channels": "channels of the stand-alone networks that candidates are sized as",
    "family_cells": "their number of cells",
}
"""What each axis of a method is, for its flag."""

_FROM_ZERO = {
    *("learning_rate_warmup", "max_skips", "path_cutout", "paths"),
    *("pretrain_epochs", "samples", "stop_from", "warmup_epochs", "watch_hessian"),
}


_COUNTS = {"target_macs", "target_params"}
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def count(name: str, text: str) -> float:
    """The number that a text such as 800k, 2.5M, 1G or 2500000 is; raises `KdartsError` for any other."""
    unit = text[-1:] if text[-1:] in _UNITS else ""
    try:
        return float(text.removesuffix(unit)) * _UNITS[unit]
    except ValueError:
        raise KdartsError(f"--{name}={text}: needs a number, which may end in k, M or G") from None


def define(values: flags.FlagValues) -> None:
    """One flag for each axis of a method, unset: the method's own choice."""
    flags.DEFINE_string(
        "operations",
        None,
        "what may be found, such as none,skip_connect,sep_conv_3x3, in place of --space",
        flag_values=values,
    )
    for field in fields(Method):
        if field.name not in AXES:
            continue
        text = f"{AXES[field.name]}; default by method"
        if field.name in _COUNTS:
            flags.DEFINE_string(field.name, None, text, flag_values=values)
            continue
        if field.type in (int, int | None):
            least = 0 if field.name in _FROM_ZERO else 1
            flags.DEFINE_integer(field.name, None, text, lower_bound=least, flag_values=values)
        elif field.type is bool:
            flags.DEFINE_bool(field.name, None, text, flag_values=values)
        elif field.type in (float, float | None):
            flags.DEFINE_float(field.name, None, text, lower_bound=0.0, flag_values=values)
        else:
            flags.DEFINE_string(field.name, None, text, flag_values=values)


def chosen_method(values: flags.FlagValues) -> Method:
    """The method with the flags' choices."""
    method = get_method(values.method)
    name = listed_space(values.operations).name if values.operations is not None else values["space"].value
    if name is not None and name not in cuboid_names() and method.space not in cuboid_names():
        method = in_space(method, get_space(name))
    if "dataset" in values and values.dataset == "digits":
        method = small(method)
    given = {name: values[name].value for name in AXES if values[name].value is not None}
    if values.operations is not None:
        given["space"] = name
    given |= {name: count(name, given[name]) for name in _COUNTS & set(given)}
    if "attention" in given:
        given["attention"] = parse_attention(given["attention"])
    if "stages" in given:
        given["stages"] = parse_stages(given["stages"])
    if "epochs" in given:
        given = {**rests(method, given["epochs"]), **given}
    method = method.override(**given)
    for name in ("cells", "skip_dropout"):
        if method.stages and name in given:
            raise KdartsError(f"--{name}={given[name]}: each stage has its own; choose them by --stages")
    return method


def in_space(method: Method, space: SearchSpace) -> Method:
    """The method in another space than its own, at that space's usual size."""
    if space.cells is None:
        return method.within(space).override(space=space.name)
    sizes = {"cells": space.cells, "family_cells": space.cells, "family_channels": method.channels}
    return method.within(space).override(space=space.name, **sizes)


def rests(method: Method, epochs: int) -> dict[str, int]:
    """The method's warm-ups for a search of another length: in proportion."""
    names = "warmup_epochs", "learning_rate_warmup"
    return {name: getattr(method, name) * epochs // method.epochs for name in names}


def small(method: Method) -> Method:
    """The method at a size for the built-in digits."""
    epochs = max(SMALL_EPOCHS, method.epochs // 2)
    final = method.arch_final_learning_rate
    in_steps = method.discretization == "best_path"
    in_stages = not in_steps and get_space(method.space).stages
    haste = START_HASTE if method.sharing == "start" else HASTE
    return method.override(
        **SMALL,
        epochs=epochs,
        **rests(method, epochs),
        **SMALL_PATHS,
        cells=1 if in_stages else method.cells if method.sharing == "individual" else SMALL_STEPS if in_steps else 5,
        stages=tuple(replace(stage, cells=3 + number) for number, stage in enumerate(method.stages)),
        arch_learning_rate=haste * method.arch_learning_rate,
        arch_final_learning_rate=None if final is None else haste * final,
    )
