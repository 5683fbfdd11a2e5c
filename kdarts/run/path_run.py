"""The stages of DARTS-PD that follow its search: shared paths are trained, and evolved into a family of networks."""

import functools
import time

import keras
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.path_space import PathSpace
from kdarts.nets.cost import network_cost
from kdarts.nets.drop_path import DropPathSchedule
from kdarts.run import pipeline
from kdarts.run.checkpoint import Checkpoint
from kdarts.run.divergence import Watch
from kdarts.run.family import family_of, ranked, write_family
from kdarts.run.files import read_json, write_json, write_table
from kdarts.run.logs import loggers
from kdarts.run.loop import run_epochs
from kdarts.run.search_record import WriteFiles
from kdarts.run.step import Step
from kdarts.run.strategy import is_chief
from kdarts.run.timing import Progress, StepTime
from kdarts.run.workdir import Workdir
from kdarts.search.fair_paths import FairPaths
from kdarts.search.fair_training import FairTraining
from kdarts.search.method import Method
from kdarts.search.schedules import Cosine
from kdarts.search.search import without_graph_rewriting


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
    began = time.monotonic()
    steps, epochs = training_length(method, space, pipeline.steps_per_epoch(train, method.path_batch_size))
    checkpoint = Checkpoint(workdir / "path_backup", training, steps, checkpoint_every)
    first_step = checkpoint.restore()

    def write_history():
        write_table(workdir / "path_history.csv", checkpoint.records["history"])

    def batches(augmentation, start_step):
        return pipeline.train_dataset(train, method.path_batch_size, seed, augmentation, mean, std, start_step)

    print(f"{space.kept} operations on each of {space.edges} edges: {space.paths:,} paths, trained fairly", flush=True)
    if first_step < epochs * steps:
        if first_step:
            print(f"the paths: {checkpoint.said(epochs)}", flush=True)
        groups = FairPaths(space.edges, space.kept, seed).groups(first_step, epochs * steps)
        checkpoint.records["seconds"] += time.monotonic() - began
        step = Step(training)
        with without_graph_rewriting():
            run_epochs(
                training,
                tf.data.Dataset.zip(batches(cutout, first_step), tf.data.Dataset.from_tensor_slices(groups)),
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
    if not is_chief(training.distribute_strategy):
        return []
    evolving = time.monotonic()
    measured_on = pipeline.eval_dataset(valid, method.path_batch_size, mean, std)
    found = _evolve(training, workdir, batches(augmentation, 0), measured_on, seed, stem)
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
    best = space.genotype(paths[ranked(rows)[0]["candidate"]])
    best.save(workdir / "genotype.json")
    net = training.network
    cost = network_cost(best, net.image_shape, net.num_classes, net.channels, net.depth, stem)
    about = {
        "params": cost.params,
        "macs": cost.macs,
        "skip_connects": best.skip_connects(),
        "path_steps": epochs * steps,
        "path_seconds": checkpoint.records["seconds"] + time.monotonic() - evolving,
        "candidates": len(rows),
        "family": len(family),
        "path_accuracy": ranked(rows)[0]["accuracy"],
    }
    write_json(workdir / "summary.json", read_json(workdir / "summary.json") | about)
    return family


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
        return training.accuracy(path, calibration(), measured_on)

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
