"""`kdarts info`: size and contents of a genotype."""

import json
from collections import Counter

from absl import flags

from kdarts.cli import options
from kdarts.cli.command import Command
from kdarts.cli.notes import note_gaps
from kdarts.cli.train import PAPER
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.zoo import describe, genotype_names


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    options.define_network(values)
    options.positive("num_classes", 10, "number of classes", values)
    flags.DEFINE_list("input_shape", ["32", "32", "3"], "height,width,channels of an image", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Prints one JSON line."""
    from kdarts.nets.cost import auxiliary_cost, network_cost

    genotype = Genotype.load(values.arguments[0])
    channels, cells = options.network_size(values, genotype, PAPER)
    try:
        shape = tuple(int(n) for n in values.input_shape)
    except ValueError:
        raise KdartsError(f"--input_shape={','.join(values.input_shape)}: needs height,width,channels") from None
    size = (genotype, shape, values.num_classes, channels, cells, values.stem, options.frame(values))
    cost = network_cost(*size, values.c_mid)
    if values.auxiliary:
        cost += auxiliary_cost(*size)
    sequence, reductions = genotype.at_depth(cells)
    used = Counter(operation for index in sequence for operation, _, _ in genotype.cells[index])
    result = {
        "name": genotype.name,
        "params": cost.params,
        "macs": cost.macs,
        "channels": channels,
        "cells": len(sequence),
        "distinct_cells": len(genotype.cells),
        "reductions": list(reductions),
        "operations": dict(sorted(used.items())),
    }
    if values.arguments[0] in genotype_names():
        result["source"] = describe(values.arguments[0])
    note_gaps(genotype)
    print(json.dumps(result))


COMMAND = Command(
    "parameters, MACs and operations of a genotype",
    define,
    run,
    arguments="GENOTYPE ",
    count=1,
    example="kdarts info DARTS_V2 --channels=36 --cells=20",
)
