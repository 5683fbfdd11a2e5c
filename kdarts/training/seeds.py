"""One training repeated with several seeds, and what they come to together."""

import gc
import shutil
import statistics
from collections.abc import Callable, Sequence

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.genotypes.files import check_archive, write_with
from kdarts.training.checkpoint import last_is_whole, notes
from kdarts.training.files import read_json, read_summary, write_json, write_table
from kdarts.training.workdir import Workdir

_EACH = ("seed", "test_accuracy", "test_loss", "wall_seconds")


def run_seeds(train: Callable[[int, Workdir], dict], workdir: Workdir, seeds: Sequence[int]) -> dict:
    """Runs a training once for each seed, in `seeds/0`, `seeds/1`, ..., going on where each was interrupted.

    Afterwards the workdir itself holds what a training leaves there: `history.csv` of all of them with a column
    `seed`, the network of the first seed, and a summary. To keep the network that does best on the test images would be
    to select on them.

    Args:
        train: runs the training of a seed in a folder, going on from its newest checkpoint, and returns its summary.
        workdir: begun for this run.
        seeds: 1 or more.

    Returns:
        The summary: as of the first seed, but `test_accuracy` and `test_loss` are means; `test_accuracy_sd` is the
        sample standard deviation (divisor n - 1; None for one seed), and `seeds` has the figures of each.

    Raises:
        KdartsError: without a seed, or as of `Checkpoint.restore`.
    """
    if not seeds:
        raise KdartsError("seeds: needs at least 1")
    parts = [Workdir(workdir / "seeds" / str(number)) for number in range(len(seeds))]
    for number, (seed, part) in enumerate(zip(seeds, parts, strict=True), 1):
        done = _done(part)
        print(f"seed {seed}, {number} of {len(seeds)}" + (": finished before" if done else ""), flush=True)
        if not done:
            train(seed, part)
            gc.collect()
    summaries = [read_json(part / "summary.json") for part in parts]
    history = []
    for seed, part in zip(seeds, parts, strict=True):
        rows = notes(part / "backup")[0]["history"]
        write_table(part / "history.csv", rows)
        history += [{"seed": seed, **row} for row in rows]
    write_table(workdir / "history.csv", history)
    write_with(workdir / "model.keras", lambda temporary: shutil.copyfile(parts[0] / "model.keras", temporary))
    summary = combined(summaries)
    write_json(workdir / "summary.json", summary)
    return summary


def _done(part: Workdir) -> bool:
    """Whether a seed is finished and its files are whole; a damaged one is named."""
    if read_summary(part) is None:
        return False
    try:
        check_archive(part / "model.keras")
    except DamageError as error:
        print(f"{error}; made again", flush=True)
        return False
    return last_is_whole(part / "backup")


def combined(summaries: list[dict]) -> dict:
    """The summary of trainings that differ in their seed, from theirs, 1 or more (see `run_seeds`)."""
    accuracies = [part["test_accuracy"] for part in summaries]
    return {
        **summaries[0],
        "test_accuracy": statistics.mean(accuracies),
        "test_accuracy_sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "test_loss": statistics.mean(part["test_loss"] for part in summaries),
        "wall_seconds": sum(part["wall_seconds"] for part in summaries),
        "peak_memory_mb": max(part["peak_memory_mb"] for part in summaries),
        "seeds": [{name: part[name] for name in _EACH} for part in summaries],
    }
