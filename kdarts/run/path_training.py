"""The training of shared paths, which DARTS-PD's search is followed by, from its start or from where it was left."""

import functools
import time

import keras
import tensorflow as tf

from kdarts.genotypes.path_space import PathSpace
from kdarts.nets.drop_path import DropPathSchedule
from kdarts.run import pipeline
from kdarts.run.checkpoint import Checkpoint
from kdarts.run.divergence import Watch
from kdarts.run.files import read_json, write_json, write_table
from kdarts.run.logs import loggers
from kdarts.run.loop import run_epochs
from kdarts.run.search_record import WriteFiles
from kdarts.run.step import Step
from kdarts.run.timing import Progress, StepTime
from kdarts.run.workdir import Workdir
from kdarts.search.fair_paths import FairPaths
from kdarts.search.fair_training import FairTraining
from kdarts.search.method import Method
from kdarts.search.schedules import Cosine
from kdarts.search.search import without_graph_rewriting


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
