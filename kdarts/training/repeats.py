"""Runs repeated with several seeds: trainings and their mean, and searches that are compared by a shallow training."""

import gc
import pathlib
import shutil
import statistics
from collections.abc import Callable, Sequence

from kdarts.genotypes.cuboid import load_architecture
from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.genotypes.files import check_archive, write_with
from kdarts.training.checkpoint import last_is_whole, notes
from kdarts.training.entries import TRAINED
from kdarts.training.workdir import STOPPED, Workdir, read_json, read_summary, write_json, write_table

ACCURACY = "held_back_accuracy"
"""The figure of a shallow training's summary that seeds are compared by."""


def measured(
    search: Callable[[int, pathlib.Path], None] | None,
    train: Callable[[pathlib.Path, int, pathlib.Path], None],
    folder: pathlib.Path,
    seed: int,
) -> dict:
    """Runs a search and the shallow training of its genotype, unless they are finished.

    Args:
        search: A function that runs or continues the search of a seed in a folder until its `summary.json` is written,
            and makes damaged files of a finished search again. None if the genotype is in `folder/search` already.
        train: A function that does the same for the training of a genotype's file.
        folder: The folder of both, which are in `search` and `train`.
        seed: The seed of both.

    Returns:
        The figures of the seed (see `figures`).
    """
    searched, trained = folder / "search", folder / "train"
    if diverged(folder):
        return figures(folder, seed)
    try:
        if search is not None and not search_is_whole(searched):
            search(seed, searched)
        if read_summary(trained, (ACCURACY, "params", "wall_seconds")) is None:
            train(searched / "genotype.json", seed, trained)
    except KdartsError:
        if not diverged(folder):
            raise
    return figures(folder, seed)


_AFTER = ("paths", "path_accuracy"), ("removal_measure", "removal_seconds")
"""Entries of a search's summary, and those that are there once what follows the search is finished, too."""


def search_is_whole(search: pathlib.Path) -> bool:
    """Returns whether a search and its paths are finished and its files are not damaged; a damaged one is reported."""
    summary = read_summary(search)
    if summary is None or any(a in summary and b not in summary for a, b in _AFTER):
        return False
    try:
        load_architecture(search / "genotype.json")
        for arrays in sorted(search.glob("*.npz")):
            check_archive(arrays)
    except KdartsError as error:
        print(f"{error}; made again", flush=True)
        return False
    return True


def diverged(folder: pathlib.Path) -> bool:
    """Returns whether what ran in a folder, or the search or the training of a seed there, has diverged."""
    records = [folder / part / STOPPED for part in ("search", "train", ".")]
    return any(read_json(record).get("stopped_by") == "divergence" for record in records if record.exists())


def figures(folder: pathlib.Path, seed: int) -> dict:
    """Reads the figures of a finished seed from the folder of `measured`.

    They are `seed`; `accuracy` of the shallow training on the held-back images, 0 to 1; `valid_accuracy` and
    `skip_connects` of the search, if there was one; `params` of the shallow network; and `seconds` of both. A diverged
    seed has `seed`, `diverged` and an accuracy of 0, so that it is never the best. Raises `KdartsError` if a summary is
    missing or damaged.
    """
    if diverged(folder):
        return {"seed": seed, "accuracy": 0.0, "diverged": True}
    file = folder / "train" / "summary.json"
    train, searched = read_json(file), folder / "search" / "summary.json"
    search = read_json(searched) if searched.exists() else {}
    try:
        row = {"seed": seed, "accuracy": float(train[ACCURACY])}
        row |= {name: search[name] for name in ("valid_accuracy", "skip_connects") if name in search}
        seconds = float(train["wall_seconds"]) + float(search.get("wall_seconds", 0))
        return row | {"params": int(train["params"]), "seconds": round(seconds, 1)}
    except (KeyError, TypeError, ValueError) as error:
        raise KdartsError(f"{file}: damaged ({error!r}); remove {folder} to measure it again") from None


def spread(rows: Sequence[dict]) -> tuple[float, float | None]:
    """Returns mean and sample standard deviation (divisor n - 1; None for one seed) of the seeds' accuracies."""
    accuracies = [row["accuracy"] for row in rows]
    return statistics.mean(accuracies), statistics.stdev(accuracies) if len(accuracies) > 1 else None


def middle(rows: Sequence[dict]) -> tuple[float, float | None]:
    """Returns median and half of the range (None for one seed) of the seeds' accuracies."""
    accuracies = [row["accuracy"] for row in rows]
    half_range = (max(accuracies) - min(accuracies)) / 2
    return statistics.median(accuracies), half_range if len(accuracies) > 1 else None


def in_words(mean: float, deviation: float | None) -> str:
    """Formats them as `0.912 ± 0.011`."""
    return f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def of_seeds(rows: Sequence[dict]) -> str:
    """Formats the seeds' accuracies as `mean 0.9120 ± 0.0110 (sd), median 0.9100 ± 0.0120 (half range)`."""
    if len(rows) == 1:
        return in_words(*spread(rows))
    return f"mean {in_words(*spread(rows))} (sd), median {in_words(*middle(rows))} (half range)"


_FIGURES = [f"{on}_{name}" for on in ("test", "held_back") for name in ("accuracy", "loss", "top_5_accuracy")]
_EACH = ("seed", "tested_after_epochs", *_FIGURES, "wall_seconds")


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
        The summary of the first seed, with the means of the figures on images; of `test_accuracy` also the sample
        standard deviation `test_accuracy_sd` (divisor n - 1), `test_accuracy_median` and `test_accuracy_half_range`,
        half of the range (None for one seed, as the deviation); and the figures of each seed in `seeds`.

    Raises:
        KdartsError: If there is no seed; also see `Checkpoint.restore`.
    """
    if not seeds:
        raise KdartsError("seeds: needs at least 1")
    parts, summaries, history = [Workdir(workdir / "seeds" / str(number)) for number in range(len(seeds))], [], []
    for number, (seed, part) in enumerate(zip(seeds, parts, strict=True), 1):
        done = training_is_whole(part, TRAINED)
        print(f"seed {seed}, {number} of {len(seeds)}" + (": finished before" if done else ""), flush=True)
        if not done:
            train(seed, part)
            gc.collect()
        summaries.append(read_json(part / "summary.json"))
        rows = notes(part / "backup")[0]["history"]
        write_table(part / "history.csv", rows)
        history += [{"seed": seed, **row} for row in rows]
    write_table(workdir / "history.csv", history)
    write_with(workdir / "model.keras", lambda temporary: shutil.copyfile(parts[0] / "model.keras", temporary))
    summary = combined(summaries)
    write_json(workdir / "summary.json", summary)
    return summary


def training_is_whole(part: Workdir, needed: Sequence[str]) -> bool:
    """Returns whether a training is finished, and its files, the summary with entries `needed`, are not damaged.

    A damaged one is reported.
    """
    if read_summary(part, needed) is None:
        return False
    try:
        check_archive(part / "model.keras")
    except DamageError as error:
        print(f"{error}; made again", flush=True)
        return False
    return last_is_whole(part / "backup")


def combined(summaries: list[dict]) -> dict:
    """Combines the summaries of trainings with different seeds, at least one (see `run_seeds`)."""
    rows = [{"accuracy": part["test_accuracy"]} for part in summaries]
    (_, deviation), (median, half_range), first = spread(rows), middle(rows), dict(summaries[0])
    first.pop("tested_after_epochs", None)  # Each seed has its own.
    for name in set(_FIGURES) & first.keys():
        values = [part[name] for part in summaries]  # None where it is not finite.
        first[name] = None if None in values else statistics.mean(values)
    return {
        **first,
        "test_accuracy_sd": deviation,
        "test_accuracy_median": median,
        "test_accuracy_half_range": half_range,
        "wall_seconds": sum(part["wall_seconds"] for part in summaries),
        "peak_memory_mb": max(part["peak_memory_mb"] for part in summaries),
        "seeds": [{name: part[name] for name in _EACH if name in part} for part in summaries],
    }
