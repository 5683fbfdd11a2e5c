"""How far the ablation loss's gradient in mode `own` is from `exact` along a search (see kdarts/search/ablation.py)."""

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from kdarts.cli import options
from kdarts.cli.options import chosen_method
from kdarts.cli.search import halves, search_in
from kdarts.data.pipeline import eval_dataset
from kdarts.search.ablation import SIGNS, AblationLoss
from kdarts.search.gradients import FirstOrder
from kdarts.search.objective import loss_scale, without_graph_rewriting
from kdarts.search.search import Search
from kdarts.training.workdir import Workdir

_UNBOUNDED = 1e9


def compiled_gradients(search: Search):
    """A function of a batch `(x, y)`: the ablation loss's gradients, `own` and `exact`, for each α, and M `[n]`.

    Both are taken at the same weights, α and cross-entropy, with weight 1, no clip, and while the mean M is below zero;
    otherwise they are zero.
    """
    choices = {"ablation_weight": 1.0, "ablation_margin": 0.0, "ablation_clip": _UNBOUNDED}
    losses = [AblationLoss(search, search.method.override(**choices, ablation=mode)) for mode in ("own", "exact")]
    first = FirstOrder()

    def gradients(x, y):
        scale, removal_seed = loss_scale(search.arch_optimizer), search.arch_optimizer.iterations
        at = first(search.objective, None, (x, y), None, scale)
        (own, contributions), (exact, _) = (loss.gradients(at, (x, y), removal_seed, scale) for loss in losses)
        return own, exact, contributions

    return tf.function(gradients, autograph=False)


def compared(own, exact, contributions, method) -> list[dict]:
    """For each cell how its two gradients differ, and the factor that `own` has in the search itself.

    Args:
        own, exact: gradients, an array for each α.
        contributions: M, `[n]`.
        method: gives sign, weight, margin and clip of the search.

    Returns:
        Rows of `contribution`, `cosine`, `norm_ratio` (own over exact; NaN if a norm is zero), both norms, and the
        factor (1 − rᵢ/n) s w_AB / M̄ of the cell's own gradient with and without clip and margin.
    """
    mean, n = np.mean(contributions), len(contributions)
    active = mean < -method.ablation_margin
    rows = []
    for g, e, contribution in zip(own, exact, contributions, strict=True):
        g, e = np.ravel(g).astype(np.float64), np.ravel(e).astype(np.float64)
        norms = np.linalg.norm(g), np.linalg.norm(e)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = SIGNS[method.ablation_sign] * method.ablation_weight * (1 - contribution / mean / n) / mean
            row = {
                "contribution": contribution,
                "cosine": g @ e / (norms[0] * norms[1]),
                "norm_ratio": norms[0] / norms[1],
                "own_norm": norms[0],
                "exact_norm": norms[1],
                "own_factor": np.clip(factor, -method.ablation_clip, method.ablation_clip) if active else 0.0,
                "own_factor_unclipped": factor,
            }
        rows.append({name: float(value) for name, value in row.items()})
    return rows


class GradientRecord(keras.callbacks.Callback):
    """Notes the comparison before the first epoch and after each, always on the same batch.

    The notes are in the record of the search, under `modes`, and so in its checkpoints.

    Args:
        batch: of validation images, `(x, y)`.
    """

    def __init__(self, batch):
        super().__init__()
        self.batch, self._gradients = batch, None

    def _note(self, epoch: int) -> None:
        search = self.model
        self._gradients = self._gradients or compiled_gradients(search)
        with without_graph_rewriting():
            found = self._gradients(*self.batch)
        own, exact, contributions = tf.nest.map_structure(np.asarray, found)
        rows = compared(own, exact, contributions, search.method)
        labels = [{"epoch": epoch, "cell": name} for name in search.supernet.alpha_names]
        notes = search.record.notes.setdefault("modes", [])
        notes += [{**label, **row} for label, row in zip(labels, rows, strict=True)]

    def on_train_begin(self, logs=None):
        if not self.model.record.notes.get("modes"):
            self._note(0)

    def on_epoch_end(self, epoch, logs=None):
        self._note(epoch + 1)


def search_and_compare(values: flags.FlagValues, workdir: Workdir) -> list[dict]:
    """Runs one search in a workdir, going on from its latest state, and compares the modes along it.

    Args:
        values: flags of `kdarts search`.
        workdir: of the run.

    Returns:
        Rows as of `compared`, with `epoch` (how many are done) and `cell`.
    """
    workdir.check(options.remembered(values))
    method, data = chosen_method(values), halves(values)
    batch = next(iter(eval_dataset(data.valid, method.batch_size, data.mean, data.std)))
    search, _ = search_in(workdir, values, method, data, extra=lambda folder: [GradientRecord(batch)])
    return search.record.notes["modes"]
