"""Options that change nothing say so, once, and the others say nothing."""

import pytest

from kdarts.cli import idle, process, tune
from kdarts.cli.main import main
from kdarts.cli.options import chosen_method
from kdarts.cli.search import SEARCH
from kdarts.cli.train import TRAIN

ATTENTION = "sep_conv_3x3, sep_conv_5x5, dil_conv_5x5, dil_conv_3x3"


def of_search(*words) -> list[str]:
    values = SEARCH.parse(["search", *words])
    return idle.in_search(values, chosen_method(values))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "--power=4",
            "--power=4.0: has no effect with --schedule=cosine; it is for cosine_power, cosine_power_equation",
        ),
        (
            "--threshold=0.85",
            "--threshold=0.85: has no effect with --discretization=darts; it is for sparse, edge, comp",
        ),
        ("--removal=zero", "--removal=zero: has no effect without --ablation_weight"),
        ("--zero_one=l1", "--zero_one=l1: has no effect without --zero_one_weight"),
        ("--shallow_epochs=5", "--shallow_epochs=5: has no effect without --seeds"),
        ("--path_epochs=5", "--path_epochs=5: has no effect without --paths"),
        ("--attention_mode=once", "--attention_mode=once: has no effect without --attention"),
        ("--attention=sep_conv_7x7:1", "--attention has no effect on sep_conv_7x7, which --space=darts lacks"),
    ],
)
def test_an_idle_option_of_a_search_is_told(words, told):
    [note] = of_search(words)
    assert note.startswith(told)


def test_what_edarts_loses_among_the_cells_of_one_input_is_told():
    lost = f"--attention has no effect on {ATTENTION}, which --space=nasbench201 lacks"
    kept = "--space=nasbench201 keeps all edges: --topology=0 of edarts has no effect"
    assert of_search("--method=edarts", "--space=nasbench201") == [lost, kept]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--method=edarts",),
        ("--schedule=cosine_power", "--power=4"),
        ("--discretization=edge", "--threshold=0.9"),
        ("--method=ddarts", "--removal=zero", "--zero_one=l1"),
        ("--seeds=2", "--shallow_epochs=5"),
        ("--schedule=cosine_restarts", "--restarts=20", "--final_learning_rate=0.1"),
        ("--paths=2", "--path_epochs=5"),
        ("--method=multichannelnet", "--power=3"),
        ("--hold_back=0.1",),
        ("--target_macs=2M",),
    ],
)
def test_options_that_count_are_not_told(words):
    assert of_search(*words) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--power=4",),
            ["--power=4.0: has no effect with --schedule=cosine; it is for cosine_power, cosine_power_equation"],
        ),
        (("--power=4", "--schedule=cosine_power"), []),
        (("--auxiliary_weight=1",), ["--auxiliary_weight=1.0: has no effect without --auxiliary"]),
        (("--auxiliary", "--auxiliary_weight=1"), []),
        (("--schedule=step", "--final_learning_rate=0"), []),
    ],
)
def test_an_idle_option_of_a_training_is_told(words, told):
    assert idle.in_training(TRAIN.parse(["train", *words])) == told


def test_a_rate_that_a_line_never_comes_to_is_told_in_both():
    told = ["--final_learning_rate=0.1: has no effect with --schedule=linear; it is for cosine, cosine_power, "]
    told = [f"{told[0]}cosine_power_equation, cosine_restarts"]
    words = "--schedule=linear", "--final_learning_rate=0.1"
    assert of_search(*words) == told == idle.in_training(TRAIN.parse(["train", *words]))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--power=3"], ["--power=3.0: has no effect with --schedule=cosine"]),
        (["--power=3", "--choose=schedule=cosine,cosine_power"], []),
        (["--power=3", "--choose=schedule=cosine,linear"], ["--power=3.0: has no effect with --schedule=cosine"]),
        (["--choose=power=2..4"], ["--choose=power: has no effect with --schedule=cosine"]),
        (["--choose=power=2..4", "--choose=schedule=cosine,cosine_power"], []),
        (["--method=ddarts"], []),
    ],
)
def test_a_tuning_tells_what_has_no_effect_whatever_is_chosen(words, told):
    values = tune.TUNE.parse(["tune", *words])
    method = chosen_method(values)
    found = tune._Tuning(values, method, tune._choices(values, method), None).idle()
    assert len(found) == len(told) and all(map(str.startswith, found, told))


def test_it_is_told_on_standard_error_by_the_command_and_not_by_those_that_it_starts(tmp_path, monkeypatch, capsys):
    words = [
        "search",
        "--power=4",
        "--channels=4",
        "--cells=2",
        "--nodes=2",
        "--dry_run",
        f"--workdir={tmp_path / 'run'}",
    ]
    assert main(words) == 0
    assert capsys.readouterr().err.count("note: --power=4.0: has no effect with --schedule=cosine") == 1
    monkeypatch.setattr(process, "is_child", lambda: True)
    assert main(words) == 0
    assert "note" not in capsys.readouterr().err
