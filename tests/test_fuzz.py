"""Damaged files are understood as they stand or refused by one line: a part of what `tools/fuzz.py` tries."""

import pytest

from kdarts.genotypes.cuboid import load_architecture
from kdarts.genotypes.genotype import Genotype


def _run(tool, tmp_path, capsys, *arguments) -> tuple[int, str]:
    return tool("fuzz").main([f"--workdir={tmp_path / 'fuzz'}", *arguments]), capsys.readouterr().out


def test_damaged_files_are_understood_or_refused(tool, tmp_path, capsys):
    code, said = _run(tool, tmp_path, capsys, "--cases=100")
    assert code == 0 and "| genotypes as JSON | " in said, said


@pytest.mark.slow
def test_many_damaged_files_are_understood_or_refused(tool, tmp_path, capsys):
    code, said = _run(tool, tmp_path, capsys, "--cases=1000", "--seed=1")
    assert code == 0, said


def test_faults_are_found(tool, tmp_path, capsys, monkeypatch):
    program = tool("fuzz")
    kind = program.KINDS["genotypes as JSON"]._replace(damages=(lambda content, draw: content + b" ",))
    monkeypatch.setattr(program, "write_files", lambda: [Genotype.load("DARTS_V2").save(file) for file in kind.files])
    monkeypatch.setattr(program, "KINDS", {"these": kind._replace(commands=("info F",))})
    assert _run(tool, tmp_path, capsys, "--only=0")[0] == 0
    for commands, holds, load, said in (
        (("info F",), lambda file, before: False, load_architecture, "accepted, and means something else"),
        (("draw F --to=../../a.dot",), kind.holds, load_architecture, "a.dot'"),
        (("info F",), kind.holds, lambda name: 1 / 0, "ZeroDivisionError: division by zero"),
        (("info F",), kind.holds, lambda name: print("[NaN]") or load_architecture(name), "printed no JSON (NaN is"),
    ):
        monkeypatch.setattr(program, "KINDS", {"these": kind._replace(commands=commands, holds=holds)})
        monkeypatch.setattr("kdarts.cli.inspect.load_architecture", load)
        code, told = _run(tool, tmp_path, capsys, "--only=0")
        assert code == 1 and said in told
