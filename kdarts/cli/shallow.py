"""Shallow evaluation: how good a found network is, told by a short training of a small one of its cells.

DARTS' paper keeps the best of four searches by it (section 3.1.1), eDARTS' ranks by it (section IV-A). What it is
measured on is held back from the train split before the search begins: neither search nor shallow training learn from
it, and the test images stay unseen.
"""

from absl import flags

from kdarts.cli import options
from kdarts.genotypes.errors import KdartsError
from kdarts.nets.cuboid_spaces import cuboid_names
from kdarts.nets.plan import Frame
from kdarts.nets.spaces import get_space
from kdarts.search.method import Method

HOLD_BACK = 0.2
"""The part of the train split that is held back where a shallow evaluation follows."""

PAPER = {"epochs": 100, "channels": 16, "cells": 5, "batch_size": 64, "drop_path": 0.2}
"""eDARTS' (flags/train_shallow_cifar10.flags)."""

SMALL = {**PAPER, "epochs": 10, "drop_path": 0.0}
"""For the built-in digits."""

_SIZES = ("channels", "cells")
_SHARED = (
    "dataset",
    "data_dir",
    "download",
    "limit",
    "image_size",
    "pad",
    "flip",
    "precision",
    "jit_compile",
    "checkpoint_every",
    "data_service",
    "strategy",
    "sync_batch_norm",
)


def define_hold_back(values: flags.FlagValues, text: str) -> None:
    """`--hold_back`; `text` says what for."""
    flags.DEFINE_float("hold_back", None, text, 0.0, 0.9, flag_values=values)


def define(values: flags.FlagValues) -> None:
    """The flags of a shallow evaluation."""
    define_hold_back(
        values,
        "part of the train split that a search does not see; shallow trainings are measured on it; default: 0, where "
        f"any follow {HOLD_BACK}",
    )
    for name, text in {
        "epochs": "length of a shallow training",
        "channels": "channels of its network",
        "cells": "cells of its network; default for individual α: the genotype's own",
        "batch_size": "examples in each of its steps",
        "train_examples": "images it is trained on; default: all that are not held back",
    }.items():
        default = f"; default: {PAPER[name]}, digits: {SMALL[name]}" if name in PAPER else ""
        options.positive(f"shallow_{name}", None, text + default, values)


def flag_names() -> set[str]:
    """The flags that `define` declares."""
    values = flags.FlagValues()
    define(values)
    return set(values)


def check(values: flags.FlagValues, method: Method) -> None:
    """Raises `KdartsError` before a search begins that the flags' shallow evaluation could not follow."""
    given = [f"shallow_{name}" for name in _SIZES if values[f"shallow_{name}"].value is not None]
    if method.space in cuboid_names() and given:
        raise KdartsError(f"--{given[0]}: a path has sizes of its own and no cells")
    if method.sharing != "shared" and values.shallow_cells is not None:
        raise KdartsError(f"--shallow_cells={values.shallow_cells}: with --sharing={method.sharing} the genotype says")
    if part(values) == 0:
        raise KdartsError("--hold_back=0: shallow trainings are measured on what is held back; allowed is up to 0.9")


def part(values: flags.FlagValues) -> float:
    """The part of the train split that is held back where shallow evaluations follow."""
    return HOLD_BACK if values.hold_back is None else values.hold_back


def given(values: flags.FlagValues, names) -> list[str]:
    """The flags of `names` that were given, as words."""
    return [f"--{name}={_text(values[name].value)}" for name in names if name in values and values[name].present]


def _text(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def train_words(values: flags.FlagValues, method: Method) -> list[str]:
    """The command of a shallow training, without genotype, seed and workdir.

    Args:
        values: the flags of the search.
        method: what they choose.
    """
    sizes = {name: values[f"shallow_{name}"].value for name in (*PAPER, "train_examples") if name != "drop_path"}
    usual = SMALL if values.dataset == "digits" else PAPER
    chosen = usual | {name: value for name, value in sizes.items() if value is not None}
    if method.space in cuboid_names():
        chosen = {name: value for name, value in chosen.items() if name not in (*_SIZES, "drop_path")}
        framed = []
    else:
        framed = _frame(values, method)
    if method.sharing != "shared":
        chosen.pop("cells", None)
    words = ["train", *given(values, _SHARED), *framed, f"--hold_back={part(values)}"]
    return words + [f"--{name}={value}" for name, value in chosen.items()]


def _frame(values: flags.FlagValues, method: Method) -> list[str]:
    """The frame of the search, for the training."""
    space, usual = get_space(method.space), Frame()
    frame, stem = options.frame(values, space), space.stem if values.stem == "auto" else values.stem
    told = {} if stem == "auto" else {"stem": stem}
    told |= {"head": ",".join(map(str, frame.head))} if frame.head else {}
    told |= {"widen": frame.widen} if frame.widen != usual.widen else {}
    told |= {"adapter_epsilon": frame.epsilon} if frame.epsilon != usual.epsilon else {}
    return [f"--{name}={value}" for name, value in told.items()]
