"""`kdarts info`: size and contents of a genotype."""

import json
from collections import Counter

from absl import flags

from kdarts.cli import networks, options
from kdarts.cli.command import Command
from kdarts.cli.notes import note_gaps
from kdarts.cli.quiet import start_tensorflow
from kdarts.cli.train import PAPER
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.found import load_found
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.hyper_path import HyperPath
from kdarts.genotypes.path_zoo import describe_path, path_names
from kdarts.genotypes.zoo import describe, genotype_names


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    options.define_network(values)
    options.positive("num_classes", 10, "number of classes", values)
    flags.DEFINE_list("input_shape", ["32", "32", "3"], "height,width,channels of an image", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Prints one JSON line."""
    name = values.arguments[0]
    found = load_found(name)
    networks.check(values, found)
    try:
        shape = tuple(int(n) for n in values.input_shape)
    except ValueError:
        raise KdartsError(f"--input_shape={','.join(values.input_shape)}: needs height,width,channels") from None
    if isinstance(found, HyperPath):
        start_tensorflow()
    size = networks.sizes(values, found, shape, values.num_classes, PAPER)
    result = {"name": found.name, "params": size.pop("params"), "macs": size.pop("macs"), **size}
    result |= _of_path(found, result) if isinstance(found, HyperPath) else _of_cells(values, found, shape, result)
    if name in genotype_names() or name in path_names():
        result["source"] = describe(name) if name in genotype_names() else describe_path(name)
    note_gaps(found)
    print(json.dumps(result))


def _of_path(path: HyperPath, result: dict) -> dict:
    steps = path.steps[: result["stages"]]
    choices = [{name: step[name] for name, _ in path.cuboid.choices} for step in steps]
    used = {name: Counter(choice[name] for choice in choices) for name, _ in path.cuboid.choices}
    states = {name: [path.start[name], *(step[name] for step in steps)] for name, _ in path.cuboid.states}
    return {"space": path.space, **states, **{name: dict(sorted(counts.items())) for name, counts in used.items()}}


def _of_cells(values: flags.FlagValues, genotype: Genotype, shape, result: dict) -> dict:
    sequence, reductions = genotype.at_depth(result["cells"])
    used = Counter(operation for index in sequence for operation, _, _ in genotype.cells[index])
    more = {
        "distinct_cells": len(genotype.cells),
        "reductions": list(reductions),
        "operations": dict(sorted(used.items())),
    }
    if not values.auxiliary:
        return more
    from kdarts.nets.cost import auxiliary_cost

    size = genotype, shape, values.num_classes, result["channels"], result["cells"]
    extra = auxiliary_cost(*size, values.stem, options.frame(values))
    return {**more, "params": result["params"] + extra.params}


COMMAND = Command(
    "parameters, MACs and operations of a genotype",
    define,
    run,
    arguments="GENOTYPE ",
    count=1,
    example="kdarts info DARTS_V2 --channels=36 --cells=20",
)
