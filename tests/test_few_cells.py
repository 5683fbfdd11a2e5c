"""With one or two cells all are reductions: there is no normal cell to search, and none is shown."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

import kdarts
from kdarts.cli.main import main
from kdarts.genotypes.genotype import Genotype
from kdarts.search.session import alphas_by_name
from kdarts.views import drawing
from kdarts.views.report_run import alpha_titles

SIZES = ["--channels=4", "--nodes=1", "--epochs=1", "--train_examples=16", "--valid_examples=16", "--batch_size=8"]


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("partial_channels", [1, 2])
def test_there_is_no_alpha_of_a_normal_cell(cells, partial_channels, eagerly):
    search = kdarts.Search("darts", (8, 8, 1), 10, channels=4, cells=cells, partial_channels=partial_channels, nodes=1)
    (alpha,) = search.supernet.alphas
    alpha.assign(np.eye(8, dtype=np.float32)[[5, 6]])
    assert list(alphas_by_name(search)) == list(search.supernet.alpha_names) == ["reduce"]
    normal, reduce = search.genotype().cells
    assert normal == reduce and {operation for operation, _, _ in reduce} == {"sep_conv_5x5", "dil_conv_3x3"}
    search.fit(kdarts.search_dataset("digits", 4, train_examples=4, valid_examples=4), epochs=1, verbose=0)
    assert set(search.record.arrays) == {"reduce"} | ({"beta_reduce"} if partial_channels > 1 else set())


@pytest.mark.parametrize("rule", ["residual", "progressive"])
def test_a_rule_for_normal_cells_makes_no_second_cell(rule):
    search = kdarts.Search("darts", (8, 8, 1), 10, channels=4, cells=2, nodes=2, discretization=rule, max_skips=0)
    search.supernet.alphas[0].assign(np.eye(8, dtype=np.float32)[[3] * 5])
    normal, reduce = search.genotype().cells
    assert normal == reduce and {operation for operation, _, _ in normal} == {"skip_connect"}


def test_three_cells_have_both():
    search = kdarts.Search("darts", (8, 8, 1), 10, channels=4, cells=3, nodes=1)
    assert list(alphas_by_name(search)) == ["normal", "reduce"]


def test_the_command_says_so(tmp_path, capfd, eagerly):
    words = ["--partial_channels=2", "--ablation_weight=0.5"]
    assert main(["search", "--cells=2", *SIZES, *words, f"--workdir={tmp_path}"]) == 0
    printed, errors = capfd.readouterr()
    assert printed.count("note: the ablation loss is always 0 here") == 1 and "ablation" not in errors
    assert "with --cells=2 all cells are reductions: no normal cell is searched" in printed
    assert list(np.load(tmp_path / "alphas.npz")) == ["reduce"] == list(np.load(tmp_path / "betas.npz"))
    assert "skips_normal" not in (tmp_path / "history.csv").read_text()
    normal, reduce = json.loads((tmp_path / "genotype.json").read_text())["cells"]
    assert normal == reduce
    assert "reduction cell" in (tmp_path / "cells.svg").read_text()
    page = tmp_path / "report.html"
    assert main(["report", f"--workdir={tmp_path}", f"--to={page}"]) == 0
    assert '"titles":["normal and reduction cell"]' in page.read_text().replace('": ', '":')


def test_equal_cells_are_drawn_once(tmp_path, monkeypatch):
    cell = (("skip_connect", 2, 0),)
    equal = Genotype((cell, cell), ((2,), (2,)))
    assert drawing.are_one([equal]) and drawing.to_dot(equal).count("subgraph") == 1
    assert drawing.BOTH in drawing.to_dot(equal)
    other = Genotype((cell, (("skip_connect", 2, 1),)), ((2,), (2,)))
    assert not drawing.are_one([equal, other]) and drawing.to_dot(other).count("subgraph") == 2
    assert alpha_titles(["reduce"], equal) == ["reduction cell"]
    drawing.draw_genotype(equal, tmp_path / "cells.png")
    drawing.draw_genotype(other, tmp_path / "two.png")
    assert plt.imread(tmp_path / "cells.png").shape[1] <= plt.imread(tmp_path / "two.png").shape[1]
