"""`tools/operation_benchmark.py`: what it trains, what it refuses, what it makes of results, and a tiny real one."""

import statistics

import pytest

from kdarts.ops.operations import get_operation
from kdarts.training.workdir import read_json, write_json

TINY = ["--operations=simple_conv_3x3,avg_pool_3x3", "--positions=8", "--runs=2"]
TINY_TRAINING = ["--channels=4", "--epochs=1", "--batch_size=64", "--train_examples=128"]


@pytest.fixture
def program(tool):
    return tool("operation_benchmark")


@pytest.fixture
def trained(program, monkeypatch):
    """Stands in for trainings: each takes a minute and has the accuracy that the function given here says."""

    def use(accuracy):
        started = []

        def train(training, benchmark):
            started.append(training)
            program.proxy(training.operation, training.position, benchmark.wiring).save(
                benchmark.workdir / f"{training.name}.json"
            )
            found = accuracy(training)
            if not isinstance(found, float):
                return found
            summary = {"test_accuracy": found, "wall_seconds": 60.0}
            write_json(benchmark.workdir / training.name / "summary.json", summary)
            return 0

        monkeypatch.setattr(program, "train", train)
        return started

    return use


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--operations=sep_conv_3x4"], "did you mean 'sep_conv_3x3'?"),
        (["--operations="], "unknown operation ''"),
        (["--operations=skip_connect,skip_connect"], "one is there twice"),
        (["--positions=12"], "unknown position '12'"),
        (["--positions=0,x"], "unknown position 'x'"),
        (["--positions=1,1"], "one is there twice"),
        (["--runs=0"], "--runs=0: allowed is 1 and more"),
        (["--runs=x"], "--runs"),
        (["--wiring=tree"], "allowed: published, chain"),
        (["--genotype=DARTS_V2"], "--genotype: the benchmark sets it by itself"),
        (["--seed=1"], "--seed"),
        (["--cells=4"], "--cells"),
        (["--epoch=3"], "epoch"),
        (["--epochs=0"], "epochs"),
        (["there"], "'there'"),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else "",
)
def test_refused_in_one_line_and_nothing_is_written(program, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert program.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("operation_benchmark: ")
    assert err.count("\n") == 1
    assert said in err
    assert not list(tmp_path.iterdir())


def test_help(program, capsys):
    with pytest.raises(SystemExit) as stop:
        program.main(["--help"])
    assert stop.value.code == 0
    assert "Table 1" in capsys.readouterr().out


def test_the_plan_is_the_papers(program):
    benchmark = program.parse([])
    assert len(benchmark.operations) == 12
    assert all(get_operation(name) for name in benchmark.operations)
    assert len(benchmark.trainings()) == len(set(benchmark.trainings())) == 12 * 12 * 4
    given = benchmark.remembered()
    assert (given["channels"], given["epochs"], given["batch_size"]) == ("64", "10", "256")
    assert program.parse(["--epochs=3"]).remembered()["epochs"] == "3"
    seeds = {}
    for training in benchmark.trainings():
        seeds.setdefault((training.position, training.run), set()).add(training.seed)
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)


def test_the_proxy_is_the_published_wiring_with_one_operation_changed(program, golden):
    (published,) = (g for g in golden("ddarts_genotypes.json")["genotypes"] if g["name"] == "ResNet18")
    cell = {tuple(edge) for edge in published["cells"][0]}
    usual = program.proxy("simple_conv_3x3", 0, "published")
    assert [set(found) for found in usual.cells] == [cell] * 3
    assert (usual.reductions, usual.sequence) == ((1, 2), (0, 1, 2))
    assert all(list(concat) == published["concat"] for concat in usual.concats)
    for position in range(12):
        changed = program.proxy("sep_conv_5x5", position, "published")
        (where,) = (i for i in range(3) if changed.cells[i] != usual.cells[i])
        (edge,) = set(changed.cells[where]) - cell
        assert where == position // 4
        assert edge == ("sep_conv_5x5", *((2, 0), (3, 2), (4, 3), (5, 4))[position % 4])
        assert not changed.gaps()
    chain = program.proxy("simple_conv_3x3", 0, "chain")
    assert {source for _, _, source in chain.cells[0]} == {1, 2, 3, 4}


def test_the_weights_are_of_the_best_runs(program, trained, tmp_path, capsys):
    scores = {0: (0.1, 0.3), 5: (0.5, 0.4), 11: (0.8, 0.7)}
    arguments = ["--operations=skip_connect,sep_conv_3x3", "--positions=0,5,11", "--runs=2", f"--workdir={tmp_path}"]
    started = trained(lambda t: scores[t.position][t.run] + 0.1 * (t.operation == "sep_conv_3x3"))
    assert program.main(arguments) == 0
    assert len(started) == 12
    found = read_json(tmp_path / "scores.json")
    assert read_json(tmp_path / "weights.json") == found["median"]
    best = [30, 50, 80]
    assert found["median"] == pytest.approx({"skip_connect": 50, "sep_conv_3x3": 60})
    assert found["mean"]["skip_connect"] == pytest.approx(statistics.mean(best))
    assert found["std"]["sep_conv_3x3"] == pytest.approx(statistics.pstdev(best))
    out = capsys.readouterr().out
    assert "12 trainings, 0 finished before" in out
    assert "2 of 12: sep_conv_3x3 at position 0, run 0 · about 0:11:00 left" in out
    assert "50.00 ± 20.55" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "flags.flags",
        "results.jsonl",
        "scores.json",
        "weights.json",
    ]


def test_it_goes_on_where_it_was_killed_and_may_be_extended(program, trained, tmp_path, capsys):
    arguments = ["--operations=skip_connect", "--positions=0,1", "--runs=2", f"--workdir={tmp_path}"]
    trained(lambda t: -9 if (t.position, t.run) == (1, 0) else 0.5)
    assert program.main(arguments) == 1
    assert "skip_connect-position1-run0 ended with -9; the same command goes on" in capsys.readouterr().err
    assert len(program.read_results(tmp_path / "results.jsonl")) == 1
    started = trained(lambda t: 0.25)
    assert program.main(arguments) == 0
    assert [(t.position, t.run) for t in started] == [(1, 0), (0, 1), (1, 1)]
    started = trained(lambda t: 0.75)
    assert program.main([*arguments, "--operations=skip_connect,max_pool_3x3"]) == 0
    assert {t.operation for t in started} == {"max_pool_3x3"}
    assert read_json(tmp_path / "weights.json") == {"skip_connect": 37.5, "max_pool_3x3": 75}
    for other in ("--epochs=3", "--wiring=chain"):
        assert program.main([*arguments, other]) == 2
        assert "belongs to another run" in capsys.readouterr().err


def test_a_refused_first_training_leaves_the_folder_to_the_corrected_command(program, trained, tmp_path):
    arguments = ["--operations=skip_connect", "--positions=0", "--runs=1", f"--workdir={tmp_path}"]
    trained(lambda t: 2)
    assert program.main([*arguments, "--epochs=3"]) == 2
    assert not list(tmp_path.iterdir())
    trained(lambda t: 0.5)
    assert program.main(arguments) == 0


@pytest.mark.parametrize("line", ["{", "[]", '{"operation": "skip_connect"}', "\xff"])
def test_damaged_results_are_named(program, trained, tmp_path, capsys, line):
    arguments = ["--operations=skip_connect", "--positions=0", "--runs=1", f"--workdir={tmp_path}"]
    trained(lambda t: 0.5)
    assert program.main(arguments) == 0
    capsys.readouterr()
    path = tmp_path / "results.jsonl"
    path.write_text(path.read_text() + line + "\n", "latin-1")
    assert program.main(arguments) == 2
    err = capsys.readouterr().err
    assert "results.jsonl: line 2 is no result" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_real_benchmark(program, tmp_path, capfd):
    arguments = [*TINY, *TINY_TRAINING, f"--workdir={tmp_path}/b"]
    assert program.main(["--operations=max_pool_3x3", *arguments[1:], "--batch_size=9999"]) == 2
    err = capfd.readouterr().err
    assert err.startswith("kdarts: --batch_size=9999")
    assert err.count("\n") == 1
    assert program.main(arguments) == 0
    assert "4 of 4" in capfd.readouterr().out
    found = read_json(tmp_path / "b" / "weights.json")
    assert set(found) == {"simple_conv_3x3", "avg_pool_3x3"}
    assert all(0 < score < 100 for score in found.values())
    before = (tmp_path / "b" / "results.jsonl").read_bytes()
    assert program.main(arguments) == 0
    assert "4 trainings, 4 finished before" in capfd.readouterr().out
    assert (tmp_path / "b" / "results.jsonl").read_bytes() == before
