"""From the weights of a HyperCuboid to a path, and what of a method a HyperCuboid has no use for."""

import functools

from kdarts.genotypes.best_path import best_path, greedy_path
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.hyper_path import HyperPath
from kdarts.nets.hypercuboid import HyperCuboid
from kdarts.search.collapse import watched_every
from kdarts.search.method import Method

PATH_RULES = {
    "best_path": best_path,
    "greedy_forward": greedy_path,
    "greedy_backward": functools.partial(greedy_path, backward=True),
}
"""The path of the greatest sum of weights; the strongest transition at each stage, from the first or from the last."""

_OF_CELLS = {
    "ablation_weight": 0.0,
    "attention": (),
    "auxiliary_skip": False,
    "partial_channels": 1,
    "paths": 0,
    "samples": 0,
    "sampling": "all",
    "skip_dropout": 0.0,
    "stages": (),
    "topology": "",
}


def check_for_cuboid(supernet: HyperCuboid, method: Method) -> None:
    """Refuses what the search of a HyperCuboid would pass over or get wrong.

    Raises:
        KdartsError: for a rule of cells, an axis that is about cells, or what needs second derivatives where a layer of
            the HyperCuboid has no right one.
    """
    choice("discretization of a HyperCuboid", method.discretization, PATH_RULES)
    for axis, rest in _OF_CELLS.items():
        if getattr(method, axis) != rest:
            raise KdartsError(f"{axis} {getattr(method, axis)!r} is about cells; a HyperCuboid takes {rest!r}")
    choice("stop of a HyperCuboid", method.stop, ("epochs", "eigenvalue"))
    asking = {"order 'exact'": method.order == "exact", "the eigenvalue": watched_every(method) > 0}
    wrong = supernet.without_second_derivative()
    for asked in [name for name, needed in asking.items() if needed and wrong]:
        raise KdartsError(
            f"{asked}: TensorFlow's second derivative of {', '.join(wrong)} is wrong; take order 'second' and "
            "watch_hessian 0, or placed operations"
        )


def found_path(supernet: HyperCuboid, rule: str) -> HyperPath:
    """The path that α stands for.

    Args:
        supernet: gives the weights.
        rule: one of `PATH_RULES`.
    """
    states, choices, _ = PATH_RULES[rule](supernet.path_weights())
    return supernet.path(states, choices)
