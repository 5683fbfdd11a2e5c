"""Measures what the modes of D-DARTS' ablation loss are worth, and what they cost.

    python tools/ablation_study.py --dataset=cifar10 --data_dir=DIR --image_size=16 --channels=4 --cells=4 --batch_size=32
    python tools/ablation_study.py --time --input_shape=16,16,3 --channels=4 --cells=4 --batch_size=32

The first, with flags of `kdarts search`, takes `--steps` steps of a D-DARTS search whose α do not feel the loss, and
before and after them compares the gradients of the modes on `--batches` validation batches with that of `exact`, at the
same weights and α. It prints mean cosines over cells and batches: of the ablation loss alone, with no margin, and of the
whole gradient of α, with the margin, weight and clip of the flags. Of `drawn` there are those of a single draw, and of
the mean over all cells that can be drawn.

The second, with flags of `kdarts bench`, starts one process for each mode and one without the loss, which take
`--rounds` steps in turn, and prints the median ratios to that without.
"""

import argparse
import pathlib
import statistics
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Runs where kdarts is not installed, too.

from kdarts_command import ROOT
from peer_benchmark import Program

from kdarts.cli.command import exit_code
from kdarts.cli.options import chosen_method
from kdarts.cli.process import start_tensorflow
from kdarts.cli.search import SEARCH, assembled, halves

_ALWAYS = -1e9


def cosine(one, other) -> float:
    """The cosine of two arrays; NaN where one is 0."""
    one, other = np.ravel(one).astype(np.float64), np.ravel(other).astype(np.float64)
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / norms) if norms else float("nan")


def terms(search, method, batch) -> tuple[dict, np.ndarray]:
    """The gradients of the ablation loss on a batch `(x, y)`, as `method` weighs it, and M, `[n]`.

    For each mode there is a list of draws, of which each has an array for each α.
    """
    import tensorflow as tf

    from kdarts.search.ablation import AblationLoss
    from kdarts.search.gradients import FirstOrder

    modes = {mode: AblationLoss(search, method.override(ablation=mode)) for mode in ("exact", "own", "drawn")}

    @tf.function(autograph=False)
    def gradients(place):
        at = FirstOrder()(search.objective, None, batch, None)
        modes["drawn"].drawn = lambda seed: place
        return {mode: loss.gradients(at, batch, 0) for mode, loss in modes.items()}

    found = [gradients(tf.constant(place)) for place in range(len(modes["drawn"].owners))]
    listed = {mode: [tf.nest.map_structure(np.asarray, one[mode][0]) for one in found] for mode in modes}
    listed["constant"] = [[np.zeros_like(g) for g in listed["exact"][0]]]
    return listed, np.asarray(found[0]["exact"][1])


def compared(search, method, batches) -> list[str]:
    """The rows of the table at the search's weights and α."""
    cosines, contributions = {}, []
    for batch in batches:
        rest = [np.asarray(g) for g in search.architecture_gradients(batch, batch)]
        alone, values = terms(search, method.override(ablation_margin=_ALWAYS), batch)
        whole, _ = terms(search, method, batch)
        contributions.append(values)
        for name, mode, mean in (
            ("own", "own", False),
            ("drawn, one draw", "drawn", False),
            ("drawn, mean of all draws", "drawn", True),
            ("constant", "constant", False),
        ):
            for column, (found, beside) in enumerate(((alone, [0 * g for g in rest]), (whole, rest))):
                draws = [np.mean(g, 0) for g in zip(*found[mode], strict=True)] if mean else None
                for draw in [draws] if mean else found[mode]:
                    for g, exact, more in zip(draw, found["exact"][0], beside, strict=True):
                        cosines.setdefault((name, column), []).append(cosine(g + more, exact + more))
    means = np.mean(contributions, 1)
    head = f"mean contribution {np.mean(means):.4f} nats ({np.min(means):.4f} to {np.max(means):.4f}), "
    counts = f"counted on {np.sum(means < -method.ablation_margin)} of {len(means)} batches"
    names = dict.fromkeys(name for name, _ in cosines)
    rows = [[np.mean(cosines[name, column]) for column in (0, 1)] for name in names]
    return [head + counts, *(f"| {n} | {a:.3f} | {b:.3f} |" for n, (a, b) in zip(names, rows, strict=True))]


def study(steps: int, count: int, words: list[str]) -> None:
    """Searches, compares and prints."""
    values = SEARCH.parse(["search", "--method=ddarts", *words])
    method = chosen_method(values)
    start_tensorflow()
    from kdarts.data.pipeline import eval_dataset
    from kdarts.search.objective import without_graph_rewriting
    from kdarts.search.step import Step

    data = halves(values)
    search, batches = assembled(values, method.override(ablation="constant"), data)
    valid = list(eval_dataset(data.valid, method.batch_size, data.mean, data.std).take(count))
    with without_graph_rewriting():
        for done in (0, steps):
            step = Step(search)
            for batch in batches.pairs(0).take(done):
                step(batch)
            print(f"after {done} steps:", *compared(search, method, valid), sep="\n", flush=True)


def timed(rounds: int, words: list[str]) -> None:
    """Times the modes in turn and prints."""
    words = [sys.executable, str(ROOT / "tools" / "kdarts_command.py"), "bench", "--paced", "--method=ddarts", *words]
    modes = ("constant", "own", "drawn", "exact")
    commands = {"none": [*words, "--ablation_weight=0"], **{mode: [*words, f"--ablation={mode}"] for mode in modes}}
    programs = {}
    try:
        for name, command in commands.items():
            programs[name] = Program(name, command).__enter__()
        taken = [[program.step() for program in programs.values()] for _ in range(rounds)]
        for place, (name, program) in enumerate(programs.items()):
            ratio = statistics.median(row[place] / row[0] for row in taken)
            print(
                f"| {name} | {statistics.median(row[place] for row in taken):.0f} | {ratio:.2f} | {program.finish():.0f} |"
            )
    finally:
        for program in programs.values():
            program.__exit__()


def run(arguments: list[str]) -> None:
    """Reads the program's own flags; the rest are those of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", action="store_true")
    for name, value in (("steps", 100), ("batches", 4), ("rounds", 15)):
        parser.add_argument(f"--{name}", type=int, default=value)
    own, words = parser.parse_known_args(arguments)
    timed(own.rounds, words) if own.time else study(own.steps, own.batches, words)


if __name__ == "__main__":
    sys.exit(exit_code("ablation_study", lambda: run(sys.argv[1:]), goes_on=False))
