"""`kdarts methods` lists what `--method` takes, `kdarts spaces` what `--space` takes."""

import json
from dataclasses import asdict
from decimal import Decimal

from absl import flags

from kdarts.cli.command import Command
from kdarts.search.method import get_method, method_names
from kdarts.supernet.grids import cuboid_names, get_cuboid
from kdarts.supernet.spaces import get_space, space_names


def define(values: flags.FlagValues) -> None:
    """Declares the flags of both."""
    flags.DEFINE_bool("json", False, "one JSON object a line, with all fields", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Lists the methods."""
    width = max(map(len, method_names())) + 2
    for name in method_names():
        method = get_method(name)
        if values.json:
            print(json.dumps(method.config()))
            continue
        text = ", ".join(differences(method)) or "the usual choice on every axis"
        print(f"{name:{width}}{method.paper}\n{'':{width}}{text}")


def differences(method) -> list[str]:
    """Returns the choices that differ from DARTS', as `name=value`."""
    return [f"{key}={_text(value)}" for key, value in method.differences().items()]


def _text(value) -> str:
    if not isinstance(value, list):
        return str(value)
    return ",".join(":".join(map(str, each)) if isinstance(each, list) else str(each) for each in value)


METHODS = Command("list the methods", define, run)

SIZES = {"one cell": 1, "two shared cells": 2, "8 individual cells": 8}
"""The columns, and the number of distinct cells whose genotypes each counts."""


def spaces_run(values: flags.FlagValues) -> None:
    """Lists the spaces and how many genotypes each holds (D-DARTS Eq. 6); the HyperCuboids and their paths."""
    spaces = [get_space(name) for name in space_names()]
    cuboids = [(space, space.axes()) for space in map(get_cuboid, cuboid_names())]
    if values.json:
        for space in spaces:
            sizes = {column.replace(" ", "_"): space.size(cells) for column, cells in SIZES.items()}
            print(json.dumps({**asdict(space), "sizes": sizes}))
        for space, axes in cuboids:
            about = {"name": space.name, **axes.to_json(), "macro": dict(axes.macro), "source": space.source}
            print(json.dumps({**about, "sizes": {"paths": space.count(axes)}}))
        return
    rows = [["name", "operations", "nodes", *SIZES]]
    for space in spaces:
        sizes = [_rounded(space.size(cells)) for cells in SIZES.values()]
        rows.append([space.name, str(len(space.operations)), str(space.nodes), *sizes])
    _print_table(rows)
    rows = [["HyperCuboid", "stages", "states", "choices", "paths"]]
    for space, axes in cuboids:
        stages, states, _, choices = axes.shape
        rows.append([space.name, str(stages), str(states), str(choices), _rounded(space.count(axes))])
    print()
    _print_table(rows)
    for space in spaces:
        print(f"\n{space.name}: {space.source}\n  {', '.join(space.operations)}")
    for space, axes in cuboids:
        pairs = (*axes.sequence, *axes.states, *axes.choices)
        listed = "; ".join(f"{name} {', '.join(map(str, choices))}" for name, choices in pairs)
        print(f"\n{space.name}: {space.source}\n  {listed}")


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]))


def _rounded(number: int) -> str:
    """Formats three digits and the power of ten; with `Decimal`, because a size may be too large for a float."""
    return f"{Decimal(number):.2e}".replace("e+", "e")


SPACES = Command("list the search spaces and their sizes", define, spaces_run)
