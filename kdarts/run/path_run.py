"""The stages of DARTS-PD that follow its search: shared paths are trained, and evolved into a family of networks."""

import functools
import time

from kdarts.genotypes.errors import KdartsError
from kdarts.nets.cost import network_cost
from kdarts.run import pipeline
from kdarts.run.family import family_of, ranked, write_family
from kdarts.run.files import write_table
from kdarts.run.path_training import train_paths, write_found
from kdarts.run.strategy import is_chief
from kdarts.run.workdir import Workdir
from kdarts.search.fair_training import FairTraining


def run_paths(
    training: FairTraining,
    workdir: Workdir,
    train,
    valid,
    *,
    mean,
    std,
    augmentation,
    cutout,
    seed: int,
    stem: str,
    checkpoint_every: int | None = None,
) -> list[dict]:
    """Trains the shared paths and evolves them, going on from where either was left.

    Args:
        training: compiled; its method gives sizes and lengths.
        workdir: of the search that the paths are of. In it come `path_history.csv`, `path_backup/`, `evolution/`
            (keras-tuner's), `candidates.csv` and `family/`; `genotype.json` becomes the best path's, and `summary.json`
            tells of it.
        train, valid: images for the weights, and to measure candidates on.
        mean, std: of each channel, for the scale 0 to 1.
        augmentation, cutout: of the training, and the same with cutout; running statistics are taken without it.
        seed: of the order, the augmentation, the groups and the evolution.
        stem: of the stand-alone networks.
        checkpoint_every: as `every` of `Checkpoint`.

    Returns:
        The family, as of `family_of`; [] in a process that only measures for keras-tuner's chief, or is not the chief
        of several hosts.
    """
    method, space = training.method, training.network.space
    about = train_paths(
        training,
        workdir,
        train,
        mean=mean,
        std=std,
        augmentation=cutout,
        seed=seed,
        checkpoint_every=checkpoint_every,
    )
    if not is_chief(training.distribute_strategy):
        return []
    evolving = time.monotonic()
    batches = pipeline.train_dataset(train, method.path_batch_size, seed, augmentation, mean, std, 0)
    measured_on = pipeline.eval_dataset(valid, method.path_batch_size, mean, std)
    found = _evolve(training, workdir, batches, measured_on, seed, stem)
    if found is None:
        return []
    rows = []
    for number, (path, accuracy) in enumerate(found):
        cost = _cost(training, stem, path)
        row = {"candidate": number, "accuracy": accuracy, "params": cost.params, "macs": cost.macs}
        rows.append(row | {"path": " ".join(map(str, path))})
    write_table(workdir / "candidates.csv", rows)
    family, paths = family_of(rows, method.size_bin, method.per_bin), {n: path for n, (path, _) in enumerate(found)}
    write_family(workdir / "family", space, family, paths)
    about |= {
        "path_seconds": about["path_seconds"] + time.monotonic() - evolving,
        "candidates": len(rows),
        "family": len(family),
    }
    best = ranked(rows)[0]
    write_found(training, workdir, stem, paths[best["candidate"]], best["accuracy"], about)
    return family


def _cost(training, stem, path):
    method, net = training.method, training.network
    sizes = net.image_shape, net.num_classes, method.family_channels, method.family_cells, stem
    return network_cost(net.space.genotype(path), *sizes)


def _evolve(training, workdir, batches, measured_on, seed, stem):
    """Every path looked at and its accuracy, in order; None for one of keras-tuner's workers, which does not know."""
    from kdarts.run.path_oracle import PathOracle, PathTuner
    from kdarts.run.trial_files import reports

    method, space = training.method, training.network.space

    @functools.cache
    def allowed(path):
        return method.size_limit is None or _cost(training, stem, path).params <= method.size_limit * 1e6

    calibration = functools.cache(lambda: [x for x, _ in batches.take(method.calibration_batches)])
    oracle = PathOracle(space, method.population, method.generations, seed, allowed)

    def measure(path):
        return training.measure(path, calibration(), measured_on)[0]

    tuner = PathTuner(oracle, measure, workdir / "evolution")
    before, most = len(oracle.measured()), method.population * method.generations
    if 0 < before < most:
        print(f"going on after candidate {before} of {most}", flush=True)
    tuner.search()
    if not reports():
        return None
    found = oracle.measured()
    if not found:
        raise KdartsError(f"--size_limit={method.size_limit}: no path of at most so many million weights was found")
    return found
