"""The training of shared paths, which DARTS-PD's search is followed by, from its start or from where it was left.

The last stage of DARTS-PD: trained paths are evolved into a family of networks.

What follows a search that leaves the place of its skip connections open: trained paths tell it.
"""

import functools
import time

import keras
import tensorflow as tf

from kdarts.data import pipeline
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.path_space import PathSpace
from kdarts.networks.trunk import DropPathSchedule
from kdarts.paths.evolution import family_of, ranked, write_family
from kdarts.paths.fair import FairPaths, FairTraining
from kdarts.paths.prune import best_places
from kdarts.search.cost_target import CostTarget
from kdarts.search.loop import run_epochs
from kdarts.search.method import Method
from kdarts.search.record import WriteFiles
from kdarts.search.schedules import Cosine
from kdarts.search.search import without_graph_rewriting
from kdarts.search.step import Step
from kdarts.training.checkpoint import Checkpoint
from kdarts.training.files import read_json, write_json, write_table
from kdarts.training.progress import Progress, StepTime, Watch, loggers
from kdarts.training.workdir import Workdir


def train_paths(
    training: FairTraining,
    workdir: Workdir,
    train,
    *,
    mean,
    std,
    augmentation,
    seed: int,
    checkpoint_every: int | None = None,
) -> dict:
    """Trains the shared paths, going on from where that was left.

    Args:
        training: compiled; its method gives sizes and lengths.
        workdir: of the search that the paths are of. In it come `path_history.csv` and `path_backup/`.
        train: images for the weights.
        mean, std: of each channel, for the scale 0 to 1.
        augmentation: of the images.
        seed: of the order, the augmentation and the groups.
        checkpoint_every: as `every` of `Checkpoint`.

    Returns:
        `path_steps`, and `path_seconds` that it took in all.
    """
    method, space = training.method, training.network.space
    began = time.monotonic()
    steps, epochs = training_length(method, space, pipeline.steps_per_epoch(train, method.path_batch_size))
    checkpoint = Checkpoint(workdir / "path_backup", training, steps, checkpoint_every)
    first_step = checkpoint.restore()

    def write_history():
        write_table(workdir / "path_history.csv", checkpoint.records["history"])

    print(f"{space.kept} operations on each of {space.edges} edges: {space.paths:,} paths, trained fairly", flush=True)
    if first_step < epochs * steps:
        if first_step:
            print(f"the paths: {checkpoint.said(epochs)}", flush=True)
        groups = FairPaths(space.edges, space.kept, seed).groups(first_step, epochs * steps)
        batches = pipeline.train_dataset(train, method.path_batch_size, seed, augmentation, mean, std, first_step)
        checkpoint.records["seconds"] += time.monotonic() - began
        step = Step(training)
        with without_graph_rewriting():
            run_epochs(
                training,
                tf.data.Dataset.zip(batches, tf.data.Dataset.from_tensor_slices(groups)),
                steps=steps,
                epochs=epochs,
                first_step=first_step,
                clock=StepTime(),
                step=step,
                whole=lambda batch: batch[1],
                callbacks=[
                    keras.callbacks.LearningRateScheduler(Cosine(method.path_learning_rate, 0.0, epochs)),
                    DropPathSchedule(epochs),
                    Watch(step, checkpoint, workdir, "--path_learning_rate"),
                    checkpoint,
                    WriteFiles(write_history),
                    *loggers(workdir / "path_events"),
                    Progress(),
                ],
            )
    write_history()
    return {"path_steps": epochs * steps, "path_seconds": checkpoint.records["seconds"]}


def training_length(method: Method, space: PathSpace, steps: int) -> tuple[int, int]:
    """Steps of an epoch and number of epochs of the training of shared paths.

    Args:
        method: asks for epochs, or for cycles; then an epoch is as long as it can be at most that divides a cycle.
        space: the paths.
        steps: of one pass over the images.
    """
    if method.path_cycles is None:
        return steps, method.path_epochs
    length = 1
    while space.kept > 1 and length * space.kept <= min(steps, space.kept ** (space.edges - 1)):
        length *= space.kept
    return length, method.path_cycles * space.kept ** (space.edges - 1) // length


def path_measure(training: FairTraining, train, valid, *, mean, std, augmentation, seed: int):
    """A function of a path that gives its accuracy and loss on images of α, as of `FairTraining.measure`.

    Args:
        training: of the paths; its method says how many batches running statistics are taken from.
        train: images for these.
        valid: images to measure on.
        mean, std: of each channel, for the scale 0 to 1.
        augmentation, seed: of the images for the statistics, and of their order.
    """
    method = training.method
    batches = pipeline.train_dataset(train, method.path_batch_size, seed, augmentation, mean, std, 0)
    measured_on = pipeline.eval_dataset(valid, method.path_batch_size, mean, std)
    calibration = functools.cache(lambda: [x for x, _ in batches.take(method.calibration_batches)])
    return lambda path: training.measure(path, calibration(), measured_on)


def write_found(training: FairTraining, workdir: Workdir, path, accuracy: float, about: dict) -> None:
    """Makes a path's network what the search found: `genotype.json` and `summary.json` are its.

    Args:
        training: of the paths.
        workdir: of the search.
        path: which one.
        accuracy: along it.
        about: what else the summary is to tell.
    """
    found, cost = training.network.space.genotype(path), training.network.cost_of(path)
    found.save(workdir / "genotype.json")
    summary = read_json(workdir / "summary.json") | {
        "params": cost.params,
        "macs": cost.macs,
        **found.measures(),
        "path_accuracy": accuracy,
        **about,
    }
    write_json(workdir / "summary.json", summary)


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
    from kdarts.training.trials import PathOracle, PathTuner, reports

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


def run_places(training: FairTraining, workdir: Workdir, measure, about: dict, target: CostTarget | None) -> float:
    """Compares the places of skip connections along trained paths.

    Args:
        training: of paths as of `skip_paths`; its method says how many skip connections there are to be.
        workdir: of the search that the paths are of. In it comes `places.csv`; `genotype.json` becomes the best path's,
            and `summary.json` tells of it.
        measure, about: as of `run_paths`.
        target: of the search's cost, or None; the summary tells how far the path is from it.

    Returns:
        The accuracy along the best path.
    """
    net, rows, began = training.network, {}, time.monotonic()
    edges = len(net.space.cells[0])
    count = min(training.method.max_skips, edges)
    progress = keras.utils.Progbar(sum(edges - k for k in range(count)), stateful_metrics=["loss"], unit_name="place")

    def loss_along(path):
        accuracy, loss = measure(path)
        cost = net.cost_of(path)
        rows[path] = {"loss": loss, "accuracy": accuracy, "params": cost.params, "macs": cost.macs}
        progress.add(1, [("loss", loss)])
        return loss

    path = best_places(net.space, count, loss_along)
    write_table(workdir / "places.csv", [{"path": " ".join(map(str, path)), **row} for path, row in rows.items()])
    about = about | {"path_seconds": about["path_seconds"] + time.monotonic() - began}
    about |= target.summary(net.space.genotype(path)) if target else {}
    write_found(training, workdir, path, rows[path]["accuracy"], about)
    return rows[path]["accuracy"]
