"""MultiChannelNet by command line, from images to what serves them, and its pictures."""

import json

import keras
import numpy as np
import pytest
from matplotlib.image import imread

from kdarts.cli.main import main
from kdarts.genotypes.cuboid import Cuboid, HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.supernet.cuboids import build_path_network, multichannelnet_parts
from kdarts.supernet.grids import cuboid_names, get_cuboid, multichannelnet_axes
from kdarts.training.entries import SEARCHED, TRAINED
from kdarts.training.workdir import read_json
from kdarts.views.trellis import draw_path, draw_stages

SMALL = ["--channels=2", "--cells=2", "--nodes=2", "--epochs=1", "--train_examples=128", "--valid_examples=64"]


@pytest.mark.slow
def test_from_images_to_a_trained_network(tmp_path, capsys):
    run, trained = tmp_path / "run", tmp_path / "trained"
    assert main(["search", "--method=multichannelnet", *SMALL, f"--workdir={run}"]) == 0
    path = HyperPath.load(run / "genotype.json")
    assert path.space == "multichannelnet"
    summary = read_json(run / "summary.json", SEARCHED)
    assert summary["transitions"] == 16 and summary["stages"] == 2
    with np.load(run / "alphas.npz") as alphas:
        assert alphas["stages"].shape == (1, 2, 8)
    assert imread(run / "alphas.png").std() > 0
    assert "ResizablePool" in (run / "path.svg").read_text() or "SharpSepConv" in (run / "path.svg").read_text()
    train = ["train", f"--genotype={run / 'genotype.json'}", "--epochs=1", "--train_examples=128"]
    assert main([*train, "--precision=mixed_bfloat16", f"--workdir={trained}"]) == 0
    capsys.readouterr()
    assert main(["info", str(run / "genotype.json"), "--input_shape=8,8,1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["params"] == summary["params"] == read_json(trained / "summary.json", TRAINED)["params"]
    assert sum(told["primitive"].values()) == told["stages"] == 2
    network = keras.saving.load_model(trained / "model.keras")
    assert all(type(layer).__module__.startswith("keras.") for layer in network.layers)
    assert network.layers[-1].compute_dtype == "float32"


def test_commands_take_published_paths(tmp_path, capsys):
    assert main(["info", "MULTI_CHANNEL_SCALAR_PATH"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["params"] == 862_890
    assert told["filters"] == [32, 32, 128, 128, 32, 256, 256, 256, 256]
    assert main(["info", "MULTI_CHANNEL_GREEDY_SCALAR_TOP_DOWN", "--drop_last_step"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["params"], told["stages"], len(told["filters"])) == (753_578, 7, 8)
    assert main(["draw", "MULTI_CHANNEL_SCALAR_PATH", f"--to={tmp_path / 'path.svg'}"]) == 0
    text = (tmp_path / "path.svg").read_text()
    assert text.count("ResizablePool") >= 6
    assert "MULTI_CHANNEL_SCALAR_PATH" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--genotype=MULTI_CHANNEL_SCALAR_PATH", "--cells=3"], "--cells=3: the sizes of a path are fixed"),
        (["train", "--genotype=DARTS_V2", "--drop_last_step"], "a genotype of cells has no steps"),
        (["search", "--method=multichannelnet", "--cells=3"], "even number of cells"),
        (["search", "--method=multichannelnet", "--recompute"], "--recompute is about cells; a HyperCuboid has none"),
        (["search", "--method=multichannelnet", "--head=16"], "--head is about cells; a HyperCuboid has none"),
        (["search", "--method=multichannelnet", "--stop=ranking"], "unknown stop of a HyperCuboid"),
        (["search", "--method=darts", "--discretization=best_path"], "unknown discretization 'best_path'"),
    ],
)
def test_what_a_hypercuboid_has_no_use_for_is_refused(tmp_path, capsys, arguments, said):
    small = SMALL if arguments[0] == "search" else []
    assert main([arguments[0], *small, *arguments[1:], f"--workdir={tmp_path / 'run'}"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_path_that_is_not_of_multichannelnet_is_not_built():
    assert cuboid_names() == ["multichannelnet", "mobile"]
    own = HyperPath(Cuboid({"block": (1,)}), (0, 0), (0,))
    with pytest.raises(KdartsError, match="a program's own"):
        build_path_network(own, (8, 8, 1), 2)
    with pytest.raises(KdartsError, match="MultiChannelNet has the axes"):
        multichannelnet_parts(own.cuboid, 2)
    with pytest.raises(KdartsError, match="unknown HyperCuboid"):
        get_cuboid("cells")


def test_forbidden_transitions_are_left_blank(tmp_path):
    axes = multichannelnet_axes(2, 2, 2)
    weights = np.random.default_rng(0).random(axes.shape)
    path = HyperPath(axes, (0, 1, 1), (0, 1), name="found")
    draw_stages(axes, weights, tmp_path / "all.png")
    draw_path(path, tmp_path / "all.svg", weights=weights)
    weights[0, 1] = np.nan
    draw_stages(axes, weights, tmp_path / "some.png")
    draw_path(path, tmp_path / "some.svg", weights=weights)
    draw_path(path, tmp_path / "path.svg")
    white = [(imread(tmp_path / f"{name}.png")[..., :3] == 1).all(-1).mean() for name in ("all", "some")]
    assert white[1] > white[0] + 0.05
    lines = [(tmp_path / f"{name}.svg").read_text().count('<g id="line2d') for name in ("all", "some", "path")]
    assert lines == [10, 8, 2]
    with pytest.raises(KdartsError, match="the cuboid has"):
        draw_path(path, tmp_path / "path.svg", weights=weights[:1])
