"""The sizes of a paper and the small ones for the built-in digits: which a command has, and what it says of them."""

import shlex

import pytest

from kdarts.cli import options, preset, seeds
from kdarts.cli.main import command_of, main


def parsed(verb, *words):
    return command_of(verb).parse([verb, *words])


@pytest.mark.parametrize(
    ("words", "small"),
    [
        ((), True),
        (("--preset=paper",), False),
        (("--dataset=cifar10",), False),
        (("--dataset=cifar10", "--preset=small"), True),
    ],
)
def test_the_digits_are_small_and_other_data_are_not(words, small):
    values = parsed("search", "--method=ddarts", *words)
    assert preset.is_small(values) == preset.is_small(parsed("train", *words)) == small
    method = options.chosen_method(values)
    assert (method.channels, method.epochs) == ((8, 25) if small else (16, 50))
    assert method.arch_learning_rate == pytest.approx(0.03 if small else 0.003)
    changes = options.preset_changes(values)
    if not small:
        assert changes == {}
        return
    assert changes["channels"] == (16, 8) and changes["arch_learning_rate"] == (0.003, 0.03)
    assert "cells" not in changes and "epochs" in changes and not any("path" in name for name in changes)
    paths = options.preset_changes(parsed("search", "--method=dartspd", *words))
    assert paths["path_epochs"] == (600, 40) and paths["population"] == (50, 20)
    given = parsed("search", "--method=ddarts", "--epochs=7", "--channels=3", *words)
    assert not {"epochs", "channels"} & options.preset_changes(given).keys()
    assert options.chosen_method(given).epochs == 7


def test_a_run_that_names_its_usual_preset_is_the_same_run():
    for words, kept in ((["--preset=small"], None), (["--preset=paper"], "paper"), ([], None)):
        assert options.remembered(parsed("search", *words)).get("preset") == kept


def test_the_shallow_trainings_and_the_proposed_one_follow():
    values = parsed("search", "--preset=paper", "--seeds=2")
    method = options.chosen_method(values)
    assert "--epochs=100" in seeds.train_words(values, method) and seeds.preset_changes(values) == {}
    words = shlex.split(seeds.train_command(values, method, "DARTS_V2", 1437))
    assert "--preset=paper" in words and "--channels=16" in words and "--batch_size=64" in words
    values = parsed("search", "--dataset=cifar10", "--preset=small", "--seeds=2", "--shallow_epochs=3")
    method = options.chosen_method(values)
    assert "--epochs=3" in seeds.train_words(values, method) and "--channels=16" in seeds.train_words(values, method)
    assert seeds.preset_changes(values) == {"shallow_drop_path": (0.2, 0.0)}
    words = shlex.split(seeds.train_command(values, method, "DARTS_V2", 50_000))
    assert "--preset=small" in words and not any(word.startswith("--epochs") for word in words)
    assert "--preset=small" in seeds.search_words(values)


def test_a_command_tells_it_once_at_its_start(monkeypatch, tmp_path, capsys):
    words = ["--channels=2", "--cells=1", "--dry_run", f"--workdir={tmp_path / 'run'}"]
    assert main(["train", "--genotype=DARTS_V2", *words]) == 0
    line = "preset small: epochs 600 → 40, batch_size 96 → 64; --preset=paper keeps the paper's values"
    assert capsys.readouterr().out.splitlines()[0] == line
    assert main(["train", "--genotype=DARTS_V2", "--preset=paper", *words]) == 0
    out = capsys.readouterr().out
    assert "preset" not in out and "steps of batch 96" in out
    preset.tell({"path_learning_rate": (0.0025, 0.025), "stages": (["5:8:0"], ["3:8:0", "4:5:0"])})
    line = "preset small: path_learning_rate 0.0025 → 0.025, stages 5:8:0 → 3:8:0,4:5:0; --preset=paper keeps the"
    assert capsys.readouterr().out == f"{line} paper's values\n"
    monkeypatch.setattr(preset, "is_child", lambda: True)
    preset.tell({"epochs": (50, 25)})
    assert capsys.readouterr().out == ""
    assert main(["search", "--preset=tiny", *words]) == 2
    assert "should be one of <paper|small>" in capsys.readouterr().err
