"""`kdarts methods`: what `--method` takes."""

import json
from dataclasses import asdict

from absl import flags

from kdarts.cli.command import Command
from kdarts.search.method import get_method, method_names


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    flags.DEFINE_bool("json", False, "one JSON object a line, with every choice", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Lists the methods."""
    for name in method_names():
        method = get_method(name)
        if values.json:
            print(json.dumps(asdict(method)))
        else:
            choices = f"space {method.space}, {method.sharing} α, {method.mixing}, {method.order} order"
            choices += f", cells by {method.discretization}"
            weights = {"zero-one": method.zero_one_weight, "ablation": method.ablation_weight}
            choices += "".join(f", {name} loss {weight:g}" for name, weight in weights.items() if weight)
            choices += f", {len(method.stages)} stages" if method.stages else ""
            if method.paths:
                choices += f", then paths of {method.paths} operations an edge"
            print(f"{name:14}{method.paper}\n{'':14}{choices}")


COMMAND = Command("list the methods", define, run)
