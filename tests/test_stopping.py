"""What ends a search early."""

import dataclasses

import keras
import numpy as np
import pytest

import kdarts
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import get_method
from kdarts.search.search import Search
from kdarts.search.stopping import STOPS, SkipConnections, SoFar, StableDistance, StableRanking

PLAIN = Genotype.load("DARTS_V2")


def _so_far(rows, **changes):
    return dataclasses.replace(SoFar(rows, PLAIN, [], ()), **changes)


def test_distance_waits_until_it_is_stable():
    method = get_method("dartopti")

    def stable(rows, pretrain_epochs=method.pretrain_epochs):
        return method.stopping.should_stop(_so_far(rows, pretrain_epochs=pretrain_epochs))

    assert type(method.stopping) is StableDistance and method.stopping.needs_start
    rising = [{"epoch": e, "distance": 0.01 * min(e, 17)} for e in range(30)]
    fires = [n for n in range(1, 31) if stable(rising[:n])]
    # Distances are equal from epoch 17 on: the fifth of them is epoch 21.
    assert fires[0] == 22
    level = [{"epoch": e, "distance": 0.1} for e in range(30)]
    # From epoch 10 on, the pretraining's 5 among them, as in the authors' program: after 15 epochs at the earliest.
    assert min(n for n in range(1, 31) if stable(level[:n])) == 15
    assert min(n for n in range(1, 31) if stable(level[:n], 8)) == 18
    near = [{"epoch": e, "distance": 0.1 + 0.0009 * (e % 2)} for e in range(30)]
    far = [{"epoch": e, "distance": 0.1 + 0.0011 * (e % 2)} for e in range(30)]
    assert stable(near) and not stable(far)
    assert not get_method("darts").stopping.should_stop(_so_far(level))
    with pytest.raises(KdartsError, match="allowed: epochs, distance, skips, ranking"):
        get_method("darts").override(stop="never")


def test_skips_counts_those_of_the_fullest_cell():
    rule = SkipConnections(stop_from=3)
    rows = [{"epoch": e} for e in range(4)]
    cell = (("skip_connect", 2, 0), ("sep_conv_3x3", 2, 1), ("skip_connect", 3, 0), ("sep_conv_3x3", 3, 1))
    other = (("skip_connect", 2, 0), ("sep_conv_3x3", 2, 1), ("sep_conv_3x3", 3, 0), ("sep_conv_3x3", 3, 1))
    two, one = (Genotype((cells, other), ((2, 3), (2, 3))) for cells in (cell, other))
    assert rule.should_stop(_so_far(rows, genotype=two))
    assert not rule.should_stop(_so_far(rows, genotype=one))  # two in all, one in a cell
    assert not rule.should_stop(_so_far(rows[:3], genotype=two))
    assert not SkipConnections(stop_from=3, stop_skips=3).should_stop(_so_far(rows, genotype=two))


def test_ranking_is_that_of_the_operations_with_weights():
    rule, names = StableRanking(stop_from=0, stop_window=3), ("skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    rows = [{"epoch": e} for e in range(5)]
    alpha = np.zeros((5, 2, 3))
    alpha[:, :, 1] = 0.1 * np.arange(5)[:, None] - 0.15  # passes dil_conv_3x3 between epochs 1 and 2
    alpha[:, :, 0] = np.cos(3 * np.arange(5))[:, None]  # where the skip stands does not count
    held = [rule.should_stop(_so_far(rows[:n], alphas=[alpha[:n]], operations=names)) for n in range(1, 6)]
    assert held == [False, False, False, False, True]
    moving = np.stack([alpha, alpha])
    moving[1, 4, 0, 2] = 9
    assert not rule.should_stop(_so_far(rows, alphas=list(moving), operations=names))


def test_a_rule_sees_every_alpha_and_no_beta_and_ends_the_search(monkeypatch, eagerly):
    seen = []
    rule = STOPS.get("epochs")
    monkeypatch.setattr(rule, "should_stop", lambda self, so_far: seen.append(so_far) or len(seen) == 2)
    search = Search("darts", (8, 8, 1), 10, channels=4, cells=3, nodes=1, partial_channels=2, space="ddarts")
    told = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: told.append(epoch))
    data = kdarts.search_dataset("digits", 8, train_examples=8, valid_examples=8)
    search.fit(data, epochs=3, callbacks=watch, verbose=0)
    assert told == [0, 1] and search.record.notes["stopped_by"] == "epochs" and search.record.stopped
    assert [alpha.shape for alpha in seen[0].alphas] == [(1, 2, 7)] * 2
    assert [alpha.shape for alpha in seen[1].alphas] == [(2, 2, 7)] * 2
    assert len(search.record.arrays) == 4 and seen[1].operations == search.supernet.operation_names
    assert [row["epoch"] for row in seen[1].history] == [0, 1] and seen[1].genotype == search.genotype()
