"""Every method in Python and by the command: the same search, bit for bit; and on a supernet that is not its own."""

import numpy as np
import pytest

import kdarts
from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import get_method, method_names
from kdarts.supernet.supernet import Supernet

TINY = {"channels": 4, "cells": 2, "nodes": 2, "epochs": 2, "batch_size": 8}
"""Sizes at which a search takes seconds."""

OWN = {
    "blank_pt": {"removal_batches": 1},
    "dartopti": {"channels": 2},
    "darts_pt": {"removal_batches": 1},
    "ddarts": {"cells": 2},
    "dartspd": {"channels": 8, "path_epochs": 1, "population": 3, "generations": 2, "path_batch_size": 8},
    "placed_skips": {"path_epochs": 1, "path_batch_size": 8},
    "lambda_darts": {"cells": 4},
    "pcdarts": {"channels": 8},
    "pdarts": {"stages": "2:8:0,3:4:0.4"},
    "random": {"samples": 5},
    **{name: {"population": 3, "generations": 2, "path_batch_size": 8} for name in ("spos", "fairnas")},
    "zero_cost_pt": {"removal_repeats": 2},
    "zero_cost": {"samples": 5, "score": "az_nas"},
}
"""What a method needs otherwise."""

PATHS = {"family_channels": 4, "family_cells": 2, "calibration_batches": 1, "path_drop_path": 0.3, "path_cutout": 2}

DATA = {"train_examples": 16, "valid_examples": 16}

START = Genotype(
    ((("sep_conv_3x3", 2, 0), ("skip_connect", 2, 1)), (("sep_conv_5x5", 2, 1), ("max_pool_3x3", 2, 0))),
    ((2,), (2,)),
    reductions=(1,),
    sequence=(0, 1),
)
"""What DARTOpti improves."""


def choices_of(name: str) -> dict:
    """The choices of a tiny search of a method, on both sides."""
    choices = {**TINY, **OWN.get(name, {})}
    if name == "dartspd":
        choices |= PATHS
    if name in ("spos", "fairnas"):
        choices |= {key: PATHS[key] for key in ("family_channels", "family_cells", "calibration_batches")}
    if name in ("pdarts", "dartopti"):
        choices.pop("cells")
    if name == "dartopti":
        choices.pop("nodes")
    return choices


def in_python(name: str, choices: dict, seed: int = 0) -> kdarts.Search:
    """The finished search of `Search(name, ...).fit(...)`."""
    choices = dict(choices)
    batch_size = choices["batch_size"]
    method = get_method(name).small()
    if "stages" in choices:
        from kdarts.search.stages import parse_stages

        choices["stages"] = parse_stages(choices["stages"])
    start = {"start": START} if name == "dartopti" else {}
    search = kdarts.Search(method, (8, 8, 1), 10, seed=seed, **start, **choices)
    search.fit(kdarts.search_dataset("digits", batch_size, seed=seed, **DATA), verbose=0)
    return search


def by_command(name: str, choices: dict, workdir, seed: int = 0) -> None:
    """The same by `kdarts search`."""
    START.save(workdir.parent / "start.json")
    start = [f"--start={workdir.parent / 'start.json'}"] if name == "dartopti" else []
    words = [f"--{key}={value}" for key, value in {**choices, **DATA, "seed": seed}.items()]
    assert main(["search", f"--method={name}", f"--workdir={workdir}", "--validate_every=0", *start, *words]) == 0


QUICK = ("snas",)
"""A schedule and one level are run by default, the rest in the long run: paths, stages, targets."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in method_names()]
)
def test_a_method_is_the_same_in_python_and_by_the_command(name, eagerly, tmp_path, capsys):
    choices = choices_of(name)
    search = in_python(name, choices)
    by_command(name, choices, tmp_path / "run")
    with np.load(tmp_path / "run" / "alphas.npz") as noted:
        assert noted.files == list(search.supernet.alpha_names)
        for key, alpha in zip(noted.files, search.supernet.alphas, strict=True):
            # A selection that goes on with the search moves α after its record.
            value = search.record.arrays[key][-1] if search.method.removal_tune else alpha.numpy()
            left = search.supernet.mixture.candidates
            there = np.isfinite(noted[key][-1])
            assert left is None or there.sum() < there.size
            np.testing.assert_array_equal(noted[key][-1][there], value[there])
            assert len(noted[key]) == len(search.record.history)
    assert (tmp_path / "run" / "genotype.json").read_text("utf-8") == search.genotype().to_json()


@pytest.mark.parametrize("name", [*method_names()])
def test_a_method_refuses_a_plain_supernet_that_contradicts_it(name):
    """Names the axis; or the plain supernet of DARTS is what the method asks for."""
    own = {
        **dict.fromkeys(("blank_pt", "ddarts", "fairdarts", "dartopti", "drnas", "drnas_progressive"), "mixing"),
        **dict.fromkeys(("gaea", "i_darts", "is_darts", "kdarts", "sharpdarts", "zero_cost_pt"), "mixing"),
        **dict.fromkeys(("gdas", "random", "reinmax", "snas", "spos", "fairnas", "zero_cost"), "sampling"),
        **dict.fromkeys(("pcdarts", "dartspd"), "partial_channels"),
        "darts_minus": "auxiliary_skip",
        "edarts": "topology",
        "lambda_darts": "alignment_weight",
        "multichannelnet": "discretization",
        "pdarts": "stages",
    }
    plain = Supernet("darts", (8, 8, 1), 10, channels=4, cells=2)
    choices = {"sharing": "shared", "stop": "epochs"} if name == "dartopti" else {}
    for method in (name, get_method(name)):
        if name in own:
            with pytest.raises(KdartsError, match=own[name]):
                kdarts.Search(plain, method, **choices)
        else:
            assert kdarts.Search(plain, method).method.name == name


def test_individual_cells_need_a_supernet_of_individual_cells():
    plain = Supernet("darts", (8, 8, 1), 10, channels=4, cells=2)
    with pytest.raises(KdartsError, match="sharing: method 'darts' has 'individual', the supernet 'shared'"):
        kdarts.Search(plain, "darts", sharing="individual")


@pytest.mark.parametrize("name", ["gdas", "darts", "pairs"])
def test_a_name_and_its_method_derive_alike_where_a_space_leaves_no_choice(name):
    net = Supernet("nasbench201", (8, 8, 1), 10, channels=4, cells=1, sampling="gumbel" if name == "gdas" else "all")
    method, choices = ("darts", {"discretization": "argmax"}) if name == "pairs" else (name, {})
    by_name, by_method = (kdarts.Search(net, given, **choices) for given in (method, get_method(method)))
    assert by_name.method == by_method.method and by_name.method.discretization == "argmax"
    assert by_name.genotype() == by_method.genotype()


def test_schedules_reach_their_ends_in_fit(eagerly):
    """After `fit` the loss of beta-DARTS is weighed, and the temperature of GDAS has fallen."""
    data = kdarts.search_dataset("digits", 8, **DATA)
    for name in ("beta_darts", "gdas"):
        search = kdarts.Search(name, (8, 8, 1), 10, channels=2, cells=1)
        search.fit(data, epochs=3, verbose=0)
        assert float(search.supernet.mixture.progress.numpy()) == pytest.approx(2 / 3)
        rate = search.method.learning_rate
        assert float(search.optimizer.learning_rate.numpy()) < rate
        assert next(row["learning_rate"] for row in search.record.history) == pytest.approx(rate)


def test_a_search_builds_what_its_method_needs():
    search = kdarts.Search("gdas", input_shape=(32, 32, 3), num_classes=10, channels=4, cells=2)
    assert search.supernet.sampling == "gumbel" and search.supernet.channels == 4
    assert kdarts.Search("pcdarts", (8, 8, 1), 10, channels=8, cells=1).supernet.partial_channels == 4
    with pytest.raises(KdartsError, match="needs input_shape and num_classes"):
        kdarts.Search("gdas")
    with pytest.raises(KdartsError, match="no axis 'channel'"):
        kdarts.Search("gdas", (8, 8, 1), 10, channel=4)
