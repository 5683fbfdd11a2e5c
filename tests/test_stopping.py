"""What ends a search early."""

import dataclasses

import numpy as np
import pytest

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import get_method
from kdarts.search.record import SearchRecord, StopRule
from kdarts.search.search import Search
from kdarts.search.stopping import RULES, SoFar, get_stop
from kdarts.supernet.supernet import Supernet
from kdarts.training.checkpoint import Checkpoint

PLAIN = Genotype.load("DARTS_V2")


def _so_far(rows, **changes):
    return dataclasses.replace(SoFar(rows, PLAIN, [], ()), **changes)


def test_distance_waits_until_it_is_stable():
    method, rule = get_method("dartopti"), get_stop("distance")

    def stable_as(method, rows):
        return rule(_so_far(rows), method)

    def stable(rows):
        return stable_as(method, rows)

    rising = [{"epoch": e, "distance": 0.01 * min(e, 17)} for e in range(30)]
    fires = [n for n in range(1, 31) if stable(rising[:n])]
    # Distances are equal from epoch 17 on: the fifth of them is epoch 21.
    assert fires[0] == 22
    level = [{"epoch": e, "distance": 0.1} for e in range(30)]
    # From epoch 10 on, the pretraining's 5 among them, as in the authors' program: after 15 epochs at the earliest.
    assert min(n for n in range(1, 31) if stable(level[:n])) == 15
    assert min(n for n in range(1, 31) if stable_as(method.override(pretrain_epochs=8), level[:n])) == 18
    near = [{"epoch": e, "distance": 0.1 + 0.0009 * (e % 2)} for e in range(30)]
    far = [{"epoch": e, "distance": 0.1 + 0.0011 * (e % 2)} for e in range(30)]
    assert stable(near) and not stable(far)
    assert not get_stop("epochs")(_so_far(level), method)
    with pytest.raises(KdartsError, match="allowed: epochs, distance, skips, ranking"):
        get_stop("never")


def test_skips_counts_those_of_the_fullest_cell():
    method, rule = get_method("darts").override(stop_from=3), get_stop("skips")
    rows = [{"epoch": e} for e in range(4)]
    cell = (("skip_connect", 2, 0), ("sep_conv_3x3", 2, 1), ("skip_connect", 3, 0), ("sep_conv_3x3", 3, 1))
    other = (("skip_connect", 2, 0), ("sep_conv_3x3", 2, 1), ("sep_conv_3x3", 3, 0), ("sep_conv_3x3", 3, 1))
    two, one = (Genotype((cells, other), ((2, 3), (2, 3))) for cells in (cell, other))
    assert rule(_so_far(rows, genotype=two), method)
    assert not rule(_so_far(rows, genotype=one), method)  # two in all, one in a cell
    assert not rule(_so_far(rows[:3], genotype=two), method)
    assert not rule(_so_far(rows, genotype=two), method.override(stop_skips=3))


def test_ranking_is_that_of_the_operations_with_weights():
    method = get_method("darts").override(stop_from=0, stop_window=3)
    rule, names = get_stop("ranking"), ("skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    rows = [{"epoch": e} for e in range(5)]
    alpha = np.zeros((5, 2, 3))
    alpha[:, :, 1] = 0.1 * np.arange(5)[:, None] - 0.15  # passes dil_conv_3x3 between epochs 1 and 2
    alpha[:, :, 0] = np.cos(3 * np.arange(5))[:, None]  # where the skip stands does not count
    held = [rule(_so_far(rows[:n], alphas=[alpha[:n]], operations=names), method) for n in range(1, 6)]
    assert held == [False, False, False, False, True]
    moving = np.stack([alpha, alpha])
    moving[1, 4, 0, 2] = 9
    assert not rule(_so_far(rows, alphas=list(moving), operations=names), method)


def test_a_rule_sees_every_alpha_and_no_beta(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setitem(RULES, "epochs", lambda so_far, method: seen.append(so_far) or False)
    search = Search(Supernet("darts", (8, 8, 1), 2, channels=4, cells=2, nodes=1, partial_channels=2), "darts")
    search.compile()
    checkpoint = Checkpoint(tmp_path / "backup", search, 1)
    for callback in (SearchRecord(tmp_path, checkpoint), StopRule(search.method, checkpoint)):
        callback.set_model(search)
        callback.on_epoch_end(0, {})
    assert len(checkpoint.arrays) == 4 and [alpha.shape for alpha in seen[0].alphas] == [(1, 2, 8)] * 2
