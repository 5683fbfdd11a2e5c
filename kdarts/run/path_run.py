"""The last stage of DARTS-PD: trained paths are evolved into a family of networks."""

import functools
import time

from kdarts.genotypes.errors import KdartsError
from kdarts.run.family import family_of, ranked, write_family
from kdarts.run.files import write_table
from kdarts.run.path_training import write_found
from kdarts.run.workdir import Workdir
from kdarts.search.fair_training import FairTraining


def run_paths(training: FairTraining, workdir: Workdir, measure, about: dict, *, seed: int) -> list[dict]:
    """Evolves trained paths, going on from where that was left.

    Args:
        training: the trained paths; its method gives sizes and lengths.
        workdir: of the search that the paths are of. In it come `evolution/` (keras-tuner's), `candidates.csv` and
            `family/`; `genotype.json` becomes the best path's, and `summary.json` tells of it.
        measure: as of `path_measure`.
        about: of the training, as of `train_paths`.
        seed: of the evolution.

    Returns:
        The family, as of `family_of`; [] in a process that only measures for keras-tuner's chief.
    """
    method, space, evolving = training.method, training.network.space, time.monotonic()
    found = _evolve(training, workdir, measure, seed)
    if found is None:
        return []
    rows = []
    for number, (path, accuracy) in enumerate(found):
        cost = _cost(training, path)
        row = {"candidate": number, "accuracy": accuracy, "params": cost.params, "macs": cost.macs}
        rows.append(row | {"path": " ".join(map(str, path))})
    write_table(workdir / "candidates.csv", rows)
    family, paths = family_of(rows, method.size_bin, method.per_bin), {n: path for n, (path, _) in enumerate(found)}
    write_family(workdir / "family", space, family, paths)
    about = about | {
        "path_seconds": about["path_seconds"] + time.monotonic() - evolving,
        "candidates": len(rows),
        "family": len(family),
    }
    best = ranked(rows)[0]
    write_found(training, workdir, paths[best["candidate"]], best["accuracy"], about)
    return family


def _cost(training, path):
    method = training.method
    return training.network.cost_of(path, method.family_channels, method.family_cells)


def _evolve(training, workdir, measure, seed):
    """Every path looked at and its accuracy, in order; None for one of keras-tuner's workers, which does not know."""
    from kdarts.run.path_oracle import PathOracle, PathTuner
    from kdarts.run.trial_files import reports

    method, space = training.method, training.network.space

    @functools.cache
    def allowed(path):
        return method.size_limit is None or _cost(training, path).params <= method.size_limit * 1e6

    oracle = PathOracle(space, method.population, method.generations, seed, allowed)
    tuner = PathTuner(oracle, lambda path: measure(path)[0], workdir / "evolution")
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
