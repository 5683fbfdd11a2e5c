"""The studies of `edarts_study.py`: for each its trials, by name, as commands of kdarts, and what comes of them."""

import edarts_figures as figures
import edarts_tables as tables
from edarts_trials import Study, Trial
from kdarts_command import ROOT

from kdarts.cli.options import chosen_method
from kdarts.cli.process import start_tensorflow
from kdarts.cli.search import SEARCH
from kdarts.cli.train import TRAIN
from kdarts.genotypes.edges import topologies
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import get_method
from kdarts.supernet.grids import cuboid_names
from kdarts.supernet.spaces import get_space

SHALLOW = ROOT / "flags" / "train_shallow_cifar10.flags"
DARTS = ROOT / "flags" / "darts_v2_cifar10.flags"
TOPOLOGIES = topologies()
METHODS = {
    "darts": "DARTS",
    "subset": "DARTS + data subset",
    "update": "DARTS + epoch update",
    "both": "DARTS + data subset + epoch update",
}
"""Lines of Table II."""


def size_of(chosen) -> str:
    """One line on what all trials share."""
    train = TRAIN.parse(["train", *_sized(f"--flagfile={SHALLOW}", _TRAIN, chosen)])
    search = chosen_method(SEARCH.parse(["search", *_sized(_recipe(chosen), _SEARCH, chosen)]))
    shallow = f"{train.cells} cells, {train.channels} channels, {train.epochs} epochs"
    parts = [chosen.dataset, f"trained on {chosen.examples or chosen.limit or 'all'} images: {shallow}"]
    if chosen.verb != "topologies":
        halves = f"{chosen.subset_examples} + {chosen.subset_examples} images"
        if chosen.verb != "spaces":
            full = f"{chosen.search_examples} + {chosen.search_examples}" if chosen.search_examples else "all"
            subset = f", subset {halves}" if chosen.verb == "skips" else ""
            method = f"{chosen.method}, " if chosen.verb == "mixings" else ""
            halves = f"{method}{search.cells} cells, {full} images{subset}"
        parts.append(f"searched with {halves}, {search.epochs} epochs")
    return " · ".join([*parts, f"{chosen.seeds} seed{'s' if chosen.seeds > 1 else ''}"])


_TRAIN = {name: name for name in ("epochs", "cells", "channels", "batch_size")} | {"train_examples": "examples"}
_SEARCH = {
    **{"epochs": "search_epochs", "cells": "search_cells", "batch_size": "search_batch_size", "channels": "channels"},
    **{name: name for name in ("order", "arch_learning_rate", "nodes")},
}
"""Flags of the two commands, and the options that they are given by."""


def _recipe(chosen) -> str:
    return f"--method={chosen.method}" if chosen.verb == "mixings" else f"--flagfile={DARTS}"


def _sized(recipe: str, given: dict[str, str], chosen) -> list[str]:
    words = [recipe, f"--dataset={chosen.dataset}"]
    for flag, option in {"data_dir": "data_dir", "limit": "limit", **given}.items():
        value = getattr(chosen, option)
        words += [] if value is None else [f"--{flag}={value}"]
    return words


def _train(chosen, seed: int) -> list[str]:
    return ["train", *_sized(f"--flagfile={SHALLOW}", _TRAIN, chosen), f"--seed={seed}"]


def _search(chosen, seed: int, subset: bool, *words: str) -> list[str]:
    examples = chosen.subset_examples if subset else chosen.search_examples
    halves = [f"--{half}_examples={examples}" for half in ("train", "valid")] if examples else []
    more = [f"--seed={seed}", "--validate_every=0", *words]
    return ["search", *_sized(_recipe(chosen), _SEARCH, chosen), *halves, *more]


def _listed(option: str, text: str, allowed) -> list[str]:
    found = [word.strip() for word in text.split(",")]
    if len(set(found)) < len(found):
        raise KdartsError(f"--{option}={text}: one is there twice")
    return [choice(option, word, allowed) for word in found]


def _seeds(chosen) -> range:
    return range(chosen.seed, chosen.seed + chosen.seeds)


# Topologies


def numbers(text: str) -> list[int]:
    """The numbers of topologies that a text such as `0,7,30-39` names; "": all."""
    if not text:
        return list(range(len(TOPOLOGIES)))
    found = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise KdartsError(f"--numbers={text}: {part!r} is neither a number nor a span such as 30-39")
        found += range(int(first), int(last or first) + 1)
    if len(set(found)) < len(found) or not found or max(found) >= len(TOPOLOGIES):
        raise KdartsError(f"--numbers={text}: allowed are 0 to {len(TOPOLOGIES) - 1}, each once")
    return found


def topology_cells(number: int, both: bool) -> Genotype:
    """The network of a topology: all sep_conv_3x3, in the normal cell, or in both.

    Args:
        number: of the topology, 0 to 179.
        both: whether the reduction cell is the same; else it is all max_pool_3x3 and reads the cell's two inputs.
    """
    nodes = range(2, 6)
    cell, plain = (
        tuple((operation, to, source) for to, pair in zip(nodes, topology, strict=True) for source in pair)
        for operation, topology in (("sep_conv_3x3", TOPOLOGIES[number]), ("max_pool_3x3", TOPOLOGIES[0]))
    )
    return Genotype((cell, cell if both else plain), (tuple(nodes),) * 2)


def _topology_trial(name: str, chosen) -> Trial:
    cells, _, number = name.partition("-")
    words = [*_train(chosen, chosen.seed), *([f"--seeds={chosen.seeds}"] if chosen.seeds > 1 else [])]
    label = {"cells": cells, "topology": int(number)}
    return Trial(label, topology_cells(int(number), cells == "both"), [], words)


def _best(chosen):
    def then(accuracies: dict[str, float]) -> list[str]:
        return [f"both-{name.partition('-')[2]}" for name in tables.best(accuracies, chosen.best)]

    return then


def _topology_rows(measured, chosen, folder) -> list[dict]:
    rows = []
    for name, accuracy in measured:
        trial = _topology_trial(name, chosen)
        summary = trial.summaries(folder / name)[-1]
        inputs = " ".join("".join(map(str, pair)) for pair in TOPOLOGIES[trial.label["topology"]])
        row = {**trial.label, "inputs": inputs, "test_accuracy": accuracy, "params": summary["params"]}
        rows.append(row | ({"sd": summary["test_accuracy_sd"]} if chosen.seeds > 1 else {}))
    return tables.ranking(rows)


# Spaces, skip connections and mixings


def _space_names(chosen) -> list[str]:
    depths = chosen.depths.split(",")
    if not all(depth.strip().isdecimal() and int(depth) for depth in depths):
        raise KdartsError(f"--depths={chosen.depths}: allowed are whole numbers from 1, with commas between")
    spaces = [get_space(name.strip()).name for name in chosen.spaces.split(",")]
    if len(set(spaces)) < len(spaces):
        raise KdartsError(f"--spaces={chosen.spaces}: one is there twice")
    depths = sorted({int(depth) for depth in depths})
    return [f"{space}-depth{depth}-seed{seed}" for seed in _seeds(chosen) for depth in depths for space in spaces]


def _space_trial(name: str, chosen) -> Trial:
    space, depth, seed = name.rsplit("-", 2)
    depth, seed = int(depth.removeprefix("depth")), int(seed.removeprefix("seed"))
    search = _search(chosen, seed, True, "--update=epoch", f"--space={space}", f"--cells={depth}")
    return Trial({"space": space, "depth": depth, "seed": seed}, None, search, _train(chosen, seed))


def _skip_names(chosen) -> list[str]:
    methods = _listed("methods", chosen.methods, METHODS)
    return [f"{method}-seed{seed}" for seed in _seeds(chosen) for method in methods]


def _skip_trial(name: str, chosen) -> Trial:
    method, _, seed = name.partition("-seed")
    update = ["--update=epoch"] if method in ("update", "both") else []
    search = _search(chosen, int(seed), method in ("subset", "both"), *update)
    return Trial({"method": METHODS[method], "seed": int(seed)}, None, search, _train(chosen, int(seed)))


def _mixing_names(chosen) -> list[str]:
    start_tensorflow()
    from kdarts.supernet.relaxation import RELAXATIONS

    method = get_method(chosen.method)
    if method.sharing != "shared" or method.space in cuboid_names():
        raise KdartsError(f"--method={method.name}: needs one that finds a normal and a reduction cell, such as darts")
    mixings = _listed("mixings", chosen.mixings, RELAXATIONS.names())
    return [f"{mixing}-seed{seed}" for seed in _seeds(chosen) for mixing in mixings]


def _mixing_trial(name: str, chosen) -> Trial:
    mixing, _, seed = name.partition("-seed")
    search = _search(chosen, int(seed), False, f"--mixing={mixing}")
    return Trial({"mixing": mixing, "seed": int(seed)}, None, search, _train(chosen, int(seed)))


def _found_rows(trial_of):
    def rows(measured, chosen, folder) -> list[dict]:
        found = []
        for name, accuracy in measured:
            trial = trial_of(name, chosen)
            search, train = trial.summaries(folder / name)
            genotype = Genotype.load(folder / name / "search" / "genotype.json")
            found.append(
                {
                    **trial.label,
                    **tables.skips(genotype),
                    "search_accuracy": search["valid_accuracy"],
                    "test_accuracy": accuracy,
                    "params": train["params"],
                    "macs": train["macs"],
                    "search_seconds": search["wall_seconds"],
                    "search_step_ms": search["step_ms"],
                }
            )
        return found

    return rows


STUDIES = {
    "topologies": Study(
        "Test accuracy of the topologies, all sep_conv_3x3 in the normal cell, the best also in both",
        {"seeds": 1, "seed": 0, "order": "second"},
        lambda chosen: [f"normal-{number:03d}" for number in numbers(chosen.numbers)],
        _topology_trial,
        _best,
        _topology_rows,
        tables.ranking_table,
        figures.TOPOLOGIES,
    ),
    "spaces": Study(
        "Test accuracy of the cells found in each sub-space, by the depth of the supernet",
        {"seeds": 10, "seed": 20, "order": "second"},
        _space_names,
        _space_trial,
        lambda chosen: None,
        _found_rows(_space_trial),
        tables.spaces_table,
        figures.SPACES,
    ),
    "skips": Study(
        "Skip connections and test accuracy of what DARTS finds, with fewer images and with fewer updates of alpha",
        {"seeds": 5, "seed": 0, "order": "second"},
        _skip_names,
        _skip_trial,
        lambda chosen: None,
        _found_rows(_skip_trial),
        tables.skips_table,
        None,
    ),
    "mixings": Study(
        "What a method finds with each mixing: size, skip connections and accuracy",
        {"seeds": 3, "seed": 0, "method": "sharpdarts", "mixings": "softmax,max_w"},
        _mixing_names,
        _mixing_trial,
        lambda chosen: None,
        _found_rows(_mixing_trial),
        tables.mixings_table,
        None,
    ),
}
