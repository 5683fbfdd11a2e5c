"""Numbers and tables of `edarts_study.py`: pure functions of what was measured."""

import statistics

from kdarts.genotypes.genotype import Genotype


def seconds_left(seconds: dict[str, float | None]) -> float | None:
    """How long the unfinished trials will take.

    Args:
        seconds: of each trial, by name; None: not finished. Trials whose names differ after the last `-` alone are of
            one kind, and go by each other; those of a new kind go by all.

    Returns:
        Seconds; None while no trial is finished.
    """
    kinds = {}
    for name, value in seconds.items():
        if value is not None:
            kinds.setdefault(name.rpartition("-")[0], []).append(value)
    if not kinds:
        return None
    overall = statistics.mean(statistics.mean(values) for values in kinds.values())
    missing = [name.rpartition("-")[0] for name, value in seconds.items() if value is None]
    return sum(statistics.mean(kinds[kind]) if kind in kinds else overall for kind in missing)


def best(accuracies: dict[str, float], count: int) -> list[str]:
    """The `count` names of the highest accuracy, the highest first; of equal ones the earlier."""
    return sorted(accuracies, key=lambda name: -accuracies[name])[:count]


def skips(genotype: Genotype) -> dict[str, int]:
    """Skip connections of the normal cell and of the reduction cell."""
    found = [sum(operation == "skip_connect" for operation, _, _ in cell) for cell in genotype.cells]
    return {"skips_normal": found[0], "skips_reduce": found[1]}


def ranking(rows: list[dict]) -> list[dict]:
    """Rows of `cells` and `test_accuracy` with a `rank` among those of the same cells, from 1; the best first."""
    ranked = []
    for cells in dict.fromkeys(row["cells"] for row in rows):
        own = sorted((row for row in rows if row["cells"] == cells), key=lambda row: -row["test_accuracy"])
        ranked += [{"rank": rank, **row} for rank, row in enumerate(own, 1)]
    return ranked


def markdown(header: list[str], lines: list[list[str]]) -> list[str]:
    """A table in Markdown, the first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(line)} |" for line in [header, rule, *lines]]


def spread(values: list[float], digits: int, scale: float = 1.0) -> str:
    """Mean and sample standard deviation, such as `91.20 ± 0.35`; of one value the value alone."""
    mean = f"{scale * statistics.mean(values):.{digits}f}"
    return mean + (f" ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def grouped(rows: list[dict], *names: str) -> dict[tuple, list[dict]]:
    """The rows by their values under `names`, in order of first appearance."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def _column(rows, name) -> list[float]:
    return [row[name] for row in rows]


def ranking_table(rows: list[dict], shown: int = 10) -> list[str]:
    """The best and the worst of each kind of cells."""
    lines = []
    for (cells,), own in grouped(rows, "cells").items():
        for row in own if len(own) <= shown + 1 else [*own[:shown], own[-1]]:
            number = f"{row['topology']}: {row['inputs']}"
            lines.append([number, cells, f"{row['rank']} of {len(own)}", f"{100 * row['test_accuracy']:.2f}"])
    return markdown(["topology: inputs of nodes 2 to 5", "sep_conv_3x3 in", "rank", "test accuracy (%)"], lines)


def spaces_table(rows: list[dict]) -> list[str]:
    """A line for each space, with a column for each depth."""
    depths = sorted({row["depth"] for row in rows})
    groups, lines = grouped(rows, "space", "depth"), []
    for space in sorted({row["space"] for row in rows}):
        found = [groups.get((space, depth)) for depth in depths]
        lines.append([space.upper(), *("" if own is None else _accuracy(own) for own in found)])
    return markdown(["space", *(f"{depth} cells: test accuracy (%)" for depth in depths)], lines)


def _accuracy(rows) -> str:
    return spread(_column(rows, "test_accuracy"), 2, 100)


def skips_table(rows: list[dict]) -> list[str]:
    """Table II: a line for each method. The standard deviation is of the sample; the search time the least, as there.

    The paper prints totals of skip connections over its 5 runs; these are means of a run.
    """
    lines = [
        [
            method,
            str(len(own)),
            spread(_column(own, "skips_normal"), 1),
            spread(_column(own, "skips_reduce"), 1),
            _accuracy(own),
            f"{statistics.mean(_column(own, 'params')) / 1e6:.3f}",
            f"{min(_column(own, 'search_seconds')):.0f}",
        ]
        for (method,), own in grouped(rows, "method").items()
    ]
    header = ["method", "searches", "skips, normal cell", "skips, reduction cell"]
    return markdown([*header, "test accuracy (%)", "parameters (M)", "search time (s)"], lines)


def mixings_table(rows: list[dict]) -> list[str]:
    """A line for each mixing: means over its seeds, with the standard deviation of the sample."""
    columns = {
        "parameters (M)": ("params", 4, 1e-6),
        "MACs (M)": ("macs", 2, 1e-6),
        "skips, normal cell": ("skips_normal", 1, 1.0),
        "skips, reduction cell": ("skips_reduce", 1, 1.0),
        "search accuracy (%)": ("search_accuracy", 2, 100.0),
        "test accuracy (%)": ("test_accuracy", 2, 100.0),
    }
    lines = [
        [mixing, str(len(own)), *(spread(_column(own, name), *form) for name, *form in columns.values())]
        for (mixing,), own in grouped(rows, "mixing").items()
    ]
    return markdown(["mixing", "searches", *columns], lines)
