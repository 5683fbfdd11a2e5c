"""What a command says beside its result.

The network that the flags ask for, of a genotype or of a path.
"""

import sys

from absl import flags

from kdarts.cli import options
from kdarts.genotypes.architectures import Architecture
from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.errors import KdartsError


def note(text: str) -> None:
    """Prints a line about the result on standard error."""
    print(f"note: {text}", file=sys.stderr)


def note_gaps(found: Architecture) -> None:
    """Notes what the network of an architecture leaves out, a line for each cell."""
    for gap in found.gaps():
        note(gap)


_OF_CELLS = ("channels", "cells", "auxiliary", "drop_path", "stem", "head", "widen", "adapter_epsilon", "c_mid")
"""Flags that a path has no use for: its sizes are its own."""


def check(values: flags.FlagValues, found: Architecture) -> None:
    """Raises `KdartsError` for a flag of cells where there are none, and of steps where there are cells."""
    given = [name for name in _OF_CELLS if name in values and values[name].value != values[name].default]
    if isinstance(found, HyperPath) and given:
        raise KdartsError(f"--{given[0]}={values[given[0]].value}: a path has sizes of its own and no cells")
    if values.drop_last_step and not isinstance(found, HyperPath):
        raise KdartsError("--drop_last_step: cells have no steps; it is about a path")


def sizes(values: flags.FlagValues, found: Architecture, shape, classes: int, defaults: dict[str, int]) -> dict:
    """What tells the size of a network: `params`, `macs`, and `stages`, or `channels` and `cells`.

    Args:
        values: the flags.
        found: the genotype or path.
        shape, classes: of the images.
        defaults: `channels` and `cells` where flags and genotype are silent.
    """
    if isinstance(found, HyperPath):
        from kdarts.ops.layers import model_cost
        from kdarts.supernet.cuboids import build_path_network

        cost = model_cost(build_path_network(found, shape, classes, values.drop_last_step))
        return {"stages": len(found.choices) - values.drop_last_step, "params": cost.params, "macs": cost.macs}
    from kdarts.supernet.cost import network_cost

    channels, cells = options.network_size(values, found, defaults)
    cost = network_cost(found, shape, classes, channels, cells, values.stem, options.frame(values), values.c_mid)
    return {
        "channels": channels,
        "cells": len(found.at_depth(cells)[0]),
        "params": cost.params,
        "macs": cost.macs,
    }


def build(values: flags.FlagValues, found: Architecture, shape, classes: int, defaults: dict[str, int], seed: int):
    """The network itself, whose masks are drawn by `seed`; else as of `sizes`, with the flags of `kdarts train`."""
    if isinstance(found, HyperPath):
        from kdarts.supernet.cuboids import build_path_network

        return build_path_network(found, shape, classes, values.drop_last_step)
    from kdarts.networks.network import build_network

    channels, cells = options.network_size(values, found, defaults)
    outer = values.auxiliary, values.drop_path, values.stem, seed, options.frame(values), values.c_mid
    network = build_network(found, shape, classes, channels, cells, *outer)
    if values.auxiliary:
        network.auxiliary_weight = values.auxiliary_weight
    return network


def in_words(size: dict) -> str:
    """`8 cells, 16 channels: 0.61 M weights, 41.0 M MACs an image`."""
    first = f"{size['stages']} steps" if "stages" in size else f"{size['cells']} cells, {size['channels']} channels"
    return f"{first}: {size['params'] / 1e6:.2f} M weights, {size['macs'] / 1e6:.1f} M MACs an image"
