"""`kdarts train`: from a genotype to a trained network."""

import time

from absl import flags

from kdarts.cli import networks, options
from kdarts.cli.command import Command
from kdarts.cli.notes import note_gaps
from kdarts.cli.quiet import start_tensorflow
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.found import load_found

PAPER = {"epochs": 600, "channels": 36, "cells": 20, "batch_size": 96}
"""DARTS' recipe for CIFAR-10."""

SMALL = {"epochs": 40, "channels": 16, "cells": 5, "batch_size": 64}
"""Sizes for the built-in digits."""


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_string("genotype", None, "path of a genotype, or its name in the zoo", flag_values=values)
    options.define_dataset(values)
    options.define_augmentation(values)
    options.define_strong_augmentation(values)
    options.define_network(values)
    options.positive("epochs", None, f"default: {PAPER['epochs']}; digits: {SMALL['epochs']}", values)
    options.positive("batch_size", None, f"default: {PAPER['batch_size']}; digits: {SMALL['batch_size']}", values)
    options.positive("train_examples", None, "train on a random draw of so many images; default: all", values)
    flags.DEFINE_float("learning_rate", 0.025, "at the start", 0.0, flag_values=values)
    flags.DEFINE_float("final_learning_rate", 0.0, "at the end", 0.0, flag_values=values)
    flags.DEFINE_string("schedule", "cosine", "how it falls: cosine or cosine_power (sharpDARTS)", flag_values=values)
    flags.DEFINE_float("power", 2.0, "p of the cosine power, 1 (a cosine) or more", 1.0, flag_values=values)
    flags.DEFINE_integer("learning_rate_warmup", 0, "epochs in which it climbs before", 0, flag_values=values)
    flags.DEFINE_float("momentum", 0.9, "of SGD", 0.0, 0.9999, flag_values=values)
    flags.DEFINE_float("l2", 3e-4, "L2 penalty on the weights", 0.0, flag_values=values)
    flags.DEFINE_float("clip", 5.0, "greatest norm of the gradient", 0.0, flag_values=values)
    flags.DEFINE_float("drop_path", 0.0, "drop-path rate at the end", 0.0, 0.99, flag_values=values)
    flags.DEFINE_float(
        "label_smoothing",
        0.0,
        "part of a label that is spread over all classes, in the training's loss alone: 0 to below 1",
        0.0,
        flag_values=values,
    )
    flags.DEFINE_float("auxiliary_weight", 0.4, "of the auxiliary loss, with --auxiliary", 0.0, flag_values=values)
    flags.DEFINE_integer("seed", 0, "of everything random", lower_bound=0, flag_values=values)
    options.define_precision(values)
    flags.DEFINE_bool("jit_compile", False, "compile the step with XLA (for GPUs)", flag_values=values)
    flags.DEFINE_string("workdir", None, "folder of the run; default: runs/DATASET-GENOTYPE-train", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Trains, or goes on with a training."""
    from kdarts.run.workdir import Workdir

    began = time.monotonic()
    if not values.genotype:
        raise KdartsError("--genotype is missing: a path, or a name of the zoo such as DARTS_V2")
    if not values.label_smoothing < 1:
        raise KdartsError(f"--label_smoothing={values.label_smoothing}: allowed is 0 to below 1")
    genotype = load_found(values.genotype)
    networks.check(values, genotype)
    sizes = SMALL if values.dataset == "digits" else PAPER
    epochs = values.epochs or sizes["epochs"]
    batch_size = values.batch_size or sizes["batch_size"]
    name = values.dataset.removeprefix("folder:").rstrip("/").rsplit("/", 1)[-1] or "folder"
    workdir = Workdir(values.workdir or f"runs/{name}-{genotype.name or 'found'}-train")
    remembered = options.remembered(values, genotype=genotype)
    workdir.check(remembered)
    start_tensorflow()
    import keras

    from kdarts.nets.smoothed_loss import training_loss
    from kdarts.run import datasets
    from kdarts.run.train_run import run_training
    from kdarts.search.optimizers import SGD
    from kdarts.search.schedules import get_schedule

    rates = values.learning_rate, values.final_learning_rate
    schedule = get_schedule(values.schedule, *rates, epochs, 0, values.learning_rate_warmup, values.power)
    train, test = options.load(values, "train"), options.load(values, "test")
    mean, std = datasets.statistics(train.images)
    if values.train_examples:
        train, _ = datasets.halves(train, values.train_examples, None, values.seed)
    if batch_size > len(train):
        raise KdartsError(f"--batch_size={batch_size}: allowed is 1 to {len(train)}, the training images")
    keras.utils.set_random_seed(values.seed)
    keras.config.set_dtype_policy(values.precision)
    shape, classes = train.image_shape, train.num_classes
    network = networks.build(values, genotype, shape, classes, sizes)
    network.compile(
        SGD(values.learning_rate, values.momentum, values.l2, global_clipnorm=values.clip or None),
        training_loss(values.label_smoothing),
        metrics=["accuracy"],
        jit_compile=values.jit_compile,
    )
    size = networks.sizes(values, genotype, shape, classes, sizes)
    note_gaps(genotype)
    print(
        f"{values.dataset} · {networks.in_words(size)}, {len(train) // batch_size} steps an epoch",
        flush=True,
    )
    workdir.claim(remembered)
    genotype.save(workdir / "genotype.json")
    summary = run_training(
        network,
        workdir,
        train,
        test,
        epochs=epochs,
        batch_size=batch_size,
        schedule=schedule,
        mean=mean,
        std=std,
        augmentation=options.augmentation(values, shape),
        seed=values.seed,
        about={
            "genotype": genotype.name or values.genotype,
            "dataset": values.dataset,
            "seed": values.seed,
            **size,
        },
        began=began,
    )
    model = workdir / "model.keras"
    print(
        f"Test accuracy {summary['test_accuracy']:.4f} on {summary['test_examples']} images: {model}\n"
        f"Next: kdarts export --model={model} --format=saved_model --to=saved_models/{workdir.path.name}"
    )


COMMAND = Command(
    "train the network of a genotype from scratch",
    define,
    run,
    example="kdarts train --genotype=DARTS_V2 --dataset=cifar10 --data_dir=DIR --auxiliary --cutout=16 --drop_path=0.2",
)
