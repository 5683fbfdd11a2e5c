"""What follows a search that leaves the place of its skip connections open: shared paths tell it."""

import functools
import time

import keras

from kdarts.nets.cost import network_cost
from kdarts.run import pipeline
from kdarts.run.files import write_table
from kdarts.run.path_training import train_paths, write_found
from kdarts.run.strategy import is_chief
from kdarts.run.workdir import Workdir
from kdarts.search.fair_training import FairTraining
from kdarts.search.skip_paths import best_place, compare_places


def run_places(
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
) -> float | None:
    """Trains the paths with and without skip connections and compares their places.

    Args:
        training: compiled, of paths as of `skip_paths`; its method says how many skip connections there are to be.
        workdir: of the search that the paths are of. In it come `path_history.csv`, `path_backup/` and `places.csv`;
            `genotype.json` becomes the best path's, and `summary.json` tells of it.
        train, valid, mean, std, augmentation, cutout, seed, stem, checkpoint_every: as of `run_paths`.

    Returns:
        The accuracy along the best path; None in a process that is not the chief of several hosts.
    """
    method, net = training.method, training.network
    normal = {"mean": mean, "std": std}
    about = train_paths(
        training, workdir, train, augmentation=cutout, seed=seed, checkpoint_every=checkpoint_every, **normal
    )
    if not is_chief(training.distribute_strategy):
        return None
    began = time.monotonic()
    batches = pipeline.train_dataset(train, method.path_batch_size, seed, augmentation, mean, std, 0)
    measured_on = pipeline.eval_dataset(valid, method.path_batch_size, mean, std)
    calibration = functools.cache(lambda: [x for x, _ in batches.take(method.calibration_batches)])
    edges = len(net.space.cells[0])
    count = min(method.max_skips, edges)
    progress = keras.utils.Progbar(sum(edges - k for k in range(count)), stateful_metrics=["loss"], unit_name="place")
    rows = {}

    def measure(path):
        accuracy, loss = training.measure(path, calibration(), measured_on)
        cost = network_cost(net.space.genotype(path), net.image_shape, net.num_classes, net.channels, net.depth, stem)
        rows[path] = {"loss": loss, "accuracy": accuracy, "params": cost.params, "macs": cost.macs}
        progress.add(1, [("loss", loss)])
        return loss

    path = best_place(compare_places(net.space, count, measure))
    write_table(workdir / "places.csv", [{"path": " ".join(map(str, path)), **row} for path, row in rows.items()])
    about["path_seconds"] += time.monotonic() - began
    write_found(training, workdir, stem, path, rows[path]["accuracy"], about)
    return rows[path]["accuracy"]
