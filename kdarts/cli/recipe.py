"""The flags of a training that make the same network better: averaged weights, decay, mixed images, a teacher."""

import hashlib
import pathlib

from absl import flags

from kdarts.cli import process
from kdarts.cli.command import titled
from kdarts.genotypes.errors import KdartsError, listed
from kdarts.genotypes.settings import MOST_RATE


@titled("Augmentation")
def define_augmentation(values: flags.FlagValues) -> None:
    """Declares how training images are varied, besides what a search has."""
    text = "RandAugment: number of operations on each image and their magnitude, 0 to 10, such as 2,5; unset: none"
    flags.DEFINE_string("rand_augment", None, text, flag_values=values)
    text = "α of mixup, which averages pairs of images and their labels (papers: 0.2, 1); 0: none"
    flags.DEFINE_float("mixup", 0.0, text, 0.0, 1000.0, flag_values=values)
    text = "α of CutMix, which puts a box of another image into each and mixes their labels (paper: 1); 0: none; with "
    text += "--mixup each batch has one of both"
    flags.DEFINE_float("cutmix", 0.0, text, 0.0, 1000.0, flag_values=values)


@titled("Training")
def define(values: flags.FlagValues) -> None:
    """Declares the flags."""
    text = "momentum of the running average of the weights, which is what is validated, tested and saved; its first "
    text += "steps have less; 0: the last weights"
    flags.DEFINE_float("ema", 0.0, text, 0.0, 0.999999, flag_values=values)
    text = "weights that --l2 and --weight_decay are about: all, or kernels, which leaves out biases and normalisations"
    flags.DEFINE_enum("decay", "all", ["all", "kernels"], text, flag_values=values)
    text = "part of the weights, times the learning rate, that each step takes away (SGDW), in place of --l2"
    flags.DEFINE_float("weight_decay", 0.0, text, 0.0, MOST_RATE, flag_values=values)
    text = "trained network, a .keras file, whose outputs the network learns from besides the labels"
    flags.DEFINE_string("teacher", None, text, flag_values=values)
    text = "by which the logits of both are divided in the teacher's part of the loss"
    flags.DEFINE_float("distill_temperature", 4.0, text, 0.01, 1000.0, flag_values=values)
    text = "weight of the teacher's part of the loss; that of the labels has the rest"
    flags.DEFINE_float("distill_weight", 0.9, text, 0.001, 1.0, flag_values=values)


def check(values: flags.FlagValues, batch_size: int) -> None:
    """Raises `KdartsError` for flags that do not go together."""
    if values.weight_decay and values.l2:
        raise KdartsError(
            f"--weight_decay={values.weight_decay} with --l2={values.l2}: allowed is one of them; --l2=0 leaves it out"
        )
    mixed = [name for name in ("mixup", "cutmix") if values[name].value]
    if mixed and batch_size < 2:
        raise KdartsError(f"--{mixed[0]}={values[mixed[0]].value}: needs a --batch_size of 2 or more")


def idle(values: flags.FlagValues) -> list[str]:
    """Returns what to say of flags that change nothing in a training."""
    found = []
    if not values.teacher:
        names = [name for name in ("distill_temperature", "distill_weight") if values[name].present]
        found += [f"--{name}={values[name].value}: has no effect without --teacher" for name in names]
    elif values.distill_weight == 1 and values.label_smoothing:
        text = "has no effect with --distill_weight=1, which leaves out the labels"
        found.append(f"--label_smoothing={values.label_smoothing}: {text}")
    if values.decay != "all" and not values.l2 and not values.weight_decay:
        found.append(f"--decay={values.decay}: has no effect without --l2 and --weight_decay")
    return found


def augmentation(values: flags.FlagValues) -> dict:
    """Returns the fields of an `Augmentation` that these flags set.

    Raises `KdartsError` for a `--rand_augment` that is no pair of numbers.
    """
    if "rand_augment" not in values or values.rand_augment is None:
        return {}
    number, _, magnitude = values.rand_augment.partition(",")
    try:
        return {"rand_augment": (int(number), float(magnitude))}
    except ValueError:
        text = "needs a number of operations and their magnitude, such as 2,5"
        raise KdartsError(f"--rand_augment={values.rand_augment}: {text}") from None


def mixing(values: flags.FlagValues):
    """Returns the `Mixing` of the flags."""
    from kdarts.data.mixing import Mixing

    return Mixing(values.mixup, values.cutmix)


def remembered(values: flags.FlagValues) -> dict[str, str]:
    """Returns what a workdir records of the teacher: its content, not its path."""
    if values.teacher is None:
        return {}
    path = pathlib.Path(values.teacher)
    if not path.is_file():
        raise KdartsError(f"--teacher={values.teacher}: no such file; needs a .keras file, as kdarts train writes it")
    return {"teacher": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}


def teacher(values: flags.FlagValues, data):
    """Loads the `Teacher` of the flags, or returns None.

    Args:
        data: The training images, an `ImageData`, whose shape and classes are the student's.

    Raises:
        KdartsError: If the file cannot be read, does not say how images are normalised, or is of other images.
    """
    if values.teacher is None:
        return None
    from kdarts.data import datasets
    from kdarts.networks.distillation import Teacher, conversion
    from kdarts.serving.predict import open_network
    from kdarts.serving.served import probe

    word = f"--teacher={values.teacher}"
    with process.strategy(values).scope():
        model, about = open_network(values.teacher)
    shape, own = data.image_shape, model.input_shape[1:]
    if any(side not in (None, ours) for side, ours in zip(own, shape, strict=True)):
        text = "x".join("?" if side is None else str(side) for side in own)
        raise KdartsError(f"{word}: takes images of {text}, the training has {'x'.join(map(str, shape))}")
    if "mean" not in about:
        text = "tells no mean and std of its images; a summary.json beside it can, and kdarts train saves them"
        raise KdartsError(f"{word}: {text}")
    try:
        classes, output = probe(lambda images: model(images, training=False), shape)
    except KdartsError as error:
        raise KdartsError(f"{word}: {error}") from None
    names, order = list(about.get("class_names", ())), None
    if classes != data.num_classes:
        raise KdartsError(f"{word}: tells {classes} classes apart, the training has {data.num_classes}")
    if names:
        strange = [name for name in data.class_names if name not in names]
        if strange:
            text = f"does not know the classes {listed(strange, 10)} of the training"
            raise KdartsError(f"{word}: {text}; it knows {listed(names, 10)}")
        order = [names.index(name) for name in data.class_names]
        order = None if order == sorted(order) else order
    how = conversion(*datasets.statistics(data.images), about["mean"], about["std"])
    weights = values.distill_temperature, values.distill_weight
    return Teacher(model, *weights, *how, order, output == "probabilities")
