"""What `kdarts search` does after a search with `--paths`: DARTS-PD's shared paths, and the family found among them."""

import csv
import dataclasses

from absl import flags

from kdarts.cli import options, replicas
from kdarts.cli.notes import note_gaps
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import Method


def check(values: flags.FlagValues, method: Method) -> None:
    """Raises `KdartsError` before a search begins that its paths could not follow."""
    if not method.paths:
        return
    from kdarts.nets.plan import Frame
    from kdarts.nets.spaces import get_space
    from kdarts.search.prune import check_kept

    space = get_space(method.space)
    check_kept(method.paths, space)
    if options.frame(values, space) != Frame() or space.stem != "auto":
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
    """Prunes a finished search softly, trains the paths that are left and evolves them into a family.

    Args:
        values: the flags.
        method: of the search.
        search: the finished search.
        workdir: its folder.
        data: images for the weights and for the validation, mean and standard deviation.
    """
    import keras
    import numpy as np

    from kdarts.nets.path_net import PathNetwork
    from kdarts.run.path_run import run_paths
    from kdarts.search.fair_training import FairTraining
    from kdarts.search.prune import soft_prune
    from kdarts.views.drawing import draw_genotype

    train, valid, mean, std = data
    if method.path_batch_size > len(train):
        raise KdartsError(
            f"--path_batch_size={method.path_batch_size}: allowed is 1 to {len(train)}, the images of a half"
        )
    replicas.check(values, "--path_batch_size", method.path_batch_size)
    net = search.supernet
    weights = [np.asarray(w) for w in net.mixture.strengths()]
    reductions = search.genotype().reductions
    space = soft_prune(weights, net.space, method.paths, reductions=reductions, multiplier=net.multiplier)
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
    augmentation = options.augmentation(values, train.image_shape)
    family = run_paths(
        training,
        workdir,
        train,
        valid,
        mean=mean,
        std=std,
        augmentation=augmentation,
        cutout=dataclasses.replace(augmentation, cutout=method.path_cutout),
        seed=values.seed,
        stem=values.stem,
        checkpoint_every=values.checkpoint_every,
    )
    if not family:
        return
    draw(workdir, family, method.size_bin)
    found = Genotype.load(workdir / "genotype.json")
    draw_genotype(found, workdir / "cells.svg")
    note_gaps(found)
    sizes = [row["params"] / 1e6 for row in family]
    print(
        f"Found a family of {len(family)} networks of {min(sizes):.2f} to {max(sizes):.2f} M weights: "
        f"{workdir / 'family'}; the best, {max(row['accuracy'] for row in family):.3f} on the images of α: "
        f"{workdir / 'genotype.json'}\n"
        f"Next: kdarts train --genotype={workdir / 'genotype.json'} --dataset={values.dataset} "
        f"--channels={method.family_channels} --cells={method.family_cells}"
        + (f" --data_dir={values.data_dir}" if values.data_dir else "")
    )


def draw(workdir, family: list[dict], size_bin: float) -> None:
    """The picture of a family, which is beside it."""
    from kdarts.views.family import draw_family

    with (workdir / "candidates.csv").open(newline="", encoding="utf-8") as file:
        candidates = list(csv.DictReader(file))
    points = [[(float(row["params"]) / 1e6, float(row["accuracy"])) for row in rows] for rows in (candidates, family)]
    draw_family(*points, workdir / "family" / "family.png", size_bin)
