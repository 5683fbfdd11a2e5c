"""`kdarts benchmark`: the table of truths, contestants and their scores."""

import csv
import itertools
import json

import pytest

from kdarts.cli.benchmark import contestants, parse_seeds
from kdarts.cli.main import main
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.supernet.spaces import get_space
from kdarts.training.workdir import write_json
from kdarts.tuning.scores import AccuracyTable
from kdarts.views.curves import draw_benchmark

SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
CONVS = SKIPS.replace("skip_connect", "nor_conv_3x3")


@pytest.fixture
def truth(tmp_path):
    """A table of all architectures: 40 for each 3x3 convolution and 1 for each 1x1, on two data sets."""
    operations = get_space("nasbench201").operations
    with (tmp_path / "truth.csv").open("w") as file:
        file.write("architecture,first,second\n")
        for row in itertools.product(operations, repeat=6):
            a, b, c, d, e, f = row
            text = f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"
            value = 15 * row.count("nor_conv_3x3") + row.count("nor_conv_1x1")
            file.write(f"{text},{value},{value / 2}\n")
    return tmp_path / "truth.csv"


def test_a_table_knows_its_architectures_its_best_and_its_mean(truth):
    table = AccuracyTable.load(truth)
    assert table.names == ("first", "second") and len(table.rows) == 15625
    assert table.of(Genotype.from_text(CONVS)) == (90, 45) == table.best
    assert table.mean[0] == pytest.approx(6 * (15 + 1) / 5)
    with pytest.raises(KdartsError, match="no architecture"):
        table.of(Genotype.from_text("|skip_connect~0|"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "first line"),
        ("name,a\nx,1\n", "first line"),
        ("architecture\nx\n", "first line"),
        ("architecture,a\n", "no architecture"),
        ("architecture,a\nx,y\n", "line 2"),
        ("architecture,a\n|none~0|,1\n|none~0|,2\n", r"line 3: '.none~0.' stands there twice"),
        ("architecture,a\nx,101\n", "0 to 100"),
        ("architecture,a\nx,nan\n", "0 to 100"),
        ("architecture,a\nx\n", "2 fields"),
        ("architecture,a,a\n|none~0|,1,2\n", "has two columns 'a'"),
        ("architecture,regret\n|none~0|,1\n", "column 'regret'; allowed"),
        ("architecture,a\0b\n|none~0|,1\n", r"column 'a.x00b'"),
        ("architecture,a\n|none~0|\0,1\n", "line 2: architecture string"),
        ("architecture,a\nx,1\n", "line 2: architecture string: 'x' where"),
        ("architecture,a\n|warp_drive~0|,1\n", "line 2: unknown operation 'warp_drive'"),
        ('architecture,a\n"|none~0|,1\n', "cannot be read as CSV"),
    ],
)
def test_what_is_no_such_table_is_told(tmp_path, text, message):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(KdartsError, match=message):
        AccuracyTable.load(tmp_path / "table.csv")


def test_a_byte_order_mark_is_no_part_of_a_table(tmp_path):
    (tmp_path / "table.csv").write_text("architecture,a\n|none~0|,1\n", "utf-8-sig")
    assert AccuracyTable.load(tmp_path / "table.csv").rows == {"|none~0|": (1.0,)}


def test_a_table_without_an_architecture_that_a_search_could_find_is_refused_before_it(truth, tmp_path, capfd):
    lines = truth.read_text().splitlines(keepends=True)
    part = tmp_path / "part.csv"
    part.write_text("".join(lines[:-1]))
    for words, message in (
        ([f"--table={part}"], "the table has 15624 architectures, and a search could find 15625: it lacks |avg_pool"),
        (
            [f"--table={truth}", "--space=darts"],
            "darts in --space=darts: a table of architectures knows cells of one input",
        ),
    ):
        assert main(["benchmark", f"--workdir={tmp_path}/run", *words]) == 2
        assert message in capfd.readouterr().err and not (tmp_path / "run").exists()


def test_contestants_are_methods_with_other_choices():
    found = contestants("darts,darts+order=second+attention=nor_conv_3x3:0.1,none:-0.1,gdas")
    assert [one.label for one in found] == [
        "darts",
        "darts+order=second+attention=nor_conv_3x3:0.1,none:-0.1",
        "gdas",
    ]
    assert found[1].words == ("--method=darts", "--order=second", "--attention=nor_conv_3x3:0.1,none:-0.1")
    assert parse_seeds("3,10-12") == [3, 10, 11, 12]


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--methods=nothing", "unknown method 'nothing'"),
        ("--methods=darts+depth=3", "AXIS=VALUE"),
        ("--methods=darts,darts", "twice"),
        ("--methods=ddarts", "sharing=shared"),
        ("--methods=darts+order=third", "order"),
        ("--seeds=1-", "--seeds=1-"),
        ("--seeds=1,1", "twice"),
        ("--table=nowhere.csv", "nowhere.csv"),
    ],
)
def test_mistakes_are_told_before_anything_begins(truth, tmp_path, capfd, flag, message):
    folder = tmp_path / "run"
    assert main(["benchmark", f"--table={truth}", f"--workdir={folder}", flag]) == 2
    said = capfd.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not folder.exists()


def _row(first, skips=1, seconds=60.0):
    return {
        "first": first,
        "regret": 90 - first,
        "kendall": first / 100,
        "spearman": "",
        "skip_connects": skips,
        "wall_seconds": seconds,
        "peak_memory_mb": 9.0,
    }


def test_scores_of_seeds_are_means_and_deviations():
    table = AccuracyTable({CONVS: (90.0,), SKIPS: (0.0,)}, ("first",))
    row = table.together([_row(80.0), _row(84.0, 2, 80.0)])
    assert (row["first"], row["first_sd"], row["regret"]) == (82.0, pytest.approx(2.8284), 8.0)
    assert (row["skip_connects"], row["wall_seconds"], row["seeds"]) == (1.5, 70.0, 2)
    text = table.markdown({"darts": row, "one": table.together([_row(81.0)])})
    assert "| `darts` | 82.00 ± 2.83 | 8.00 | 0.82 |  | 1.5 | 70 | 9 | 2 |" in text
    assert "| `one` | 81.00 | 9.00 |" in text
    assert "| random choice | 45.00 | 45.00 |" in text and "| optimum | 90.00 | 0.00 |" in text


@pytest.mark.parametrize("paths", [{}, {"path_seconds": 5.0}])
def test_the_course_of_a_search_ends_with_what_its_paths_led_to(truth, tmp_path, paths):
    table = AccuracyTable.load(truth)
    folder, figures = tmp_path / "run", {"skip_connects": 0, "wall_seconds": 10.0, "peak_memory_mb": 1}
    write_json(folder / "summary.json", figures | paths)
    epochs = [Genotype.from_text(SKIPS), Genotype.from_text(SKIPS if paths else CONVS)]
    lines = [{"epoch": number, "genotype": json.loads(genotype.to_json())} for number, genotype in enumerate(epochs)]
    (folder / "genotypes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Genotype.from_text(CONVS).save(folder / "genotype.json")
    points, found = table.course(folder), table.score(folder)
    assert points == ([(5, 0), (10, 0), (15, 90)] if paths else [(5, 0), (10, 90)])
    assert found["wall_seconds"] == points[-1][0] and found["regret"] == 0 and found["kendall"] == ""


def test_the_picture_needs_a_course(tmp_path):
    with pytest.raises(KdartsError, match="no course"):
        draw_benchmark({"darts": []}, tmp_path / "curves.png", 90, 50)


def test_a_benchmark_scores_what_its_searches_found_and_goes_on(truth, tmp_path, capfd):
    folder = tmp_path / "run"
    sizes = ["--epochs=2", "--channels=2", "--train_examples=16", "--valid_examples=16", "--batch_size=16"]
    words = ["benchmark", f"--table={truth}", f"--workdir={folder}", "--jobs=2", "--seeds=1", *sizes]
    assert main([*words, "--methods=darts+order=first"]) == 0
    said = capfd.readouterr().out
    assert "1 of 1" in said and "random choice" in said
    with (folder / "searches.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["seed"]) for row in rows] == [("darts+order=first", "1")]
    table = AccuracyTable.load(truth)
    for row in rows:
        found = Genotype.load(folder / "searches" / "darts+order=first" / row["seed"] / "search" / "genotype.json")
        assert float(row["first"]) == table.of(found)[0] == 90 - float(row["regret"])
    assert (folder / "curves.png").stat().st_size > 1000 and "| optimum |" in (folder / "results.md").read_text()
    assert main([*words, "--methods=darts+order=first"]) == 0
    assert "1 of 1 searches were finished before" in capfd.readouterr().out
    assert main([*words[:-1], "--batch_size=8", "--methods=darts+order=first"]) == 2
    assert "--batch_size=16" in capfd.readouterr().err
