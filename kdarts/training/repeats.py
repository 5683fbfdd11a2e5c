"""Searches repeated with several seeds, each measured by a shallow training of its genotype."""

import pathlib
import statistics
from collections.abc import Callable, Sequence

from kdarts.genotypes.architectures import load_architecture
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import check_archive
from kdarts.training.files import read_json, read_summary
from kdarts.training.workdir import STOPPED

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
        if read_summary(trained) is None:
            train(searched / "genotype.json", seed, trained)
    except KdartsError:
        if not diverged(folder):
            raise
    return figures(folder, seed)


def search_is_whole(search: pathlib.Path) -> bool:
    """Returns whether a search and its paths are finished and its files are not damaged; a damaged one is reported."""
    summary = read_summary(search)
    if summary is None or ("paths" in summary and "path_accuracy" not in summary):
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
    """Returns whether the search or the training of a seed, in its folder, has diverged."""
    records = [folder / part / STOPPED for part in ("search", "train")]
    return any(read_json(record).get("stopped_by") == "divergence" for record in records if record.exists())


def figures(folder: pathlib.Path, seed: int) -> dict:
    """Reads the figures of a finished seed.

    Args:
        folder: See `measured`.
        seed: The seed.

    Returns:
        `seed`; `accuracy` of the shallow training on the held-back images, 0 to 1; `valid_accuracy` and `skip_connects`
        of the search, if there was one; `params` of the shallow network; and `seconds` of both. A diverged seed has
        `seed`, `diverged` and an accuracy of 0, so that it is never the best.

    Raises:
        KdartsError: If a summary is missing or damaged.
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


def in_words(mean: float, deviation: float | None) -> str:
    """Formats them as `0.912 ± 0.011`."""
    return f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
