"""What follows a search that leaves the place of its skip connections open: trained paths tell it."""

import time

import keras

from kdarts.run.files import write_table
from kdarts.run.path_training import write_found
from kdarts.run.workdir import Workdir
from kdarts.search.cost_target import CostTarget
from kdarts.search.fair_training import FairTraining
from kdarts.search.skip_paths import best_places


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
