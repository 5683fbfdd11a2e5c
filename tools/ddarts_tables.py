"""Numbers and tables of `ddarts_study.py`: from the folders of finished searches to rows, and from these to text."""

import csv
import pathlib

import numpy as np

from kdarts.genotypes.errors import KdartsError

HIGH, LOW = 0.9, 0.1
"""Above the one an operation is dominant, below the other it is out (D-DARTS section 5.2.1)."""

LOSSES = {"least_val_loss": "least over the epochs", "last_val_loss": "last epoch"}
SHARES = {"percent_above_0.9": "σ(α) > 0.9 (dominant)", "percent_below_0.1": "σ(α) < 0.1"}
"""Columns of a study, and how tables and legends call them."""

# From folders to rows


def history(folder: pathlib.Path, column: str) -> np.ndarray:
    """A column of a search's `history.csv`, `[epochs]`; NaN where nothing was measured."""
    path = folder / "history.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            values = np.array([float(row[column] or "nan") for row in csv.DictReader(file)])
    except KeyError:
        raise KdartsError(f"{path}: has no column {column}") from None
    except (OSError, ValueError, TypeError) as error:
        raise KdartsError(f"{path}: cannot be read ({error})") from None
    if not np.isfinite(values).any():
        raise KdartsError(f"{path}: has no number under {column}")
    return values


def cross_entropies(folder: pathlib.Path) -> list[dict]:
    """The least validation cross-entropy over the epochs, the epoch (from 1) it was reached in, and the last one."""
    losses = history(folder, "val_loss")
    measured = losses[np.isfinite(losses)]
    least = int(np.nanargmin(losses))
    return [{"least_val_loss": float(losses[least]), "epoch_of_least": least + 1, "last_val_loss": float(measured[-1])}]


def dominant(folder: pathlib.Path) -> list[dict]:
    """Percent of all operations of all cells with sigmoid(α) above `HIGH` and below `LOW` after the last epoch."""
    path = folder / "alphas.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            alphas = np.concatenate([arrays[name][-1].ravel() for name in arrays.files])
    except (OSError, ValueError, IndexError, EOFError) as error:
        raise KdartsError(f"{path}: cannot be read ({error})") from None
    weights = 1 / (1 + np.exp(-alphas.astype(np.float64)))
    return [
        {
            "percent_above_0.9": 100 * float(np.mean(weights > HIGH)),
            "percent_below_0.1": 100 * float(np.mean(weights < LOW)),
        }
    ]


def best_accuracies(folder: pathlib.Path) -> list[dict]:
    """For each epoch, from 1, the best validation accuracy so far; NaN before the first measurement."""
    best = np.fmax.accumulate(history(folder, "val_accuracy"))
    return [{"epoch": epoch, "best_val_accuracy": value} for epoch, value in enumerate(best.tolist(), 1)]


# From rows to tables


def summarized(rows: list[dict], by: str, column: str) -> tuple[list, np.ndarray, np.ndarray]:
    """Mean and standard deviation over the seeds.

    Args:
        rows: of all searches.
        by: what they are grouped by.
        column: of the values.

    Returns:
        The groups in order of first appearance, their means, and their sample standard deviations (0 for one seed).
    """
    groups = {}
    for row in rows:
        groups.setdefault(row[by], []).append(row[column])
    means = np.array([np.mean(values) for values in groups.values()])
    deviations = np.array([np.std(values, ddof=1) if len(values) > 1 else 0.0 for values in groups.values()])
    return list(groups), means, deviations


def aligned(header: list[str], lines: list[list[str]]) -> list[str]:
    """A table with columns of equal width, the first one to the left and the others to the right."""
    widths = [max(len(line[k]) for line in [header, *lines]) for k in range(len(header))]
    return [
        "  ".join(
            text.rjust(width) if k else text.ljust(width)
            for k, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in [header, *lines]
    ]


def _number(mean: float, deviation: float, digits: int) -> str:
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if deviation else "")


def compared_table(rows: list[dict], by: str, columns: dict[str, str], digits: int) -> list[str]:
    """A table of several columns, a line for each group."""
    found = [summarized(rows, by, column) for column in columns]
    lines = [
        [str(group), *(_number(means[k], deviations[k], digits) for _, means, deviations in found)]
        for k, group in enumerate(found[0][0])
    ]
    return aligned([by, *columns.values()], lines)


def methods_table(rows: list[dict]) -> list[str]:
    """For each method the best accuracy, and the epoch that it was reached in."""
    last = {(row["method"], row["seed"]): row for row in rows}
    reached = []
    for (name, seed), row in last.items():
        own = [r for r in rows if (r["method"], r["seed"]) == (name, seed)]
        first = next(r["epoch"] for r in own if r["best_val_accuracy"] == row["best_val_accuracy"])
        reached.append({"method": name, "best": 100 * row["best_val_accuracy"], "epoch": first})
    columns = {"best": "best validation accuracy (%)", "epoch": "reached in epoch"}
    return compared_table(reached, "method", columns, 2)


def modes_table(rows: list[dict]) -> list[str]:
    """A line for each epoch: over its cells, how `own` compares with `exact`, and how it enters the search."""
    header = [
        "epochs",
        "mean M",
        "cosine (min to max)",
        "norm ratio (min to max)",
        "factor of own",
        "cells at the clip",
    ]
    lines = []
    for epoch in dict.fromkeys(row["epoch"] for row in rows):
        own = [row for row in rows if row["epoch"] == epoch]

        def column(name, own=own):
            return np.array([row[name] for row in own])

        spans = [f"{v.mean():.3f} ({v.min():.3f} to {v.max():.3f})" for v in map(column, ("cosine", "norm_ratio"))]
        factor, unclipped = column("own_factor"), column("own_factor_unclipped")
        factors = f"{factor.min():.3f} to {factor.max():.3f}"
        clipped = int(np.sum((factor != 0) & ~np.isclose(factor, unclipped)))
        mean = f"{column('contribution').mean():.4f}"
        lines.append([str(epoch), mean, *spans, factors, f"{clipped} of {len(own)}"])
    return aligned(header, lines)
