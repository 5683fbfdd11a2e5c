"""A search of a chain that starts from a path: MobileNetV2 at the limits, or one of a file."""

import numpy as np
import pytest
import tensorflow as tf

import kdarts
from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.supernet.cuboids import PublishedHyperCuboid
from kdarts.supernet.mobile import WIDTHS, block_costs, mobile_axes, mobilenet_v2


def searched(**choices):
    """A search in the mobile space of small images."""
    return kdarts.Search("darts", (8, 8, 1), 10, space="mobile", blocks="mb_k3_e3,mb_k3_e6,skip", **choices)


def test_alpha_starts_at_the_path(tmp_path, eagerly):
    search = searched(start="MobileNetV2", width=0.5)
    net, path = search.supernet, search.genotype()
    assert {step["block"] for step in path.steps} == {"mb_k3_e6"} and search.start == path.named("MobileNetV2")
    weights = net.path_weights()[:, 0, 0]
    np.testing.assert_allclose(weights[:, 1], 2 * weights[:, 0], rtol=1e-5)
    assert searched(start="MobileNetV2", width=0.5, mixing="sigmoid").supernet.alphas[0].numpy().max() == 10
    path.save(tmp_path / "path.json")
    again = searched(start=str(tmp_path / "path.json"), order="second")
    np.testing.assert_array_equal(again.supernet.alphas[0], net.alphas[0])
    assert type(search).from_config(search.get_config()).start == search.start
    rng = np.random.default_rng(0)
    half = tf.constant(rng.normal(size=(4, 8, 8, 1)), tf.float32), tf.constant([0, 1, 2, 0])
    search.compile(arch_optimizer=kdarts.SGD(1e4))
    search.fit(tf.data.Dataset.from_tensors((half, half)), epochs=1, verbose=0)
    assert 0 < search.record.history[0]["places_changed"] <= 9


def test_mobilenet_is_as_wide_as_the_limits_let_it_be():
    def size(width):
        (costs, rest), count = block_costs(mobile_axes((8, 8, 1), width=width), 10), range(9)
        return sum((costs[place, 1] for place in count), rest).params

    limit = (size(0.5) + size(0.75)) / 2
    search = searched(start="MobileNetV2", max_params=float(limit))
    net = search.supernet
    assert net.setting()["width"] == 0.5 and search.genotype() == search.start.named("")
    assert net.cost_of(search.start).params == size(0.5) <= limit < size(WIDTHS[WIDTHS.index(0.5) + 1])
    assert searched(start="MobileNetV2").supernet.setting().get("width") is None
    tight = searched(start="MobileNetV2", max_params=0.7 * size(WIDTHS[0]))
    assert tight.supernet.setting()["width"] == WIDTHS[0]
    assert tight.supernet.cost_of(tight.genotype()).params <= 0.7 * size(WIDTHS[0])


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"start": "MobileNetV3"}, r"start: .*MobileNetV3.*; or MobileNetV2"),
        ({"start": "DARTS_V1"}, "start: a grid of choices starts from a path, not from a genotype"),
        (
            {"start": mobilenet_v2(mobile_axes(width=2)), "width": 1.0},
            "start: a path through '1.1 48/2, .*; see --width",
        ),
        ({"start": mobilenet_v2(mobile_axes(blocks="mb_k7_e6,mb_k3_e6"))}, None),
        ({"start": "MobileNetV2", "blocks": "mb_k3_e3,skip"}, "MobileNetV2: is of mb_k3_e6, which blocks .* lack"),
        ({"start": "MobileNetV2", "width": 0.5, "max_ram": 3500.0}, "start: mb_k3_e6 at .* is not among the choices"),
        ({"start": "MobileNetV2", "stop": "distance"}, "stop of a HyperCuboid"),
    ],
)
def test_a_start_that_is_no_path_of_the_search_is_refused(choices, said):
    if said is None:
        return searched(**choices)
    with pytest.raises(KdartsError, match=said) as caught:
        kdarts.Search("darts", (8, 8, 1), 10, space="mobile", **choices)
    assert "\n" not in str(caught.value)


def test_the_command_takes_it(tmp_path, capsys):
    search = ["search", "--space=mobile", "--max_macs=300k", "--start=MobileNetV2", "--dry_run"]
    assert main([*search, f"--workdir={tmp_path / 'run'}"]) == 0
    assert "is that of the start" in capsys.readouterr().out
    assert main([*search, "--start=resnet18", f"--workdir={tmp_path / 'run'}"]) == 2
    assert "--start" in capsys.readouterr().err


def test_other_grids_have_no_named_start():
    net = PublishedHyperCuboid("multichannelnet", (8, 8, 1), 3, 2, 2, 2)
    with pytest.raises(KdartsError, match="start"):
        kdarts.Search(net, discretization="best_path", mixing="max_w", start="MobileNetV2")
