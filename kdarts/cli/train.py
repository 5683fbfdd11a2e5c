"""`kdarts train`: from a genotype to a trained network."""

import time

from absl import flags

from kdarts.cli import idle, options, preset, process, recipe
from kdarts.cli import seeds as shallow
from kdarts.cli.command import Command, entitle, titled
from kdarts.cli.options import note_gaps
from kdarts.cli.process import start_tensorflow
from kdarts.genotypes.cuboid import HyperPath, load_architecture, load_family
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import MOST_BATCH, MOST_EPOCHS, MOST_RATE

PAPER = {"epochs": 600, "channels": 36, "cells": 20, "batch_size": 96}
"""DARTS' recipe for CIFAR-10."""

SMALL = {"epochs": 40, "channels": 16, "cells": 5, "batch_size": 64}
"""Sizes for the built-in digits."""


def define(values: flags.FlagValues) -> None:
    """Declares the flags."""
    flags.DEFINE_string("genotype", None, "path of a genotype, or its name in the zoo", flag_values=values)
    text = "folder with a .json file for each of several genotypes, such as WORKDIR/family of a DARTS-PD search, in "
    text += "place of --genotype: each is trained as by itself, in WORKDIR/networks/NAME, and family.csv compares them"
    flags.DEFINE_string("family", None, text, flag_values=values)
    options.define_dataset(values)
    options.define_resize(values, "--image_size")
    sizes = ", ".join(f"{SMALL[name]} {name}" for name in SMALL if name != "batch_size")
    preset.define(values, f"{sizes} and batches of {SMALL['batch_size']}")
    options.define_augmentation(values)
    recipe.define_augmentation(values)
    options.define_network(values)
    text = "part of the train split that is not trained on but measured on: at the end, in place of the test images, "
    shallow.define_hold_back(values, f"{text}or with --validate_every besides them; unset: none")
    text = "split of the data set to measure on in the same way in place of --hold_back, such as validation"
    flags.DEFINE_string("valid_split", None, text, flag_values=values)
    options.positive("train_examples", None, "train on a random draw of so many images; default: all", values)
    entitle(values, "Data", ["train_examples", "valid_split"])
    _define_training(values)
    recipe.define(values)
    options.define_seed(values)
    text = (
        "number of trainings, with seed, seed + 1, ..., in WORKDIR/seeds/0 and on, each as with that seed alone; "
        "summary.json then has mean and sample standard deviation, median and half of the range of the test accuracy, "
        "and model.keras is the first seed's, since to keep the best would be to select on the test images; unset: one "
        "training, in WORKDIR itself"
    )
    options.positive("seeds", None, text, values)
    options.define_precision(values)
    options.define_checkpoint(values)
    process.define(values)
    options.define_dry_run(values)
    text = "folder of the run; default: runs/DATASET-GENOTYPE-train, of a family runs/DATASET-family-train"
    flags.DEFINE_string("workdir", None, text, flag_values=values)


@titled("Training")
def _define_training(values: flags.FlagValues) -> None:
    text = f"default: {PAPER['epochs']}; preset small: {SMALL['epochs']}"
    options.positive("epochs", None, text, values, MOST_EPOCHS)
    sizes = f"default: {PAPER['batch_size']}; preset small: {SMALL['batch_size']}"
    options.positive("batch_size", None, sizes, values, MOST_BATCH)
    flags.DEFINE_float("learning_rate", 0.025, "learning rate at the start", 0.0, MOST_RATE, flag_values=values)
    flags.DEFINE_float("final_learning_rate", 0.0, "learning rate at the end", 0.0, MOST_RATE, flag_values=values)
    text = "how the learning rate falls: cosine, cosine_power (sharpDARTS), cosine_power_equation (the "
    text += "same as its Eq. 2 is printed), "
    text += "cosine_restarts (SGDR, with --restarts), step (times 0.97 an epoch) or linear (to 0)"
    flags.DEFINE_string("schedule", "cosine", text, flag_values=values)
    text = "epochs, from 0, at which the rate jumps up again: 100,300; with the rate that it jumps to: 100:0.0125"
    flags.DEFINE_string("restarts", "", text, flag_values=values)
    flags.DEFINE_float("power", 2.0, "p of the cosine power; 1 is the plain cosine", 1.0, 100.0, flag_values=values)
    text = "epochs in which the learning rate rises before it falls"
    flags.DEFINE_integer("learning_rate_warmup", 0, text, 0, MOST_EPOCHS, flag_values=values)
    flags.DEFINE_float("momentum", 0.9, "of SGD", 0.0, 0.9999, flag_values=values)
    values["momentum"].why = "at 1 the steps add up without end"
    flags.DEFINE_float("l2", 3e-4, "L2 penalty on the weights", 0.0, MOST_RATE, flag_values=values)
    flags.DEFINE_float(
        "clip",
        5.0,
        "largest norm of the gradient, to which it is clipped; 0: no clipping",
        0.0,
        1e6,
        flag_values=values,
    )
    flags.DEFINE_float("drop_path", 0.0, "drop-path rate at the end", 0.0, 0.99, flag_values=values)
    text = "part of each label that is spread over all classes, in the loss of the training"
    flags.DEFINE_float("label_smoothing", 0.0, text, 0.0, 0.999, flag_values=values)
    text = "of the auxiliary loss, with --auxiliary"
    flags.DEFINE_float("auxiliary_weight", 0.4, text, 0.0, 1000.0, flag_values=values)
    text = "epochs between two measurements on the images of --hold_back or --valid_split; 0: at the end alone"
    flags.DEFINE_integer("validate_every", 0, text, 0, MOST_EPOCHS, flag_values=values)
    text = "which weights are tested and saved: those of the last epoch, or of the best epoch by --validate_every"
    flags.DEFINE_enum("keep", "last", ["last", "best"], text, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Trains, or continues a training."""
    from kdarts.training.workdir import Workdir

    began = time.monotonic()
    if values.genotype and values.family:
        raise KdartsError(f"--genotype={values.genotype} with --family={values.family}: allowed is one of them")
    if not values.genotype and not values.family:
        raise KdartsError("--genotype is missing: a path, or a name of the zoo such as DARTS_V2; or --family=DIR")
    options.check_seeds(values)
    family = _architectures(values)
    for genotype in family.values():
        options.check(values, genotype)
    idle.tell(idle.in_training(values))
    small = preset.is_small(values)
    preset.tell(_preset_changes(values, family) if small else {})
    sizes = dict(SMALL if small else PAPER)
    sizes |= {name: values[name].value for name in ("epochs", "batch_size") if values[name].value}
    _check_validation(values, sizes["epochs"])
    _check_resize(values)
    recipe.check(values, sizes["batch_size"])
    name = "family" if values.family else genotype.name or "found"
    workdir = Workdir(values.workdir or options.default_workdir(values, f"{name}-train"))
    remembered = options.remembered(values, **({} if values.family else {"genotype": genotype}))
    remembered |= recipe.remembered(values)
    if values.family:
        remembered["family"] = options.fingerprint(*family.values())
    workdir.check(remembered, options.usual(values))
    start_tensorflow()
    options.check_data_service(values)
    from kdarts.data import datasets

    process.check(values, "--batch_size", sizes["batch_size"])
    splits = {split: options.load(values, split, values.valid_split) for split in _splits(values)}
    workdir.check_data(**splits)
    if values.hold_back:
        splits["train"], splits["valid"] = datasets.hold_back(splits["train"], values.hold_back, values.group)
    options.augmentation(values, splits["train"].image_shape)
    teacher = recipe.teacher(values, splits["train"])
    for genotype in family.values():
        note_gaps(genotype)
    if values.dry_run:
        for name, genotype in family.items():
            print(f"{name}: " if values.family else "", end="")
            train, *_ = _planned(values, genotype, sizes, splits["train"], values.seed)
        steps = len(train) // sizes["batch_size"] * sizes["epochs"]
        count = len(family) * (values.seeds or 1)
        times = "" if count == 1 and values.seeds is None else f"{count} times "
        return print(f"dry run: {times}{steps:,} steps of batch {sizes['batch_size']}")
    with process.run_on(values, workdir) as folder:
        _run(values, family, sizes, splits, folder, remembered, began, teacher)


def _preset_changes(values, family) -> dict[str, tuple]:
    """What the small preset changes in a training, of which a path or a genotype has some sizes of its own."""
    paths = [isinstance(each, HyperPath) for each in family.values()]
    deep = [path or each.sequence is not None for path, each in zip(paths, family.values(), strict=True)]
    own = {name for name, all_have in (("channels", all(paths)), ("cells", all(deep))) if all_have}
    return {name: (PAPER[name], SMALL[name]) for name in SMALL if values[name].value is None and name not in own}


def _architectures(values) -> dict:
    """What is trained, by name: one architecture, or those of a family."""
    return load_family(values.family) if values.family else {"": load_architecture(values.genotype)}


def _check_resize(values) -> None:
    """Raises `KdartsError` for a `--resize` that no picture would be read by."""
    if values.resize and not 0 < (values.image_size or 0) <= values.resize:
        raise KdartsError(f"--resize={values.resize}: needs an --image_size, of {values.resize} or less")
    if values.resize and values.hold_back:
        text = "pictures that are held back are read as those of the train split"
        raise KdartsError(f"--resize={values.resize} with --hold_back={values.hold_back}: {text}; see --valid_split")


def _check_validation(values, epochs: int) -> None:
    """Raises `KdartsError` for flags of a validation that do not go together."""
    held = _held_back(values)
    if values.hold_back and values.valid_split:
        raise KdartsError(f"{held} with --valid_split={values.valid_split}: allowed is one of them")
    if values.validate_every > epochs:
        raise KdartsError(f"--validate_every={values.validate_every}: allowed is 0 to {epochs}, the epochs")
    if values.validate_every and not held:
        raise KdartsError(
            f"--validate_every={values.validate_every}: needs images to measure on, such as --hold_back=0.1, or "
            "--valid_split=validation where the data set has one"
        )
    if values.keep == "best" and not values.validate_every:
        raise KdartsError(
            f"--keep=best: needs the accuracy of epochs: --validate_every=1 with {held or '--hold_back=0.1'}"
        )
    if held and values.seeds is not None and not values.validate_every:
        text = "seeds are compared on the test images, which --validate_every=1 measures, too"
        raise KdartsError(f"{held} with --seeds={values.seeds}: {text}")


def _held_back(values) -> str:
    """The flag that names the images to validate on; "" without."""
    if values.hold_back:
        return f"--hold_back={values.hold_back}"
    return f"--valid_split={values.valid_split}" if values.valid_split else ""


def _splits(values) -> list[str]:
    """The splits that are read. Where a validation takes the place of the test, the test images stay unseen."""
    valid = ["valid"] if values.valid_split else []
    return ["train", *valid, *([] if _held_back(values) and not values.validate_every else ["test"])]


def _run(values, family, sizes, data, workdir, remembered, began, teacher) -> None:
    """Runs the trainings once the images, by split, are loaded, and reports their results."""
    from kdarts.training.repeats import of_seeds, run_seeds

    alone = values.seeds is None and not values.family

    def begin():
        workdir.begin(remembered, options.usual(values))

    def train_in(genotype, folder) -> dict:
        def train_with(seed: int, folder) -> dict:
            start = began if alone else time.monotonic()
            return _train(values, genotype, sizes, data, seed, folder, begin, start, teacher)

        if values.seeds is None:
            return train_with(values.seed, folder)
        summary = run_seeds(train_with, folder, range(values.seed, values.seed + values.seeds))
        for each in (folder.path, *folder.path.glob("seeds/*")):
            genotype.save(each / "genotype.json")
        return summary

    if not alone and (workdir / "flags.flags").exists():  # Otherwise the first unfinished training begins there.
        begin()
    if values.family:
        return _run_family(values, train_in, workdir, family)
    [genotype] = family.values()
    summary = train_in(genotype, workdir)
    if values.seeds is None:
        on = "test" if "test" in data else "held_back"
        text = f"{on.replace('_', '-').capitalize()} accuracy {summary[f'{on}_accuracy']:.4f}"
        top = summary.get(f"{on}_top_5_accuracy")
        text += f"{'' if top is None else f', top-5 {top:.4f},'} on {summary[f'{on}_examples']} images"
        if values.keep == "best":
            text += f" with the weights after epoch {summary['tested_after_epochs']} of {summary['epochs']}"
    else:
        rows = [{"accuracy": each["test_accuracy"]} for each in summary["seeds"]]
        text = f"test accuracy of {len(rows)} seed{'s' * (len(rows) > 1)}: {of_seeds(rows)}; the first seed's network"
    if not process.is_first(values):
        return
    model, exported = workdir / "model.keras", f"saved_models/{workdir.path.name}"
    print(f"{text}: {model}")
    where = {} if values.dataset == "digits" else options.data_flags(values)
    print(options.next_command("export", {"model": model, "to": exported, **where}))


def _run_family(values, train, workdir, family) -> None:
    """Trains the networks of a family by `train`, and prints the table of their results."""
    from kdarts.training.family import known_figures, run_family, table

    rows = run_family(train, workdir, family, known_figures(values.family), values.seeds is not None)
    if process.is_first(values):
        print("\n" + "\n".join(table(rows)))
        print(f"Written: {workdir / 'family.csv'}; each network: {workdir / 'networks' / 'NAME' / 'model.keras'}")


def _planned(values, genotype, sizes, train, seed):
    """Checks what a training is made of before its network is built, and prints the size of it.

    Returns the training images, the learning rate by epoch, and the size as of `options.sizes`.
    """
    from kdarts.data.pipeline import check_service
    from kdarts.search.schedules import get_schedule

    rates = values.learning_rate, values.final_learning_rate
    how = values.learning_rate_warmup, values.power, values.restarts
    schedule = get_schedule(values.schedule, *rates, sizes["epochs"], 0, *how)
    train = options.random_draw("train_examples", values.train_examples, train, seed)
    batch_size = sizes["batch_size"]
    if batch_size > len(train):
        raise KdartsError(f"--batch_size={batch_size}: allowed is 1 to {len(train)}, the training images")
    if values.data_service:
        check_service(train, values.data_service)
    shape, classes = train.image_shape, train.num_classes
    size = options.sizes(values, genotype, shape, classes, sizes)
    if values.auxiliary:
        from kdarts.supernet.cost import auxiliary_cost

        where = shape, classes, *options.network_size(values, genotype, sizes), values.stem, options.frame(values)
        auxiliary_cost(genotype, *where)
    steps = len(train) // batch_size
    print(f"{values.dataset} · {options.in_words(size)}, {steps} step{'s' if steps > 1 else ''} an epoch", flush=True)
    return train, schedule, size


def compiled(values: flags.FlagValues, genotype, shape, classes: int, sizes: dict[str, int], seed: int):
    """Returns the network of `options.build`, compiled for a training with the flags."""
    import keras

    from kdarts.networks.models import training_loss
    from kdarts.ops.replicas import synchronize
    from kdarts.search.optimizers import SGD
    from kdarts.search.replicas import build_rest

    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(values.precision)
    with process.strategy(values).scope():
        network = options.build(values, genotype, shape, classes, sizes, seed)
        if process.together(values):
            synchronize(network)
        how = {"decay": values.decay, "weight_decay": values.weight_decay or None}
        how |= {"global_clipnorm": values.clip or None}
        optimizer = SGD(values.learning_rate, values.momentum, values.l2, **how)
        loss = training_loss(values.label_smoothing, shares=bool(values.mixup or values.cutmix))
        network.compile(optimizer, loss, metrics=["accuracy"], jit_compile=values.jit_compile)
        build_rest(network, classes)
    return network


def _train(values, genotype, sizes, data, seed, workdir, begin, began, teacher) -> dict:
    """Trains a genotype's network with one seed in a folder; `begin` is called before anything is written there."""
    from kdarts.data import datasets
    from kdarts.training.train_run import run_training

    batch_size, epochs = sizes["batch_size"], sizes["epochs"]
    mean, std = datasets.statistics(data["train"].images)
    train, schedule, size = _planned(values, genotype, sizes, data["train"], seed)
    shape, classes = train.image_shape, train.num_classes
    network = compiled(values, genotype, shape, classes, sizes, seed)
    begin()
    genotype.save(workdir / "genotype.json")
    return run_training(
        network,
        workdir,
        train,
        data.get("test"),
        data.get("valid"),
        epochs=epochs,
        batch_size=batch_size,
        schedule=schedule,
        mean=mean,
        std=std,
        augmentation=options.augmentation(values, shape),
        seed=seed,
        about={
            "genotype": genotype.name or values.genotype,
            "dataset": values.dataset,
            **{name: values[name].value for name in ("labels", "group", "background", "resize") if values[name].value},
            "seed": seed,
            **size,
        },
        began=began,
        validate_every=values.validate_every,
        keep=values.keep,
        checkpoint_every=values.checkpoint_every,
        data_service=values.data_service,
        mixing=recipe.mixing(values),
        teacher=teacher,
        ema=values.ema,
    )


TRAIN = Command(
    "train the network of a genotype from scratch",
    define,
    run,
    example="kdarts train --genotype=DARTS_V2 --dataset=cifar10 --data_dir=DIR --auxiliary --cutout=16 --drop_path=0.2",
)
