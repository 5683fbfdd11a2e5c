"""Parameters and MACs: against the papers' code, and against the networks that are built."""

import math

import keras
import numpy as np
import pytest

from kdarts.genotypes.deepen import deepen
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, get_genotype
from kdarts.networks.network import build_network
from kdarts.ops.cost import Cost, operation_cost
from kdarts.ops.operations import get_operation
from kdarts.supernet.cell import edge_sources
from kdarts.supernet.cost import auxiliary_cost, network_cost, supernet_cost
from kdarts.supernet.macro import check_input_shape, choose_stem, plan_cells
from kdarts.supernet.spaces import get_space
from kdarts.supernet.supernet import Supernet

CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)
CONFIGURATIONS = {
    "cifar10_C36_L20": (CIFAR, 10, 36, 20),
    "cifar100_C36_L20": (CIFAR, 100, 36, 20),
    "cifar10_C32_L20": (CIFAR, 10, 32, 20),
    "cifar10_C16_L5": (CIFAR, 10, 16, 5),
    "imagenet_C48_L14": (IMAGENET, 1000, 48, 14),
}
MIXED = Genotype(  # every operation, shared sources, a node outside the output, an input in it
    (
        (
            ("sep_conv_3x3", 2, 0),
            ("sep_conv_5x5", 2, 0),
            ("conv_7x1_1x7", 3, 1),
            ("skip_connect", 3, 0),
            ("max_pool_3x3", 4, 3),
            ("none", 4, 1),
            ("dil_conv_5x5", 5, 4),
        ),
        (("sep_conv_7x7", 2, 1), ("avg_pool_3x3", 2, 0), ("dil_conv_3x3", 3, 0), ("skip_connect", 3, 1)),
        (("conv_7x1_1x7", 2, 0), ("dil_conv_5x5", 3, 1), ("none", 3, 0), ("skip_connect", 4, 2)),
    ),
    ((2, 3, 5), (2, 3), (4, 3, 2)),
    reductions=(1, 2, 4),
    sequence=(0, 1, 2, 0, 1, 0),
)


def _trainable(model) -> int:
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def _macs(model) -> int:
    """MACs of one image, from the shapes of the layers that were built."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D):
            pixels = math.prod(layer.output.shape[1:3])
            total += math.prod(layer.kernel.shape) * pixels
        elif isinstance(layer, keras.layers.Dense):
            total += math.prod(layer.kernel.shape)
    return total


def _buildable(table) -> dict:
    assert len(table["counts"]) == 72
    return {name: (get_genotype(name), counts) for name, counts in table["counts"].items()}


def test_darts_has_the_parameters_of_its_paper():
    assert network_cost(get_genotype("DARTS_V2"), CIFAR, 10, 36, 20) == Cost(3_349_342, 528_359_040)


@pytest.mark.parametrize(
    "name, params",
    [
        ("DARTS_V1", 3_169_414),
        ("PDARTS", 3_433_798),
        ("PC_DARTS_cifar", 3_634_678),
        ("NASNet", 3_830_950),
        ("AmoebaNet", 3_145_078),
    ],
)
def test_other_published_cells_have_theirs(name, params):
    assert network_cost(get_genotype(name), CIFAR, 10, 36, 20).params == params


@pytest.mark.parametrize("key", CONFIGURATIONS)
def test_parameters_are_those_of_the_papers_code(golden, key):
    for name, (genotype, counts) in _buildable(golden("darts_params.json")).items():
        assert network_cost(genotype, *CONFIGURATIONS[key]).params == counts[key], name


@pytest.mark.parametrize("key, least", [("cifar10_C36_L20", 72), ("imagenet_C48_L14", 10)])
def test_macs_are_those_of_the_papers_code(golden, key, least):
    checked = 0
    for name, (genotype, counts) in _buildable(golden("darts_params.json")).items():
        if f"{key}_macs" in counts:
            assert network_cost(genotype, *CONFIGURATIONS[key]).macs == counts[f"{key}_macs"], name
            checked += 1
    assert checked >= least


@pytest.mark.parametrize(
    "key, alone", [("cifar10_C36_L20", "aux_cifar_only"), ("imagenet_C48_L14", "aux_imagenet_only")]
)
def test_auxiliary_parameters_are_those_of_the_papers_code(golden, key, alone):
    checked = 0
    for name, (genotype, counts) in _buildable(golden("darts_params.json")).items():
        cost = auxiliary_cost(genotype, *CONFIGURATIONS[key])
        if f"{key}_aux" in counts:
            assert counts[key] + cost.params == counts[f"{key}_aux"], name
        if alone in counts:
            assert cost == Cost(counts[alone]), name
            checked += 1
    assert checked == 72


def test_every_count_of_the_papers_code_is_compared(golden):
    keys = {key for counts in golden("darts_params.json")["counts"].values() for key in counts}
    known = {key + end for key in CONFIGURATIONS for end in ("", "_macs", "_aux")}
    assert keys <= known | {"aux_cifar_only", "aux_imagenet_only"}
    assert set(CONFIGURATIONS) <= keys


def test_noise_for_an_operation_costs_nothing(golden):
    """The papers' code builds no such cells."""
    reasons = golden("darts_params.json")["not_buildable"]
    noisy = [name for name, reason in reasons.items() if "noise" in reason]
    assert len(noisy) == 6
    for name in noisy:
        genotype = get_genotype(name)
        cells = tuple(
            tuple(("skip_connect", *edge) if op == "noise" else (op, *edge) for op, *edge in c)
            for c in genotype.cells[:1]
        )
        skips = Genotype((*cells, *genotype.cells[1:]), genotype.concats)
        reduced = [op for op, *_ in genotype.cells[1]]
        if "noise" not in reduced:
            assert network_cost(genotype, CIFAR, 10, 36, 20) == network_cost(skips, CIFAR, 10, 36, 20)
        assert network_cost(genotype, CIFAR, 10, 36, 20).params > 0


BUILT = [
    ("DARTS_V2", (32, 32, 3), 10, 4, 5, "auto"),
    ("DARTS_V1", (28, 28, 1), 7, 6, 4, "auto"),
    ("AmoebaNet", (9, 9, 1), 2, 2, 3, "auto"),
    ("NASNet", (9, 14, 3), 5, 4, 3, "small"),
    ("PC_DARTS_cifar", (15, 15, 2), 3, 4, 3, "cifar"),
    ("FairDARTS_a", (33, 47, 3), 11, 6, 3, "imagenet"),
    ("PDARTS", (96, 96, 3), 10, 2, 4, "auto"),
    ("SNAS_aggressive", (8, 8, 1), 2, 2, 1, "auto"),
    (MIXED, (37, 30, 3), 4, 4, None, "cifar"),
    (MIXED, (65, 64, 1), 4, 6, 6, "imagenet"),
]


@pytest.mark.parametrize("genotype, shape, classes, channels, cells, stem", BUILT)
def test_the_network_that_is_built_has_what_was_counted(genotype, shape, classes, channels, cells, stem):
    genotype = get_genotype(genotype) if isinstance(genotype, str) else genotype
    model = build_network(genotype, shape, classes, channels, cells, stem=stem)
    cost = network_cost(genotype, shape, classes, channels, cells, stem)
    assert cost == Cost(_trainable(model), _macs(model))


@pytest.mark.parametrize(
    "genotype, shape, classes, channels, cells, stem",
    [
        ("DARTS_V2", (32, 32, 3), 10, 4, 3, "auto"),
        ("NASNet", (9, 14, 3), 5, 4, 3, "small"),
        ("AmoebaNet", (65, 64, 3), 3, 2, 4, "imagenet"),
        (MIXED, (28, 28, 1), 4, 4, None, "cifar"),
    ],
)
def test_the_auxiliary_classifier_that_is_built_has_what_was_counted(genotype, shape, classes, channels, cells, stem):
    genotype = get_genotype(genotype) if isinstance(genotype, str) else genotype
    arguments = (genotype, shape, classes, channels, cells)
    model = build_network(*arguments, auxiliary=True, stem=stem)
    auxiliary = auxiliary_cost(*arguments, stem)
    assert auxiliary.params > 4 * 128 * 768
    assert _trainable(model) == network_cost(*arguments, stem).params + auxiliary.params


def test_the_auxiliary_classifier_stands_at_the_last_reduction_wherever_that_is():
    for reductions in ((), (0,), (1, 3)):
        genotype = Genotype(get_genotype("DARTS_V2").cells, ((2, 3, 4), (2, 3, 4, 5)), reductions)
        arguments = (genotype, (16, 16, 3), 10, 4, 4)
        built = _trainable(build_network(*arguments, auxiliary=True)) - _trainable(build_network(*arguments))
        assert auxiliary_cost(*arguments).params == built, reductions


@pytest.mark.parametrize("genotype", ["DARTS_V2", "AmoebaNet"])
def test_parameters_do_not_depend_on_the_size_of_the_image_and_macs_do(genotype):
    genotype = get_genotype(genotype)
    costs = [network_cost(genotype, (n, n, 3), 10, 8, 8, "cifar") for n in (16, 32, 64)]
    assert len({cost.params for cost in costs}) == 1
    classifier = (costs[1].macs * 4 - costs[2].macs) / 3
    assert costs[0].macs < costs[1].macs < costs[2].macs and classifier == (costs[0].macs * 4 - costs[1].macs) / 3


def test_the_cells_of_ddarts_have_the_parameters_of_its_code(golden):
    short = {"edge_abl0.5_fair7_cifar100": "DD-4", "sparse_abl0.5_fair7_cifar100": "DD-5"}
    short |= {"edge_cifar10": "DD-2", "sparse_cifar10": "DD-1"}
    checked = []
    for row in golden("ddarts_params.json")["rows"]:
        # At its own depth the network has its own cells by any mapping; deeper, the code's is not the paper's.
        if not row["genotype"].startswith("D-DARTS") or (row["layers"] != 8 and row["cell_mapping"] != "paper"):
            continue
        genotype = get_genotype(row["genotype"])
        if row["reductions"] == [2, 5]:
            middle = row["genotype"].removeprefix("D-DARTS_threshold_").removesuffix("_0.85_50")
            genotype = get_genotype(short[middle])
        genotype = deepen(genotype, row["layers"])
        assert list(genotype.reductions) == row["reductions"]
        size = (genotype, CIFAR, row["classes"], row["C"], row["layers"])
        assert network_cost(*size).params == row["params"], row
        assert network_cost(*size).params + auxiliary_cost(*size).params == row["params_with_aux"], row
        checked.append(row["params"])
    assert len(checked) == 16 and {3_880_342, 1_711_630, 3_278_602, 1_604_602, 6_276_862} <= set(checked)


def _beyond(name, classes) -> tuple[int, int]:
    """What D-DARTS' code counts, without and with the auxiliary classifier, beyond the network that is built here.

    A published cell begins at a node that nothing leads to. The code counts the edge from there and the width of three
    nodes, and cannot compute them; here the cell is a skip, one node wide.
    """
    if name != "Xception_cifar100_threshold_edge_0.85":
        return 0, 0
    width = 64 * 2**4
    dead, skip = (operation_cost(get_operation(o), width, width, s, (4, 4))[0].params for o, s in UNLIKE)
    return dead - skip + 2 * width * classes, 2 * width * 128


UNLIKE = (("sep_conv_3x3", 1), ("skip_connect", 2))


def test_the_networks_of_dartopti_have_the_parameters_of_its_code(golden):
    checked = []
    for row in golden("ddarts_params.json")["rows"]:
        name, imagenet = row["genotype"], row["network"] == "imagenet"
        if name.startswith("D-DARTS"):
            continue
        size = get_genotype(name), IMAGENET if imagenet else CIFAR, row["classes"], row["C"], row["layers"]
        stem = "imagenet_quarter" if imagenet else "cifar"
        params, auxiliary = network_cost(*size, stem=stem).params, auxiliary_cost(*size, stem=stem).params
        assert list(size[0].reductions) == row["reductions"]
        beyond = _beyond(name, row["classes"])
        assert params + beyond[0] == row["params"], row
        # Its auxiliary classifier for ImageNet has a normalisation that DARTS' has not.
        beyond = sum(beyond) + imagenet * 2 * 768
        assert params + auxiliary + beyond == row["params_with_aux"], row
        checked.append(row["params"])
    known = {36_318_538, 70_443_556, 53_384_072, 73_227_400, 14_166_564, 24_360_522, 15_761_738, 15_966_666}
    assert known <= set(checked) and len(checked) == 39


@pytest.mark.parametrize("name, millions, unread", [("DO-2-ResNet18", 8619, 0), ("DO-2-ResNet50", 10029, 128 * 56**2)])
def test_the_networks_of_dartopti_have_the_mult_adds_of_table_5(name, millions, unread):
    """The paper counts two for each number that a normalisation puts out, too: `unread` is that of an input that one of
    the cells does not read, and that is not built here."""
    arguments = (get_genotype(name), IMAGENET, 1000, 64)
    model = build_network(*arguments, stem="imagenet_quarter")
    assert model.get_layer("cells-3-output").output.shape[1:3] == (7, 7)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    outputs = unread + sum(math.prod(layer.output.shape[1:]) for layer in norms)
    assert round((network_cost(*arguments, stem="imagenet_quarter").macs + 2 * outputs) / 1e6) == millions


@pytest.mark.parametrize("name, millions", [("SHARP_DARTS", 370), ("PC_DARTS_image", 597)])
def test_printed_mult_adds_are_those_with_normalisations_and_activations(name, millions):
    """sharpDARTS' Table 3 and DARTS-PD's Table 2, as docs/papers.md says."""
    arguments = (get_genotype(name), IMAGENET, 1000, 48, 14)
    times = {keras.layers.BatchNormalization: 2, keras.layers.ReLU: 1}
    layers = build_network(*arguments).layers
    outputs = sum(times.get(type(layer), 0) * math.prod(layer.output.shape[1:]) for layer in layers)
    assert round((network_cost(*arguments).macs + outputs) / 1e6) == millions


@pytest.mark.parametrize(
    "name, cells, params",
    [
        ("DD-4", 8, 3_880_342),
        pytest.param("DD-4", 14, 6_276_862, marks=pytest.mark.slow),
        pytest.param("DD-2", 8, 3_278_602, marks=pytest.mark.slow),
    ],
)
def test_the_networks_of_ddarts_are_built_with_the_parameters_of_its_code(name, cells, params):
    genotype = deepen(get_genotype(name), cells)
    assert _trainable(build_network(genotype, CIFAR, 10, 36)) == network_cost(genotype, CIFAR, 10, 36).params == params


def test_what_nothing_reads_is_counted_as_the_papers_do_and_not_built():
    genotype = get_genotype("DD-5")  # its last cell reads nothing of the one before it
    model = build_network(genotype, CIFAR, 10, 4)
    names = {layer.name for layer in model.layers}
    assert not any(name.startswith(("cells-6-", "cells-7-preprocess1")) for name in names)
    assert network_cost(genotype, CIFAR, 10, 36).params == 1_711_630
    assert _trainable(model) < network_cost(genotype, CIFAR, 10, 4).params


def _supernet_cost(channels, cells, shape=CIFAR, classes=10, space="darts", reductions=None, stem="auto") -> Cost:
    shape, chosen = check_input_shape(shape), choose_stem(stem, shape)
    reductions = (cells // 3, 2 * cells // 3) if reductions is None else reductions
    plan = plan_cells(cells, channels, reductions, chosen.halved)
    operations = get_space(space).candidates
    return supernet_cost(operations, plan, edge_sources(4), 4, chosen, shape, classes, channels)


SUPERNETS = {
    "darts_C16_L8_c10": (16, 8),
    "darts_C16_L5_c10": (16, 5),
    "darts_C16_L16_c10": (16, 16),
    "darts_C16_L20_c10": (16, 20),
    "darts_C6_L20_c10": (6, 20),
    "darts_C4_L8_c10": (4, 8),
    "darts_C4_L5_c10": (4, 5),
    "pdarts_all8ops_C16_L5": (16, 5),
}


def test_the_supernet_of_darts_has_the_parameters_of_its_code():
    assert _supernet_cost(16, 8).params == 1_930_618
    assert _supernet_cost(6, 20).params == 897_640


@pytest.mark.parametrize("name", SUPERNETS)
def test_supernets_have_the_parameters_of_the_papers_code(golden, name):
    assert _supernet_cost(*SUPERNETS[name]).params == golden("darts_params.json")["supernets"][name]


def test_no_supernet_of_darts_is_left_out(golden):
    assert {n for n in golden("darts_params.json")["supernets"] if n.startswith("darts_")} <= set(SUPERNETS)


@pytest.mark.parametrize(
    "space, shape, channels, cells, options",
    [
        ("darts", CIFAR, 16, 8, {}),
        ("darts", (28, 28, 1), 4, 3, {}),
        ("ddarts", (9, 9, 2), 6, 2, {"reductions": ()}),
        ("darts", (33, 40, 3), 4, 2, {"stem": "imagenet"}),
    ],
)
def test_the_supernet_that_is_built_has_what_was_counted(space, shape, channels, cells, options):
    net = Supernet(space, shape, 10, channels, cells, **options)
    assert net.cost() == _supernet_cost(channels, cells, shape, 10, space, **options)
    assert net.cost().params == sum(math.prod(v.shape) for v in net.network_variables)


def test_nodes_and_outputs_of_a_supernet_count():
    built = []
    for options in ({"nodes": 2, "multiplier": 2}, {"nodes": 3, "multiplier": 1}, {"sharing": "individual"}):
        net = Supernet("darts", (8, 8, 1), 3, 4, 2, **options)
        built.append(sum(math.prod(v.shape) for v in net.network_variables))
        assert net.cost().params == built[-1]
    assert len(set(built)) == 3


def _operation_by_hand(name, channels, filters, stride):
    """`(parameters, MACs a pixel of the output)` of one operation, from its description in the paper."""
    size = int(name[-1])
    if name.startswith("sep"):
        first, last = size**2 * channels + channels * filters, size**2 * filters + filters**2
        return first + last + 4 * filters, first + last
    weights = size**2 * channels + channels * filters
    return weights + 2 * filters, weights


@pytest.mark.parametrize("name", ["sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "dil_conv_3x3", "dil_conv_5x5"])
@pytest.mark.parametrize("stride, out", [(1, (9, 14)), (2, (5, 7))])
def test_an_operation_costs_what_its_description_says(name, stride, out):
    params, macs = _operation_by_hand(name, 6, 6, stride)
    found, size = operation_cost(get_operation(name), 6, 6, stride, (9, 14))
    assert found == Cost(params, macs * math.prod(out)) and size == out
    bare, _ = operation_cost(get_operation(name), 6, 6, stride, (9, 14), affine=False)
    assert bare.macs == found.macs and bare.params == params - 2 * 6 * (2 if name.startswith("sep") else 1)


@pytest.mark.parametrize(
    "name, squares, channels",
    [
        ("simple_conv_1x1", 1, 2),
        ("simple_conv_3x3", 9, 2),
        ("simple_conv_5x5", 25, 2),
        ("conv_3x1_1x3", 6, 2),
        ("conv_7x1_1x7", 14, 2),
        ("bottleneck_1x3x1", 18, 14),
    ],
)
def test_other_convolutions_cost_what_their_descriptions_say(name, squares, channels):
    for stride in (1, 2):
        cost, size = operation_cost(get_operation(name), 6, 6, stride, (9, 14))
        assert cost.params == squares * 36 + channels * 6 and size == (-(-9 // stride), 14 // stride)
    assert operation_cost(get_operation(name), 6, 6, 1, (9, 14))[0].macs == squares * 36 * 9 * 14


@pytest.mark.parametrize("name", ["none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"])
def test_what_has_no_weights_costs_nothing(name):
    assert operation_cost(get_operation(name), 4, 4, 1, (9, 9)) == (Cost(0, 0), (9, 9))
    cost, size = operation_cost(get_operation(name), 4, 4, 2, (9, 9))
    assert size == (5, 5) and cost == (Cost(4 * 4 + 2 * 4, 4 * 4 * 25) if name == "skip_connect" else Cost())


def test_costs_add_and_multiply():
    assert Cost(1, 10) + Cost(2, 20) == Cost(3, 30) and Cost(1, 10) * 3 == Cost(3, 30)
    assert np.sum([Cost(1, 2), Cost(3, 4)]) == Cost(4, 6)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"input_shape": (7, 8, 3)}, "input shape"),
        ({"input_shape": (32, 32)}, "input shape"),
        ({"channels": 5}, "channels 5"),
        ({"channels": 0}, "channels 0"),
        ({"cells": 0}, "cells 0"),
        ({"cells": None}, "say how many cells"),
        ({"stem": "cifr"}, "did you mean 'cifar'"),
        ({"genotype": Genotype(((("noize", 2, 0),),) * 2, ((2,),) * 2)}, "unknown operation 'noize'"),
        ({"genotype": Genotype(((("none", 2, 0),),) * 2, ((2,),) * 2, reductions=(20,))}, "reductions"),
    ],
)
def test_what_cannot_be_built_is_not_counted(change, said):
    arguments = {"genotype": get_genotype("DARTS"), "input_shape": CIFAR, "num_classes": 10, "channels": 8, "cells": 8}
    assert network_cost(**arguments).params > 0
    with pytest.raises(KdartsError) as caught:
        network_cost(**{**arguments, **change})
    assert said in str(caught.value) and "\n" not in str(caught.value)
