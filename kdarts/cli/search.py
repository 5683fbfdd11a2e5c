"""The pictures that a search leaves in its folder.

`kdarts search`: from images to a genotype.
"""

import time

from absl import flags

from kdarts.cli import method_flags as axes
from kdarts.cli import options, paths, replicas, seeds
from kdarts.cli import options as limits
from kdarts.cli.command import Command
from kdarts.cli.networks import note_gaps
from kdarts.cli.process import start_tensorflow
from kdarts.genotypes.architectures import Architecture, load_architecture
from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.distance import OPERATIONS
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import Method


def draw(search, found: Architecture, workdir, stopped: bool, order: str) -> None:
    """The pictures of a finished search, which found a genotype.

    `stopped` says if its distance to the start ended it; `order` is that of a heat map's edges.
    """
    import numpy as np

    from kdarts.search.record import alphas_by_name
    from kdarts.training.files import read_column
    from kdarts.views.curves import draw_distance
    from kdarts.views.drawing import draw_genotype
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
    draw_genotype(found, workdir / "cells.svg")
    if search.start is not None:
        distances = read_column(workdir / "history.csv", "distance")
        draw_distance(distances, workdir / "distance.png", search.method.pretrain_epochs, stopped)


_OF_CELLS = ("recompute", "stem", "head", "widen", "adapter_epsilon")
"""Flags that a HyperCuboid has no use for."""


def define(values: flags.FlagValues) -> None:
    """Its flags: those of one search, and of several seeds."""
    define_one(values)
    seeds.seeds_define(values)
    flags.DEFINE_string("workdir", None, "folder of the run; default: runs/DATASET-METHOD", flag_values=values)


def define_one(values: flags.FlagValues) -> None:
    """Flags of one search: those of the data, one for each of the method's axes, and a few of the run."""
    flags.DEFINE_string("method", "darts", "how α moves; `kdarts methods` lists them", flag_values=values)
    options.define_dataset(values)
    options.define_augmentation(values)
    options.define_strong_augmentation(values)
    axes.define(values)
    define_start(values)
    options.positive("nodes", None, "intermediate nodes of a cell; default by space", values)
    options.define_frame(values, "the space's, else ")
    options.positive("train_examples", None, "images for the weights; default: half of the train split", values)
    options.positive("valid_examples", None, "images for α; default: the other half", values)
    flags.DEFINE_bool("stratified", False, "give both their share of every class", flag_values=values)
    flags.DEFINE_integer("seed", 0, "of everything random", lower_bound=0, flag_values=values)
    flags.DEFINE_integer(
        "validate_every",
        1,
        "epochs between measurements of the accuracy on α's images; 0: only at the end",
        0,
        flag_values=values,
    )
    define_step(values)
    options.define_checkpoint(values)
    limits.define_data_service(values)
    limits.define_memory_limit(values)
    replicas.define(values)
    text = "of the edges in the picture of α: by the node that they lead to, or by the one that they leave"
    flags.DEFINE_enum("edge_order", "target", ["target", "source"], text, flag_values=values)


def define_start(values: flags.FlagValues) -> None:
    """`--start`."""
    text = "genotype that α starts from: a path, or a name of the zoo such as resnet18"
    flags.DEFINE_string("start", None, text, flag_values=values)


def define_step(values: flags.FlagValues) -> None:
    """How a step is computed."""
    options.define_precision(values)
    flags.DEFINE_bool(
        "recompute",
        False,
        "forget each cell's activations and make them again for its gradient: less memory, more time",
        flag_values=values,
    )
    flags.DEFINE_bool("jit_compile", False, "compile the step with XLA (for GPUs)", flag_values=values)


def chosen_start(values: flags.FlagValues, method: Method) -> tuple[Genotype | None, Method]:
    """The genotype that `--start` names, and the method at its depth."""
    needing = [f"--{n}={c}" for n, c in (("sharing", "start"), ("stop", "distance")) if getattr(method, n) == c]
    if values.start and method.stages:
        raise KdartsError("--start: each of the method's stages begins anew")
    if not values.start:
        if needing:
            raise KdartsError(f"{' and '.join(needing)} need --start: a path, or a name of the zoo such as resnet18")
        return None, method
    start = Genotype.load(values.start)
    if start.sequence is not None and values["cells"].value is None:
        method = method.override(cells=len(start.sequence))
    start.at_depth(method.cells)
    return start, method


def build(
    values: flags.FlagValues,
    method: Method,
    image_shape,
    num_classes: int,
    start: Genotype | None = None,
    candidates=None,
    seed: int | None = None,
):
    """The compiled search of a method on images of a shape, from a genotype or with the candidates left, if given."""
    import keras

    from kdarts.search.search import Search
    from kdarts.supernet.grids import cuboid_names
    from kdarts.supernet.spaces import get_space
    from kdarts.supernet.supernet import Supernet

    keras.utils.set_random_seed(values.seed if seed is None else seed)
    if method.space in cuboid_names():
        search = Search(
            _hypercuboid(values, method, image_shape, num_classes), method, start, replicas.together(values)
        )
        search.compile(jit_compile=values.jit_compile)
        return search
    sharing, cells, space = method.sharing, {}, get_space(method.space)
    if start is not None:
        if unknown := [name for name in space.operations if name not in (*OPERATIONS, "none")]:
            raise KdartsError(f"--start: no distance to it is known in space {space.name!r}, for {', '.join(unknown)}")
        sequence, reductions = start.at_depth(method.cells)
        cells = {"reductions": reductions, "nodes": values.nodes or start.nodes}
        lengths = {len(concat) for concat in start.concats}
        if lengths == {1}:
            cells["multiplier"] = 1
        if sharing == "start":
            sharing = list(sequence)
    supernet = Supernet(
        space,
        image_shape,
        num_classes,
        channels=method.channels,
        cells=method.cells,
        sharing=sharing,
        mixing=method.mixing,
        partial_channels=method.partial_channels,
        stem=values.stem,
        recompute=values.recompute,
        candidates=candidates,
        skip_dropout=method.skip_dropout,
        sampling=method.sampling,
        auxiliary_skip=method.auxiliary_skip,
        topology=method.topology or None,
        offsets=dict(method.attention) if method.attention_mode == "offset" else None,
        frame=options.frame(values, space),
        dtype=values.precision,
        **{"nodes": values.nodes, **cells},
    )
    search = Search(supernet, method, start, replicas.together(values))
    search.compile(jit_compile=values.jit_compile)
    return search


def _hypercuboid(values: flags.FlagValues, method: Method, image_shape, num_classes: int):
    """The supernet where the space is a HyperCuboid."""
    from kdarts.supernet.cuboids import make_hypercuboid

    given = [name for name in _OF_CELLS if values[name].value != values[name].default]
    given += ["sharing"] if method.sharing != "shared" else []
    if given:
        raise KdartsError(f"--{given[0]} is about cells; a HyperCuboid has none")
    sizes = (method.channels, method.cells, values.nodes)
    return make_hypercuboid(method.space, image_shape, num_classes, *sizes, method.mixing, values.precision)


def run(values: flags.FlagValues) -> None:
    """Searches, or goes on with a search."""
    from kdarts.training.workdir import Workdir

    began = time.monotonic()
    start, method = chosen_start(values, axes.chosen_method(values))
    paths.check(values, method)
    name = values.dataset.removeprefix("folder:").rstrip("/").rsplit("/", 1)[-1] or "folder"
    workdir = Workdir(values.workdir or f"runs/{name}-{method.name}")
    workdir.check(options.remembered(values, start=start))
    if values.seeds is not None:
        return seeds.run(values, method, workdir, options.remembered(values, start=start))
    start_tensorflow()
    data = halves(values)
    with replicas.run_on(values, workdir) as folder:
        _run(values, method, folder, data, start, began)


def _run(values: flags.FlagValues, method: Method, workdir, data, start: Genotype | None, began: float) -> None:
    """All that follows once the images are there."""
    search, summary = search_in(workdir, values, method, data, start, began=began)
    first = replicas.is_first(values)
    if first:
        found = load_architecture(workdir / "genotype.json")
        draw(search, found, workdir, summary["stopped_by"] == "distance", values.edge_order)
    if method.paths:
        paths.derive(values, method, search, workdir, data)
    if method.paths or not first:
        return
    note_gaps(found)
    accuracy, net = summary["valid_accuracy"], search.supernet
    if summary["stopped_by"] != "epochs":
        print(f"Ended after {summary['epochs']} epochs by --stop={summary['stopped_by']}")
    print(
        f"Found a network of {summary['params'] / 1e6:.2f} M weights ({summary['macs'] / 1e6:.1f} M MACs), "
        f"search accuracy {accuracy:.3f}: {workdir / 'genotype.json'}\n"
        f"Next: kdarts train --genotype={workdir / 'genotype.json'} --dataset={values.dataset}"
        + (f" --data_dir={values.data_dir}" if values.data_dir else "")
        + ("" if isinstance(found, HyperPath) else options.frame_flags(net))
    )


def halves(values: flags.FlagValues) -> tuple:
    """The images that the flags name for the weights and for α, and their mean and standard deviation."""
    from kdarts.data import datasets
    from kdarts.training.distribution import configure_threads

    configure_threads()
    replicas.strategy(values)  # Several hosts must find one another before anything is computed.
    data = options.load(values, "train")
    data = datasets.hold_back(data, values.hold_back)[0] if values.hold_back else data
    sizes = values.train_examples, values.valid_examples
    train, valid = datasets.halves(data, *sizes, values.seed, values.stratified)
    return train, valid, *datasets.statistics(data.images)


def search_in(workdir, values: flags.FlagValues, method: Method, data, start: Genotype | None = None, **choices):
    """Runs the search that the flags describe in a workdir.

    Args:
        workdir: its folder.
        values: the flags.
        method: what they choose.
        data: as of `halves`.
        start: the genotype that they name, or None.
        **choices: more arguments of `run_search`.

    Returns:
        The search and its summary.
    """
    from kdarts.training.search_run import run_search
    from kdarts.training.stages import run_stages
    from kdarts.views.events import cell_events

    train, valid, mean, std = data
    if method.batch_size > min(len(train), len(valid)):
        raise KdartsError(
            f"--batch_size={method.batch_size}: allowed is 1 to {min(len(train), len(valid))}, the images of a half"
        )

    replicas.check(values, "--batch_size", method.batch_size)

    def make(method: Method, candidates=None, seed: int | None = None):
        with replicas.strategy(values).scope():
            search = build(values, method, train.image_shape, train.num_classes, start, candidates, seed)
        if method.warmup_epochs >= method.epochs:
            print(f"note: the warm-up lasts all {method.epochs} epochs, α rests; see --warmup_epochs", flush=True)
        workdir.claim(options.remembered(values, start=start))
        return search

    def alternatives(search) -> dict:
        def instead(values, method):
            left = search.supernet.mixture.candidates
            with replicas.strategy(values).scope():
                return build(values, method, train.image_shape, train.num_classes, start, left)

        return limits.lower_memory_options(values, search, instead)

    choices |= {
        "mean": mean,
        "std": std,
        "augmentation": options.augmentation(values, train.image_shape),
        "seed": values.seed,
        "validate_every": values.validate_every,
        "checkpoint_every": values.checkpoint_every,
        "data_service": values.data_service,
        "memory_limit": limits.megabytes(values),
        "alternatives": alternatives,
        "about": {"method": method.name, "dataset": values.dataset, "seed": values.seed},
    }
    choices.setdefault("callbacks", lambda checkpoint, evaluation: cell_events(checkpoint.folder.parent / "events"))
    with limits.refusing(workdir):
        if method.stages:
            return run_stages(make, method, workdir, train, valid, **choices)
        search = make(method)
        return search, run_search(search, workdir, train, valid, **choices)


SEARCH = Command(
    "search for a network on a data set",
    define,
    run,
    example="kdarts search --dataset=cifar10 --data_dir=DIR --method=darts --order=second --workdir=runs/darts_v2",
)
