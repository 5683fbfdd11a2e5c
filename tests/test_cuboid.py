"""The axes of a HyperCuboid, paths through it, and which of them its weights stand for."""

import itertools
import json

import numpy as np
import pytest

from kdarts.genotypes.cuboid import (
    LIMIT,
    Cuboid,
    HyperPath,
    describe_path,
    get_path,
    label,
    load_architecture,
    path_names,
    path_of,
)
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.path_space import best_path, greedy_path, live

CUBOID = Cuboid(
    {"layer": range(2), "stride": (1, 2)},
    {"width": (4, 8), "bias": (False, True)},
    {"kernel": (3, 5), "activation": ("relu", "tanh")},
)


def softmaxed(alphas):
    """Reference α `[stride, layer, c_in, c_out, primitive]` as weights of stages."""
    alphas = np.asarray(alphas).swapaxes(0, 1)
    stages = 2 * len(alphas)
    rows = np.exp(alphas.reshape(stages, -1))
    return (rows / rows.sum(1, keepdims=True)).reshape(stages, *alphas.shape[2:])


def scored(weights, states, choices):
    """Sum of the weights along a path."""
    return sum(weights[t, states[t], states[t + 1], choices[t]] for t in range(len(weights)))


def test_axes_are_combined_with_the_last_fastest():
    assert CUBOID.shape == (4, 4, 4, 4)
    assert Cuboid({"layer": (0, 1)}, {"width": (4, 8)}, {"kernel": (3, 5, 7)}).paths == 2**3 * 3**2
    assert [label(p, True) for p in CUBOID.positions[:3]] == [
        "layer 0, stride 1",
        "layer 0, stride 2",
        "layer 1, stride 1",
    ]
    step = CUBOID.step(1, 0, 3, 2)
    assert (step["stride"], step["width"], step["bias"], step["kernel"]) == (2, 8, True, 5)
    assert step.source == {"width": 4, "bias": False}
    assert dict(CUBOID.steps())[1, 0, 3, 2] == step
    with pytest.raises(KdartsError, match="no axis 'depth'"):
        step["depth"]


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (({},), "sequence: needs an axis"),
        (({"a": ()},), "one or more"),
        (({"a": (1, 1)},), "a value twice"),
        (({"a": (1,)}, {"a": (2,)}), "a name of its own"),
        (({"a": (None,)},), "texts, numbers"),
        (({"a": (float("nan"),)},), "finite"),
        (({"a": 3},), "needs {name: values}"),
        (({"a": range(LIMIT + 1)},), "allowed are 100,000"),
    ],
)
def test_wrong_axes_are_refused(axes, said):
    with pytest.raises(KdartsError, match=said):
        Cuboid(*axes)


def test_a_path_survives_its_file(tmp_path):
    path = HyperPath(CUBOID, (0, 3, 1, 2, 2), (0, 1, 2, 3), name="mine")
    assert path.start == {"width": 4, "bias": False}
    assert path.end == {"width": 8, "bias": False}
    assert path.steps[3].choice == {"kernel": 5, "activation": "tanh"}
    path.save(tmp_path / "path.json")
    assert HyperPath.load(tmp_path / "path.json") == path == load_architecture(tmp_path / "path.json")
    assert isinstance(load_architecture("DARTS_V2"), Genotype)
    with pytest.raises(KdartsError, match="needs 5 numbers from 0 to 3"):
        HyperPath(CUBOID, (0, 4, 1, 2, 2), (0, 1, 2, 3))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "kdarts-path-2"}, "not a path"),
        ({"more": 1}, "unknown keys"),
        ({"steps": []}, "the sequence has 4 stages"),
        ({"start": {"width": 5, "bias": False}}, "width 5 is none of 4, 8"),
        ({"start": {"width": True, "bias": False}}, "width True is none"),
        ({"start": {"width": 4}}, "start: needs width, bias"),
        ({"steps": [{"width": 4}] * 4}, "step 0: needs width, bias, kernel, activation"),
        ({"choices": {"kernel": 3}}, "choices must be"),
        ({"name": 3}, "name must be text"),
    ],
)
def test_a_damaged_path_is_refused(change, said):
    data = json.loads(HyperPath(CUBOID, (0,) * 5, (0,) * 4).to_json())
    with pytest.raises(KdartsError, match=said):
        HyperPath.from_json(json.dumps({**data, **change}), "file")
    with pytest.raises(KdartsError, match="not JSON"):
        HyperPath.from_json("{")


def test_the_best_path_is_the_best_of_all():
    weights = np.random.default_rng(0).random((3, 3, 3, 2))
    weights[1, :, 2] = np.nan
    states, choices, score = best_path(weights)
    paths = itertools.product(itertools.product(range(3), repeat=4), itertools.product(range(2), repeat=3))
    assert score == pytest.approx(np.nanmax([scored(weights, *path) for path in paths]))
    assert scored(weights, states, choices) == pytest.approx(score)
    with pytest.raises(KdartsError, match="no path leads through"):
        best_path(np.full((2, 2, 2, 1), np.nan))
    with pytest.raises(KdartsError, match="needs finite"):
        best_path(np.zeros((2, 2, 3, 1)))


def test_a_greedy_path_enters_no_dead_end():
    weights = np.full((2, 3, 3, 1), np.nan)
    weights[0, 0, :, 0] = 0.1, 0.2, 0.9
    weights[1, 0, 0, 0], weights[1, 1, 1, 0] = 0.8, 0.3
    assert greedy_path(weights) == ([0, 1, 1], [0, 0], pytest.approx(0.5))
    assert greedy_path(weights, backward=True) == ([0, 0, 0], [0, 0], pytest.approx(0.9))
    assert greedy_path(weights, begin=0)[0] == [0, 1, 1]
    with pytest.raises(KdartsError, match="begins in state 2"):
        greedy_path(weights, begin=2)
    through = live(weights > 0, starts=[True, True, True], ends=[True, False, False])
    assert np.argwhere(through).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0]]


def test_paths_are_those_of_the_reference(golden):
    table = golden("multichannelnet_paths.json")
    names = table["primitives_order_for_random"]
    for case in table["cases"]:
        weights, scales = softmaxed(case["alphas"]), case["Cs"]

        def spelled(states, choices, scales=scales):
            ends = zip(states, states[1:], choices, strict=False)
            return [[t // 2, t % 2 + 1, scales[i], scales[o], names[p]] for t, (i, o, p) in enumerate(ends)]

        states, choices, score = best_path(weights)
        assert spelled(states, choices) == case["longest_path_ops"]
        assert score == pytest.approx(case["path_score"], rel=1e-6)
        down, up = greedy_path(weights, begin=0), greedy_path(weights, backward=True, begin=0)
        assert spelled(*down[:2]) == case["greedy_top_down_intended_from_c0"]
        assert spelled(*up[:2]) == case["greedy_bottom_up_from_c0"]


def test_the_zoo_has_the_published_paths(golden):
    published = golden("sharp_genotypes.json")
    assert set(path_names()) == set(published["multichannel_path"])
    for name, wanted in published["multichannel_path"].items():
        path = get_path(name)
        assert path.start == {"filters": wanted["stem_filters"]}
        ops = [
            {**s.position, "c_in": s.source["filters"], "c_out": s["filters"], "primitive": s["primitive"]}
            for s in path.steps
        ]
        assert ops == wanted["ops"]
        assert "sharpDARTS" in describe_path(name)
    for kind in ("SCALAR", "MAX_W"):
        raw = published["multichannel_raw_weights"][f"MULTI_CHANNEL_{kind}"]
        weights = np.stack([raw["normal"], raw["reduce"]]).swapaxes(0, 1)[..., ::-1].reshape(8, 4, 4, 2)
        path = get_path(f"MULTI_CHANNEL_{kind}_PATH")
        assert best_path(weights)[:2] == (list(path.states), list(path.choices))
        path = get_path(f"MULTI_CHANNEL_GREEDY_{kind}_BOTTOM_UP")
        begin = path.states[-1]
        assert greedy_path(weights, True, begin)[:2] == (list(path.states), list(path.choices))


def test_a_path_of_unknown_values_is_refused():
    with pytest.raises(KdartsError, match="kernel 7 is none of 3, 5"):
        steps = [{"width": 4, "bias": True, "kernel": 7, "activation": "relu"}] * 4
        path_of(CUBOID, {"width": 4, "bias": True}, steps)
    with pytest.raises(KdartsError, match="unknown path"):
        get_path("MULTI")
