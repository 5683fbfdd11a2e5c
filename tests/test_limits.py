"""Limits of several costs at once: the exact read-out against all networks, and what α is led by."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import kdarts
from kdarts.cli.main import main
from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.knapsack import best_within
from kdarts.search.cost_forms import FORMS
from kdarts.search.cost_target import memory
from kdarts.search.gradients import Validation
from kdarts.search.losses import COST_FORMS
from kdarts.supernet.mobile import WIDTHS, block_costs, fitting_width, mobile_axes

KINDS = ("macs", "params", "flash")


def all_sums(table):
    """The sum of every selection from `[stages, choices]`."""
    total = np.zeros(1)
    for row in table:
        total = (total[:, None] + row).ravel()
    return total


def test_the_knapsack_is_the_best_of_all_selections():
    rng, fitting = np.random.default_rng(0), 0
    for _ in range(300):
        values = rng.normal(size=(4, 5)) * rng.choice([1e-3, 1, 10])
        values[rng.random((4, 5)) < 0.15] = np.nan
        values[np.isnan(values).all(1), 0] = 0.0
        costs = rng.uniform(0, 10, (3, 4, 5)) * np.array([1, 1e6, 1e3])[:, None, None]
        limits = rng.uniform(5, 30, 3) * np.array([1, 1e6, 1e3])
        fits = np.all([all_sums(c) <= limit for c, limit in zip(costs, limits, strict=True)], 0)
        possible = np.where(fits & ~np.isnan(all_sums(values)), all_sums(values), -np.inf)
        found = best_within(values, costs, limits)
        if possible.max() == -np.inf:
            assert found is None
            continue
        fitting, stages = fitting + 1, np.arange(4)
        assert values[stages, found].sum() == pytest.approx(possible.max(), abs=1e-9)
        assert (costs[:, stages, found].sum(1) <= limits * (1 + 1e-9)).all()
    assert 100 < fitting < 300


def of_kinds(axes, kinds=KINDS):
    """The costs of the blocks `[kinds, places, blocks]`, NaN where one may not stand, and those of the rest."""
    costs, around = block_costs(axes, 10)
    table = [[[np.nan if cost is None else getattr(cost, kind) for cost in row] for row in costs] for kind in kinds]
    return np.array(table), np.array([getattr(around, kind) for kind in kinds])


def test_the_knapsack_is_the_best_of_a_million_networks():
    axes = mobile_axes((32, 32, 3))
    costs, around = of_kinds(axes)
    sums = np.stack([all_sums(c) for c in costs]) + around[:, None]
    rng = np.random.default_rng(1)
    for share, scale in ((0.2, 1e-3), (0.5, 1.0), (0.03, 3.0)):
        limits = np.nanmin(sums, 1) + share * (np.nanmax(sums, 1) - np.nanmin(sums, 1)) * rng.uniform(0.8, 1.2, 3)
        values = np.where(np.isnan(costs[0]), np.nan, scale * rng.normal(size=costs[0].shape))
        every = np.where((sums <= limits[:, None]).all(0), all_sums(values), -np.inf)
        found = best_within(values, costs, limits - around)
        assert values[np.arange(9), found].sum() == pytest.approx(np.nanmax(every), abs=1e-9)


def searched(**choices):
    """A search in the mobile space of small images."""
    choices = {"space": "mobile", "width": 0.5, "blocks": "mb_k3_e3,mb_k5_e6,skip", **choices}
    return kdarts.Search("darts", (8, 8, 1), 10, **choices)


def test_what_is_read_out_keeps_all_limits_and_is_the_best_that_does():
    axes = mobile_axes((8, 8, 1), width=0.5, blocks="mb_k3_e3,mb_k5_e6,skip")
    costs, around = of_kinds(axes, (*KINDS, "ram"))
    sums = np.stack([all_sums(c) for c in costs[:3]]) + around[:3, None]
    limits = np.nanquantile(sums, 0.3, axis=1)
    ram = np.nanmax(np.where(np.isnan(costs[3]), 0, costs[3])) - 1
    named = {f"max_{kind}": float(limit) for kind, limit in zip(KINDS, limits, strict=True)}
    search = searched(**named, max_ram=float(ram))
    net, rng = search.supernet, np.random.default_rng(0)
    fits = (sums <= limits[:, None]).all(0) & (all_sums(np.where(costs[3] <= ram, 0.0, np.nan)) == 0)
    forbidden = ~net.allowed[:, 0, 0]
    assert (forbidden == ~(costs[3] <= ram)).all()
    for scale in (1e-3, 1.0, 5.0):
        net.alphas[0].assign(scale * rng.normal(size=net.alphas[0].shape))
        path = search.genotype()
        values = np.log(net.path_weights()[:, 0, 0])
        best = np.where(fits, all_sums(np.where(forbidden, np.nan, values)), -np.inf)
        assert values[np.arange(9), path.choices].sum() == pytest.approx(np.nanmax(best), abs=1e-6)
        found = [getattr(net.cost_of(path), kind) for kind in KINDS[:2]]
        assert (np.array(found) <= limits[:2]).all()
        summary = search.cost_target.summary(path)
        assert [summary[kind] for kind in KINDS[:2]] == found and summary["ram"] <= ram
        assert summary["flash"] <= limits[2] and summary["free_macs"] >= 0
    free = search.genotype("best_path")
    assert net.cost_of(free).macs == search.cost_target.summary(free)["free_macs"]
    again = type(search).from_config(search.get_config())
    np.testing.assert_array_equal(again.supernet.allowed, net.allowed)
    assert again.cost_target.limits == search.cost_target.limits


def test_a_limit_pulls_only_while_it_is_passed():
    costs, around = of_kinds(mobile_axes((8, 8, 1), width=0.5, blocks="mb_k3_e3,mb_k5_e6,skip"))
    limits = (np.nanmin(costs, 2).sum(1) + around)[:2] * 1.05
    search = searched(max_macs=limits[0], max_params=limits[1])
    control, net = search.cost_target, search.supernet
    macs, params = control.multipliers
    large = np.tile([0.0, 1.0, -1.0], (9, 1))
    gradients = [tf.ones_like(net.alphas[0].value)]
    at = Validation(gradients, None, [], [])
    for alpha, over in ((large, True), (-large, False)):
        net.alphas[0].assign(np.where(net.allowed[:, 0, 0], alpha, 0))
        for one in (macs, params):
            one.integral.assign(0.0)
        control.updated(1)
        cost = net.cost_of(search.genotype("best_path"))
        assert (cost.macs > limits[0], cost.params > limits[1]) == (over, over)
        assert [float(one.weight()) > 0 for one in (macs, params)] == [over, over]
        [pull] = control.gradients(at)
        assert np.any(pull.numpy() != 0) == over
        if over:  # Descending it makes the large block less likely.
            assert (pull.numpy()[:, 1] > 0).all() and (pull.numpy()[:, 2][net.allowed[:, 0, 0, 2]] < 0).all()
    logs = control.epoch_logs(search)
    assert logs["macs"] <= limits[0] and logs["macs_weight"] == 0.0


def test_a_published_form_has_the_gradient_of_its_loss():
    """Of a made-up validation loss, by differences; with the costs of the blocks themselves."""
    assert set(FORMS) == {*COST_FORMS} - {"multiplier"}
    net = searched().supernet
    for form in FORMS:
        _check_form(form, net)


def _check_form(form, net):
    costs, _ = of_kinds(mobile_axes((8, 8, 1), width=0.5, blocks="mb_k3_e3,mb_k5_e6,skip"))
    power = {"cost_power": 0.7} if FORMS[form].multiplies else {}
    choices = {"max_macs": 110e3, "max_params": 9e3, "cost_form": form, "cost_weight": 0.3, **power}
    search = kdarts.Search(net, discretization="best_path", **choices)
    control = search.cost_target
    allowed, rng = net.allowed[:, 0, 0], np.random.default_rng(0)
    alpha, slope = rng.normal(size=allowed.shape), rng.normal(size=allowed.shape) * allowed
    around = of_kinds(net.cuboid)[1]

    def loss(alpha):
        p = np.exp(np.where(allowed, alpha, -np.inf))
        p /= p.sum(1, keepdims=True)
        plain = 2.0 + (slope * alpha).sum()
        c, t = (p * np.nan_to_num(costs[:2])).sum((1, 2)) + around[:2], np.array([110e3, 9e3])
        each = {
            "fbnet": 0.3 * np.log(c) ** 0.7,
            "proxyless_product": 0.3 * (np.log(c) / np.log(t)) ** 0.7,
            "proxyless_sum": 0.3 * (c - t) / t,
            "absolute": 0.3 * abs(c / t - 1),
            "hinge": 0.3 * np.maximum(0, c / t - 1),
        }[form]
        return plain * each.prod() if FORMS[form].multiplies else plain + each.sum()

    net.alphas[0].assign(alpha * allowed)
    at = Validation([tf.constant(slope, "float32")], tf.constant(2.0 + (slope * alpha).sum(), "float32"), [], [])
    [more] = control.gradients(at)
    differences = np.zeros_like(slope)
    for place in np.argwhere(allowed):
        step = np.zeros_like(slope)
        step[tuple(place)] = 1e-6
        differences[tuple(place)] = (loss(alpha + step) - loss(alpha - step)) / 2e-6
    np.testing.assert_allclose((slope + more.numpy()), differences, atol=2e-3 * np.abs(differences).max())
    assert np.abs(more.numpy()[allowed]).min() > 0 or form == "hinge"
    logs = control.epoch_logs(search)
    assert logs["macs"] <= 110e3 and logs["expected_macs"] > 0 and "macs_weight" not in logs


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"cost_form": "fbnet"}, "cost_form 'fbnet': needs a limit such as max_macs"),
        ({"cost_form": "fbnet", "max_ram": 1e5}, "cost_form 'fbnet': needs a limit such as max_macs"),
        (
            {"cost_form": "hinge", "max_macs": 1e5, "cost_power": 1.0},
            "cost_power 1: has no effect with cost_form 'hinge'",
        ),
        (
            {"cost_weight": 0.3, "max_macs": 1e5},
            "cost_weight 0.3: has no effect with cost_form 'multiplier'; it is for",
        ),
        ({"cost_form": "hinge", "max_macs": 1e5, "update": "frozen"}, "cost_form 'hinge': α does not move"),
        ({"max_macs": 1e3}, r"max_macs 1000: the least possible here is \d+,\d+"),
        ({"max_ram": 100.0}, "max_ram 100: the least that any network here needs is"),
        ({"max_macs": 62e3, "max_params": 100.0}, r"max_params 100: the least possible with max_macs 62000 is \d"),
        ({"max_macs": 1e6, "target_params": 1e4}, "target_params and max_macs: allowed is a target or limits"),
        ({"max_latency_ms": 1.0}, "max_latency_ms and latency_table need each other"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(choices, said):
    with pytest.raises(KdartsError, match=said) as caught:
        searched(**choices)
    assert "\n" not in str(caught.value)


def test_two_limits_that_exclude_each_other_are_told_apart():
    """Few weights ask for small blocks where channels are many, and few MACs where pixels are."""

    def build(step):
        return keras.layers.Dense(4, use_bias=step["bias"], activation=step["kind"])

    net = kdarts.HyperCuboid(
        (4,), {"block": (1, 2)}, {}, {"bias": (True, False), "kind": ("relu",)}, build=build, head=lambda _: []
    )
    search = kdarts.Search(net, discretization="best_path", max_params=36.0)
    net.alphas[0].assign([[5.0, 0.0], [4.0, 0.0]])
    assert search.genotype().choices == (0, 1)
    with pytest.raises(KdartsError, match="max_params 31: the least possible with max_macs 32 is 32"):
        kdarts.Search(net, discretization="best_path", max_params=31.0, max_macs=32.0)
    with pytest.raises(KdartsError, match="is about a chain of choices, without states"):
        wide = {"build": build, "head": lambda _: []}
        states = kdarts.HyperCuboid((4,), {"block": (1,)}, {"s": (1, 2)}, {"bias": (True,), "kind": ("relu",)}, **wide)
        kdarts.Search(states, discretization="best_path", max_params=36.0)


def test_cells_have_no_limits():
    with pytest.raises(KdartsError, match="max_macs: is about a chain of choices such as space 'mobile'; cells take"):
        kdarts.Search("darts", (8, 8, 1), 10, channels=4, cells=2, max_macs=1e6)


def test_limits_choose_a_width():
    at = (32, 32, 3), 10
    widths = [fitting_width(*at, {"macs": macs}) for macs in (1e9, 12.5e6, 6e6, 1.0)]
    assert widths[0] == max(WIDTHS) and widths[-1] == min(WIDTHS)
    assert widths == sorted(widths, reverse=True) and widths[1] in (1.0, 1.25)
    assert fitting_width(*at, {"macs": 12.5e6, "ram": 60 * 1024}) < widths[1]
    assert fitting_width(*at, {"macs": 12.5e6, "ram": 60 * 1024}) == fitting_width(*at, {"macs": 12.5e6, "ram": 61_440})


def test_bytes_are_read():
    assert [memory(text) for text in ("64KiB", "100kB", "1.5 MiB", "65536", "2MB")] == [
        *(65_536, 100_000, 1_572_864, 65_536, 2_000_000)
    ]
    for text in ("64k", "KiB", "-1kB", "64 kb"):
        with pytest.raises(KdartsError, match="needs a number of bytes"):
            memory(text)


def test_the_command_takes_limits_together(tmp_path, capsys):
    limits = ["--max_macs=300k", "--max_params=60k", "--max_ram=16KiB", "--max_flash=150kB"]
    search = ["search", "--space=mobile", *limits, "--dry_run", f"--workdir={tmp_path}"]
    assert main(search) == 0
    assert "fits the limits best" in capsys.readouterr().out
    assert main([*search, "--width=2", "--max_ram=1KiB"]) == 2
    assert "--max_ram=1024: the least that any network here needs is" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_within_limits(tmp_path, capsys):
    limits = ["--max_macs=160k", "--max_params=20k", "--max_ram=8KiB", "--max_flash=80kB"]
    few = ["--train_examples=256", "--valid_examples=128", "--epochs=2", "--width=0.75"]
    assert main(["search", "--space=mobile", *limits, *few, f"--workdir={tmp_path}"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    path = HyperPath.load(tmp_path / "genotype.json")
    capsys.readouterr()
    assert main(["info", str(tmp_path / "genotype.json")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["params"] == summary["params"] <= 20_000 and told["macs"] == summary["macs"] <= 160_000
    assert told["ram"] == summary["ram"] <= 8 * 1024 and told["flash"] == summary["flash"] <= 80_000
    assert len(path.choices) == 9 and "macs_weight" in (tmp_path / "history.csv").read_text()
