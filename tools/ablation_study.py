"""Measures what the modes of D-DARTS' ablation loss are worth, and what they cost.

    python tools/ablation_study.py --dataset=cifar10 --data_dir=DIR --image_size=16 --channels=4 --cells=4 \\
        --batch_size=32 --train_examples=3200 --valid_examples=3200
    python tools/ablation_study.py --time --input_shape=16,16,3 --channels=4 --cells=4 --batch_size=32

The first, with flags of `kdarts search`, compares the gradients of the modes with that of `exact`, at the same weights
and α, along a D-DARTS search whose α do not feel the loss: at its start and after each number of `--steps`, on
`--batches` validation batches. It prints mean cosines over cells and batches: of the ablation loss alone, with no
margin, and of the whole gradient of α, with the margin, weight and clip of the flags. Of `drawn` there are those of a
single draw, and that of the mean over all cells that can be drawn.

The second, with flags of `kdarts bench`, starts one process for each mode and one without the loss, which take
`--rounds` steps in turn, and prints the median ratios to that without.

`tools/ddarts_study.py modes` records by `search_and_compare` how far `own` is from `exact` along a whole search.
"""

import argparse
import pathlib
import statistics
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Runs where kdarts is not installed, too.

from peer_benchmark import Program

from kdarts.cli import options
from kdarts.cli.command import exit_code
from kdarts.cli.options import chosen_method
from kdarts.cli.process import start_tensorflow
from kdarts.cli.search import SEARCH, assembled, halves, search_in

_UNBOUNDED = 1e9


def cosine(one, other) -> float:
    """The cosine of two arrays; NaN where one is 0."""
    one, other = np.ravel(one).astype(np.float64), np.ravel(other).astype(np.float64)
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / norms) if norms else float("nan")


def gradients_of(search, *modes: str, **choices):
    """A compiled function of a batch `(x, y)`: for each mode the ablation loss's gradients, for each α, and M, `[n]`.

    All are taken at the same weights, α and cross-entropy. It may be given a cell, which then is the one that is drawn.

    Args:
        search: a `Search`.
        modes: of `--ablation`.
        **choices: what differs from the method, such as the margin.
    """
    import tensorflow as tf

    from kdarts.search.ablation import AblationLoss
    from kdarts.search.gradients import FirstOrder
    from kdarts.search.objective import loss_scale

    losses = [AblationLoss(search, search.method.override(**choices, ablation=mode)) for mode in modes]

    def gradients(x, y, place=None):
        scale, removal_seed = loss_scale(search.arch_optimizer), search.arch_optimizer.iterations
        at = FirstOrder()(search.objective, None, (x, y), None, scale)
        for loss in losses if place is not None else ():
            loss.drawn = lambda seed: place
        return [loss.gradients(at, (x, y), removal_seed, scale) for loss in losses]

    return tf.function(gradients, autograph=False)


def term(search):
    """A function of a batch `(x, y)`: for each mode the ablation loss's gradients with no margin, and M, `[n]`.

    There is one for each draw, with an array for each α.
    """
    import tensorflow as tf

    both = gradients_of(search, "exact", "own", ablation_margin=-_UNBOUNDED)
    drawn = gradients_of(search, "drawn", ablation_margin=-_UNBOUNDED)

    def each(batch):
        (exact, contributions), (own, _) = tf.nest.map_structure(np.asarray, both(*batch))
        places = map(tf.constant, range(len(contributions)))
        draws = [[np.asarray(g) for g in drawn(*batch, place)[0][0]] for place in places]
        mean = [np.mean(each, 0) for each in zip(*draws, strict=True)]
        none = [np.zeros_like(g) for g in exact]
        found = {"exact": [exact], "drawn": draws, "drawn, mean of all": [mean], "own": [own], "constant": [none]}
        return found, contributions

    return each


def compared(search, term_of, batches) -> list[str]:
    """The rows of the table at the search's weights and α."""
    cosines, means = {}, []
    for batch in batches:
        rest = [np.asarray(g) for g in search.architecture_gradients(batch, batch)]
        found, contributions = term_of(batch)
        means.append(np.mean(contributions))
        counts = means[-1] < -search.method.ablation_margin
        for mode, draws in found.items():
            for draw in draws:
                for g, exact, more in zip(draw, found["exact"][0], rest, strict=True):
                    whole = cosine(more + counts * g, more + counts * exact)
                    cosines.setdefault(mode, []).append((cosine(g, exact), whole))
    head = f"mean contribution {np.mean(means):.4f} nats ({np.min(means):.4f} to {np.max(means):.4f}), "
    head += f"counted on {sum(mean < -search.method.ablation_margin for mean in means)} of {len(means)} batches"
    rows = {mode: np.mean(pairs, 0) for mode, pairs in cosines.items()}
    return [head, *(f"| {mode} | {alone:.3f} | {whole:.3f} |" for mode, (alone, whole) in rows.items())]


def study(steps: list[int], count: int, words: list[str]) -> None:
    """Searches, compares and prints."""
    values = SEARCH.parse(["search", "--method=ddarts", *words])
    method = chosen_method(values)
    start_tensorflow()
    from kdarts.data.pipeline import eval_dataset
    from kdarts.search.objective import without_graph_rewriting
    from kdarts.search.step import Step

    data = halves(values)
    search, batches = assembled(values, method.override(ablation="constant"), data)
    search.compile()
    valid = list(eval_dataset(data.valid, method.batch_size, data.mean, data.std).take(count))
    term_of, step, taken = term(search), Step(search), iter(batches.pairs(0))
    with without_graph_rewriting():
        for begun, ended in zip([0, *steps], [*steps, None], strict=True):
            print(f"after {begun} steps:", *compared(search, term_of, valid), sep="\n", flush=True)
            for _ in range(ended - begun if ended else 0):
                step(next(taken))


def own_and_exact(own, exact, contributions, method) -> list[dict]:
    """For each cell how its two gradients differ, and the factor that `own` has in the search itself.

    Args:
        own, exact: gradients, an array for each α, while the mean of M is below zero; otherwise they are zero.
        contributions: M, `[n]`.
        method: gives sign, weight, margin and clip of the search.

    Returns:
        Rows of `contribution`, `cosine`, `norm_ratio` (own over exact; NaN if a norm is zero), both norms, and the
        factor (1 − rᵢ/n) s w_AB / M̄ of the cell's own gradient with and without clip and margin.
    """
    from kdarts.search.ablation import SIGNS

    mean, n = np.mean(contributions), len(contributions)
    active = mean < -method.ablation_margin
    rows = []
    for g, e, contribution in zip(own, exact, contributions, strict=True):
        norms = [np.linalg.norm(np.ravel(each).astype(np.float64)) for each in (g, e)]
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = SIGNS[method.ablation_sign] * method.ablation_weight * (1 - contribution / mean / n) / mean
            row = {
                "contribution": contribution,
                "cosine": cosine(g, e),
                "norm_ratio": norms[0] / norms[1],
                "own_norm": norms[0],
                "exact_norm": norms[1],
                "own_factor": np.clip(factor, -method.ablation_clip, method.ablation_clip) if active else 0.0,
                "own_factor_unclipped": factor,
            }
        rows.append({name: float(value) for name, value in row.items()})
    return rows


def search_and_compare(values, workdir) -> list[dict]:
    """Runs one search in a workdir, going on from its latest state, and compares the modes along it.

    They are compared before the first epoch and after each, always on the same batch. The notes are in the record of
    the search, under `modes`, and so in its checkpoints.

    Args:
        values: flags of `kdarts search`.
        workdir: of the run.

    Returns:
        Rows as of `own_and_exact`, with `epoch` (how many are done) and `cell`.
    """
    import keras
    import tensorflow as tf

    from kdarts.data.pipeline import eval_dataset
    from kdarts.search.objective import without_graph_rewriting

    workdir.check(options.remembered(values))
    method, data = chosen_method(values), halves(values)
    batch = next(iter(eval_dataset(data.valid, method.batch_size, data.mean, data.std)))
    choices = {"ablation_weight": 1.0, "ablation_margin": 0.0, "ablation_clip": _UNBOUNDED}

    class Recorded(keras.callbacks.Callback):
        gradients = None

        def note(self, epoch: int) -> None:
            self.gradients = self.gradients or gradients_of(self.model, "own", "exact", **choices)
            with without_graph_rewriting():
                found = self.gradients(*batch)
            (own, contributions), (exact, _) = tf.nest.map_structure(np.asarray, found)
            rows = own_and_exact(own, exact, contributions, self.model.method)
            labels = [{"epoch": epoch, "cell": name} for name in self.model.supernet.alpha_names]
            notes = self.model.record.notes.setdefault("modes", [])
            notes += [{**label, **row} for label, row in zip(labels, rows, strict=True)]

        def on_train_begin(self, logs=None):
            if not self.model.record.notes.get("modes"):
                self.note(0)

        def on_epoch_end(self, epoch, logs=None):
            self.note(epoch + 1)

    search, _ = search_in(workdir, values, method, data, extra=lambda folder: [Recorded()])
    return search.record.notes["modes"]


def timed(rounds: int, words: list[str]) -> None:
    """Times the modes in turn and prints."""
    words = [sys.executable, "-m", "kdarts", "bench", "--paced", "--method=ddarts", *words]
    modes = ("constant", "own", "drawn", "exact")
    commands = {"none": [*words, "--ablation_weight=0"], **{mode: [*words, f"--ablation={mode}"] for mode in modes}}
    programs = {}
    try:
        for name, command in commands.items():
            programs[name] = Program(name, command).__enter__()
        taken = [[program.step() for program in programs.values()] for _ in range(rounds)]
        times = [statistics.median(column) for column in zip(*taken, strict=True)]
        for place, (name, program) in enumerate(programs.items()):
            ratio = statistics.median(row[place] / row[0] for row in taken)
            print(f"| {name} | {times[place]:.0f} ms | {ratio:.2f} | {program.finish():.0f} MB |")
    finally:
        for program in programs.values():
            program.__exit__()


def run(arguments: list[str]) -> None:
    """Reads the program's own flags; the rest are those of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", action="store_true")
    for name, value in (("batches", 3), ("rounds", 15)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--steps", type=lambda text: [int(part) for part in text.split(",")], default=[100])
    own, words = parser.parse_known_args(arguments)
    timed(own.rounds, words) if own.time else study(own.steps, own.batches, words)


if __name__ == "__main__":
    sys.exit(exit_code("ablation_study", lambda: run(sys.argv[1:]), goes_on=False))
