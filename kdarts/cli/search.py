"""`kdarts search`: from images to a genotype."""

import time
from dataclasses import fields

from absl import flags

from kdarts.cli import options
from kdarts.cli.command import Command
from kdarts.cli.notes import note_gaps
from kdarts.cli.quiet import start_tensorflow
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import Method, get_method

SMALL = {"epochs": 25, "channels": 8, "batch_size": 64, "learning_rate": 0.025}
"""For the built-in digits in place of a paper's sizes, which are meant for 50,000 photographs."""

HASTE = 10
"""A search of 275 steps instead of 20,000 must move α in longer ones: how many times, for the digits."""

_AXES = {
    "space": "search space: what may be found",
    "sharing": "which cells share an α: shared (normal and reduce) or individual",
    "mixing": "how α weighs the candidates of an edge: softmax, sigmoid or max_w",
    "order": "architecture gradient: first, second (unrolled, finite differences), exact (unrolled)",
    "discretization": "rule that makes a genotype of α",
    "threshold": "least weight of an operation, for rules that have one",
    "zero_one_weight": "of the zero-one loss, which drives each mixing weight to 0 or 1; 0: none",
    "zero_one": "form of the zero-one loss: l2 or l1",
    "ablation_weight": "of the ablation loss, which rewards a cell by what its absence costs; 0: none",
    "ablation": "gradient of the ablation loss: own (from forward passes alone), exact, constant (none)",
    "removal": "what stands in for a removed cell: skip, zero, half or random",
    "ablation_sign": "what a cell gets that contributes more than its share: reward, or paper (the printed sign)",
    "ablation_margin": "the ablation loss counts while the mean contribution is below minus this",
    "ablation_clip": "greatest size of a factor in the ablation loss's gradient",
    "learning_rate": "of the weights, at the start",
    "final_learning_rate": "of the weights, at the end of the cosine",
    "momentum": "of the weights' SGD",
    "l2": "L2 penalty on the weights",
    "clip": "greatest norm of the weights' gradient",
    "arch_learning_rate": "of α, at the start",
    "arch_final_learning_rate": "of α, at the end of the cosine; unset: it stays",
    "arch_beta_1": "first decay of α's Adam",
    "arch_beta_2": "second decay of α's Adam",
    "arch_l2": "L2 penalty on α",
    "epochs": "length of the search",
    "batch_size": "examples in each of a step's two batches",
    "channels": "channels of a node before any reduction",
    "cells": "number of cells",
}


def define(values: flags.FlagValues) -> None:
    """Its flags: those of the data, one for each of the method's axes, and a few of the run."""
    flags.DEFINE_string("method", "darts", "how α moves; `kdarts methods` lists them", flag_values=values)
    options.define_dataset(values)
    options.define_augmentation(values)
    define_axes(values)
    options.positive("nodes", None, "intermediate nodes of a cell; default by space", values)
    options.define_stem(values)
    options.positive("train_examples", None, "images for the weights; default: half of the train split", values)
    options.positive("valid_examples", None, "images for α; default: the other half", values)
    flags.DEFINE_integer("seed", 0, "of everything random", lower_bound=0, flag_values=values)
    flags.DEFINE_integer(
        "validate_every",
        1,
        "epochs between measurements of the accuracy on α's images; 0: only at the end",
        0,
        flag_values=values,
    )
    define_step(values)
    flags.DEFINE_string("workdir", None, "folder of the run; default: runs/DATASET-METHOD", flag_values=values)


def define_step(values: flags.FlagValues) -> None:
    """How a step is computed."""
    options.define_precision(values)
    flags.DEFINE_bool(
        "recompute",
        False,
        "forget each cell's activations and make them again for its gradient: less memory, more time",
        flag_values=values,
    )
    flags.DEFINE_bool("jit_compile", False, "compile the step with XLA (for GPUs)", flag_values=values)


def define_axes(values: flags.FlagValues) -> None:
    """One flag for each axis of a method, unset: the method's own choice."""
    for field in fields(Method):
        if field.name not in _AXES:
            continue
        text = f"{_AXES[field.name]}; default by method"
        if field.type is int:
            options.positive(field.name, None, text, values)
        elif field.type in (float, float | None):
            flags.DEFINE_float(field.name, None, text, lower_bound=0.0, flag_values=values)
        else:
            flags.DEFINE_string(field.name, None, text, flag_values=values)


def chosen_method(values: flags.FlagValues) -> Method:
    """The method with the flags' choices."""
    given = {name: values[name].value for name in _AXES if values[name].value is not None}
    method = get_method(values.method)
    if values["dataset"].value == "digits":
        method = small(method)
    return method.override(**given)


def small(method: Method) -> Method:
    """The method at a size for the built-in digits."""
    final = method.arch_final_learning_rate
    return method.override(
        **SMALL,
        cells=method.cells if method.sharing == "individual" else 5,
        arch_learning_rate=HASTE * method.arch_learning_rate,
        arch_final_learning_rate=None if final is None else HASTE * final,
    )


def build(values: flags.FlagValues, method: Method, image_shape, num_classes: int):
    """The compiled search of a method on images of a shape."""
    import keras

    from kdarts.nets.supernet import Supernet
    from kdarts.search.search import Search

    keras.utils.set_random_seed(values.seed)
    supernet = Supernet(
        method.space,
        image_shape,
        num_classes,
        channels=method.channels,
        cells=method.cells,
        sharing=method.sharing,
        mixing=method.mixing,
        nodes=values.nodes,
        stem=values.stem,
        recompute=values.recompute,
        dtype=values.precision,
    )
    search = Search(supernet, method)
    search.compile(jit_compile=values.jit_compile)
    return search


def run(values: flags.FlagValues) -> None:
    """Searches, or goes on with a search."""
    from kdarts.run.workdir import Workdir

    began = time.monotonic()
    method = chosen_method(values)
    name = values.dataset.removeprefix("folder:").rstrip("/").rsplit("/", 1)[-1] or "folder"
    workdir = Workdir(values.workdir or f"runs/{name}-{method.name}")
    remembered = options.remembered(values)
    workdir.check(remembered)
    start_tensorflow()

    from kdarts.run import datasets
    from kdarts.run.search_run import run_search
    from kdarts.run.threads import configure_threads

    configure_threads()
    data = options.load(values, "train")
    mean, std = datasets.statistics(data.images)
    train, valid = datasets.halves(data, values.train_examples, values.valid_examples, values.seed)
    if method.batch_size > min(len(train), len(valid)):
        raise KdartsError(
            f"--batch_size={method.batch_size}: allowed is 1 to {min(len(train), len(valid))}, the images of a half"
        )
    search = build(values, method, data.image_shape, data.num_classes)
    cost = search.supernet.cost()
    print(
        f"{values.dataset} · {method.name} · {method.cells} cells, {method.channels} channels: "
        f"{cost.params / 1e6:.2f} M weights, {cost.macs / 1e6:.1f} M MACs an image, "
        f"{len(train) // method.batch_size} steps an epoch",
        flush=True,
    )
    workdir.claim(remembered)
    summary = run_search(
        search,
        workdir,
        train,
        valid,
        mean=mean,
        std=std,
        augmentation=options.augmentation(values, data.image_shape),
        seed=values.seed,
        validate_every=values.validate_every,
        about={"method": method.name, "dataset": values.dataset, "seed": values.seed},
        began=began,
    )
    draw(search, workdir)
    note_gaps(Genotype.load(workdir / "genotype.json"))
    accuracy = summary["valid_accuracy"]
    print(
        f"Found a network of {summary['params'] / 1e6:.2f} M weights ({summary['macs'] / 1e6:.1f} M MACs), "
        f"search accuracy {accuracy:.3f}: {workdir / 'genotype.json'}\n"
        f"Next: kdarts train --genotype={workdir / 'genotype.json'} --dataset={values.dataset}"
        + (f" --data_dir={values.data_dir}" if values.data_dir else "")
    )


def draw(search, workdir) -> None:
    """The pictures of a finished search."""
    import numpy as np

    from kdarts.run.search_record import alpha_names
    from kdarts.views.drawing import draw_genotype
    from kdarts.views.heatmap import draw_alphas

    weights = [np.asarray(w) for w in search.supernet.mixing_weights()]
    titles = {"normal": "normal cell", "reduce": "reduction cell"}
    names = [titles.get(name, name.replace("_", " ")) for name in alpha_names(search)]
    named = dict(zip(names, weights, strict=True))
    draw_alphas(named, search.supernet.space.operations, workdir / "alphas.png")
    draw_genotype(Genotype.load(workdir / "genotype.json"), workdir / "cells.svg")


COMMAND = Command(
    "search for a network on a data set",
    define,
    run,
    example="kdarts search --dataset=cifar10 --data_dir=DIR --method=darts --order=second --workdir=runs/darts_v2",
)
