"""`kdarts bench --train`: the step of a training, timed one by one, and flags that are about the other kind of step."""

import io
import json
import sys

import pytest

from kdarts.cli.main import main
from kdarts.genotypes.genotype import Genotype
from kdarts.networks.trunk import DropPath
from kdarts.ops.layers import all_layers
from kdarts.search import step as step_module
from kdarts.supernet.cost import network_cost

TINY = Genotype([[("sep_conv_3x3", 2, 0), ("skip_connect", 2, 1)]] * 2, [(2,)] * 2)


def test_the_training_step_is_timed_one_at_a_time(tmp_path, monkeypatch, capsys):
    TINY.save(tmp_path / "tiny.json")
    made = []

    class Noted(step_module.Step):
        def __init__(self, model):
            super().__init__(model)
            made.append(model)

    monkeypatch.setattr(step_module, "Step", Noted)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    words = ["bench", "--paced", f"--train={tmp_path / 'tiny.json'}", "--channels=4", "--cells=1", "--batch_size=4"]
    assert main([*words, "--input_shape=8,8,3", "--drop_path=0.2"]) == 0
    ready, *times, memory = map(json.loads, capsys.readouterr().out.splitlines())
    [network] = made
    optimizer = network.optimizer
    assert ready == {"ready": True, "params": network_cost(TINY, (8, 8, 3), 10, 4, 1).params}
    assert len(times) == 2 and min(times) > 0 and memory["peak_memory_mb"] > 0
    assert optimizer.iterations == 4  # Two that are not timed come first.
    assert (float(optimizer.learning_rate), optimizer.global_clipnorm) == (pytest.approx(0.025), 5.0)
    assert [layer.final_rate for layer in all_layers(network) if isinstance(layer, DropPath)] == [0.2] * 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--train=DARTS_V2", "--order=second"], "--order=second: applies to searches"),
        (["--train=DARTS_V2", "--clip=-1"], "--clip=-1"),
        (["--train=DARTS_V3"], "unknown genotype 'DARTS_V3'"),
        (["--auxiliary"], "--auxiliary=true: a search has none; it needs --train=NAME"),
    ],
)
def test_a_bench_refuses_flags_of_the_other_kind(words, said, capsys):
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
