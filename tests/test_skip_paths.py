"""Where skip connections stand: the paths with and without them, and the comparison of their places."""

import csv
import json

import numpy as np
import pytest
from test_resume import finish, kill_at, same_state

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.path_space import PathSpace
from kdarts.paths.prune import best_places, skip_paths
from kdarts.supernet.spaces import get_space, listed_space
from kdarts.training.repeats import search_is_whole
from kdarts.training.workdir import write_json

CONV, SKIP, POOL = "nor_conv_3x3", "skip_connect", "avg_pool_3x3"


def test_every_edge_of_one_input_has_its_best_other_operation_and_a_skip_connection():
    weights = np.full((6, 5), 0.1)
    weights[:, 1] = 0.4  # skip_connect, the strongest everywhere
    weights[:, 0] = 0.3  # none, which may not stand
    weights[:, 3] = 0.2
    weights[4, 4] = 0.25
    [cell] = skip_paths([weights], get_space("nasbench201")).cells
    assert [slot[:2] for slot in cell] == [(2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (4, 3)]
    assert [slot[2] for slot in cell] == [(CONV, SKIP)] * 4 + [(POOL, SKIP), (CONV, SKIP)]


def test_in_cells_of_two_inputs_the_other_operations_choose_the_edges():
    space, rng = get_space("darts"), np.random.default_rng(0)
    normal, reduce = rng.uniform(0.1, 0.2, (2, 14, 8))
    normal[:, 3] = 1.0  # skip_connect
    normal[[2, 4], 4] = 0.5, 0.6  # of node 3: edges from 0 and from 2
    paths = skip_paths([normal, reduce], space)
    assert {slot[:2] for slot in paths.cells[0] if slot[0] == 3} == {(3, 0), (3, 2)}
    assert all(slot[2][1] == SKIP and slot[2][0] not in ("none", SKIP) for slot in paths.cells[0])
    rows = {(to, source): k for k, (to, source) in enumerate((t, s) for t in range(2, 6) for s in range(t))}
    for to, source, (best, _) in paths.cells[1]:
        row = reduce[rows[to, source]].copy()
        row[0] = 0
        assert best == space.operations[int(row.argmax())]


def test_a_space_without_a_skip_connection_has_no_place_for_one():
    with pytest.raises(KdartsError, match="to place skip connections"):
        skip_paths([np.ones((2, 2))] * 2, listed_space("none,sep_conv_3x3"))


@pytest.mark.parametrize("count, looked_at", [(1, 6), (2, 11), (9, 21)])
def test_places_are_taken_one_after_another_where_the_loss_is_least(count, looked_at):
    worth = np.array([0.1, 0.3, 0.2, 0.6, 0.5, 0.4])
    worth[4] = -1  # beside the fourth; alone it would be second
    space = skip_paths([np.ones((6, 5))], get_space("nasbench201"))
    found = []

    def measure(path):
        found.append(path)
        return -float(np.dot(worth, path))

    best = best_places(space, count, measure)
    assert len(found) == looked_at and len(set(found)) == looked_at
    order = np.argsort(-worth)[: min(count, 6)]
    assert sorted(np.flatnonzero(best)) == sorted(order)


@pytest.mark.slow
def test_a_search_with_places_ends_with_one_skip_connection_where_the_loss_was_least(eagerly, tmp_path, capsys):
    arguments = ["search", "--method=placed_skips", "--space=nasbench201", "--cells=1", "--channels=2", "--epochs=1"]
    arguments += ["--train_examples=64", "--valid_examples=64", "--batch_size=32", "--path_batch_size=32"]
    arguments += ["--path_epochs=1", "--target_params=5k", "--calibration_batches=1", f"--workdir={tmp_path / 'run'}"]
    assert main(arguments) == 0
    out, run = capsys.readouterr().out, tmp_path / "run"
    assert "64 paths, trained fairly" in out and "Found the places of the skip connections" in out
    rows, summary = list(csv.DictReader((run / "places.csv").open())), json.loads((run / "summary.json").read_text())
    best = min(rows, key=lambda row: float(row["loss"]))
    assert len(rows) == 6 and summary["path_accuracy"] == float(best["accuracy"])
    found, paths = Genotype.load(run / "genotype.json"), PathSpace.load(run / "paths.json")
    assert found == paths.genotype(list(map(int, best["path"].split())))
    assert found.skip_connects() == summary["skip_connects"] == 1
    assert (summary["params"], summary["macs"]) == (int(best["params"]), int(best["macs"]))
    assert summary["target_gap"] == pytest.approx(summary["params"] / 5000 - 1)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(arguments) == 0
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (run / "places.csv").unlink()
    assert search_is_whole(run)
    write_json(run / "summary.json", {name: value for name, value in summary.items() if name != "path_accuracy"})
    assert not search_is_whole(run)  # As when it was killed before its places were compared.
    assert main(arguments) == 0  # Again: the same comes of it.
    assert list(csv.DictReader((run / "places.csv").open())) == rows and search_is_whole(run)
    assert Genotype.load(run / "genotype.json") == found


@pytest.mark.slow
def test_a_search_killed_while_its_paths_are_trained_comes_to_the_same_places(tmp_path):
    arguments = [
        "search",
        "--method=placed_skips",
        "--cells=3",
        "--channels=4",
        "--nodes=2",
        "--epochs=2",
        "--path_epochs=3",
    ]
    arguments += ["--max_skips=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(arguments, whole)
    for mark in ("backup: 2, 0", "path_backup: 1, 0", "path_backup: 3, 0"):
        kill_at(mark, arguments, killed)
        assert not search_is_whole(killed) and not (killed / "places.csv").exists()
    finish(arguments, killed)
    for name in ("genotype.json", "paths.json", "path_history.csv", "places.csv", "cells.svg"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    same_state(whole / "path_backup", killed / "path_backup")
    assert Genotype.load(killed / "genotype.json").skip_connects() >= 2


@pytest.mark.parametrize(
    "flags, fault",
    [
        (["--paths=3"], "--path_choice=skips: needs --paths=2 and --max_skips=1 or more"),
        (["--max_skips=0"], "--path_choice=skips: needs --paths=2 and --max_skips=1 or more"),
        (["--path_choice=best"], "family, evolution, skips"),
        (["--operations=none,sep_conv_3x3,dil_conv_3x3"], "to place skip connections"),
        (["--sharing=individual"], "--paths=2: needs --sharing=shared"),
    ],
)
def test_what_has_no_place_for_skip_connections_is_told_before_the_search(flags, fault, tmp_path, capsys):
    assert main(["search", "--method=placed_skips", *flags, f"--workdir={tmp_path / 'run'}"]) == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
