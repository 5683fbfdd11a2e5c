"""Selection by removal: the decisions alone, on a supernet, after a search, and where a run was killed."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_resume import finish, kill_at, same_state

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.decisions import Plan, Step, decide
from kdarts.search.loop import SearchData
from kdarts.search.measures import Measurement
from kdarts.search.method import get_method
from kdarts.search.removal_run import Removals
from kdarts.search.search import Search
from kdarts.search.session import Session
from kdarts.search.stages import Stage
from kdarts.search.zero_cost import naswot
from kdarts.supernet.cell import edge_sources
from kdarts.supernet.spaces import SearchSpace, get_space
from kdarts.supernet.supernet import Supernet
from kdarts.training.search_run import RemovalSession
from kdarts.training.workdir import Workdir

FEW = SearchSpace("few_removed", ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3"), nodes=2, multiplier=2)


class Linear:
    """In place of a `Measurement`: the loss −Σ v p under fixed random v, and no pass."""

    def __init__(self, search, kind):
        self.values = np.random.default_rng(len(kind)).normal(size=(2, 8, 8))

    def badness(self, mixtures, batches):
        shapes = [weights.shape for weights, _ in mixtures]
        loss = -sum(
            float((v[:a, :b] * w).sum()) for v, (w, _), (a, b) in zip(self.values, mixtures, shapes, strict=False)
        )
        return loss if not any(s is not None for _, s in mixtures) else loss - sum(float(s.sum()) for _, s in mixtures)


@pytest.fixture
def linear(monkeypatch):
    """Decisions measure nothing."""
    monkeypatch.setattr("kdarts.search.removal_run.Measurement", Linear)


class InMemory(Session):
    """Keeps the decisions, and may be killed after some of them."""

    verbose = 0

    def __init__(self, most=math.inf):
        self.rows, self.most = [], most

    def decisions(self):
        return [*self.rows]

    def decide(self, rows):
        self.rows = [*rows]
        if len(rows) >= self.most:
            raise KeyboardInterrupt


def _data(count=2):
    rng, y = np.random.default_rng(0), np.array([0, 1, 2] * 2)
    x = rng.normal(size=(2, count, 6, 8, 8, 3)).astype("float32")
    parts = [tf.data.Dataset.from_tensor_slices((part, np.stack([y] * count))) for part in x]
    return SearchData(tf.data.Dataset.zip(*parts))


def _search(method="darts_pt", space=FEW, **choices) -> Search:
    keras.utils.set_random_seed(1)
    options = {key: choices.pop(key) for key in ("sharing", "partial_channels", "mixing") if key in choices}
    net = Supernet(space, (8, 8, 3), 3, **{"channels": 4, "cells": 1 + ("sharing" in options), **options})
    search = Search(net, method, **{"removal_tune": 0, "epochs": 1, **options, **choices})
    search.compile()
    return search


def _run(search, session=None, data=None) -> Removals:
    return Removals(search.method.selection, search, data or _data(), session or InMemory())


def test_an_edge_keeps_the_operation_whose_removal_hurts_most():
    """With the loss −Σ v_o p_o under equal weights it is the one of the largest v, and `none` only alone."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, mask, asked = rng.normal(size=(5, 8)), np.ones((5, 8)), []

        def harm(row, column, values=values, asked=asked):
            asked.append(column)
            weights = np.full(8, 1 / 8)
            weights[column] = 0
            return -float(values[row] @ weights)

        found = decide(Step(0, (3,), False), mask, 0, harm)
        best = 1 + int(values[3, 1:].argmax())
        assert mask[3].tolist() == np.eye(8)[best].tolist() and mask[[0, 1, 2, 4]].all()
        assert asked == [*range(1, 8)] == [*found]
        asked.clear()
        assert decide(Step(0, (3,), False), mask, 0, harm) == {} and not asked  # One operation: no test.
    mask = np.zeros((2, 3))
    mask[0, 0] = mask[1, :2] = 1
    assert decide(Step(0, (0,), False), mask, 0, None) == {} and mask[0].tolist() == [1, 0, 0]
    assert decide(Step(0, (1,), False), mask, 0, None) == {} and mask[1].tolist() == [0, 1, 0]
    mask = np.ones((1, 4))
    decide(Step(0, (0,), False), mask, None, lambda row, column: [1, 2, 2, 0][column])
    assert mask.tolist() == [[0, 1, 0, 0]]  # Of equal ones the first.


def test_a_node_keeps_the_two_edges_whose_removal_hurts_most():
    mask = np.eye(4)
    assert decide(Step(0, (1, 2, 3), True), mask, 0, lambda row, column: [9, 1, 0, 1][row]) == {1: 1, 2: 0, 3: 1}
    assert mask.any(1).tolist() == [True, True, False, True]


def test_the_order_is_drawn_anew_for_each_repeat_and_holds_every_edge_and_node_once():
    plan = Plan(edge_sources(4), 2, [3, 0])
    assert len(plan.rounds) == 14 + 3 and all([step.index for step in each] == [0, 1] for each in plan.rounds)
    for index in range(2):
        steps = [each[index] for each in plan.rounds]
        assert sorted(step.rows for step in steps[:14]) == [(row,) for row in range(14)]
        assert sorted(map(len, (step.rows for step in steps[14:]))) == [3, 4, 5] and steps[14].whole
    assert plan.rounds == Plan(edge_sources(4), 2, [3, 0]).rounds != Plan(edge_sources(4), 2, [3, 1]).rounds
    assert plan.rounds != Plan(edge_sources(4), 2, [4, 0]).rounds
    assert len(Plan(edge_sources(3, inputs=1), 1, [0, 0], every=True).rounds) == 6


@pytest.mark.parametrize(
    "choices",
    [{}, {"sharing": "individual"}, {"partial_channels": 2}, {"space": get_space("nasbench201")}],
    ids=["shared", "individual", "partial", "nasbench201"],
)
def test_the_decided_supernet_computes_the_derived_cells_at_weight_one(choices, linear):
    search = _search(removal_batches=1, **choices)
    net, session = search.supernet, InMemory()
    run = _run(search, session)
    run.decide_until(len(run.plan.rounds) - 1)
    found, (x, _) = net.read_out(search.method.selection), next(iter(_data().held_back()))
    ones = [np.zeros(alpha.shape, "float32") for alpha in net.alphas]
    for index, ours in enumerate(ones):
        cell = found.cells[index]
        assert len(cell) == (6 if net.space.stages else 4) and "none" not in {name for name, _, _ in cell}
        for name, to, source in cell:
            ours[net.edges.index((to, source)), net.space.operations.index(name)] = 1
    shares = [None if s is None else s * ours.any(1) for s, ours in zip(net.mixture.shares(), ones, strict=True)]
    expected = net.classify(net.states(x, training=False, mixtures=list(zip(ones, shares, strict=True)))[-1], False)
    np.testing.assert_array_equal(net(x, training=False), expected)
    for weights, mask in zip(net.mixing_weights(), ones, strict=True):
        np.testing.assert_array_equal(weights, mask)
    _run(search, session).decide_until(len(run.plan.rounds) - 1)
    assert net.read_out(search.method.selection) == found


def test_removing_none_changes_no_logit_and_one_trace_serves_all_tests():
    search = _search()
    measure, (x, y) = Measurement(search, "loss"), next(iter(_data().held_back()))
    net = search.supernet
    mixtures = [(np.asarray(w), None) for w in net.mixing_weights()]
    before = [variable.numpy() for variable in search.variables]
    whole = measure(mixtures, x, y)
    for column in range(4):
        weights = mixtures[0][0].copy()
        weights[1, column] = 0
        without = measure([(weights, None), *mixtures[1:]], x, y)
        assert (without == whole) == (column == 0)
    assert measure.traces == 1
    assert all(map(np.array_equal, search.variables, before))
    logits = net.classify(net.states(x, training=True, mixtures=mixtures)[-1])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert whole == pytest.approx(6 * float(loss(y, logits)), rel=1e-6)
    right = np.sum(np.argmax(logits, -1) == y.numpy())
    assert Measurement(search, "accuracy").badness(mixtures, [(x, y), (x, y)]) == -2 * right


def test_a_killed_selection_comes_to_the_same_genotype(linear):
    whole, killed = InMemory(), InMemory(most=3)
    first = _search(removal_batches=1)
    found = first.method.selection.follow(first, _data(), whole)
    search = _search(removal_batches=1)
    with pytest.raises(KeyboardInterrupt):
        search.method.selection.follow(search, _data(), killed)
    killed.most, kept = math.inf, killed.rows
    search = _search(removal_batches=1)
    assert search.method.selection.follow(search, _data(), killed) == found
    assert killed.rows[:3] == kept and len(killed.rows) == len(whole.rows) == 6
    killed.rows = [{**whole.rows[0], "to": 9}]
    with pytest.raises(KdartsError, match="decision 1 is of another run"):
        search.method.selection.follow(search, _data(), killed)


def test_the_search_goes_on_between_the_rounds_at_a_tenth_of_the_rate_with_fresh_momentum(linear, eagerly):
    search = _search(removal_tune=2, removal_batches=1, epochs=2)
    seen, rates, data = [], [], _data(1)

    def watched(batch):
        masks = [mask.numpy() for mask in search.supernet.mixture.masks]
        seen.append(sum(int((mask.sum(1) == 1).sum()) for mask in masks))
        rates.append((float(search.optimizer.learning_rate.numpy()), float(search.optimizer.buffers[0].numpy().any())))
        search.optimizer.buffers[0].assign(search.optimizer.buffers[0] + 1)
        return search.compute_metrics(None, batch[0][1], tf.zeros((6, 3)))

    search.train_step = watched
    search.fit(data, verbose=0)
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]  # Five edges and one node: six rounds.
    assert [rate for rate, _ in rates[:3]] == pytest.approx([0.025, 0.013, 0.0025]) and rates[-1][0] < 0.0012
    assert [moved for _, moved in rates[:4]] == [0, 1, 0, 1]
    masks = search.supernet.mixture.masks
    assert [int(mask.numpy().sum()) for mask in masks] == [4] * len(masks)
    search.fit(data, verbose=0)  # Again, with everything undecided.
    assert seen[12:14] == [0, 0]


def test_naswot_is_that_of_the_supernet_under_the_mixtures():
    search = _search("zero_cost_pt", mixing="uniform")
    net, (x, y) = search.supernet, next(iter(_data().held_back()))
    mixtures, measure = [(np.asarray(w), None) for w in net.mixing_weights()], Measurement(search, "naswot")
    before, whole = [variable.numpy() for variable in search.variables], measure(mixtures, x, y)
    forward = lambda x: net.classify(net.states(x, training=True, mixtures=mixtures)[-1])  # noqa: E731
    assert whole == pytest.approx(naswot(forward, x), rel=1e-9)
    assert all(map(np.array_equal, search.variables, before))
    for column in range(4):
        weights = mixtures[0][0].copy()
        weights[1, column] = 0
        assert (measure([(weights, None)], x, y) == whole) == (column == 0)
    assert measure.badness(mixtures, [(x, y)] * 2) == -2 * whole


def test_zero_cost_pt_trains_nothing_and_keeps_the_best_of_several_cells(linear, eagerly):
    choices = {"mixing": "uniform", "removal_repeats": 3}
    search, session = _search("zero_cost_pt", **choices), InMemory()
    before, data = [v.numpy() for v in search.supernet.network_variables], _data()
    assert search.steps_of(data) == 1
    search.fit(data, verbose=0, session=session)
    assert all(map(np.array_equal, search.supernet.network_variables, before))
    scores = [row["naswot"] for row in session.rows if "naswot" in row]
    assert len(scores) == 3 and len(session.rows) == 3 * 7
    cells = [session.rows[7 * k : 7 * k + 6] for k in range(3)]
    best = cells[int(np.argmax(scores))]
    kept = {(r["to"], r["from"]): r["operation"] for r in best if "from" in r}
    [node] = [r for r in best if "kept" in r]
    expected = {(name, to, at) for (to, at), name in kept.items() if to != node["to"] or at in node["kept"]}
    assert set(search.genotype().cells[0]) == expected
    again = _search("zero_cost_pt", **choices)
    assert again.method.selection.follow(again, data, session) == search.genotype()


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"paths": 2}, "paths 2: discretization 'removal' decides after one search, without them"),
        ({"samples": 5}, "samples 5: discretization 'removal'"),
        ({"stages": (Stage(2, 8),)}, "stages 2:8:0: discretization 'removal'"),
        ({"removal_repeats": 2}, "removal_repeats 2: needs removal_tune 0"),
    ],
)
def test_what_a_selection_by_removal_cannot_follow_is_refused(choices, message):
    method = get_method("darts_pt").override(**choices)
    with pytest.raises(KdartsError, match=message):
        method.selection.check(method)


def test_the_command_refuses_it_before_the_search_in_terms_of_its_flags(tmp_path, capsys):
    command = ["search", "--method=darts_pt", "--cells=1", "--nodes=1", "--samples=5", f"--workdir={tmp_path / 'run'}"]
    assert main(command) == 2
    assert "--samples=5: --discretization=removal decides after one search" in capsys.readouterr().err
    with pytest.raises(KdartsError, match="its expected cost is not known"):
        get_method("darts_pt").selection.keeps(None, None)
    with pytest.raises(KdartsError, match="did you mean 'loss'"):
        get_method("darts_pt").override(removal_measure="los")


def test_decisions_are_kept_in_a_file_and_a_damaged_one_is_told(tmp_path):
    session = RemovalSession(Workdir(tmp_path))
    assert session.decisions() == []
    session.decide(rows := [{"cell": "normal", "seconds": 1.5}])
    assert session.decisions() == rows and session.seconds() == 1.5
    session.file.write_text('{"decisions": [1]}')
    with pytest.raises(KdartsError, match=r"removals\.json: damaged"):
        session.decisions()


TUNED = ["search", "--method=darts_pt", "--cells=2", "--channels=4", "--nodes=2", "--epochs=2", "--removal_tune=1"]
TUNED += ["--train_examples=64", "--valid_examples=64", "--batch_size=16", "--removal_measure=loss"]


@pytest.mark.slow
def test_a_search_killed_in_its_decisions_comes_to_the_same_cells(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    said = finish(TUNED, whole)
    assert "decision 6 of 6" in said and "Found a network" in said
    for mark in ("backup: 1, 0", "removals.json", "removal_backup: 2, 0"):
        kill_at(mark, TUNED, killed)
    assert "going on after epoch" in finish(TUNED, killed)
    for name in ("genotype.json", "cells.svg", "removal_history.csv"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    rows = [json.loads((run / "removals.json").read_text())["decisions"] for run in (whole, killed)]
    assert [{**row, "seconds": 0} for row in rows[0]] == [{**row, "seconds": 0} for row in rows[1]]
    same_state(whole / "removal_backup", killed / "removal_backup")
    before = {path: path.read_bytes() for path in killed.rglob("*.json")}
    assert "finished before" in finish(TUNED, killed)
    assert {path: path.read_bytes() for path in killed.rglob("*.json")} == before
    summary = json.loads((killed / "summary.json").read_text())
    found = Genotype.load(killed / "genotype.json")
    assert summary["removal_measure"] == "loss" and summary["skip_connects"] == found.skip_connects()
    assert main(["report", f"--workdir={killed}", f"--to={tmp_path / 'report.html'}"]) == 0
