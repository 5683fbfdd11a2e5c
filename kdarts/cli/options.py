"""Flags that several commands share, those of a method, and the network that the flags ask for."""

import dataclasses
import hashlib
import math
import os
import re
import shlex
import sys

from absl import flags

from kdarts.cli import preset, recipe
from kdarts.cli.command import entitle, titled
from kdarts.genotypes.cuboid import Architecture, HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import (
    MOST,
    MOST_CELLS,
    MOST_CHANNELS,
    MOST_CLASSES,
    MOST_NODES,
    MOST_SEED,
    MOST_SIDE,
    kind_of,
)
from kdarts.ops.cost import amount
from kdarts.search.method import Method, Slot, fields, get_method, groups
from kdarts.supernet.macro import MacroConfig, check_input_shape
from kdarts.supernet.spaces import listed_space

NEUTRAL = ("help", "workdir", "data_dir", "cache_dir", "download", "checkpoint_every", "data_service", "memory_limit")
NEUTRAL += ("dry_run",)
"""Flags that do not change the result of a run; a workdir does not record them."""


@titled("Data")
def define_dataset(values: flags.FlagValues) -> None:
    """Declares `--dataset` and how to read it."""
    text = "digits (built in), folder:PATH (one sub-folder for each class), or a name of TensorFlow Datasets"
    flags.DEFINE_string("dataset", "digits", text, flag_values=values)
    flags.DEFINE_string("data_dir", None, "where TensorFlow Datasets keeps its data", flag_values=values)
    flags.DEFINE_bool("download", False, "let TensorFlow Datasets download and prepare the data", flag_values=values)
    positive("limit", None, "read at most so many images of a split", values)
    text = "resize images to this side, in pixels; default: as they are, or the median side where they differ"
    flags.DEFINE_integer("image_size", None, text, 8, MOST_SIDE, flag_values=values)
    text = "CSV file with the class of each picture, in place of class folders (for folder:PATH)"
    flags.DEFINE_string("labels", None, text, flag_values=values)
    text = r"pattern with a group, such as '(.*)_\d+': pictures whose names agree in it share a split (for folder:PATH)"
    flags.DEFINE_string("group", None, text, flag_values=values)
    text = "colour behind transparent pixels, by name or as #rrggbb"
    flags.DEFINE_string("background", "white", text, flag_values=values)
    text = "folder that keeps decoded images of data sets too large for memory; default: decode them each time"
    flags.DEFINE_string("cache_dir", None, text, flag_values=values)


@titled("Data")
def define_resize(values: flags.FlagValues, default: str) -> None:
    """Declares `--resize`."""
    text = "scale the shorter side of the pictures that are tested and validated on to so many pixels before the middle"
    text += f" --image_size are cut out, such as 256 for 224; default: {default}"
    flags.DEFINE_integer("resize", None, text, 8, MOST_SIDE, flag_values=values)


def load(values: flags.FlagValues, split: str, valid_split: str | None = None):
    """Loads the images of a split of the data set that the flags name (see `datasets.load`)."""
    from kdarts.data import datasets

    which = {"split": split, "valid_split": valid_split, "image_size": values.image_size, "limit": values.limit}
    which["resize"] = values.resize if split != "train" and "resize" in values else None
    return datasets.load(values.dataset, **which, **reading(values))


def reading(values: flags.FlagValues) -> dict:
    """Arguments of `datasets.load` that say where and how pictures are read."""
    names = "data_dir", "download", "labels", "group", "background", "cache_dir"
    return {name: values[name].value for name in names}


def default_workdir(values: flags.FlagValues, name: str) -> str:
    """Returns the folder of a run where `--workdir` is unset: `runs/DATASET-NAME`."""
    dataset = values.dataset.removeprefix("folder:").rstrip("/").rsplit("/", 1)[-1] or "folder"
    return f"runs/{dataset}-{name}"


def random_draw(name: str, most: int | None, data, seed: int):
    """Returns a random draw of at most so many images, None for all; `name` is the flag that says how many."""
    from kdarts.data import datasets

    if most is not None and most > len(data):
        raise KdartsError(f"--{name}={most}: allowed is 1 to {len(data)}, all images")
    return data if most in (None, len(data)) else datasets.halves(data, most, None, seed)[0]


_DATA = ("dataset", "data_dir", "image_size", "limit", "labels", "group", "background", "cache_dir")
"""Flags that say which images there are."""


def data_flags(values: flags.FlagValues) -> dict:
    """Returns those flags of the data that another command needs to read the same images."""
    given = {name: values[name].value for name in _DATA}
    usual = {name: values[name].default for name in _DATA if name != "dataset"}
    return {name: value for name, value in given.items() if value and value != usual.get(name)}


def precision_flags(values: flags.FlagValues) -> dict:
    """Returns `--precision`, unless it has its default."""
    return {} if values.precision == values["precision"].default else {"precision": values.precision}


def command(verb: str, given: dict, *paths) -> str:
    """Returns a command with flags, quoted as a shell needs it."""
    return shlex.join(["kdarts", verb, *(f"--{name}={value}" for name, value in given.items()), *paths])


def next_command(verb: str, given: dict, *paths) -> str:
    """Returns a line with the command that follows."""
    return f"Next: {command(verb, given, *paths)}"


LARGE = 20_000
"""Training images from which on DARTS' recipe for CIFAR-10 is proposed, and below which a shorter one."""


def fitting_recipe(examples: int) -> dict:
    """Returns flags of a training that fit a number of images: about 3,000 steps, 8 or more of them in an epoch."""
    if examples >= LARGE:
        return {}
    batch_size = 2 ** max(0, min(6, int(math.log2(max(1, examples // 8)))))
    return {"batch_size": batch_size, "epochs": min(200, max(20, 3000 // (examples // batch_size)))}


@titled("Augmentation")
def define_augmentation(values: flags.FlagValues) -> None:
    """Declares how training images are varied."""
    text = "pixels by which images are padded before a random crop, less than their side; default by data set"
    flags.DEFINE_integer("pad", None, text, 0, MOST_SIDE - 1, flag_values=values)
    text = "colour of these pixels: black, as in the papers, or the mean of the training images"
    flags.DEFINE_enum("pad_with", "black", ["black", "mean"], text, flag_values=values)
    flags.DEFINE_bool("flip", None, "mirror half of the images; default by data set", flag_values=values)
    text = "side of the square cut out of each image, in pixels, at most that of the image"
    flags.DEFINE_integer("cutout", 0, text, 0, MOST_SIDE, flag_values=values)
    positive("cutout_holes", 1, "squares cut out of each image", values, 100)
    text = "AutoAugment's policy, by the data set it was found on (CIFAR-10's serve CIFAR-100 too); with a number of "
    text += "sub-policies: sharpDARTS'"
    policies = ["none", "cifar10", "cifar10_95", "imagenet", "imagenet_24", "svhn"]
    flags.DEFINE_enum("auto_augment", "none", policies, text, flag_values=values)
    text = "scale a random part of each image to the whole, in place of the padded crop (for ImageNet)"
    flags.DEFINE_bool("random_resized_crop", False, text, flag_values=values)
    text = "how far brightness, contrast and saturation are changed, and the hue by half of it (ImageNet: 0.4)"
    flags.DEFINE_float("color_jitter", 0.0, text, 0.0, 1.0, flag_values=values)


def augmentation(values: flags.FlagValues, image_shape):
    """Returns the augmentation that the flags ask for; where they are unset, that of the data set."""
    from kdarts.data.augmentation import Augmentation, default_augmentation

    own = default_augmentation(values.dataset, image_shape)
    names = [field.name for field in dataclasses.fields(Augmentation) if field.name in values]
    chosen = {name: values[name].value for name in names} | recipe.augmentation(values)
    if chosen.get("random_resized_crop") and chosen["pad"] is None:
        chosen["pad"] = 0
    made = dataclasses.replace(own, **{name: value for name, value in chosen.items() if value is not None})
    made.check(image_shape)
    return made


def as_text(value) -> str:
    """Returns a flag's value as a command line has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def remembered(values: flags.FlagValues, **genotypes) -> dict[str, str]:
    """Returns what a workdir records of a run: every flag that is set and decides its result, as text.

    `genotypes` are those that the flags of these names load, or None. Their content is recorded, not their path; of
    one that a space makes by its name, the name.
    """
    kept = {}
    for name in values:
        value = values[name].value
        if name in NEUTRAL or name in ("flagfile", "undefok") or value is None:
            continue
        if name == "preset" and value == preset.usual(values):
            continue
        if name == "dataset" and value.startswith("folder:"):
            value = "folder:" + os.path.abspath(os.path.expanduser(value.removeprefix("folder:")))
        kept[name] = as_text(value)
    return kept | {name: fingerprint(genotype) for name, genotype in genotypes.items() if hasattr(genotype, "to_json")}


def usual(values: flags.FlagValues) -> dict[str, str]:
    """Returns the defaults of the flags that have one, as text."""
    return {name: as_text(values[name].default) for name in values if values[name].default is not None}


def define_checkpoint(values: flags.FlagValues) -> None:
    """Declares `--checkpoint_every` and `--data_service`."""
    text = "steps of an epoch after which the run's state is saved; default: only at the end of each epoch"
    positive("checkpoint_every", None, text, values)
    entitle(values, "Computation", ["checkpoint_every"])
    text = "HOST:PORT of a tf.data service with one worker, which then prepares the same batches in the same order"
    flags.DEFINE_string("data_service", None, text, flag_values=values)
    entitle(values, "Data", ["data_service"])


def define_dry_run(values: flags.FlagValues) -> None:
    """Declares `--dry_run`."""
    text = "check flags, images and sizes, print what a run would compute, and end; no weights are made "
    text += "and no file is written"
    flags.DEFINE_bool("dry_run", False, text, flag_values=values)


@titled("Computation")
def define_precision(values: flags.FlagValues) -> None:
    """Declares `--precision` and `--jit_compile`."""
    text = "of the activations; weights and α stay float32 (float16 suits GPUs; bfloat16 saves memory on CPUs and TPUs)"
    policies = ["float32", "mixed_float16", "mixed_bfloat16"]
    flags.DEFINE_enum("precision", "float32", policies, text, flag_values=values)
    flags.DEFINE_bool("jit_compile", False, "compile the step with XLA (for GPUs)", flag_values=values)


def positive(name: str, default, text: str, values: flags.FlagValues, most: int = MOST) -> None:
    """Declares a flag for a whole number from 1."""
    flags.DEFINE_integer(name, default, text, 1, most, flag_values=values)


def define_seed(values: flags.FlagValues, text: str = "seed of all random numbers") -> None:
    """Declares `--seed`."""
    flags.DEFINE_integer("seed", 0, text, 0, MOST_SEED, flag_values=values)
    values["seed"].why = "random generators take 32 bits"


def check_seeds(values: flags.FlagValues) -> None:
    """Raises `KdartsError` where the last of several seeds is out of range."""
    if values.seeds is not None and values.seed + values.seeds - 1 > MOST_SEED:
        raise KdartsError(f"--seed={values.seed} with --seeds={values.seeds}: the last seed is at most {MOST_SEED}")


def define_classes(values: flags.FlagValues) -> None:
    """Declares the shape and the number of classes of images that are not loaded."""
    flags.DEFINE_integer("num_classes", 10, "number of classes", 2, MOST_CLASSES, flag_values=values)
    flags.DEFINE_list("input_shape", ["32", "32", "3"], "height,width,channels of an image", flag_values=values)


def image_shape(values: flags.FlagValues, found: Architecture | None = None) -> tuple[int, int, int]:
    """Returns `--input_shape`; where it is not given, that of a path whose file says it."""
    own = dict(found.cuboid.macro).get("input") if isinstance(found, HyperPath) else None
    if own is not None and not values["input_shape"].present:
        return check_input_shape(own)
    text = ",".join(values.input_shape)
    if re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*){2}", text) is None:
        raise KdartsError(f"--input_shape={text}: needs height,width,channels")
    return check_input_shape(map(int, values.input_shape))


def define_nodes(values: flags.FlagValues) -> None:
    """Declares `--nodes`."""
    positive("nodes", None, "intermediate nodes of a cell; default by space", values, MOST_NODES)
    values["nodes"].why = "the edges of a cell grow with the square of its nodes"


@titled("Network")
def define_network(values: flags.FlagValues) -> None:
    """Declares the size and the outer form of a network."""
    positive("channels", None, "channels of a node in the first cells, before any reduction", values, MOST_CHANNELS)
    positive("cells", None, "number of cells; default: the genotype's own, if it has a depth", values, MOST_CELLS)
    text = "channels in the middle of choke convolutions; default: 32 (for ImageNet: 96)"
    positive("c_mid", None, text, values, MOST_CHANNELS)
    flags.DEFINE_bool(
        "auxiliary", False, "with the auxiliary classifier of DARTS, behind two thirds of the cells", flag_values=values
    )
    text = "leave out a path's last step, as sharpDARTS' program does"
    flags.DEFINE_bool("drop_last_step", False, text, flag_values=values)
    define_frame(values)


@titled("Around the cells")
def define_frame(values: flags.FlagValues, by_space: str = "") -> None:
    """Declares `--stem` and the fields of a `MacroConfig`; `by_space` names the default of a search."""
    text = f"cifar, small, imagenet, imagenet_wide, imagenet_quarter, none or auto ({by_space}by image size)"
    flags.DEFINE_string("stem", "auto", text, flag_values=values)
    default = "; default by space" if by_space else ""
    text = "classifier: pool (each channel's mean, one layer), or widths of hidden layers on all of it: 2048,1024,256"
    flags.DEFINE_string("head", None if by_space else "pool", f"{text}{default}", flag_values=values)
    text = "where the number of channels doubles: at a reduction cell, or in the cell after it"
    flags.DEFINE_string("widen", None if by_space else "at", f"{text}: at, after{default}", flag_values=values)
    text = f"epsilon of the batch normalisations at the inputs of a cell{default}"
    flags.DEFINE_float("adapter_epsilon", None if by_space else 1e-5, text, 0.0, 1.0, flag_values=values)
    values["adapter_epsilon"].open = True


def frame(values: flags.FlagValues, space=None):
    """Returns the `MacroConfig` that the flags ask for; where they are unset, that of `space` (a `SearchSpace`)."""
    given = {"widen": values.widen, "epsilon": values.adapter_epsilon}
    if values.head is not None:
        words = [] if values.head == "pool" else values.head.split(",")
        if not all(word.strip().isdecimal() for word in words):
            raise KdartsError(f"--head={values.head}: needs pool, or widths such as 2048,1024,256")
        given["head"] = tuple(int(word) for word in words)
    usual = space.frame if space else MacroConfig()
    return dataclasses.replace(usual, **{name: value for name, value in given.items() if value is not None})


def frame_flags(stem: str, frame: MacroConfig) -> dict:
    """Returns the flags of a training that has a search's stem and frame; those with their default are left out."""
    usual, head = MacroConfig(), ",".join(map(str, frame.head))
    given = {"stem": (stem, "auto"), "head": (head, ""), "widen": (frame.widen, usual.widen)}
    given["adapter_epsilon"] = frame.epsilon, usual.epsilon
    return {name: value for name, (value, default) in given.items() if value != default}


def network_size(values: flags.FlagValues, genotype, sizes: dict[str, int]) -> tuple[int, int | None]:
    """Returns `(channels, cells)` of the flags, otherwise the genotype's own depth, otherwise those of `sizes`."""
    own_depth = genotype.sequence is not None
    return values.channels or sizes["channels"], values.cells or (None if own_depth else sizes["cells"])


def fingerprint(*genotypes) -> str:
    """Returns a short text that differs between genotypes, or several, and does not depend on their files."""
    texts = [genotype.named("").to_json() for genotype in genotypes]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def check_data_service(values: flags.FlagValues) -> None:
    """Raises `KdartsError` where nothing answers, before a run leaves anything in its folder."""
    if values.data_service:
        from kdarts.data.pipeline import knock

        knock(values.data_service)


def megabytes(values: flags.FlagValues) -> float | None:
    """Returns `--memory_limit` in 10^6 bytes; None if it is unset."""
    text = values.memory_limit
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB)", text, re.IGNORECASE)
    if found is None or not 0 < float(found[1]) < math.inf:
        raise KdartsError(f"--memory_limit={text}: needs a number and MB or GB, such as 8GB or 900MB")
    return float(found[1]) * (1000 if found[2].upper() == "GB" else 1)


def define(values: flags.FlagValues) -> None:
    """Declares the flags of a method, under the titles of `groups`. An unset one leaves the method's own choice."""
    for title, group in groups().items():
        for name, about in group.items():
            _define(values, name, about)
            if name == "space":
                text = "candidate operations of an edge, such as none,skip_connect,sep_conv_3x3, instead of --space"
                flags.DEFINE_string("operations", None, text, flag_values=values)
                entitle(values, title, ["operations"])
        entitle(values, title, group)


def _define(values: flags.FlagValues, name: str, about) -> None:
    if isinstance(about, Slot):
        names = ", ".join(kind.name for kind in about.kinds())
        flags.DEFINE_string(name, None, f"{about.about}: {names}", flag_values=values)
        return
    setting, kind = about.metadata["setting"], kind_of(about)
    allowed = f": {', '.join(setting.allowed)}" if setting.allowed else ""
    source = f" ({setting.source})" if setting.source else ""
    text = f"{setting.help}{allowed if not any(n in setting.help for n in setting.allowed[1:]) else ''}{source}"
    if setting.parse or kind not in (int, float, bool):
        flags.DEFINE_string(name, None, text, flag_values=values)
    elif kind is bool:
        flags.DEFINE_bool(name, None, text, flag_values=values)
    elif kind is int:
        flags.DEFINE_integer(name, None, text, setting.least, setting.most, flag_values=values)
    else:
        flags.DEFINE_float(name, None, text, setting.least, setting.most, flag_values=values)
    values[name].why, values[name].open = setting.why, setting.open


def names() -> list[str]:
    """Returns the names of the flags of a method, without `operations`."""
    return [name for group in groups().values() for name in group]


def chosen_method(values: flags.FlagValues) -> Method:
    """Returns the method with the choices of the flags."""
    return _chosen(values, preset.is_small(values))


def preset_changes(values: flags.FlagValues) -> dict[str, tuple]:
    """Returns what a small preset changes in the method of the flags: by name the paper's value and its own."""
    if not preset.is_small(values):
        return {}
    try:
        methods = [_chosen(values, small) for small in (False, True)]
    except KdartsError:  # Of flags that go with the small preset alone.
        return {}
    paths = methods[1].axes["path_choice"]
    unused = set() if paths.paths else set(paths.config())
    paper, small = (method.config() for method in methods)
    return {name: (paper[name], small[name]) for name in small if paper[name] != small[name] and name not in unused}


def _chosen(values: flags.FlagValues, small: bool) -> Method:
    method = get_method(values.method)
    space = listed_space(values.operations).name if values.operations is not None else values["space"].value
    if space is not None:
        method = method.in_space(space)
    method = method.small() if small else method
    known = fields()
    given = {name: values[name].value for name in names() if values[name].value is not None and name != "space"}
    for name in [name for name in given if name in known and known[name].metadata["setting"].parse]:
        try:
            given[name] = known[name].metadata["setting"].parse(given[name])
        except KdartsError as error:
            if str(error).startswith(f"{name} "):
                raise
            raise KdartsError(f"--{name}={given[name]}: {error}") from None
    if "epochs" in given:
        method = method.lasting(given["epochs"])
    method = method.override(**given)
    for name in ("cells", "skip_dropout"):
        if method.stages and name in given:
            raise KdartsError(f"--{name}={given[name]}: each stage has its own; choose them by --stages")
    return method


def note_gaps(found: Architecture) -> None:
    """Prints on standard error what the network of an architecture leaves out, and which cells pass nothing on."""
    for note in found.notes():
        print(f"note: {note}", file=sys.stderr)


_OF_CELLS = ("channels", "cells", "auxiliary", "drop_path", "stem", "head", "widen", "adapter_epsilon", "c_mid")
"""Flags that do not apply to a path."""


def check(values: flags.FlagValues, found: Architecture) -> None:
    """Raises `KdartsError` for a flag of cells with a path, and for a flag of steps with cells."""
    given = [name for name in _OF_CELLS if name in values and values[name].value != values[name].default]
    if isinstance(found, HyperPath) and given:
        raise KdartsError(f"--{given[0]}={values[given[0]].value}: the sizes of a path are fixed, and it has no cells")
    if values.drop_last_step and not isinstance(found, HyperPath):
        raise KdartsError("--drop_last_step: applies to paths only; a genotype of cells has no steps")


def sizes(values: flags.FlagValues, found: Architecture, shape, classes: int, defaults: dict[str, int]) -> dict:
    """Returns the size of a network: `params`, `macs`, and `channels` and `cells`, or `stages`, `ram` and `flash`.

    `defaults` has `channels` and `cells` for flags that are unset and a genotype without a depth.
    """
    if isinstance(found, HyperPath):
        from kdarts.ops.device import device_cost
        from kdarts.supernet.cuboids import build_path_network

        cost = device_cost(build_path_network(found, shape, classes, values.drop_last_step))
        stages = len(found.choices) - values.drop_last_step
        return {"stages": stages, "params": cost.params, "macs": cost.macs, "ram": cost.ram, "flash": cost.flash}
    from kdarts.supernet.cost import network_cost

    channels, cells = network_size(values, found, defaults)
    cost = network_cost(found, shape, classes, channels, cells, values.stem, frame(values), values.c_mid)
    size = {"channels": channels, "cells": len(found.at_depth(cells)[0])}
    return size | {"params": cost.params, "macs": cost.macs}


def build(values: flags.FlagValues, found: Architecture, shape, classes: int, defaults: dict[str, int], seed: int):
    """Builds the network of `sizes` with the flags of `kdarts train`; `seed` determines its dropout masks."""
    if isinstance(found, HyperPath):
        from kdarts.supernet.cuboids import build_path_network

        return build_path_network(found, shape, classes, values.drop_last_step)
    from kdarts.networks.network import build_network

    channels, cells = network_size(values, found, defaults)
    outer = values.auxiliary, values.drop_path, values.stem, seed, frame(values), values.c_mid
    network = build_network(found, shape, classes, channels, cells, *outer)
    if values.auxiliary:
        network.auxiliary_weight = values.auxiliary_weight
    return network


def in_words(size: dict) -> str:
    """Formats a size as `8 cells, 16 channels: 0.61 M weights, 41.00 M MACs an image`."""
    first = f"{size['stages']} steps" if "stages" in size else f"{size['cells']} cells, {size['channels']} channels"
    return f"{first}: {amount(size['params'])} weights, {amount(size['macs'])} MACs an image"
