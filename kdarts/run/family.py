"""The best of an evolution's candidates at every size."""

import pathlib

from kdarts.genotypes.path_space import PathSpace
from kdarts.run.files import write_table
from kdarts.search.evolution import Path


def family_of(candidates: list[dict], bin_width: float, per_bin: int) -> list[dict]:
    """The best candidates of each size bin (DARTS-PD: "architectures with different parameter sizes at one time").

    Args:
        candidates: each with `accuracy` and `params`, in the order of their trials.
        bin_width: 10^6 weights, above 0; bin `i` holds sizes from `i` widths to below `i + 1`.
        per_bin: most of each bin.

    Returns:
        Their rows from the smallest bin on, the best of a bin first (see `ranked`), each with a `name`, and `from` and
        `to`, its bin in weights.
    """
    width, bins = bin_width * 1e6, {}
    for row in candidates:
        bins.setdefault(int(row["params"] // width), []).append(row)
    family = []
    for number, rows in sorted(bins.items()):
        best = ranked(rows)[:per_bin]
        bounds = {"from": round(number * width), "to": round((number + 1) * width)}
        family += [{"name": f"size{number:03d}-{rank}", **bounds, **row} for rank, row in enumerate(best, 1)]
    return family


def ranked(rows: list[dict]) -> list[dict]:
    """Candidates, the best first; of equally accurate ones the smaller, then the earlier."""
    return sorted(rows, key=lambda row: (-row["accuracy"], row["params"]))


def write_family(folder: pathlib.Path, space: PathSpace, rows: list[dict], paths: dict[int, Path]) -> None:
    """Writes each network of a family as a genotype, `NAME.json`, and the table of them, `family.csv`, at the end.

    Args:
        folder: where to.
        space: what the paths are in.
        rows: as of `family_of`, each with a `candidate`.
        paths: by candidate.
    """
    for row in rows:
        space.genotype(paths[row["candidate"]]).named(row["name"]).save(folder / f"{row['name']}.json")
    write_table(folder / "family.csv", rows)
