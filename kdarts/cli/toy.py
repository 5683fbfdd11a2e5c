"""`kdarts toy`: what unrolling is worth, on two numbers."""

import json

from absl import flags

from kdarts.cli import options
from kdarts.cli.command import Command
from kdarts.cli.process import start_tensorflow
from kdarts.genotypes.errors import KdartsError


def define(values: flags.FlagValues) -> None:
    """Its flags."""
    text = "learning rates of the unrolled step, comma-separated; 0: first order"
    flags.DEFINE_list("xi", ["0", "0.3", "0.5", "0.7"], text, flag_values=values)
    flags.DEFINE_enum("order", None, ["second", "exact"], "where ξ is above 0; default: second", flag_values=values)
    flags.DEFINE_float("learning_rate", 0.01, "of the steps of α and of w", flag_values=values)
    flags.DEFINE_float("threshold", 1e-4, "ends a search once both steps are shorter", flag_values=values)
    flags.DEFINE_list("start", ["2", "-2"], "α,w at the beginning", flag_values=values)
    options.positive("limit", 10_000, "most iterations", values)
    flags.DEFINE_string("to", None, "picture to write: .svg, .png or .pdf", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Prints a JSON line for each ξ."""
    rates, start = _numbers("xi", values.xi), _numbers("start", values.start)
    if not rates or len(start) != 2:
        raise KdartsError(f"--xi={','.join(values.xi)} --start={','.join(values.start)}: needs some ξ, and α,w")
    if values.to:
        from kdarts.views.figure import image_format

        image_format(values.to)
    start_tensorflow()
    from kdarts.search.toy import SOLUTION, fixed_point, run_toy

    runs = []
    for xi in rates:
        order = values.order if xi else None
        found = run_toy(xi, order, values.learning_rate, values.threshold, tuple(start), values.limit)
        alpha, w = (round(float(number), 6) for number in found.path[-1])
        rest = round(fixed_point(xi), 6)
        told = {"xi": xi, "iterations": found.iterations, "alpha": alpha, "w": w, "fixed_point": rest}
        print(json.dumps({**told, "converged": found.converged}), flush=True)
        runs.append(found)
    if values.to:
        from kdarts.views.curves import draw_trajectories

        names = [f"ξ = {found.xi:g} ({found.iterations} iterations)" for found in runs]
        draw_trajectories([found.path for found in runs], names, values.to, SOLUTION)
        print(values.to)


def _numbers(name: str, words: list[str]) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        raise KdartsError(f"--{name}={','.join(words)}: needs numbers, comma-separated") from None


TOY = Command(
    "the bilevel problem of two numbers, for several ξ (DARTS Figure 2)",
    define,
    run,
    example="kdarts toy --xi=0,0.3,0.5,0.7 --to=toy.png",
)
