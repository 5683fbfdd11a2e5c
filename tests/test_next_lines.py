"""The commands that a command prints for what comes next: quoted, complete, and of a size that fits the data."""

import shlex

import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli import options
from kdarts.cli.main import command_of, main


@pytest.mark.parametrize(
    ("examples", "batch_size"), [(1, 1), (8, 1), (15, 1), (16, 2), (128, 16), (1650, 64), (19_999, 64), (20_000, None)]
)
def test_a_proposed_training_fits_the_number_of_images(examples, batch_size):
    recipe = options.fitting_recipe(examples)
    assert recipe.get("batch_size") == batch_size
    if recipe:
        assert recipe["batch_size"] <= examples
        assert 20 <= recipe["epochs"] <= 200


def test_a_printed_command_is_read_as_it_was_meant():
    given = {"dataset": "folder:/a b/it's $HOME", "image_size": 24, "genotype": "runs/x y/genotype.json"}
    line = options.next_command("train", given)
    assert line.startswith("Next: kdarts train ")
    words = shlex.split(line.removeprefix("Next: "))[1:]
    values = command_of("train").parse(words)
    assert {name: values[name].value for name in given} == given
    assert options.data_flags(values) == {"dataset": given["dataset"], "image_size": 24}
    assert options.precision_flags(values) == {}
    assert options.precision_flags(command_of("train").parse(["train", "--precision=mixed_bfloat16"])) == {
        "precision": "mixed_bfloat16"
    }


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_each_printed_command_runs_as_printed(precision, tmp_path, monkeypatch, capsys):
    """From a folder with a space in its name to an exported network, by nothing but what is printed."""
    rng = np.random.default_rng(0)
    for kind, level in (("cats", 60), ("wild dogs", 160)):
        (tmp_path / "my pictures" / kind).mkdir(parents=True)
        for number in range(30):
            data = tf.io.encode_png((rng.integers(0, 90, (20, 20 + number % 3, 3)) + level).astype(np.uint8))
            (tmp_path / "my pictures" / kind / f"{number}.png").write_bytes(data.numpy())
    monkeypatch.chdir(tmp_path)
    words = ["search", f"--dataset=folder:{tmp_path / 'my pictures'}", "--image_size=16", f"--precision={precision}"]
    words += ["--epochs=1", "--batch_size=8", "--channels=4", "--cells=2", "--nodes=2", "--stem=small"]
    words += [f"--workdir={tmp_path / 'runs of mine' / 'first'}"]
    done = []
    while words:
        assert main(words) == 0, words
        done.append(words[0])
        printed = [line for line in "".join(capsys.readouterr()).splitlines() if line.startswith("Next: ")]
        assert len(printed) <= 1
        words = shlex.split(printed[0].removeprefix("Next: kdarts ")) if printed else []
    assert done == ["search", "train", "export", "predict"]
