"""Damages of a workdir are named, or do not matter; never a traceback, never another result."""

import pytest


def _damaged(tool, tmp_path, capsys, *arguments):
    code = tool("damage_runs").main([f"--workdir={tmp_path}", *arguments])
    said = capsys.readouterr().out
    assert code == 0, said
    return said


@pytest.mark.slow
def test_a_damaged_training_comes_to_the_same_or_is_refused(tool, tmp_path, capsys):
    said = _damaged(tool, tmp_path, capsys, "--runs=train", "--damages=8")
    assert "FAULT" not in said
    assert "made again |" in said


@pytest.mark.slow
def test_damaged_runs_of_every_kind_come_to_the_same_or_are_refused(tool, tmp_path, capsys):
    _damaged(tool, tmp_path, capsys, "--damages=70")


def test_a_wrong_result_is_a_fault(tool, tmp_path, capsys, monkeypatch):
    program = tool("damage_runs")
    monkeypatch.setattr(program.Runs, "make", lambda self, name, draw: None)
    monkeypatch.setattr(program.Runs, "damaged", lambda self, name, kind, draw: ("done", "came to something else"))
    assert program.main([f"--workdir={tmp_path}", "--damages=2"]) == 1
    assert "| FAULT | 2 |" in capsys.readouterr().out
