"""`kdarts search`: from images to a genotype."""

import re
import time
import warnings
from typing import Any, NamedTuple

from absl import flags

from kdarts.cli import idle, options, preset, process, seeds
from kdarts.cli.command import Command, entitle, titled
from kdarts.cli.process import check_backend, start_tensorflow
from kdarts.genotypes.cuboid import Architecture, HyperPath, load_architecture
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.settings import MOST_EPOCHS
from kdarts.ops.cost import UNITS, amount
from kdarts.search.method import Method
from kdarts.supernet.spaces import get_space


def draw(search, found: Architecture, workdir, stopped: bool, order: str) -> None:
    """Draws the pictures of a finished search and of the architecture that it found.

    `stopped` tells whether the distance to the start ended the search; `order` is the order of edges in a heat map.
    """
    import numpy as np

    from kdarts.search.session import alphas_by_name
    from kdarts.training.workdir import read_column
    from kdarts.views.curves import draw_distance
    from kdarts.views.drawing import draw_genotype, has_room
    from kdarts.views.heatmap import draw_alphas

    if isinstance(found, HyperPath):
        from kdarts.views.trellis import draw_path, draw_stages

        draw_stages(found.cuboid, search.supernet.path_weights(), workdir / "alphas.png")
        draw_path(found, workdir / "path.svg", weights=search.supernet.path_weights())
        return
    titles = {"normal": "normal cell", "reduce": "reduction cell"}
    weights = alphas_by_name(search, mixed=True)
    edges = [f"{source}→{to}" for to, source in search.supernet.edges]
    named = {titles.get(name, name.replace("_", " ")): weight for name, weight in weights.items()}
    draw_alphas(named, search.supernet.space.operations, workdir / "alphas.png", edges, order=order)
    if search.supernet.betas:
        shares = search.supernet.mixture.shares()
        shares = {name: np.asarray(share)[:, None] for name, share in zip(named, shares, strict=True)}
        draw_alphas(shares, ["β"], workdir / "betas.png", edges, label="share", order=order)
    draw_genotype(found, workdir / ("cells.svg" if has_room(found) else "cells.dot"))
    if search.start is not None:
        distances = read_column(workdir / "history.csv", "distance")
        draw_distance(distances, workdir / "distance.png", search.method.pretrain_epochs, stopped)


_OF_CELLS = ("recompute", "stem", "head", "widen", "adapter_epsilon")
"""Flags that do not apply to a HyperCuboid."""


def define(values: flags.FlagValues) -> None:
    """Declares the flags of one search and of several seeds."""
    define_one(values)
    seeds.seeds_define(values)
    options.define_dry_run(values)
    flags.DEFINE_string("workdir", None, "folder of the run; default: runs/DATASET-METHOD", flag_values=values)


def define_one(values: flags.FlagValues) -> None:
    """Declares the flags of one search: those of the data, of the method's axes and of the run."""
    flags.DEFINE_string("method", "darts", "method of the search; `kdarts methods` lists them", flag_values=values)
    options.define_dataset(values)
    preset.define(values, "smaller networks and batches, half of the epochs, α's rate times 10")
    define_halves(values)
    options.define_augmentation(values)
    define_supernet(values)
    options.define_seed(values)
    text = "measure the accuracy on the images of α every so many epochs; 0: only at the end"
    flags.DEFINE_integer("validate_every", 1, text, 0, MOST_EPOCHS, flag_values=values)
    define_step(values)
    options.define_checkpoint(values)
    text = "most memory that the search may take, such as 8GB or 900MB; a search that is expected to take "
    text += "more is refused, with sizes that would fit"
    flags.DEFINE_string("memory_limit", None, text, flag_values=values)
    entitle(values, "Computation", ["memory_limit"])
    process.define(values)
    text = "order of the edges in the picture of α: by the node that they lead to, or by the one that they leave"
    flags.DEFINE_enum("edge_order", "target", ["target", "source"], text, flag_values=values)


@titled("Data")
def define_halves(values: flags.FlagValues) -> None:
    """Declares the two parts of the images."""
    text = "number of images that train the weights (with --level=single, α too); default: half of the "
    text += "train split, or all with --level=single"
    options.positive("train_examples", None, text, values)
    text = "number of images that train α (with --level=single: that are only measured on); default: the other half"
    options.positive("valid_examples", None, text, values)
    flags.DEFINE_bool("stratified", False, "give both halves the same share of every class", flag_values=values)


def define_supernet(values: flags.FlagValues) -> None:
    """Declares the flags of the method, `--start`, and the form of the supernet."""
    options.define(values)
    text = "genotype that the search starts from: its file, or a published name such as resnet18; of --space=mobile a "
    text += "path: its file, or MobileNetV2"
    flags.DEFINE_string("start", None, text, flag_values=values)
    options.define_nodes(values)
    options.define_frame(values, "the space's, else ")


@titled("Computation")
def define_step(values: flags.FlagValues) -> None:
    """Declares how a step is computed."""
    options.define_precision(values)
    text = "do not keep the activations of the cells but compute them again for the gradient: less memory, more time"
    flags.DEFINE_bool("recompute", False, text, flag_values=values)


def chosen_start(values: flags.FlagValues, method: Method) -> tuple[Architecture | str | None, Method]:
    """Returns what `--start` names, of a grid a path or the name of one, and the method at its depth."""
    from kdarts.search.building import at_start_depth, start_of

    start, method = start_of(method, values.start)
    if start is not None:
        if values["cells"].value is None:
            method = at_start_depth(method, start)
        if isinstance(start, Genotype):
            start.at_depth(method.cells)
    return start, method


def build(
    values: flags.FlagValues,
    method: Method,
    image_shape,
    num_classes: int,
    start: Architecture | str | None = None,
    compiled: bool = True,
):
    """Returns the `Search` of a method on images of a shape, which may start from a genotype."""
    from kdarts.search.ablation import ALONE
    from kdarts.search.search import Search

    options_of_supernet = {"nodes": values.nodes, "dtype": values.precision}
    given = [name for name in _OF_CELLS if values[name].value != values[name].default]
    if not method.on_grid:
        frame = options.frame(values, get_space(method.space))
        options_of_supernet |= {"stem": values.stem, "frame": frame, "recompute": values.recompute}
    elif given:
        raise KdartsError(f"--{given[0]} is about cells; a HyperCuboid has none")
    shared = {"sync_batch_norm": process.together(values), "seed": values.seed}
    with process.strategy(values).scope(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", re.escape(ALONE))  # A search tells it in a note.
        search = Search(method, image_shape, num_classes, start=start, **shared, **options_of_supernet)
        if compiled:
            search.compile(jit_compile=values.jit_compile)
    return search


def run(values: flags.FlagValues) -> None:
    """Searches, or continues a search."""
    from kdarts.training.workdir import Workdir

    began = time.monotonic()
    check_backend()
    options.check_seeds(values)
    options.megabytes(values)
    start, method = chosen_start(values, options.chosen_method(values))
    check(values, method)
    idle.tell(idle.in_search(values, method))
    preset.tell(options.preset_changes(values) | ({} if values.seeds is None else seeds.preset_changes(values)))
    workdir = Workdir(values.workdir or options.default_workdir(values, method.name))
    remembered, usual = options.remembered(values, start=start), options.usual(values)
    workdir.check(remembered, usual)
    if values.seeds is not None and not values.dry_run:
        return seeds.run(values, method, workdir, remembered)
    start_tensorflow()
    options.check_data_service(values)
    data = halves(values, workdir)
    if values.dry_run:
        return _dry_run(values, method, data, start)
    with process.run_on(values, workdir) as folder:
        _run(values, method, folder, data, start, began)


def check(values: flags.FlagValues, method: Method) -> None:
    """Raises `KdartsError` if the shared paths could not follow this search."""
    if method.paths and not method.on_grid:
        space = get_space(method.space)
        method.axes["path_choice"].check(method, space, options.frame(values, space))


def _dry_run(values: flags.FlagValues, method: Method, data, start: Architecture | str | None) -> None:
    """Makes all that can refuse, and prints the size of the supernet and the steps of the search."""
    import keras

    if values.seeds is not None:
        seeds.check(values, method)
    try:
        with keras.StatelessScope(initialize_variables=False):  # The variables have shapes, and no values.
            search, batches = assembled(values, method, data, start, compiled=False)
    finally:
        keras.utils.clear_session(free_memory=False)  # Otherwise Keras would give them values later on.
    net, epochs, each = search.supernet, method.pretrain_epochs + method.epochs, search.steps_of(batches)
    _tell_width(search)
    size, cost, searches = ", ".join(f"{n} {name}" for name, n in net.sizes.items()), net.cost(), len(method.stages)
    times = f"{searches} times " if searches else ""
    steps = [f"{times}{epochs * each:,} step{'s' if epochs * each > 1 else ''} of batch {method.batch_size}"]
    if more := method.selection.further_steps(net, each):
        steps.append(f"{more:,} between decisions")
    if method.paths and method.has("path_epochs") and method.path_cycles is None:
        steps.append(f"{method.path_epochs * batches.path_steps(method.path_batch_size):,} of shared paths")
        steps[-1] += f", of batch {method.path_batch_size}"
    print(
        f"{values.dataset} · {method.name} · {size}: {amount(cost.params)} weights, {amount(cost.macs)} MACs an image"
    )
    print(f"dry run: {', then '.join(steps)}")


def _tell_width(search) -> None:
    """Prints the width that limits or a start have chosen."""
    width = search.supernet.setting().get("width")
    if width is not None and search.method.width is None:
        why = "fits the limits best" if search.start is None else "is that of the start"
        print(f"--width={width:g} {why}", flush=True)


def _run(
    values: flags.FlagValues, method: Method, workdir, data, start: Architecture | str | None, began: float
) -> None:
    """Runs the search once the images are loaded, and reports its result."""
    search, summary = search_in(workdir, values, method, data, start, began=began)
    if not process.is_first(values):
        return
    found = load_architecture(workdir / "genotype.json")
    draw(search, found, workdir, summary["stopped_by"] == "distance", values.edge_order)
    options.note_gaps(found)
    if summary["stopped_by"] != "epochs":
        print(f"Ended after {summary['epochs']} epochs by --stop={summary['stopped_by']}")
    best = workdir / "genotype.json"
    size = {}
    if search.path_result is not None:
        size = _tell_of_paths(search, workdir, best)
    elif not method.paths:
        result = f"{summary['score']} {summary['best_score']:,.6g}" if "score" in summary else ""
        result = result or f"search accuracy {summary['valid_accuracy']:.3f}"
        print(
            f"Found a network of {amount(summary['params'])} weights ({amount(summary['macs'])} MACs), {result}: {best}"
        )
    print(seeds.train_command(values, method, best, data.examples, **size))


def _tell_of_paths(search, workdir, best) -> dict:
    """Prints what was chosen among shared paths; returns what `train_command` takes of its training."""
    result, method = search.path_result, search.method
    if not result.family:
        print(f"Found the places of the skip connections, accuracy along the path {result.accuracy:.3f}: {best}")
        return {}
    from kdarts.views.curves import draw_family

    by, width = result.about["size_by"], result.about["size_bin"]
    what, unit = {"params": "weights", "macs": "MACs", "latency_ms": "ms"}[by], UNITS[by]
    points = [[(row[by] / unit, row["accuracy"]) for row in rows] for rows in (result.rows, result.family)]
    size = f"{what} of the stand-alone network{' (millions)' if unit > 1 else ''}"
    draw_family(*points, workdir / "family" / "family.png", width, size)
    ends = [amount(end) if unit > 1 else f"{end:.3g}" for end in (pick(points[1])[0] * unit for pick in (min, max))]
    print(
        f"Found a family of {len(points[1])} networks of {' to '.join(ends)} {what}: "
        f"{workdir / 'family'}; the best, {result.accuracy:.3f} on the images of α: {best}"
    )
    stem = {} if method.family_stem == "search" else {"stem": method.family_stem}
    sizes = {"channels": method.family_channels, "cells": method.family_cells, **stem}
    return {"family": str(workdir / "family"), **sizes}


class Halves(NamedTuple):
    """The images of a search.

    Attributes:
        train, valid: `ImageData` for the weights and for α.
        mean, std: of each channel, for the scale 0 to 1.
        examples: number of images in the train split.
        whole: `ImageData` for both, of a search with one level.
    """

    train: Any
    valid: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    examples: int
    whole: Any


def halves(values: flags.FlagValues, workdir=None) -> Halves:
    """Loads the images for the weights and for α. With a `Workdir`, they need to be those that its run started with."""
    from kdarts.data import datasets
    from kdarts.training.distribution import configure_threads

    configure_threads()
    process.strategy(values)  # Several hosts must find one another before anything is computed.
    data = options.load(values, "train")
    if workdir is not None:
        workdir.check_data(train=data)
    count = len(data)
    data = datasets.hold_back(data, values.hold_back, values.group)[0] if values.hold_back else data
    parts = data, values.train_examples, values.valid_examples, values.seed, values.stratified
    (train, valid), whole = datasets.halves(*parts), datasets.for_both(*parts)
    return Halves(train, valid, *datasets.statistics(data.images), count, whole)


def assembled(
    values: flags.FlagValues, method: Method, data, start: Architecture | str | None = None, compiled: bool = True
):
    """Returns the `Search` of the flags and its `ImageSearchData`, of `data` of `halves`.

    Raises `KdartsError` for sizes that do not fit the images.
    """
    from kdarts.data.pipeline import ImageSearchData, check_service, served

    train, valid, mean, std, _, whole = data
    one_level, most = method.one_level, {"batch_size": min(len(train), len(valid)), "path_batch_size": len(train)}
    what = dict.fromkeys(most, "the images of a half")
    if one_level:
        most["batch_size"], what["batch_size"] = len(whole), "the images that train"
    for name in [name for name in most if method.paths or name == "batch_size"]:
        size = getattr(method, name)
        if size > most[name]:
            raise KdartsError(f"--{name}={size}: allowed is 1 to {most[name]}, {what[name]}")
        process.check(values, f"--{name}", size)
    side = min(train.image_shape[:2])
    if method.paths and method.has("path_cutout") and method.path_cutout > side:
        raise KdartsError(f"--path_cutout={method.path_cutout}: allowed is 0 to {side}, the smaller side of the images")
    service = values.data_service
    images = train, valid, method.batch_size, values.seed, options.augmentation(values, train.image_shape), mean, std
    if service:
        check_service(train, service)
    passed_on = (lambda made: served(made, service)) if service else None
    batches = ImageSearchData(*images, passed_on, whole, one_level)
    return build(values, method, train.image_shape, train.num_classes, start, compiled), batches


def search_in(
    workdir, values: flags.FlagValues, method: Method, data, start: Architecture | str | None = None, **choices
):
    """Runs the search of the flags, with `data` of `halves`, in a workdir. Returns the search and its summary.

    `choices` are more arguments of `SearchSession`.
    """
    from kdarts.search.ablation import ALONE
    from kdarts.training.search_run import SearchSession, run_search
    from kdarts.views.events import cell_events

    search, batches = assembled(values, method, data, start)
    if method.warmup_epochs >= method.epochs:
        print(
            f"note: the warm-up lasts all {method.epochs} epochs, so that α does not change; see --warmup_epochs",
            flush=True,
        )
    if method.one_level and values.train_examples is None and values.valid_examples is None:
        text = "all images train the weights and α, and the accuracy is measured on half of them"
        print(f"note: {text}; --valid_examples=N keeps N out of the training", flush=True)
    if not method.on_grid and search.supernet.reductions_only:
        cells = f"with --cells={method.cells} all cells are reductions"
        text = f"note: {cells}: no normal cell is searched, and genotype.json has the reduction cell in its place"
        print(text, flush=True)
    _tell_width(search)
    if "ablation" in search.attached and search.attached["ablation"].alone:
        print(f"note: {ALONE}", flush=True)
    workdir.begin(options.remembered(values, start=start), options.usual(values))
    about = {"method": method.name, "dataset": values.dataset, "seed": values.seed}
    choices.setdefault("extra", lambda folder: cell_events(folder / "events"))
    limits = {"memory_limit": options.megabytes(values), "checkpoint_every": values.checkpoint_every}
    session = SearchSession(workdir, about, **limits, **choices)
    return search, run_search(search, batches, session, values.validate_every)


SEARCH = Command(
    "search for a network on a data set",
    define,
    run,
    example="kdarts search --dataset=cifar10 --data_dir=DIR --method=darts --order=second --workdir=runs/darts_v2",
)
