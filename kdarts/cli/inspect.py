"""The commands that look at genotypes and runs: `kdarts info`, `deepen`, `distance`, `draw`, `report` and `toy`."""

import json
import math
import os
from collections import Counter

from absl import flags

from kdarts.cli import options
from kdarts.cli.command import Command
from kdarts.cli.options import note_gaps
from kdarts.cli.process import start_tensorflow
from kdarts.cli.train import PAPER, TRAIN
from kdarts.genotypes.cuboid import HyperPath, describe_path, load_architecture, path_names
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import LONGEST_NAME, Genotype
from kdarts.genotypes.rule import OF_DARTS, rule_parts
from kdarts.genotypes.settings import MOST_CELLS, MOST_RATE
from kdarts.genotypes.text import describe, genotype_names
from kdarts.ops.cost import Latencies


def define(values: flags.FlagValues) -> None:
    """Declares the flags of `kdarts info`."""
    options.define_network(values)
    options.define_classes(values)
    text = "file of measured latencies, which tools/latency_table.py writes: the milliseconds are printed, too"
    flags.DEFINE_string("latency_table", None, text, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Prints one JSON line."""
    name = values.arguments[0]
    found = load_architecture(name)
    options.check(values, found)
    shape = options.image_shape(values, found)
    if isinstance(found, HyperPath):
        start_tensorflow()
    size = options.sizes(values, found, shape, values.num_classes, PAPER)
    result = {"name": found.name, "params": size.pop("params"), "macs": size.pop("macs"), **size}
    if isinstance(found, Genotype) and set(found.operations) <= OF_DARTS and not (found.stages or found.sequence):
        result |= {"rule_score": rule_parts(found)}
    if values.latency_table:
        result["latency_ms"] = _latency_ms(values, found, shape)
    result |= _of_path(found, result) if isinstance(found, HyperPath) else _of_cells(values, found, shape, result)
    if name in genotype_names() or name in path_names():
        result["source"] = describe(name) if name in genotype_names() else describe_path(name)
    note_gaps(found)
    print(json.dumps(result))


def _latency_ms(values: flags.FlagValues, found, shape) -> float:
    """Milliseconds by the table of the flags, without the classifier."""
    latencies = Latencies.load(values.latency_table)
    if isinstance(found, HyperPath):
        from kdarts.supernet.cuboids import path_latency

        return path_latency(found, shape, latencies)
    from kdarts.supernet.cost import network_cost

    size = options.network_size(values, found, PAPER)
    where = found, shape, values.num_classes, *size, values.stem, options.frame(values), values.c_mid
    return network_cost(*where, latencies).latency_ms


def _of_path(path: HyperPath, result: dict) -> dict:
    steps = path.steps[: result["stages"]]
    choices = [{name: step[name] for name, _ in path.cuboid.choices} for step in steps]
    used = {name: Counter(choice[name] for choice in choices) for name, _ in path.cuboid.choices}
    states = {name: [path.start[name], *(step[name] for step in steps)] for name, _ in path.cuboid.states}
    return {"space": path.space, **states, **{name: dict(sorted(counts.items())) for name, counts in used.items()}}


def _of_cells(values: flags.FlagValues, genotype: Genotype, shape, result: dict) -> dict:
    cells = result["cells"] // (genotype.stages or 1)
    sequence, reductions = genotype.at_depth(cells)
    used = Counter(operation for index in sequence for operation, _, _ in genotype.cells[index])
    more = {"distinct_cells": len(genotype.cells), "reductions": list(reductions)}
    more["operations"] = dict(sorted(used.items()))
    if not values.auxiliary:
        return more
    from kdarts.supernet.cost import auxiliary_cost

    size = genotype, shape, values.num_classes, result["channels"], cells
    extra = auxiliary_cost(*size, values.stem, options.frame(values))
    return {**more, "params": result["params"] + extra.params}


INFO = Command(
    "parameters, MACs and operations of a genotype",
    define,
    run,
    arguments="GENOTYPE ",
    count=1,
    example="kdarts info DARTS_V2 --channels=36 --cells=20",
)


def deepen_define(values: flags.FlagValues) -> None:
    """Declares the flags of `kdarts deepen`."""
    flags.DEFINE_string("genotype", None, "path of a genotype, or its name in the zoo", flag_values=values)
    options.positive("cells", None, "number of cells of the new network", values, MOST_CELLS)
    flags.DEFINE_string("to", None, "file to write (JSON)", flag_values=values)


def deepen_run(values: flags.FlagValues) -> None:
    """Writes the new genotype and prints its sequence of cells."""
    from kdarts.genotypes.deepen import deepen, derived

    needed = {"genotype": "a path, or a name of the zoo such as DD-4", "cells": "how many", "to": "a file to write"}
    for flag, what in needed.items():
        if not values[flag].value:
            raise KdartsError(f"--{flag} is missing: {what}")
    genotype = Genotype.load(values.genotype)
    deeper = deepen(genotype, values.cells)
    deeper.save(values.to)
    sequence, reductions = deeper.at_depth(None)
    print(values.to)
    row = " ".join(f"[{cell}]" if place in reductions else str(cell) for place, cell in enumerate(sequence))
    print(f"{len(sequence)} cells, reductions in brackets: {row}")
    if genotype.sequence is not None:
        for where, place in derived(len(genotype.sequence), values.cells)[1].items():
            nearest = genotype.sequence[place]
            print(f"no normal cell was searched {where} the reductions: the nearest, cell {nearest}, stands there")
    note_gaps(deeper)


DEEPEN = Command(
    "give a genotype more cells, or fewer (D-DARTS' Algorithm 1)",
    deepen_define,
    deepen_run,
    example="kdarts deepen --genotype=DD-4 --cells=14 --to=dd4-14.json",
)


def distance_define(values: flags.FlagValues) -> None:
    """Declares the flags of `kdarts distance`."""
    text = "scores of the operations: median (D-DARTS' Table 1), mean (its program), or a .json file "
    text += "{operation: score}, which may name other operations than DARTOpti's"
    flags.DEFINE_string("weights", "median", text, flag_values=values)
    text = "divide an edge's distance by the sum of the scores, otherwise by their number (D-DARTS' Algorithm 2)"
    flags.DEFINE_bool("normalize", True, text, flag_values=values)
    text = "compare cells edge by edge: a true metric, which the published one is not"
    flags.DEFINE_bool("aligned", False, text, flag_values=values)
    flags.DEFINE_string("to", None, "heat map to write: .svg, .png or .pdf", flag_values=values)


def distance_run(values: flags.FlagValues) -> None:
    """Prints one JSON line for two genotypes, a table for more."""
    from kdarts.genotypes.distance import distance

    loaded = [(word, Genotype.load(word)) for word in values.arguments]
    names = [genotype.name or word for word, genotype in loaded]
    # Messages call a genotype without a name by that of its file.
    genotypes = [g if g.name else g.named(os.path.basename(word)[:LONGEST_NAME]) for word, g in loaded]
    how = {"normalize": values.normalize, "aligned": values.aligned}
    table = [[distance(a, b, values.weights, **how) for b in genotypes] for a in genotypes]
    if values.to:
        from kdarts.views.heatmap import draw_distances

        label = "aligned distance" if values.aligned else "distance M"
        draw_distances(table, names, values.to, label if values.normalize else f"{label} (unit of the scores)")
    if len(names) == 2:
        print(json.dumps({"a": names[0], "b": names[1], "distance": table[0][1], "weights": values.weights, **how}))
    else:
        print(_as_text(names, table))
    if values.to:
        print(values.to)


def _as_text(names, table) -> str:
    """A row for each genotype, with its number, which heads its column."""
    numbers = [str(number) for number in range(1, len(names) + 1)]
    wide, widest = len(numbers[-1]), max(map(len, names))
    rows = [f"{'':{wide + 2 + widest}}" + "".join(f"  {number:>8}" for number in numbers)]
    for number, name, line in zip(numbers, names, table, strict=True):
        rows.append(f"{number:>{wide}}  {name:{widest}}" + "".join(f"  {value:8.4f}" for value in line))
    return "\n".join(rows)


DISTANCE = Command(
    "distance of genotypes: D-DARTS' metric M, or a true metric",
    distance_define,
    distance_run,
    arguments="GENOTYPE GENOTYPE ... ",
    count=2,
    more=True,
    example="kdarts distance ResNet18 ResNet50 DO-1-ResNet18 --to=distances.png",
)


def draw_define(values: flags.FlagValues) -> None:
    """Declares the flags of `kdarts draw`."""
    flags.DEFINE_string("to", None, "file to write: .svg, .png, .pdf, or .dot for Graphviz", flag_values=values)
    flags.DEFINE_string("title", None, "above the cells; default: the genotype's name", flag_values=values)


def draw_run(values: flags.FlagValues) -> None:
    """Draws an architecture."""
    from kdarts.views.drawing import draw_genotype
    from kdarts.views.trellis import draw_path

    if not values.to:
        raise KdartsError("--to is missing: a file that ends in .svg, .png, .pdf or .dot")
    found = load_architecture(values.arguments[0])
    draw = draw_path if isinstance(found, HyperPath) else draw_genotype
    draw(found, values.to, values.title)
    note_gaps(found)
    print(values.to)


DRAW = Command(
    "draw the cells of a genotype", draw_define, draw_run, "GENOTYPE ", 1, "kdarts draw DARTS_V2 --to=darts_v2.svg"
)


def report_define(values: flags.FlagValues) -> None:
    """Declares the flags of `kdarts report`."""
    flags.DEFINE_string(
        "workdir",
        None,
        "folder of a search or a training; several folders may be given as WORKDIR ...",
        flag_values=values,
    )
    flags.DEFINE_string("to", None, "file to write: .html", flag_values=values)


def report_run(values: flags.FlagValues) -> None:
    """Writes the report."""
    workdirs = [*([values.workdir] if values.workdir else []), *values.arguments]
    if not workdirs:
        raise KdartsError("--workdir is missing: the folder of a run; kdarts report A B ... takes several")
    if not values.to:
        raise KdartsError("--to is missing: a file that ends in .html")
    start_tensorflow()
    from kdarts.views.report import write_report

    write_report(workdirs, values.to, [_next_of(workdir) for workdir in workdirs])
    print(values.to)


def _next_of(workdir: str) -> str:
    """Returns the command that follows a finished run, by its recorded flags; "" where they do not tell it."""
    from kdarts.cli import seeds
    from kdarts.cli.search import SEARCH
    from kdarts.training.workdir import Workdir, read_arrays

    folder = Workdir(workdir)
    trained = (folder / "model.keras").exists()
    verb, command = ("train", TRAIN) if trained else ("search", SEARCH)
    try:
        values = command.parse([verb, *(f"--{name}={value}" for name, value in folder.flags().items())])
        if trained:
            where = {} if values.dataset == "digits" else options.data_flags(values)
            to = f"saved_models/{folder.path.name}"
            return options.command("export", {"model": folder / "model.keras", "to": to, **where})
        examples = len(read_arrays(folder / "data.npz")["train"])
        line = seeds.train_command(values, options.chosen_method(values), folder / "genotype.json", examples)
    except (KdartsError, flags.Error, KeyError, OSError):  # Of an unfinished run, another command or another release.
        return ""
    return line.removeprefix("Next: ")


REPORT = Command(
    "write an HTML page about a run: its curves, α, cells and cost by epoch",
    report_define,
    report_run,
    arguments="[WORKDIR ...] ",
    more=True,
    example="kdarts report --workdir=runs/digits-darts --to=report.html",
)


def toy_define(values: flags.FlagValues) -> None:
    """Declares the flags of `kdarts toy`."""
    text = "learning rates of the unrolled step, comma-separated; 0: first order"
    flags.DEFINE_list("xi", ["0", "0.3", "0.5", "0.7"], text, flag_values=values)
    flags.DEFINE_enum("order", None, ["second", "exact"], "where ξ is above 0; default: second", flag_values=values)
    flags.DEFINE_float("learning_rate", 0.01, "of the steps of α and of w", 0.0, MOST_RATE, flag_values=values)
    values["learning_rate"].open = True
    flags.DEFINE_float("threshold", 1e-4, "ends a search once both steps are shorter", 0.0, 1.0, flag_values=values)
    flags.DEFINE_list("start", ["2", "-2"], "α,w at the beginning", flag_values=values)
    options.positive("limit", 10_000, "most iterations", values, 1_000_000)
    flags.DEFINE_string("to", None, "picture to write: .svg, .png or .pdf", flag_values=values)


def toy_run(values: flags.FlagValues) -> None:
    """Prints a JSON line for each ξ."""
    rates, start = _numbers("xi", values.xi), _numbers("start", values.start)
    if not rates or len(start) != 2:
        given = f"--xi={','.join(values.xi)} --start={','.join(values.start)}"
        raise KdartsError(f"{given}: needs one ξ or more, and a start as α,w")
    if values.to:
        from kdarts.views.figure import image_format

        image_format(values.to)
    start_tensorflow()
    from kdarts.search.toy import SOLUTION, fixed_point, run_toy

    runs = []
    for xi in rates:
        order = values.order if xi else None
        found = run_toy(xi, order, values.learning_rate, values.threshold, tuple(start), values.limit)
        alpha, w = (round(float(number), 6) for number in found.path[-1])
        rest = round(fixed_point(xi), 6)
        row = {"xi": xi, "iterations": found.iterations, "alpha": alpha, "w": w, "fixed_point": rest}
        print(json.dumps({**row, "converged": found.converged}), flush=True)
        runs.append(found)
    if values.to:
        from kdarts.views.curves import draw_trajectories

        names = [f"ξ = {found.xi:g} ({found.iterations} iterations)" for found in runs]
        draw_trajectories([found.path for found in runs], names, values.to, SOLUTION)
        print(values.to)


def _numbers(name: str, words: list[str]) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = [math.nan]
    if not all(abs(number) <= _FAR for number in numbers):
        raise KdartsError(f"--{name}={','.join(words)}: needs numbers of at most {_FAR:g}, comma-separated")
    return numbers


_FAR = 1000
"""Numbers of the toy problem beyond which nothing is to be seen."""


TOY = Command(
    "the bilevel problem of two numbers, for several ξ (DARTS Figure 2)",
    toy_define,
    toy_run,
    example="kdarts toy --xi=0,0.3,0.5,0.7 --to=toy.png",
)
