"""The commands: what they print, what they refuse, and that a refusal changes nothing."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import kdarts
from kdarts.cli.command import in_flags
from kdarts.cli.main import VERBS, command_of, main
from kdarts.genotypes.distance import OPERATIONS
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import Method, get_method, groups

SMALL = ["--cells=2", "--channels=4", "--nodes=2", "--epochs=1"]


@pytest.fixture
def refused(capfd, tmp_path, monkeypatch):
    """Runs a command that must fail: one line on standard error, exit code 2, and no file made, changed or removed."""
    monkeypatch.chdir(tmp_path)

    def files():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def run(*arguments) -> str:
        before = files()
        capfd.readouterr()
        assert main([str(a) for a in arguments]) == 2
        out, err = capfd.readouterr()
        assert err.startswith("kdarts: ")
        assert err.count("\n") == 1
        assert "Traceback" not in out + err
        assert files() == before
        return err

    return run


def _folder(root: pathlib.Path, classes=("cats", "dogs"), count=8) -> pathlib.Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture = np.full((8, 8, 3), 40 * number + i, np.uint8)
            (root / name / f"{i}.png").write_bytes(tf.io.encode_png(picture).numpy())
    return root


def test_the_overview_waits_for_no_tensorflow():
    program = "import sys, kdarts.cli.main as m; m.main(['--help']); sys.exit('tensorflow' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_and_lists(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert f"usage: kdarts {verb}" in capsys.readouterr().out
    assert main(["methods", "--json"]) == 0
    methods = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [method["name"] for method in methods]
    assert "darts" in names and names == sorted(names)
    assert methods == [get_method(name).config() for name in names]
    assert all(Method.from_config(method) == get_method(method["name"]) for method in methods)
    assert main(["spaces", "--json"]) == 0
    first, *_, last, mobile = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["name"] == "darts"
    assert len(first["operations"]) == 8
    assert first["sizes"]["one_cell"] == 1_037_664_180
    assert last["name"] == "multichannelnet"
    assert last["states"] == {"filters": [32, 64, 128, 256]}
    assert last["sizes"] == {"paths": 4 * 8**8}
    assert mobile["name"] == "mobile" and mobile["sizes"] == {"paths": 10**6}
    assert mobile["macro"]["input"] == [32, 32, 3]


def _groups(verb, capsys) -> dict[str, list[str]]:
    """The flags under each title of a command's help."""
    assert main([verb, "--help"]) == 0
    found, title = {}, ""
    for line in capsys.readouterr().out.splitlines()[4:]:
        if line.startswith("  --"):
            found[title].append(line.strip().removeprefix("--"))
        elif line and not line.startswith(" "):
            title = line
            found[title] = []
    return found


def test_the_help_of_a_search_goes_by_axis(capsys):
    for verb in ("search", "tune", "benchmark", "bench"):
        found = _groups(verb, capsys)
        axes = list(groups())
        assert list(found)[-len(axes) :] == axes
        for title, fields in groups().items():
            assert [name for name in found[title] if name != "operations"] == list(fields)
        everything = [name for names in found.values() for name in names]
        assert sorted(everything) == sorted(command_of(verb).values())
    assert "dataset" in _groups("search", capsys)["Data"]


def test_the_help_of_a_training_goes_by_what_it_is_about(capsys):
    found = _groups("train", capsys)
    assert "dataset" in found["Data"] and "cutout" in found["Augmentation"] and "workdir" in found["Flags"]
    assert found["Training"][:3] == ["epochs", "batch_size", "learning_rate"]


def test_spaces_say_how_large_they_are(capsys):
    assert main(["spaces"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "name"
    assert all(column in lines[0] for column in ("one cell", "two shared cells", "8 individual cells"))
    assert lines[1].split() == ["darts", "8", "4", "1.04e9", "1.08e18", "1.34e72"]
    assert any("sep_conv_5x5" in line for line in lines)
    assert ["multichannelnet", "8", "4", "2", "6.71e7"] in [line.split() for line in lines]
    assert ["mobile", "9", "1", "5", "1.00e6"] in [line.split() for line in lines]
    assert any("primitive ResizablePool, SharpSepConv" in line for line in lines)


def test_nothing_asked_shows_the_help_and_counts_as_a_mistake(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


def test_info_counts_darts_v2(capsys):
    assert main(["info", "DARTS_V2", "--channels=36", "--cells=20"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["params"], found["macs"]) == (3349342, 528359040)
    assert found["operations"] == {"dil_conv_3x3": 18, "max_pool_3x3": 10, "sep_conv_3x3": 90, "skip_connect": 42}
    assert main(["info", "DARTS_V2", "--auxiliary"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 3349342 + 476426


def test_draw(tmp_path, capsys):
    for suffix in ("svg", "png", "dot"):
        assert main(["draw", "DARTS_V1", f"--to={tmp_path}/cells.{suffix}"]) == 0
        assert (tmp_path / f"cells.{suffix}").stat().st_size > 1000


@pytest.fixture
def gapped(tmp_path):
    """The file of a genotype with an empty cell, a missing node and an edge from it."""
    cells = [[], [["sep_conv_3x3", 2, 0], ["max_pool_3x3", 4, 3]]]
    genotype = {"format": "kdarts-genotype-1", "cells": cells, "concats": [[2, 3], [2, 3, 4]], "sequence": [0, 1, 0]}
    path = tmp_path / "gapped.json"
    path.write_text(json.dumps(genotype))
    return path


GAPS = [
    "note: cell 0 is empty and passes its second input on",
    "note: cell 1: nothing leads to nodes 3, 4, left out with 1 edge that starts there",
]


def test_commands_note_what_a_network_leaves_out(gapped, tmp_path, capfd):
    assert main(["info", str(gapped)]) == 0
    out, err = capfd.readouterr()
    assert err.splitlines() == GAPS
    assert json.loads(out)["cells"] == 3
    assert main(["draw", str(gapped), f"--to={tmp_path}/cells.svg"]) == 0
    assert capfd.readouterr().err.splitlines() == GAPS
    assert main(["deepen", f"--genotype={gapped}", "--cells=2", f"--to={tmp_path}/two.json"]) == 0
    assert capfd.readouterr().err.splitlines() == GAPS
    data = _folder(tmp_path / "pictures", count=20)
    command = ["train", f"--genotype={gapped}", f"--dataset=folder:{data}", f"--workdir={tmp_path}/run"]
    assert main([*command, "--channels=2", "--epochs=1", "--batch_size=4"]) == 0
    assert [line for line in capfd.readouterr().err.splitlines() if line.startswith("note: ")] == GAPS
    assert main(["info", "DARTS_V2"]) == 0
    assert capfd.readouterr().err == ""


def test_deepen(tmp_path, capsys):
    path = tmp_path / "deeper.json"
    assert main(["deepen", "--genotype=DD-4", "--cells=14", f"--to={path}"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [str(path), "14 cells, reductions in brackets: 0 1 0 1 [2] 4 3 4 3 [5] 6 7 6 7"]
    assert main(["info", str(path), "--channels=36"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 6276862
    assert main(["deepen", f"--genotype={path}", "--cells=4", f"--to={tmp_path}/four.json"]) == 0
    assert main(["deepen", f"--genotype={tmp_path}/four.json", "--cells=8", f"--to={path}"]) == 0
    out = capsys.readouterr().out
    assert "no normal cell was searched between the reductions: the nearest, cell 0, stands there" in out
    assert main(["deepen", "--genotype=DARTS_V2", "--cells=5", f"--to={path}"]) == 0
    assert "5 cells, reductions in brackets: 0 [1] 0 [1] 0" in capsys.readouterr().out


def test_distance(tmp_path, capsys):
    assert main(["distance", "ResNet18", "ResNet50", "--weights=mean"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("distance") == pytest.approx(0.08362996966788812, abs=1e-12)
    assert found == {"a": "ResNet18", "b": "ResNet50", "weights": "mean", "normalize": True, "aligned": False}
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps(dict.fromkeys(OPERATIONS, 2.0)))
    flags = [f"--weights={scores}", "--nonormalize", "--aligned"]
    assert main(["distance", "resnet18", str(_saved(tmp_path / "mine.json")), *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["a"], found["b"]) == ("resnet18", str(tmp_path / "mine.json"))
    assert found["distance"] == pytest.approx(2 / 12)  # the one edge that is missing, in each of the four cells
    assert (found["normalize"], found["aligned"]) == (False, True)


def _saved(path):
    """A file of `resnet18` without its last skip and without a name."""
    genotype = Genotype.load("resnet18").named("")
    dataclasses.replace(genotype, cells=(genotype.cells[0][:-1],)).save(path)
    return path


def test_distances_of_many(tmp_path, capsys):
    names = ["ResNet18", "ResNet50", "DO-1-ResNet18"]
    assert main(["distance", *names, f"--to={tmp_path}/far.png"]) == 0
    *lines, path = capsys.readouterr().out.splitlines()
    assert path == f"{tmp_path}/far.png" and (tmp_path / "far.png").stat().st_size > 1000
    assert lines[0].split() == ["1", "2", "3"]
    rows = [line.split() for line in lines[1:]]
    assert [row[:2] for row in rows] == [[str(i + 1), name] for i, name in enumerate(names)]
    table = np.array([row[2:] for row in rows], float)
    assert table.shape == (3, 3) and not table.diagonal().any() and np.array_equal(table, table.T)
    assert table[0, 1] == 0.0835


def test_mistakes_in_distances(refused, tmp_path):
    assert "usage: kdarts distance GENOTYPE GENOTYPE ... [--flags], got 'ResNet18'" in refused("distance", "ResNet18")
    assert "usage: kdarts distance" in refused("distance")
    assert "unknown genotype 'ResNet19'" in refused("distance", "ResNet18", "ResNet19")
    assert "has 13 cells" in refused("distance", "ResNet18", "ResNet50", "Xception")
    assert "sep_conv_7x7 in NASNet" in refused("distance", "NASNet", "DARTS_V2")
    assert "did you mean 'mean'" in refused("distance", "ResNet18", "ResNet50", "--weights=meen")
    assert "none.json" in refused("distance", "ResNet18", "ResNet50", f"--weights={tmp_path}/none.json")
    assert ".gif" in refused("distance", "ResNet18", "ResNet50", "--to=far.gif")


def test_mistakes_in_deepening(refused, tmp_path):
    to = f"--to={tmp_path}/deeper.json"
    assert "--genotype is missing" in refused("deepen", "--cells=14", to)
    assert "--cells is missing" in refused("deepen", "--genotype=DD-4", to)
    assert "--to is missing" in refused("deepen", "--genotype=DD-4", "--cells=14")
    assert "--cells=0" in refused("deepen", "--genotype=DD-4", "--cells=0", to)
    assert "unknown genotype 'DD-44'" in refused("deepen", "--genotype=DD-44", "--cells=14", to)
    assert "cannot be written" in refused("deepen", "--genotype=DD-4", "--cells=14", f"--to={tmp_path}")
    path = tmp_path / "three.json"
    cells = [[["skip_connect", 2, 1]]] * 4
    three = {"format": "kdarts-genotype-1", "cells": cells, "concats": [[2]] * 4, "sequence": [0, 1, 2, 3]}
    path.write_text(json.dumps({**three, "reductions": [1, 2, 3]}))
    assert "Algorithm 1 allows two at most" in refused("deepen", f"--genotype={path}", "--cells=8", to)


def test_mistakes_in_flags(refused):
    assert "(did you mean 'darts'?); allowed: darts, beta_darts, " in refused("search", "--method=dartss")
    assert "did you mean 'darts'" in refused("search", "--space=dart")
    assert "bogus" in refused("search", "--bogus=1")
    assert "--epochs=x" in refused("search", "--epochs=x")
    assert "--epochs=0" in refused("search", "--epochs=0")
    assert "search" in refused("serch")
    assert "order" in refused("search", "--order=third")
    assert "--batch_size=5000" in refused("search", "--batch_size=5000")
    assert "--channels=5" in refused("search", "--channels=5")
    assert "sharing" in refused("search", "--sharing=none")
    assert "mixing" in refused("search", "--mixing=hard")
    assert "no-such.flags" in refused("search", "--flagfile=no-such.flags")
    assert "format" in refused("export", "--model=m.keras", "--to=out", "--format=pickle")
    assert "--model is missing" in refused("evaluate")
    assert "--genotype is missing" in refused("train")
    assert "usage: kdarts info" in refused("info")
    assert ".gif" in refused("draw", "DARTS_V1", "--to=cells.gif")


def test_mistakes_name_flags(refused):
    said = refused("search", "--stop_ratio=0.5", "--stop=skips")
    assert said.startswith("kdarts: --stop_ratio=0.5: has no effect with --stop=skips; it is for stop ")
    assert refused("search", "--threshold=2").startswith("kdarts: --threshold=2: allowed is a number from 0 to 1")
    said = refused("search", "--size_bin=0", "--paths=2")
    assert said == "kdarts: --size_bin=0.0: allowed is above 0, at most 1000000\n"
    assert "--start: each of the method's stages" in refused("search", "--method=pdarts", "--start=resnet18")
    assert "--sharing=start and --stop=distance: needs --start=NAME, a path" in refused("search", "--method=dartopti")
    said = refused("search", "--sampling=random", "--stop=eigenvalue", "--channels=2", "--cells=2")
    assert "--stop=eigenvalue: with --sampling=random the loss" in said
    assert refused("search", "--method=dartss").startswith("kdarts: unknown method 'dartss'")
    said = refused("tune", "--choose=warmup_epochs=0,1", "--method=pdarts", "--epochs=1")
    assert said.startswith("kdarts: with --warmup_epochs=1: --warmup_epochs=1: a stage of 1 epochs needs one")


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ("threshold 2: allowed is 0 to 1", "--threshold=2: allowed is 0 to 1"),
        ("stages 2:8,3:4: too few", "--stages=2:8,3:4: too few"),
        ("batch_size 0; allowed: 1 or more", "--batch_size=0; allowed: 1 or more"),
        ("start: begins anew", "--start: begins anew"),
        ("needs paths=2 and sharing='shared'", "needs --paths=2 and --sharing=shared"),
        ("no 'x' with stop 'epochs'", "no 'x' with --stop=epochs"),
        ("unknown method 'x'; allowed: darts", "unknown method 'x'; allowed: darts"),
        ("epoch 1, step 2: the loss is nan; try --clip", "epoch 1, step 2: the loss is nan; try --clip"),
        ("--workdir=a: of another run", "--workdir=a: of another run"),
        ("/data/cells.json: no genotype", "/data/cells.json: no genotype"),
        ("seed of all: wrong", "seed of all: wrong"),
    ],
)
def test_messages_of_the_library_name_flags(said, printed):
    assert in_flags(said, command_of("search").values()) == printed


def test_what_takes_more_memory_than_it_may_leaves_the_folder_free(tmp_path, capfd):
    sizes = ["--channels=2", "--cells=2", "--nodes=2", "--epochs=1", "--batch_size=8", f"--workdir={tmp_path}/run"]
    sizes += ["--train_examples=16", "--valid_examples=16"]
    assert main(["search", "--method=multichannelnet", "--memory_limit=10MB", *sizes]) == 2
    err = capfd.readouterr().err
    assert err.startswith("kdarts: --memory_limit=10MB: this search needs about ") and err.count("\n") == 1
    assert "nothing that was tried fits: a smaller --batch_size, --precision=mixed_bfloat16\n" in err
    assert not list((tmp_path / "run").iterdir())


def test_mistakes_in_data(refused, tmp_path):
    assert "nowhere" in refused("search", "--dataset=folder:nowhere")
    assert "did you mean" in refused("search", "--dataset=cifar11", f"--data_dir={tmp_path}")
    _folder(tmp_path / "one", classes=("cats",))
    assert "class" in refused("search", f"--dataset=folder:{tmp_path}/one")
    broken = _folder(tmp_path / "two", count=20)
    (broken / "dogs" / "3.png").write_bytes(b"not a picture")
    assert "3.png" in refused("search", f"--dataset=folder:{broken}")


def test_mistakes_in_genotypes(refused, tmp_path):
    assert "DARTS_V2" in refused("train", "--genotype=DARTS_V3")
    assert "no genotype file" in refused("info", "nowhere.json")
    path = tmp_path / "odd.json"
    cell = [["warp_drive", 2, 0], ["skip_connect", 2, 1]]
    genotype = {"format": "kdarts-genotype-1", "cells": [cell, cell], "concats": [[2], [2]]}
    path.write_text(json.dumps(genotype))
    assert "warp_drive" in refused("info", path)
    assert "warp_drive" in refused("train", f"--genotype={path}")
    path.write_text(path.read_text()[:-20])
    assert "odd.json" in refused("info", path)
    path.write_text("Genotype(normal=__import__('os'))")
    assert "odd.json" in refused("info", path)


def test_mistakes_in_models(refused, tmp_path):
    assert "nowhere.keras" in refused("evaluate", "--model=nowhere.keras")
    damaged = tmp_path / "model.keras"
    damaged.write_bytes(b"PK\x03\x04 damaged")
    assert "model.keras" in refused("evaluate", f"--model={damaged}")
    assert "model.keras" in refused("export", f"--model={damaged}", "--to=out")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A search, a training and two exports on a folder of pictures, as small as they come."""
    root = tmp_path_factory.mktemp("runs")
    data = f"--dataset=folder:{_folder(root / 'pictures', count=20)}"
    assert main(["search", data, f"--workdir={root}/search", "--batch_size=4", *SMALL]) == 0
    genotype = f"--genotype={root}/search/genotype.json"
    sizes = ["--cells=2", "--channels=4", "--epochs=2", "--batch_size=8"]
    sizes += ["--auxiliary", "--drop_path=0.1", "--cutout=2", "--momentum=0.8", "--l2=0.002", "--clip=3"]
    assert main(["train", genotype, data, f"--workdir={root}/train", *sizes]) == 0
    for kind in ("raw", "normalized"):
        command = ["export", f"--model={root}/train/model.keras", f"--to={root}/{kind}", f"--input={kind}"]
        assert main([*command, "--format=saved_model"]) == 0
    return root, data


def test_search_leaves_what_the_readme_says(runs):
    root, _ = runs
    names = {path.name for path in (root / "search").iterdir()}
    wanted = "genotype.json genotypes.jsonl alphas.npz history.csv alphas.png cells.svg summary.json flags.flags backup"
    assert set(wanted.split()) <= names
    summary = json.loads((root / "search" / "summary.json").read_text())
    keys = "method dataset seed epochs valid_accuracy params macs skip_connects step_ms wall_seconds peak_memory_mb"
    assert {*keys.split(), "stopped_by"} <= set(summary)
    assert summary["epochs"] == 1
    with np.load(root / "search" / "alphas.npz") as alphas:
        assert {name: alphas[name].shape for name in alphas.files} == {"reduce": (1, 5, 8)}  # Two cells both reduce.


def test_report_of_a_search_and_a_training(runs, capsys):
    root, _ = runs
    page = root / "report.html"
    assert main(["report", f"--workdir={root}/search", f"{root}/train", f"--to={page}"]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    data = json.loads(page.read_text().split('<script type="application/json" id="data">')[1].split("</script>")[0])
    search, training = data["runs"]
    assert [one["title"] for one in search["alpha"]["sets"]] == ["reduction cell"]  # Of two cells both reduce.
    summary = json.loads((root / "search" / "summary.json").read_text())
    (macs,) = (chart["lines"][0]["values"] for chart in search["curves"] if chart["key"] == "macs")
    assert macs == [pytest.approx(summary["macs"] / 1e3, rel=1e-4)]
    assert training["trained"] and training["epochs"] == 2 and training["drawings"]


def test_evaluate_prints_the_accuracy_of_training(runs, capsys):
    root, data = runs
    assert main(["evaluate", f"--model={root}/train/model.keras", data]) == 0
    found = json.loads(capsys.readouterr().out)
    summary = json.loads((root / "train" / "summary.json").read_text())
    assert found["accuracy"] == pytest.approx(summary["test_accuracy"], abs=1e-6)
    assert found["loss"] == pytest.approx(summary["test_loss"], abs=1e-4)
    assert found["examples"] == summary["test_examples"]


def test_exports_answer_as_the_model_does(runs):
    from kdarts.networks.models import load_model

    root, _ = runs
    summary = json.loads((root / "train" / "summary.json").read_text())
    model = load_model(root / "train" / "model.keras")
    raw = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype("float32")
    normalized = ((raw / 255 - summary["mean"]) / summary["std"]).astype("float32")
    expected = model(normalized, training=False).numpy()
    for kind, images in (("raw", raw), ("normalized", normalized)):
        signature = tf.saved_model.load(str(root / kind / "saved_model")).signatures["serving_default"]
        assert signature.structured_input_signature[1]["image"].dtype == tf.float32
        (logits,) = signature(image=tf.constant(images)).values()
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        assert json.loads((root / kind / "metrics.json").read_text())["input"] == kind
        assert (root / kind / "genotype.json").read_text() == (root / "search" / "genotype.json").read_text()


def test_the_same_command_again_says_what_was_found_and_changes_nothing(runs, capsys):
    root, data = runs
    files = [root / "search" / name for name in ("genotype.json", "history.csv", "summary.json", "alphas.npz")]
    before = [path.read_bytes() for path in files]
    assert main(["search", data, f"--workdir={root}/search", "--batch_size=4", *SMALL]) == 0
    assert "finished before" in capsys.readouterr().out
    assert [path.read_bytes() for path in files] == before


def test_a_training_has_the_optimizer_of_its_flags(runs):
    from kdarts.networks.models import load_model

    root, _ = runs
    optimizer = load_model(root / "train" / "model.keras").optimizer
    assert type(optimizer) is kdarts.SGD
    assert (optimizer.momentum, optimizer.l2, optimizer.global_clipnorm) == (0.8, 0.002, 3.0)


def test_a_training_that_is_finished_keeps_what_was_measured(runs):
    root, data = runs
    summary = root / "train" / "summary.json"
    before = json.loads(summary.read_text())
    assert before["step_ms"] > 0
    sizes = ["--cells=2", "--channels=4", "--epochs=2", "--batch_size=8"]
    sizes += ["--auxiliary", "--drop_path=0.1", "--cutout=2", "--momentum=0.8", "--l2=0.002", "--clip=3"]
    assert main(["train", f"--genotype={root}/search/genotype.json", data, f"--workdir={root}/train", *sizes]) == 0
    assert json.loads(summary.read_text()) == before


def test_a_finished_run_is_refused_with_other_data(runs, capsys):
    root, data = runs
    before = {path: path.read_bytes() for name in ("search", "train") for path in (root / name).rglob("*.*")}
    sizes = ["--cells=2", "--channels=4", "--epochs=2", "--batch_size=8"]
    sizes += ["--auxiliary", "--drop_path=0.1", "--cutout=2", "--momentum=0.8", "--l2=0.002", "--clip=3"]
    (root / "pictures" / "dogs").rename(root / "pictures" / "hounds")
    for words in (
        ["search", data, f"--workdir={root}/search", "--batch_size=4", *SMALL],
        ["train", f"--genotype={root}/search/genotype.json", data, f"--workdir={root}/train", *sizes],
    ):
        capsys.readouterr()
        assert main(words) == 2
        assert "was started with other data: class 'dogs' is now 'hounds'" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    (root / "pictures" / "hounds").rename(root / "pictures" / "dogs")


def test_a_workdir_of_another_run_is_refused(runs, capfd):
    root, data = runs
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for command in (
        ["search", data, f"--workdir={root}/search", "--batch_size=4", "--seed=1", *SMALL],
        ["search", "--dataset=digits", f"--workdir={root}/train", *SMALL],
        ["search", "--dataset=digits", f"--workdir={root}/pictures", *SMALL],
        ["search", "--dataset=digits", f"--workdir={root}/search/genotype.json", *SMALL],
    ):
        capfd.readouterr()
        assert main(command) == 2
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert str(root) in err
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_damaged_state_is_named(runs, capfd, tmp_path):
    import shutil

    root, data = runs
    shutil.copytree(root / "search", tmp_path / "search")
    (values,) = (tmp_path / "search" / "backup").glob("ckpt-*.data*")
    values.write_bytes(values.read_bytes()[:500])
    assert main(["search", data, f"--workdir={tmp_path}/search", "--batch_size=4", *SMALL]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert values.name.partition(".")[0] in err
