"""A search of a chain that starts from a path: MobileNetV2 at the limits, or one of a file."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import kdarts
from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.search.path_start import at_axes, chosen_path, start_from_path
from kdarts.supernet.cuboids import PublishedHyperCuboid
from kdarts.supernet.mobile import START_WIDTHS, block_costs, mobile_axes, mobilenet_v2, start_width


def searched(**choices):
    """A search in the mobile space of small images."""
    return kdarts.Search("darts", (8, 8, 1), 10, space="mobile", blocks="mb_k3_e3,mb_k3_e6,skip", **choices)


def test_alpha_starts_at_the_path(tmp_path, eagerly):
    search = searched(start="MobileNetV2", width=0.5)
    net, path = search.supernet, search.genotype()
    assert {step["block"] for step in path.steps} == {"mb_k3_e6"} and search.start == path.named("MobileNetV2")
    weights = net.path_weights()[:, 0, 0]
    np.testing.assert_allclose(weights[:, 1], 2 * weights[:, 0], rtol=1e-5)
    alone = SimpleNamespace(mixing="sigmoid", alphas=[tf.Variable(net.alphas[0].numpy())])
    start_from_path(alone, path)
    np.testing.assert_array_equal(alone.alphas[0], 10 * (weights == np.nanmax(weights, 1, keepdims=True)))
    path.save(tmp_path / "path.json")
    read = chosen_path("mobile", str(tmp_path / "path.json"))
    assert at_axes(read, net) == path and start_width(read, (8, 8, 1), 10, {}) == 0.5
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
    net, sizes = search.supernet, {width: size(width) for width in START_WIDTHS}
    assert sizes[net.setting()["width"]] == max(each for each in sizes.values() if each <= limit) > size(0.5)
    assert search.genotype() == search.start.named("") and net.cost_of(search.start).params <= limit
    assert start_width("MobileNetV2", (8, 8, 1), 10, {"params": 0.7 * size(0.25)}) == 0.25
    assert start_width("MobileNetV2", (8, 8, 1), 10, {}) is None


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"start": "MobileNetV3"}, r"start: .*MobileNetV3.*; or MobileNetV2"),
        ({"start": "DARTS_V1"}, "start: a grid of choices starts from a path, not from a genotype"),
        (
            {"start": mobilenet_v2(mobile_axes(width=2)), "width": 0.25, "blocks": "mb_k3_e6"},
            "start: a path through '1.1 48/2, .*; see --width",
        ),
        ({"start": "MobileNetV2", "blocks": "mb_k3_e3,skip"}, "MobileNetV2: is of mb_k3_e6, which blocks .* lack"),
        ({"start": "MobileNetV2", "width": 0.5, "max_ram": 3500.0}, "start: mb_k3_e6 at .* is not among the choices"),
        ({"start": "MobileNetV2", "stop": "distance"}, "stop of a HyperCuboid"),
    ],
)
def test_a_start_that_is_no_path_of_the_search_is_refused(choices, said):
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
