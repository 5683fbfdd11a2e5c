"""`kdarts spaces`: what `--space` takes."""

import json
from dataclasses import asdict

from absl import flags

from kdarts.cli.command import Command
from kdarts.nets.spaces import get_space, space_names


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_bool("json", False, "one JSON object a line", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Lists the spaces."""
    for name in space_names():
        space = get_space(name)
        if values.json:
            print(json.dumps(asdict(space)))
        else:
            print(f"{name:14}{len(space.operations)} operations, {space.nodes} nodes; {space.source}")
            print(f"{'':14}{', '.join(space.operations)}")


COMMAND = Command("list the search spaces", define, run)
