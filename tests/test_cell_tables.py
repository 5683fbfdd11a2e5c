"""`kdarts benchmark` among cells of two inputs: tables of trained cells, the rule score, spaces made to fail."""

import csv
import pathlib

import numpy as np
import pytest

from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype, get_genotype
from kdarts.genotypes.rule import live_part, rule_parts
from kdarts.search.ranks import kendall, ranks, spearman
from kdarts.supernet.cost import network_cost
from kdarts.supernet.spaces import get_space
from kdarts.training.workdir import WEIGHTS, write_arrays, write_json
from kdarts.tuning.cells import CellTable, Counts, known, note
from kdarts.tuning.scores import AccuracyTable

SHARED = pathlib.Path(__file__).parents[2] / "shared" / "data"
NAMES = get_space("darts").operations
SIZES = ["--dataset=digits", "--channels=2", "--cells=3", "--epochs=1", "--train_examples=16", "--valid_examples=16"]
SIZES += ["--batch_size=16", "--methods=darts", "--seeds=1"]


def _text(*operations: str, sources=(0, 1) * 4) -> str:
    """A genotype whose two cells have these eight operations."""
    cell = list(zip(operations, sources, strict=True))
    return f"Genotype(normal={cell}, normal_concat=range(2, 6), reduce={cell}, reduce_concat=range(2, 6))"


CELLS = [_text(*["sep_conv_3x3"] * n, *["max_pool_3x3"] * (8 - n)) for n in (0, 2, 4, 8)]


@pytest.fixture
def table(tmp_path) -> pathlib.Path:
    path = tmp_path / "cells.csv"
    rows = [f'"{text}",{last},1' for text, last in zip(CELLS, (96.0, 96.5, 97.0, 96.9), strict=True)]
    path.write_text("\n".join(["genotype,last,epoch5", *rows]))
    return path


def test_ranks_agree_as_scipy_has_it():
    stats, rng = pytest.importorskip("scipy.stats"), np.random.default_rng(0)
    for count in (2, 5, 300):
        for values in (rng.normal(size=(2, count)), rng.integers(0, 5, (2, count)).astype(float)):
            np.testing.assert_allclose(kendall(*values), stats.kendalltau(*values).statistic, atol=1e-12)
            np.testing.assert_allclose(spearman(*values), stats.spearmanr(*values).statistic, atol=1e-12)
    assert kendall([1, 2, 3], [-np.inf, 4, 5]) == spearman([1, 2, 3], [-np.inf, 4, 5]) == pytest.approx(1)
    assert np.isnan(kendall([1, 1], [1, 2])) and np.isnan(spearman([1, 1], [1, 2]))
    assert ranks([3.0, -np.inf, 3.0]).tolist() == [2.5, 1, 2.5]


@pytest.mark.parametrize(
    "name, score", [("DARTS_V1", 10.9), ("DARTS_V2", 10.1), ("PDARTS", 8.6), ("DOTS_C10", 10.1), ("RobustDARTS", 8.1)]
)
def test_the_rule_score_of_published_cells(name, score):
    assert rule_parts(get_genotype(name))["rule"] == score


def test_the_rule_is_a_cell_of_the_zoo():
    parts = rule_parts(get_genotype("rule"))
    assert parts == {"rule": 11.6, "sep_convs": 6, "skips": 2, "from_inputs": 8}
    with pytest.raises(KdartsError, match="rule score"):
        rule_parts(Genotype.from_text("|none~0|"))


def test_what_none_cuts_off_is_not_alive():
    """3 <- 2 leads nowhere, as 4 <- 3 is none; 2 <- 1 alone reads the input of the first path."""
    text = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|"
    live = live_part(Genotype.from_text(text))
    assert live.cells == ((("skip_connect", 4, 1),),)
    size = (16, 16, 3), 10, 4, 1
    stand = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    assert network_cost(live, *size) == network_cost(Genotype.from_text(stand), *size)
    whole = get_genotype("DARTS_V2")
    assert live_part(whole) == whole


def test_a_table_of_cells_is_read(table):
    cells = CellTable.load(table)
    assert cells.accuracies.tolist() == [96.0, 96.5, 97.0, 96.9] and cells.rules.tolist() == [4, 6, 8, 12]
    cells.check(get_space("darts"), 4)
    with pytest.raises(KdartsError, match="line 2: has max_pool_3x3, which --space=s2 lacks"):
        cells.check(get_space("s2"), 4)
    with pytest.raises(KdartsError, match="line 2: has 4 nodes"):
        cells.check(get_space("darts"), 3)
    with pytest.raises(KdartsError, match="take --space=darts"):
        cells.check(get_space("nasbench201"), 3)


@pytest.mark.parametrize(
    "text, message",
    [
        ("genotype,best\nx,1\n", "needs a first line with 'genotype' and 'last'"),
        ("genotype,last\nx,1\n", "line 2: genotype text"),
        (f'genotype,last\n"{CELLS[0]}",101\n', "line 2: needs 2 fields, 'last' from 0 to 100"),
        (f'genotype,last\n"{CELLS[0]}",97\n', "has 1 cells; needs 3 or more"),
        ('genotype,last\n"|none~0|",97\n', "line 2: rule score"),
    ],
)
def test_what_is_no_table_of_cells_is_told(tmp_path, capsys, text, message):
    (tmp_path / "cells.csv").write_text(text)
    assert main(["benchmark", f"--table={tmp_path / 'cells.csv'}", f"--workdir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--along=2", "--space=s4"], "--along: is about a table of genotypes"),
        (["--space=nasbench201"], "--table: needs the CSV"),
        ([], "--table: needs the CSV"),
        (["--table={}", "--scores=synflow"], "--scores 'synflow'"),
        (["--table={}", "--space=s2"], "which --space=s2 lacks"),
        (["--table={}", "--methods=ddarts"], "sharing=shared"),
    ],
)
def test_mistakes_are_told(table, tmp_path, capsys, words, message):
    assert main(["benchmark", f"--workdir={tmp_path / 'run'}", *(word.format(table) for word in words)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "run").exists()


def _finished(folder: pathlib.Path, weights: list[np.ndarray], genotype: Genotype, operations=NAMES) -> pathlib.Path:
    """What a finished search leaves, as far as its score needs it."""
    figures = {"skip_connects": 0, "wall_seconds": 9.0, "peak_memory_mb": 1}
    write_json(folder / "search" / "summary.json", figures)
    arrays = {f"cell_{index}": w for index, w in enumerate(weights)}
    write_arrays(folder / "search" / WEIGHTS, {"operations": np.array(operations), **arrays})
    genotype.save(folder / "search" / "genotype.json")
    return folder / "search"


def test_alpha_is_scored_by_how_it_ranks_the_cells_of_a_table(table, tmp_path):
    """The weight of separable convolutions is e times that of pools on all edges: three of four cells by accuracy."""
    cells, weights = CellTable.load(table), np.full((14, 8), 0.1)
    weights[:, NAMES.index("sep_conv_3x3")] *= np.e
    folder = _finished(tmp_path, [weights, 1 - weights], Genotype.from_text(CELLS[2]))
    row = cells.score(folder)
    assert (row["rule"], row["percentile"]) == (8, 62.5)
    assert row["kendall_normal"] == pytest.approx(4 / 6, abs=1e-4) and row["spearman_normal"] == pytest.approx(0.8)
    assert row["kendall_reduce"] == -row["kendall_normal"] and "kendall_along" not in row
    note(tmp_path / "along.csv", ("loss", "batches"), dict(zip(CELLS, ((4, 1), (3, 1), (1, 1), (2, 1)), strict=True)))
    assert cells.score(folder)["kendall_along"] == 1
    assert known(tmp_path / "along.csv", ("loss",))[CELLS[1]] == [3]
    cells.zero_cost = {"rule": cells.rules}
    text = cells.markdown({"darts": cells.together([cells.score(folder)])})
    assert "| `darts` | 8.0 | 4.0 | 0.0 | 8.0 | 62.5 | 9 | 1 | 1 |" in text
    assert "| `darts` | 0.67 / 0.80 | -0.67 / -0.80 |" in text and "| 1.00 / 1.00 |" in text
    assert "| `rule` | 0.67 | 0.80 | 96.90 |" in text and "`DARTS_V1` 10.9" in text


def test_alpha_is_scored_by_how_it_ranks_all_architectures(tmp_path):
    names = ("none", "skip_connect", "nor_conv_3x3")
    texts = {f"|{a}~0|+|{b}~0|{c}~1|": 10 * [a, b, c].count(names[2]) for a in names for b in names for c in names}
    table = AccuracyTable({text: (value + 1.0,) for text, value in texts.items()} | {"|warp~0|": (3.0,)}, ("first",))
    table.rows.pop("|warp~0|")
    weights = np.tile([[0.1, 0.1, 0.8]], (3, 1))
    best = Genotype.from_text("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|")
    row = table.score(_finished(tmp_path, [weights], best, names))
    assert row["kendall"] == row["spearman"] == 1 and row["regret"] == 0
    assert table.score(_finished(tmp_path, [np.full((3, 3), 1 / 3)], best, names))["kendall"] == ""


def test_noise_and_skips_are_counted(tmp_path):
    cells = Genotype.from_text(_text(*["noise"] * 3, *["sep_conv_3x3"] * 5))
    truth = Counts(get_space("s4"))
    row = truth.score(_finished(tmp_path, [], cells))
    assert (row["noise"], row["edges"]) == (6, 16) and truth.scale()["random"] == 8
    assert "| `darts` | 6.0 ± 0.0 | 16.0 |" in truth.markdown({"darts": truth.together([row, row])})
    assert "| random choice | 8.0 | 16.0 |" in truth.markdown({"darts": truth.together([row])})


@pytest.mark.slow
def test_a_benchmark_by_a_table_of_cells(table, tmp_path, capfd):
    words = ["benchmark", f"--table={table}", f"--workdir={tmp_path / 'run'}", "--along=1", *SIZES]
    assert main(words) == 0
    first = (tmp_path / "run" / "results.csv").read_text()
    with (tmp_path / "run" / "searches.csv").open() as file:
        [row] = csv.DictReader(file)
    assert -1 <= float(row["kendall_along"]) <= 1 and -1 <= float(row["kendall_normal"]) <= 1
    said = capfd.readouterr().out
    assert all(f"| `{name}` |" in said for name in ("params", "macs", "naswot", "az_nas", "rule"))
    assert main(words) == 0 and (tmp_path / "run" / "results.csv").read_text() == first
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_benchmark_without_a_table_counts_noise(tmp_path, capfd):
    assert main(["benchmark", "--space=s4", f"--workdir={tmp_path / 'run'}", *SIZES]) == 0
    with (tmp_path / "run" / "searches.csv").open() as file:
        [row] = csv.DictReader(file)
    assert 0 <= int(row["noise"]) <= int(row["edges"]) == 16
    assert "random choice" in (tmp_path / "run" / "results.md").read_text()


def test_the_scores_of_trained_cells_are_as_computed_from_the_public_data():
    path = SHARED / "darts_cells" / "cells.csv"
    if not path.is_file():
        pytest.skip("the table of trained cells is not here")
    cells = CellTable.load(path)
    size = (32, 32, 3), 10, 36, 20
    params = [network_cost(genotype, *size).params for genotype in cells.genotypes]
    # Of all 214 cells that were published, 0.57 and 0.24.
    assert len(cells.texts) == 150 and spearman(cells.rules, cells.accuracies) == pytest.approx(0.528, abs=0.001)
    assert spearman(params, cells.accuracies) == pytest.approx(0.278, abs=0.001)


@pytest.mark.slow
def test_the_live_parameters_of_nas_bench_201_are_as_computed_from_the_public_data():
    path = SHARED / "nasbench201" / "accuracy.csv"
    if not path.is_file():
        pytest.skip("the table of NAS-Bench-201 is not here")
    table, size = AccuracyTable.load(path), ((32, 32, 3), 10, 16, 5)
    genotypes, accuracies = map(Genotype.from_text, table.rows), [row[0] for row in table.rows.values()]
    both = [(network_cost(g, *size).params, network_cost(live_part(g), *size).params) for g in genotypes]
    every, live = zip(*both, strict=True)
    assert kendall(every, accuracies) == pytest.approx(0.578, abs=0.001)
    assert kendall(live, accuracies) == pytest.approx(0.654, abs=0.001)
    assert spearman(live, accuracies) == pytest.approx(0.822, abs=0.001)
