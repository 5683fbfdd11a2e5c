"""`tools/peer_benchmark.py` without PyTorch: what it refuses, what it starts, and that the steps are taken in turn."""

import json
import pathlib
import re
import shlex
import sys

import pytest

from kdarts.cli.bench import BENCH
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "speed.md"
TINY = Genotype([[("sep_conv_3x3", 2, 0), ("skip_connect", 2, 1)]] * 2, [(2,)] * 2)

FAKE = """
import json, sys
name, record, params, times = sys.argv[1:]
print(json.dumps({"ready": True, "params": int(params)}), flush=True)
for time, _ in zip(json.loads(times), sys.stdin):
    open(record, "a").write(name)
    print(time, flush=True)
for _ in sys.stdin:
    sys.exit(3)
print(json.dumps({"peak_memory_mb": 10 * len(name)}), flush=True)
"""


@pytest.fixture
def program(tool):
    return tool("peer_benchmark")


@pytest.fixture
def fake(program, tmp_path):
    """Makes a program that notes each of its steps and says that they took these times."""

    def make(name, times, params=7):
        words = [sys.executable, "-c", FAKE, name, str(tmp_path / "record"), str(params), json.dumps(times)]
        return program.Program(name, words)

    return make


def test_the_steps_are_taken_in_turn(program, fake, tmp_path):
    with fake("a", [1.0, 2.0, 9.0]) as first, fake("bb", [4.0, 4.0, 3.0]) as other:
        program.check_same(first, other)
        found = program.alternate(first, other, 3)
    assert (tmp_path / "record").read_text() == "abb" * 3
    assert found == {
        **{"a_ms": 2.0, "bb_ms": 4.0, "ratio": 0.5, "ratio_min": 0.25, "ratio_max": 3.0},
        **{"a_mb": 10, "bb_mb": 20, "memory_ratio": 0.5, "a_params": 7, "bb_params": 7},
    }
    assert first.process.poll() is not None and other.process.poll() is not None


def test_networks_of_other_sizes_are_not_compared(program, fake):
    with (
        fake("kdarts", [], 1234) as first,
        fake("pytorch", [], 1235) as other,
        pytest.raises(KdartsError, match=r"1,234 in kdarts and 1,235 in pytorch weights"),
    ):
        program.check_same(first, other)
    assert first.process.poll() is not None and other.process.poll() is not None


def test_a_program_that_ends_is_named_and_none_goes_on(program, fake):
    with (
        fake("kdarts", [1.0] * 3) as first,
        fake("pytorch", [1.0]) as other,
        pytest.raises(KdartsError, match="pytorch ended early"),
    ):
        program.alternate(first, other, 3)
    assert first.process.poll() is not None and other.process.poll() is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds=0"], "--rounds=0: allowed is 1 and more"),
        (["--batch_size=x"], "--batch_size"),
        (["--threads=10000"], "--threads=10000: allowed is 1 to"),
        (["--auxiliary"], "it needs --train"),
        (["--flags=--order=second"], "it needs --against"),
        (["--against=", "--channels_last"], "--channels_last: is about PyTorch"),
        (["--against=", "--python=/usr/bin/python3"], "--python: is about PyTorch"),
        (["--against=--sigma=1"], "sigma"),
        (["--against='x"], "--against"),
        (["--public=."], "--public=.: needs the folder of the public code"),
        (["--train=DARTS_V3"], "unknown genotype 'DARTS_V3'"),
        (["--train=NASNet"], "PyTorch's side has no sep_conv_7x7"),
        (["--train=genotype.json"], "needs one normal and one reduction cell"),
        (["--train=tiny.json", "--public=darts"], "two edges to each node"),
    ],
)
def test_what_makes_no_sense_is_one_line(program, arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _public_code(tmp_path)
    Genotype(TINY.cells, TINY.concats, sequence=(0, 1)).save("genotype.json")
    Genotype([TINY.cells[0][:1]] * 2, TINY.concats).save("tiny.json")
    assert program.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("peer_benchmark: ") and error.count("\n") == 1 and said in error


def test_both_sides_are_given_the_same_network(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (_, ours), (_, peer) = program.programs(program.parse(["--train=DARTS_V2", "--cells=5", "--python=torch/python"]))
    values = BENCH.parse(ours[ours.index("bench") :])
    assert (values.paced, values.train, values.cells, values.drop_path) == (True, "DARTS_V2", 5, 0.2)
    assert peer[0] == "torch/python" and {"--cells=5", "--drop_path=0.2"} <= set(peer)
    [found] = [json.loads(word.partition("=")[2]) for word in peer if word.startswith("--genotype=")]
    assert found["normal"][-1] == ["dil_conv_3x3", 5, 2] and found["reduce_concat"] == [2, 3, 4, 5]


def test_the_commands_of_the_page_are_understood(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _public_code(tmp_path)
    commands = [
        shlex.split(text) for text in re.findall(r"`((?:python tools/|kdarts )[^`\n]+)`", PAGE.read_text("utf-8"))
    ]
    assert len(commands) >= 12
    for words in commands:
        if words[0] == "kdarts":
            BENCH.parse(words[1:])
        else:
            program.programs(program.parse(words[2:]))


def _public_code(folder) -> None:
    (folder / "darts" / "cnn").mkdir(parents=True)
    (folder / "darts" / "cnn" / "model_search.py").touch()
