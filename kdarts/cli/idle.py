"""Options that were given and change nothing in a run: each is told once, before the run begins."""

import sys

from absl import flags

from kdarts.cli import options, process, recipe, seeds
from kdarts.genotypes.settings import SCHEDULES, settings_of
from kdarts.ops.operations import get_operation
from kdarts.search.method import AXES, Method, get_method
from kdarts.supernet.grids import get_cuboid
from kdarts.supernet.spaces import get_space


def tell(found: list[str]) -> None:
    """Prints a note on each; in a process that another command has started nothing, as that one has told."""
    if not process.is_child():
        for note in found:
            print(f"note: {note}", file=sys.stderr, flush=True)


def in_search(values: flags.FlagValues, method: Method) -> list[str]:
    """Returns what to say of options that change nothing in a search of `method`."""
    given = [name for name in options.names() if values[name].present]
    found = []
    for slot in AXES:
        axis, kinds = method.axes[slot.key], slot.kinds()
        for name in given:
            owners = [kind.name for kind in kinds if name in settings_of(kind)]
            if owners and name not in settings_of(type(axis)):
                found.append(_idle(values, name, slot.key, axis.name, owners))
    for term in method.losses.values():
        weight, *others = settings_of(type(term))
        idle = [] if term.active else [name for name in given if name in others]
        found += [f"{_written(values, name)}: has no effect without --{weight}" for name in idle]
    if not method.paths:
        of_paths = [name for name in settings_of(type(method.axes["path_choice"])) if name != "paths"]
        idle = [name for name in given if name in (*of_paths, "path_choice")]
        found += [f"{_written(values, name)}: has no effect without --paths" for name in idle]
    if "level" in given and method.gradient.joint:
        found.append(_idle(values, "level", "order", method.order, ["an order with a batch of α's own"]))
    if "alignment_radius" in given and not method.alignment_weight:
        found.append(f"{_written(values, 'alignment_radius')}: has no effect without --alignment_weight")
    if method.arch_optimizer == "sgd":
        betas = [name for name in ("arch_beta_1", "arch_beta_2") if name in given]
        found += [_idle(values, name, "arch_optimizer", "sgd", ["adam"]) for name in betas]
    found += _of_schedule(values, method.schedule)
    if "epochs" in given and not method.trains:
        found.append(f"{_written(values, 'epochs')}: has no effect with --score={method.score}: nothing is trained")
    if "attention_mode" in given and not method.attention:
        found.append(f"{_written(values, 'attention_mode')}: has no effect without --attention")
    if values.seeds is None:
        idle = [name for name in sorted(seeds.flag_names() - {"hold_back"}) if values[name].present]
        found += [f"{_written(values, name)}: has no effect without --seeds" for name in idle]
    return found + (_of_grid(values, method, given) if method.on_grid else _of_space(values, method))


def _of_grid(values, method, given) -> list[str]:
    """Sizes of cells and of other grids that are none of a grid's."""
    sizes = get_cuboid(method.space).sizes
    idle = [name for name in ("channels", "cells") if name in given and name not in sizes]
    own = ", ".join(f"--{name}" for name in sizes)
    if method.paths:
        idle += [name for name in ("family_channels", "family_cells", "family_stem") if name in given]
    return [
        f"{_written(values, name)}: has no effect with --space={method.space}; its sizes are {own}" for name in idle
    ]


def _of_space(values, method) -> list[str]:
    """What of a method has no place in its space."""
    space, found = get_space(method.space), []
    lacking = [name for name, _ in method.attention if get_operation(name).name not in space.operations]
    if lacking:
        found.append(f"--attention has no effect on {', '.join(lacking)}, which --space={space.name} lacks")
    topology = get_method(values.method).topology
    if topology and space.stages:
        found.append(f"--space={space.name} keeps all edges: --topology={topology} of {values.method} has no effect")
    return found


def in_training(values: flags.FlagValues) -> list[str]:
    """Returns what to say of options that change nothing in a training."""
    found = _of_schedule(values, values.schedule)
    if values["auxiliary_weight"].present and not values.auxiliary:
        found.append(f"{_written(values, 'auxiliary_weight')}: has no effect without --auxiliary")
    return found + recipe.idle(values)


def _of_schedule(values, schedule: str) -> list[str]:
    """What of a learning rate a schedule has no place for."""
    found = []
    bent = [name for name in SCHEDULES if name.startswith("cosine_power")]
    if values["power"].present and schedule not in bent:
        found.append(_idle(values, "power", "schedule", schedule, bent))
    falling = [name for name in SCHEDULES if name.startswith("cosine")]
    if values["final_learning_rate"].present and values.final_learning_rate and schedule not in falling:
        found.append(_idle(values, "final_learning_rate", "schedule", schedule, falling))
    return found


def _idle(values, name: str, chooser: str, chosen: str, owners: list[str]) -> str:
    return f"{_written(values, name)}: has no effect with --{chooser}={chosen}; it is for {', '.join(owners)}"


def _written(values, name: str) -> str:
    return f"--{name}={options.as_text(values[name].value)}"
