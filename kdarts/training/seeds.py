"""One training repeated with several seeds, and the mean of the results."""

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
    """Runs a training once for each seed, in `seeds/0`, `seeds/1`, ..., and continues those that were interrupted.

    Then it writes the files of a training into the workdir: `history.csv` of all seeds with a column `seed`, the
    network of the first seed, and a summary. The network that is best on the test images is not selected, because the
    test images would no longer be independent.

    Args:
        train: A function that trains with a seed in a folder, continues from the newest checkpoint there, and returns
            the summary.
        workdir: The locked folder of the run.
        seeds: The seeds, at least one.

    Returns:
        The summary of the first seed, with the means of `test_accuracy` and `test_loss`, the sample standard deviation
        `test_accuracy_sd` (divisor n - 1; None for one seed), and the figures of each seed in `seeds`.

    Raises:
        KdartsError: If there is no seed; also see `Checkpoint.restore`.
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
    """Returns whether a seed is finished and its files are not damaged; a damaged one is reported."""
    if read_summary(part) is None:
        return False
    try:
        check_archive(part / "model.keras")
    except DamageError as error:
        print(f"{error}; made again", flush=True)
        return False
    return last_is_whole(part / "backup")


def combined(summaries: list[dict]) -> dict:
    """Combines the summaries of trainings with different seeds, at least one (see `run_seeds`)."""
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
