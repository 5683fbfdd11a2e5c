"""What `kdarts search` does after a search with `--paths`: shared paths, and what is chosen among them."""

import csv
import dataclasses

from absl import flags

from kdarts.cli import options, replicas
from kdarts.cli.networks import note_gaps
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import Method


def check(values: flags.FlagValues, method: Method) -> None:
    """Raises `KdartsError` before a search begins that its paths could not follow."""
    if not method.paths:
        return
    from kdarts.paths.prune import check_kept, check_skips
    from kdarts.search.choices import PATH_CHOICES
    from kdarts.supernet.macro import MacroConfig
    from kdarts.supernet.spaces import get_space

    space = get_space(method.space)
    check_kept(method.paths, space)
    if choice("path_choice", method.path_choice, PATH_CHOICES) == "skips":
        check_skips(space)
        if method.paths != 2 or not method.max_skips:
            raise KdartsError("--path_choice=skips needs --paths=2 and --max_skips of 1 or more")
    if options.frame(values, space) != MacroConfig() or space.stem != "auto":
        raise KdartsError(f"--paths={method.paths} knows DARTS' frame alone: not --head or space {space.name!r}")
    if method.sharing != "shared":
        raise KdartsError(f"--paths={method.paths} needs --sharing=shared, got {method.sharing!r}")
    if method.stages:
        raise KdartsError(f"--paths={method.paths} follows one search, not one of {len(method.stages)} stages")
    if not 0 <= method.path_drop_path < 1:
        raise KdartsError(f"--path_drop_path={method.path_drop_path}: allowed is 0 to below 1")
    if not method.size_bin > 0:
        raise KdartsError(f"--size_bin={method.size_bin}: needs more than 0 million weights")


def derive(values: flags.FlagValues, method: Method, search, workdir, data: tuple) -> None:
    """Trains the paths that a finished search leaves and finds what the method chooses of them.

    Args:
        values: the flags.
        method: of the search.
        search: the finished search.
        workdir: its folder.
        data: images for the weights and for the validation, mean and standard deviation.
    """
    from kdarts.search.replicas import is_chief
    from kdarts.training.path_run import path_measure, run_paths, run_places, train_paths
    from kdarts.views.drawing import draw_genotype

    train, valid, mean, std = data
    if method.path_batch_size > len(train):
        raise KdartsError(
            f"--path_batch_size={method.path_batch_size}: allowed is 1 to {len(train)}, the images of a half"
        )
    replicas.check(values, "--path_batch_size", method.path_batch_size)
    training = _training(values, method, search, workdir, train)
    augmentation = options.augmentation(values, train.image_shape)
    usual = {"mean": mean, "std": std, "seed": values.seed}
    cutout = dataclasses.replace(augmentation, cutout=method.path_cutout)
    about = train_paths(
        training, workdir, train, augmentation=cutout, checkpoint_every=values.checkpoint_every, **usual
    )
    if not is_chief(training.distribute_strategy):
        return
    measure = path_measure(training, train, valid, augmentation=augmentation, **usual)
    if method.path_choice == "skips":
        found = run_places(training, workdir, measure, about, search.cost_target)
    else:
        found = run_paths(training, workdir, measure, about, seed=values.seed)
    if found == []:
        return
    genotype, best = Genotype.load(workdir / "genotype.json"), workdir / "genotype.json"
    draw_genotype(genotype, workdir / "cells.svg")
    note_gaps(genotype)
    following = f"Next: kdarts train --genotype={best} --dataset={values.dataset}"
    if method.path_choice == "skips":
        print(f"Found where its skip connections stand, accuracy along its path {found:.3f}: {best}")
    else:
        draw(workdir, found, method.size_bin)
        sizes = [row["params"] / 1e6 for row in found]
        print(
            f"Found a family of {len(found)} networks of {min(sizes):.2f} to {max(sizes):.2f} M weights: "
            f"{workdir / 'family'}; the best, {max(row['accuracy'] for row in found):.3f} on the images of α: {best}"
        )
        following += f" --channels={method.family_channels} --cells={method.family_cells}"
    print(following + (f" --data_dir={values.data_dir}" if values.data_dir else ""))


def _training(values: flags.FlagValues, method: Method, search, workdir, train):
    """The compiled training of the paths, whose space is written to `paths.json`."""
    import keras
    import numpy as np

    from kdarts.paths.fair import FairTraining
    from kdarts.paths.network import PathNetwork
    from kdarts.paths.prune import skip_paths, soft_prune

    net = search.supernet
    weights = [np.asarray(w) for w in net.mixture.strengths()]
    cells = {"reductions": search.genotype().reductions, "multiplier": net.multiplier}
    if method.path_choice == "skips":
        space = skip_paths(weights, net.space, **cells)
    else:
        space = soft_prune(weights, net.space, method.paths, **cells)
    space.save(workdir / "paths.json")
    keras.utils.set_random_seed(values.seed)  # Whether the search ran in this process or an earlier one.
    with replicas.strategy(values).scope():
        network = PathNetwork(
            space,
            train.image_shape,
            train.num_classes,
            channels=method.channels,
            cells=method.cells,
            stem=values.stem,
            drop_path=method.path_drop_path,
            seed=values.seed,
            dtype=values.precision,
        )
        training = FairTraining(network, method, replicas.together(values))
        training.compile(jit_compile=values.jit_compile)
    return training


def draw(workdir, family: list[dict], size_bin: float) -> None:
    """The picture of a family, which is beside it."""
    from kdarts.views.curves import draw_family

    with (workdir / "candidates.csv").open(newline="", encoding="utf-8") as file:
        candidates = list(csv.DictReader(file))
    points = [[(float(row["params"]) / 1e6, float(row["accuracy"])) for row in rows] for rows in (candidates, family)]
    draw_family(*points, workdir / "family" / "family.png", size_bin)
