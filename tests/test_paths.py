"""Soft pruning, the path space, and the fairness of the groups of paths."""

import itertools
import json

import numpy as np
import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.path_space import PathSpace
from kdarts.paths import fair as fair_paths
from kdarts.paths.fair import FairPaths
from kdarts.paths.prune import soft_prune
from kdarts.search.selection import discretize
from kdarts.supernet.spaces import get_space

SPACE = get_space("darts")


def _weights(seed=0, edges=14):
    raw = np.random.default_rng(seed).random((2, edges, 8))
    return raw / raw.sum(-1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_pruning_keeps_the_edges_of_darts_and_on_each_the_best_operations(seed):
    weights = _weights(seed)
    space = soft_prune(weights, SPACE, kept=3)
    assert (space.edges, space.kept, space.paths) == (16, 3, 3**16)
    assert space.genotype([0] * 16) == discretize(weights, SPACE)
    for cell, rows in zip(space.cells, weights, strict=True):
        first = {2: 0, 3: 2, 4: 5, 5: 9}
        for to, source, operations in cell:
            row = rows[first[to] + source]
            ranked = sorted(range(1, 8), key=lambda column: -row[column])
            assert operations == tuple(SPACE.operations[c] for c in ranked[:3])
    genotype = space.genotype([0, 1] * 8)
    assert genotype.cells[1][3] == (space.cells[1][3][2][1], *space.cells[1][3][:2])


def test_weights_of_edges_change_the_edges_alone_and_none_is_never_kept():
    weights, edges = _weights(), np.random.default_rng(1).random((2, 14, 1)) + 0.1
    plain, weighed = soft_prune(weights, SPACE), soft_prune(weights * edges, SPACE)
    assert plain != weighed
    for one, other in zip(plain.cells, weighed.cells, strict=True):
        kept = {slot[:2]: slot[2] for slot in one}
        common = [slot for slot in other if slot[:2] in kept]
        assert common and all(kept[slot[:2]] == slot[2] for slot in common)
    weights[..., 0] = 1.0
    assert all("none" not in operations for _, _, operations in soft_prune(weights, SPACE).slots)


def test_equal_weights_go_by_the_lower_number():
    space = soft_prune(np.full((2, 5, 8), 0.125), SPACE, kept=2)
    assert space.cells[0] == tuple((to, source, SPACE.operations[1:3]) for to in (2, 3) for source in (0, 1))


def test_a_path_space_comes_back_from_its_file(tmp_path):
    space = soft_prune(_weights(), SPACE, reductions=(1, 4))
    space.save(tmp_path / "paths.json")
    assert PathSpace.load(tmp_path / "paths.json") == space


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"format": "other"}, "not a path space"),
        ({"more": 1}, "unknown keys"),
        ({"cells": [[[2, 0, ["none"]]]]}, "two cells"),
        ({"cells": [[[2, 0, ["skip_connect", "none"]]], [[2, 0, ["none"]]]]}, "equally many"),
        ({"cells": [[[2, 0, ["none", "none"]]]] * 2}, "twice"),
        ({"cells": [[[2, 0, "none"]]] * 2}, "must be"),
        ({"cells": [[[3, 0, ["none"]]]] * 2}, "left out"),
        ({"cells": [[[2, 5, ["none"]]]] * 2}, "from < to"),
        ({"cells": [[[3, 0, ["none"]], [2, 0, ["none"]]]] * 2}, "node by node"),
        ({"cells": [[], []]}, "at least one"),
    ],
)
def test_a_damaged_file_is_told(tmp_path, change, fault):
    soft_prune(_weights(edges=2), SPACE).save(tmp_path / "paths.json")
    data = json.loads((tmp_path / "paths.json").read_text())
    if "cells" in change:
        data["concats"] = [[2, 3], [2, 3]] if change["cells"][0:1] == [[[3, 0, ["none"]]]] else data["concats"]
    (tmp_path / "paths.json").write_text(json.dumps({**data, **change}))
    with pytest.raises(KdartsError, match=fault):
        PathSpace.load(tmp_path / "paths.json")


def test_what_is_out_of_range_is_told():
    for kept in (0, 8):
        with pytest.raises(KdartsError, match="1 to 7"):
            soft_prune(_weights(), SPACE, kept=kept)
    with pytest.raises(KdartsError, match="two sets"):
        soft_prune([*_weights(), _weights()[0]], SPACE)
    with pytest.raises(KdartsError, match="0 to 1"):
        soft_prune(_weights(), SPACE).genotype([2] * 16)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(("kept", "edges"), [(2, 5), (2, 1), (3, 4), (4, 3), (1, 3)])
def test_every_path_is_trained_equally_often(kept, edges, affine, monkeypatch):
    if affine:
        monkeypatch.setattr(fair_paths, "_SHUFFLED", 0)
    paths = FairPaths(edges, kept, seed=3)
    assert paths.cycle == kept ** (edges - 1)
    times = dict.fromkeys(itertools.product(range(kept), repeat=edges), 0)
    for step in range(3 * paths.cycle):
        group = paths.group(step)
        np.testing.assert_array_equal(np.sort(group, 0), np.arange(kept)[:, np.newaxis].repeat(edges, 1))
        for path in group:
            times[tuple(path)] += 1
        assert max(times.values()) - min(times.values()) <= 1
        if (step + 1) % paths.cycle == 0:
            assert set(times.values()) == {(step + 1) // paths.cycle}


def test_groups_are_a_function_of_seed_and_step():
    whole = FairPaths(16, 2, seed=5).groups(32_760, 32_780)
    np.testing.assert_array_equal(FairPaths(16, 2, seed=5).groups(32_770, 32_780), whole[10:])
    assert (FairPaths(16, 2, seed=6).groups(32_760, 32_780) != whole).any()


def test_cycles_differ_in_order_and_from_three_operations_on_in_groups():
    two, three = FairPaths(5, 2), FairPaths(3, 3)
    assert (two.groups(0, 16) != two.groups(16, 32)).any()
    groups = [{frozenset(map(tuple, three.group(step))) for step in range(c * 9, c * 9 + 9)} for c in range(4)]
    assert len(set.union(*groups)) > 9


def test_groups_of_a_huge_space_cost_little():
    paths = FairPaths(16, 8, seed=1)
    assert paths.cycle == 8**15
    first = paths.groups(0, 500)
    assert len({group.tobytes() for group in first}) == 500
    np.testing.assert_array_equal(np.sort(first, 1), np.tile(np.arange(8)[:, np.newaxis], (500, 1, 16)))
