"""`kdarts methods`: what `--method` takes."""

import json
from dataclasses import asdict

from absl import flags

from kdarts.cli.command import Command
from kdarts.search.method import Method, get_method, method_names


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
            print(f"{name:14}{method.paper}\n{'':14}{', '.join(_choices(method))}")


def _choices(m: Method) -> list[str]:
    """What sets a method apart, in words."""
    losses = {"zero-one": m.zero_one_weight, "ablation": m.ablation_weight, "beta-decay": m.beta_weight}
    told = {
        f"1/{m.partial_channels} of the channels and β": m.partial_channels > 1,
        f"candidates drawn by {m.sampling}": m.sampling != "all",
        "a fading auxiliary skip": m.auxiliary_skip,
        f"topology {m.topology}": m.topology,
        "α frozen": m.update == "frozen",
        "α moves once an epoch": m.update == "epoch",
        "operation attention": m.attention,
        **{f"{name} loss {weight:g}": weight for name, weight in losses.items()},
        f"{len(m.stages)} stages": m.stages,
        f"may stop by {m.stop}": m.stop != "epochs",
        f"the best of {m.samples} samples": m.samples,
        f"then paths of {m.paths} operations an edge for their {m.path_choice}": m.paths,
    }
    usual = [f"space {m.space}", f"{m.sharing} α", m.mixing, f"{m.order} order", f"cells by {m.discretization}"]
    return [*usual, *(words for words, holds in told.items() if holds)]


COMMAND = Command("list the methods", define, run)
