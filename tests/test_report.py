"""The report: what its data say, that nothing in it can run, what is refused, and how it looks in a browser."""

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import time
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.cli.main import main
from kdarts.genotypes.cuboid import Cuboid, HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.search import Search
from kdarts.supernet.cost import network_cost
from kdarts.supernet.macro import MacroConfig
from kdarts.supernet.supernet import Supernet
from kdarts.training.checkpoint import Checkpoint
from kdarts.training.search_run import setting_of
from kdarts.training.workdir import write_arrays, write_json
from kdarts.views import report_run
from kdarts.views.events import CellEvents
from kdarts.views.report import page, run_data, write_report
from kdarts.views.report_run import read_run

OPERATIONS = ["none", "skip_connect", "sep_conv_3x3"]
PAIRS = [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
SETTING = {
    "method": "darts",
    "mixing": "softmax",
    "epochs": 9,
    "pretrain_epochs": 0,
    "input_shape": [8, 8, 1],
    "num_classes": 10,
    "cells": 3,
    "channels": 4,
    "space": "few",
    "operations": OPERATIONS,
    "edges": PAIRS,
    "topology": False,
    "offsets": {},
    "stem": "auto",
    "frame": dataclasses.asdict(MacroConfig()),
}
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror=hacked=1>"


def found(*operations) -> Genotype:
    """Two equal cells with an operation on each edge into node 2, then into node 3."""
    cell = tuple((op, *pair) for op, pair in zip(operations, PAIRS, strict=False))
    return Genotype((cell, cell), ((2, 3), (2, 3)))


FOUND = [
    found("sep_conv_3x3", "skip_connect", "skip_connect", "skip_connect"),
    found("sep_conv_3x3", "skip_connect", "sep_conv_3x3", "skip_connect"),
    found("sep_conv_3x3", "skip_connect", "skip_connect", "skip_connect"),
]


def write_flags(folder, flags):
    """The record of a run's flags."""
    (folder / "flags.flags").write_text("".join(f"--{name}={value}\n" for name, value in flags))


def write_run(folder, genotypes=FOUND, alphas=None, setting=SETTING, summary=None, flags=(), **columns):
    """A search's files, as `SearchRecord` writes them."""
    folder.mkdir(parents=True)
    epochs = len(genotypes)
    columns = {"epoch": range(epochs), "accuracy": np.linspace(0.1, 0.9, epochs), **columns}
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
    write_flags(folder, flags)
    lines = [json.dumps({"epoch": e, "genotype": json.loads(g.to_json())}) + "\n" for e, g in enumerate(genotypes)]
    (folder / "genotypes.jsonl").write_text("".join(lines))
    if genotypes:
        genotypes[-1].save(folder / "genotype.json")
    if alphas is None:
        random = np.random.default_rng(0).normal(size=(2, epochs, len(PAIRS), len(OPERATIONS)))
        alphas = {"normal": random[0], "reduce": random[1]}
    if epochs:
        write_arrays(folder / "alphas.npz", alphas)
    for name, value in (("setting", setting), ("summary", summary)):
        if value is not None:
            (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def softmax(values):
    shares = np.exp(values)
    return shares / shares.sum(-1, keepdims=True)


def facts_of(data) -> dict:
    return {title: text for _, title, text in data["facts"]}


def test_a_search(tmp_path):
    summary = {"method": "darts", "epochs": 3, "valid_accuracy": 0.5, "params": 1234, "wall_seconds": 61}
    folder = write_run(
        tmp_path / "run", summary={**summary, "stopped_by": "skips", "brand_new": 7}, val_loss=["", 2, 1]
    )
    data = run_data(read_run(folder))
    told = {"state": "finished", "validation accuracy": "50.00%", "weights": "1,234", "time": "1:01", "brand new": "7"}
    assert told.items() <= facts_of(data).items()
    assert facts_of(data)["ended by"] == "a cell's skip connections"
    curves = {chart["key"]: chart for chart in data["curves"]}
    assert curves["accuracy"]["lines"][0]["values"] == [10.0, 50.0, 90.0]
    assert curves["loss"]["lines"][0]["values"] == [None, 2.0, 1.0]
    costs = [network_cost(g, (8, 8, 1), 10, 4, 3) for g in FOUND]
    assert curves["macs"]["lines"][0]["values"] == [pytest.approx(cost.macs, rel=1e-4) for cost in costs]
    assert data["wins"]["names"] == OPERATIONS and data["wins"]["counts"] == [[0, 0, 0], [6, 4, 6], [2, 4, 2]]
    assert data["skips"]["counts"] == [[3, 2, 3]] * 2
    drawn = data["drawings"]
    assert drawn["frames"] == [[0], [1], [0]] and len(drawn["cells"]) == 2  # equal cells are drawn once
    assert [edge[0] for edge in drawn["cells"][1]["edges"]] == [op for op, _, _ in FOUND[1].cells[0]]
    with np.load(folder / "alphas.npz") as alphas:
        expected = softmax(alphas["reduce"])[1].ravel()
        every = np.concatenate([softmax(alphas[name])[-1] for name in ("normal", "reduce")])
    alpha = data["alpha"]
    np.testing.assert_allclose(np.array(alpha["sets"][1]["values"][1]) / report_run.SCALE, expected, atol=6e-5)
    assert alpha["preference"] == pytest.approx((every.max(-1) / every.mean(-1)).mean(), abs=1e-4)
    assert [one["title"] for one in alpha["sets"]] == ["normal cell", "reduction cell"]
    assert alpha["sets"][0]["nodes"] == [["node 2", [0, 1]], ["node 3", [2, 3, 4]]]
    assert alpha["sets"][0]["edges"][4] == "2 → 3"


def test_weights_are_shown_beside_those_of_an_alpha_that_prefers_nothing(tmp_path):
    """Colours begin at 0 and reach twice the uniform weight at least, so that noise has one colour."""
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 3, len(PAIRS), len(OPERATIONS)))
    part = dict(zip(("normal", "reduce"), noise, strict=True))
    data = run_data(read_run(write_run(tmp_path / "noise", alphas=part)))
    assert [one["even"] for one in data["alpha"]["sets"]] == [[[round(1 / 3, 6)] * len(PAIRS)]] * 2
    assert data["alpha"]["high"] == pytest.approx(2 / 3, abs=1e-4) and data["alpha"]["preference"] < 1.05
    assert "α hardly prefers any" in answer(data, "Is it better than chance?")
    clear = run_data(read_run(write_run(tmp_path / "clear", alphas={n: 300 * a for n, a in part.items()})))
    assert "a clear preference" in answer(clear, "Is it better than chance?") and clear["alpha"]["high"] > 0.9
    gone = {name: np.where(np.arange(3) == 0, np.nan, a) for name, a in part.items()}  # the first candidate has left
    gone["normal"][0] = 0.0  # after the first epoch
    sigmoid = write_run(tmp_path / "gone", alphas=gone)
    evens = [one["even"] for one in run_data(read_run(sigmoid))["alpha"]["sets"]]
    assert evens == [[[0.333333] * 5, [0.5] * 5, [0.5] * 5], [[0.5] * 5]]
    write_json(sigmoid / "setting.json", SETTING | {"mixing": "sigmoid"})
    alpha = run_data(read_run(sigmoid))["alpha"]
    assert alpha["sets"][1]["even"] == [[0.5] * len(PAIRS)] and alpha["high"] == 1.0


def test_a_page_begins_with_the_answers(tmp_path):
    summary = {
        "method": "darts",
        "epochs": 3,
        "valid_accuracy": 0.5,
        "params": 1234,
        "macs": 5_000_000,
        "wall_seconds": 61,
    }
    done = write_run(tmp_path / "done", summary=summary, skips_normal=[1, 2, 3], skips_reduce=[0, 1, 1])
    data = run_data(read_run(done), "kdarts train --genotype=x")
    assert [question for question, _, _ in data["answers"]] == [
        *("What was found?", "How good is it?", "What does it cost?", "Is it better than chance?", "What is next?")
    ]
    found = answer(data, "What was found?")
    assert found == "2 different cells with 6 skip_connect and 2 sep_conv_3x3. It still changed in the last epoch."
    assert "50.00% of the validation images" in answer(data, "How good is it?")
    cost = answer(data, "What does it cost?")
    assert "1,234 weights" in cost and "5.000 million" in cost and "took 1:01" in cost
    assert "Guessing among 10 classes would be right for 10%." in answer(data, "Is it better than chance?")
    assert data["answers"][-1][1:] == ["Train the network, from new weights.", "kdarts train --genotype=x"]
    assert not [chart for chart in data["curves"] if chart["key"].startswith("skips_")]  # they have a card of their own
    same = run_data(read_run(write_run(tmp_path / "same", [*FOUND, FOUND[-1]])))
    assert answer(same, "What was found?").endswith("It has not changed since epoch 3 of 4.")
    assert "Give the command of the run again" in answer(same, "What is next?")
    low = run_data(read_run(write_run(tmp_path / "low", summary=summary | {"valid_accuracy": 0.12})))
    assert "so this is hardly better" in answer(low, "Is it better than chance?")
    trained = write_run(tmp_path / "trained", flags=[("genotype", "a")], setting=None)
    write_json(trained / "summary.json", {"test_accuracy": 0.25, "class_names": ["a", "b"], "epochs": 3})
    data = run_data(read_run(trained))
    assert answer(data, "What was trained?").endswith("2 sep_conv_3x3, trained for 3 epochs.")
    assert "hardly better" in answer(data, "Is it better than chance?") and "α" not in str(data["answers"])
    nothing = run_data(read_run(write_run(tmp_path / "nothing", [])))
    assert [question for question, _, _ in nothing["answers"]] == ["What was found?", "What is next?"]


def answer(data, question) -> str:
    return {asked: text for asked, text, _ in data["answers"]}[question]


def test_cells_of_one_input_are_drawn_without_another(tmp_path):
    texts = ("|a~0|+|none~0|skip_connect~1|", "|none~0|+|a~0|none~1|", "|none~0|+|none~0|none~1|")
    genotypes = [Genotype.from_text(text) for text in texts]
    names, pairs = ["none", "skip_connect", "a"], [(2, 1), (3, 1), (3, 2)]
    alphas = {"cell": np.random.default_rng(0).normal(size=(3, len(pairs), len(names)))}
    setting = SETTING | {"operations": names, "edges": pairs}
    data = run_data(read_run(write_run(tmp_path / "run", genotypes, alphas, setting)))
    drawn = data["drawings"]
    assert drawn["titles"] == [one["title"] for one in data["alpha"]["sets"]] == ["cell"]
    assert [node[0] for node in drawn["nodes"]] == ["input", "node", "output"]
    assert [look[0] for look in drawn["families"]] == ["skip", "other"]
    assert [[node[0] for node in cell["nodes"]] for cell in drawn["cells"]] == [[1, 2, "output"]] + [[1, "output"]] * 2
    assert [[edge[:4] for edge in cell["edges"]] for cell in drawn["cells"]] == [
        [["a", "other", 2, 1], ["skip_connect", "skip", "output", 2]],
        [["a", "other", "output", 1]],
        [],
    ]
    assert [cell["routes"] for cell in drawn["cells"]] == [[]] * 3  # nothing is concatenated
    page([read_run(tmp_path / "run")])


def test_stages_follow_one_another_and_their_dropped_candidates_are_blank(tmp_path):
    alphas = [np.zeros((count, len(PAIRS), len(OPERATIONS))) for count in (3, 2)]
    alphas[1][:, :, 0] = np.nan
    for number, values in enumerate(alphas, 1):
        part = {"normal": values, "reduce": values}
        write_run(
            tmp_path / "run" / "stages" / str(number), FOUND[: len(values)], part, skip_dropout=[0.5] * len(values)
        )
    write_flags(tmp_path / "run", [("method", "pdarts")])
    data = run_data(read_run(tmp_path / "run"))
    assert data["epochs"] == 5 and data["stages"] == [[0, "stage 1"], [3, "stage 2"]]
    assert facts_of(data)["state"] == "unfinished, stage 2: 2 epochs of it so far"
    values = data["alpha"]["sets"][0]["values"]
    assert values[2][:3] == [3333] * 3 and values[3][:3] == [None, 5000, 5000]
    assert {chart["title"] for chart in data["curves"]} >= {"skip dropout"}
    assert data["wins"]["at"] == data["drawings"]["at"] == [0, 1, 2, 3, 4]


def test_shares_of_edges(tmp_path):
    folder = write_run(tmp_path / "run")
    betas = np.random.default_rng(1).normal(size=(3, len(PAIRS)))
    write_arrays(folder / "betas.npz", {"normal": betas, "reduce": betas})
    shares = run_data(read_run(folder))["alpha"]["sets"][0]["shares"]
    expected = np.concatenate([softmax(betas[:, :2]), softmax(betas[:, 2:])], 1)
    np.testing.assert_allclose(np.array(shares) / report_run.SCALE, expected, atol=6e-5)


def test_a_path(tmp_path):
    cuboid = Cuboid({"layer": (0, 1)}, {"width": (8, 16)}, {"kind": ("a", "b", "c")})
    paths = [HyperPath(cuboid, (0, 1, 1), (2, 0)), HyperPath(cuboid, (1, 1, 0), (1, 1))]
    alphas = np.random.default_rng(0).normal(size=(2, 2, 12))
    setting = {"mixing": "softmax", "epochs": 2, "input_shape": [5], "num_classes": 2}
    data = run_data(read_run(write_run(tmp_path / "run", paths, {"stages": alphas}, setting)))
    assert data["path"]["frames"] == [[(0, 1, 1), (2, 0)], [(1, 1, 0), (1, 1)]]
    assert data["path"]["states"] == ["8", "16"] and data["path"]["stages"] == [["layer 0"], ["layer 1"]]
    assert data["wins"] == {"names": ["c", "a", "b"], "counts": [[1, 0], [1, 0], [0, 2]], "at": [0, 1]}
    second = data["alpha"]["sets"][1]
    row = second["edges"].index("16 → 8")
    assert row in dict(second["nodes"])["state 8"]
    expected = softmax(alphas[0])[1].reshape(2, 2, 3)[1, 0]
    np.testing.assert_allclose(
        np.array(second["values"][0][3 * row : 3 * row + 3]) / report_run.SCALE, expected, atol=6e-5
    )
    assert data["drawings"] is None and not [c for c in data["curves"] if c["key"] == "macs"]


def test_unfinished_and_unusual_runs(tmp_path):
    running = run_data(read_run(write_run(tmp_path / "running", flags=[("method", "darts")])))
    assert facts_of(running)["state"] == "unfinished: 3 of 9 epochs so far"
    write_json(tmp_path / "running" / "stopped.json", {"stopped_by": "divergence", "what": "a loss of nan", "epoch": 4})
    stopped = run_data(read_run(tmp_path / "running"))
    assert facts_of(stopped)["state"] == "stopped by divergence, a loss of nan, epoch 4"
    nothing = run_data(read_run(write_run(tmp_path / "nothing", [])))
    assert nothing["epochs"] == 0 and nothing["drawings"] is nothing["alpha"] is None
    older = run_data(read_run(write_run(tmp_path / "older", setting=None)))  # before settings were written down
    assert older["alpha"] is None and older["drawings"] and "macs" not in {c["key"] for c in older["curves"]}
    own = found("warp_drive", "skip_connect", "skip_connect", "warp_drive")  # an operation of a program's own
    ours = run_data(read_run(write_run(tmp_path / "own", [own])))
    assert ours["drawings"] and "macs" not in {c["key"] for c in ours["curves"]}
    early = write_run(tmp_path / "early")  # read between two of its files: they tell of fewer epochs
    lines = (early / "genotypes.jsonl").read_text().splitlines(keepends=True)
    (early / "genotypes.jsonl").write_text("".join(lines[:2]))
    assert run_data(read_run(early))["wins"]["at"] == [0, 1]


def test_seeds_of_a_training(tmp_path):
    for seed in range(2):
        folder = write_run(tmp_path / "run" / "seeds" / str(seed), FOUND[:2], setting=None)
        (folder / "genotypes.jsonl").unlink()
    FOUND[0].save(tmp_path / "run" / "genotype.json")
    write_flags(tmp_path / "run", [("genotype", "abc")])
    data = run_data(read_run(tmp_path / "run"))
    assert data["trained"] and data["epochs"] == 2
    assert [line["name"] for line in data["curves"][0]["lines"]] == ["training, seed 0", "training, seed 1"]
    assert data["drawings"]["frames"] == [[0]] and not data["wins"]["at"]


def test_seeds_of_a_search(tmp_path):
    root = write_run(tmp_path / "run", summary={"seeds": [{"seed": 5, "accuracy": 0.5}, {"seed": 6, "diverged": 2}]})
    for seed in range(2):
        write_run(root / "seeds" / str(seed) / "search", FOUND[: 1 + seed])
    data = run_data(read_run(root))
    lines = {chart["key"]: [line["name"] for line in chart["lines"]] for chart in data["curves"]}
    assert lines["accuracy"] == ["training, seed 0", "training, seed 1"] and lines["macs"] == ["MACs, kept"]
    assert data["wins"]["at"] == [0, 1, 2] and data["alpha"]["at"] == [0, 1, 2]  # of the kept one, in the folder itself
    assert data["parts"]["rows"] == [["5", "50.00%", "–"], ["6", "–", "2"]] and data["epochs"] == 3


def test_the_contributions_of_the_cells_are_one_chart(tmp_path):
    columns = {f"contribution_cell_{cell}": [-0.1, -0.2, cell] for cell in range(2)}
    folder = write_run(tmp_path / "run", contribution=[-0.1, -0.2, 0.5], **columns)
    charts = {chart["key"]: chart for chart in run_data(read_run(folder))["curves"]}
    assert {key for key in charts if key.startswith("contribution")} == {"contribution", "contributions"}
    lines = {line["name"]: line["values"] for line in charts["contributions"]["lines"]}
    assert lines == {"cell 0": [-0.1, -0.2, 0], "cell 1": [-0.1, -0.2, 1]}


def test_a_family(tmp_path):
    folder = write_run(tmp_path / "run", summary={"family": 1})
    (folder / "family").mkdir()
    (folder / "family" / "family.csv").write_text("name,accuracy,params,macs\nsize000-1,0.5,2000000,30000000\n")
    (folder / "candidates.csv").write_text("candidate,accuracy,params\n0,0.25,1000000\n1,0.5,2000000\n")
    family = run_data(read_run(folder))["family"]
    assert family["rows"] == [["size000-1", "50.00%", "2.000", "30.000"]]
    assert family["candidates"] == [[1.0, 0.25], [2.0, 0.5]] and family["chosen"] == [[2.0, 0.5]]


def test_long_runs_are_thinned_to_their_end(tmp_path, monkeypatch):
    monkeypatch.setattr(report_run, "MOST_VALUES", 30)
    monkeypatch.setattr(report_run, "MOST_DRAWINGS", 1)
    data = run_data(read_run(write_run(tmp_path / "run")))
    assert data["alpha"]["at"] == [2] and len(data["alpha"]["sets"][0]["values"]) == 1
    assert data["drawings"]["at"] == [0, 2] and data["epochs"] == 3


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the texts of its title, its style and its scripts in order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self._inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._inside = tag in ("title", "style", "script")
        if self._inside:
            self.texts.append("")

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.texts[-1] += data


def hostile_run(tmp_path):
    operations = [HOSTILE, "skip_connect", "sep_conv_3x3"]
    genotype = found(HOSTILE, "skip_connect", "sep_conv_3x3", HOSTILE)
    summary = {"method": HOSTILE, "dataset": "\ud800<b>", HOSTILE: HOSTILE, "stopped_by": HOSTILE}
    setting = SETTING | {"operations": operations, "mixing": "softmax"}
    flags = [("dataset", HOSTILE), ("method", "<b>&amp;")]
    columns = {"<img onerror=1>": [1.0]}
    return write_run(tmp_path / "<b>run", [genotype], setting=setting, summary=summary, flags=flags, **columns)


def test_text_from_files_stays_text(tmp_path):
    write_report([hostile_run(tmp_path)], tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text("utf-8")
    elements = Elements(text)
    assert [tag for tag, _ in elements.found if tag not in ("html", "head", "meta", "title", "style", "body")] == [
        *("main", "noscript", "p", "script", "script")
    ]
    title, style, data, program = elements.texts
    assert title == "kdarts: <b>run"
    assert json.loads(data)["runs"][0]["wins"]["names"][0] == HOSTILE  # it is there, as data
    policy = next(a["content"] for _, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
    for kind, content in (("style", style), ("script", program)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", program)


def test_size(tmp_path):
    random, epochs = np.random.default_rng(0), 50
    names = ["none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3"]
    edges = [(to, source) for to in range(2, 6) for source in range(to)]
    cells = [tuple((str(random.choice(names)), *edge) for edge in edges) for _ in range(10)]
    genotypes = [
        Genotype(tuple(cells[k] for k in random.integers(0, 10, 8)), ((2, 3, 4, 5),) * 8, (2, 5), tuple(range(8)))
        for _ in range(epochs)
    ]
    alphas = {f"cell_{k}": random.normal(size=(epochs, 14, 7)) for k in range(8)}
    setting = SETTING | {"operations": names, "edges": edges, "mixing": "sigmoid", "cells": 8}
    run = read_run(write_run(tmp_path / "run", genotypes, alphas, setting))
    size = len(page([run]).encode())
    drawing = len(json.dumps(run_data(run)["drawings"]["cells"], separators=(",", ":"))) / 10
    assert size < 500_000
    assert size + drawing * report_run.MOST_DRAWINGS < 2_000_000  # with as many different cells as a page may have


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("history.csv", "epoch,accuracy\n0,abc\n", "history.csv: damaged"),
        ("history.csv", "epoch,accuracy\n0\n", "history.csv: damaged"),
        ("history.csv", b"\xff\xfe", "history.csv: cannot be read"),
        ("alphas.npz", b"PK\x03\x04", "alphas.npz: damaged"),
        ("genotypes.jsonl", '{"epoch": 0}\n', "genotypes.jsonl: damaged"),
        ("genotypes.jsonl", '{"genotype": {"format": "x"}}\n', "genotypes.jsonl: not a genotype"),
        ("setting.json", json.dumps(SETTING | {"operations": ["a"]}), "setting.json: does not fit alphas.npz"),
        ("setting.json", '{"mixing": "softmax"}', "setting.json: does not fit alphas.npz"),
        ("setting.json", json.dumps(SETTING | {"mixing": "warp"}), "setting.json: does not fit alphas.npz"),
        ("summary.json", "[", "summary.json: cannot be read"),
        ("genotype.json", "{", "genotype.json: not JSON"),
        ("history.csv", "", "history.csv: damaged; it is empty"),
        ("history.csv", "epoch,accuracy\n", r"history.csv: has 0 epochs, and other files of the run 3"),
        ("history.csv", "epoch,epoch\n0,0\n1,1\n2,2\n", "history.csv: damaged; it has two columns 'epoch'"),
        ("history.csv", "epoch,accuracy\n0,0.1\n2,0.2\n1,0.3\n", "history.csv: damaged; its row 1 is of epoch 2"),
        ("history.csv", "epoch,accuracy\n0,0.1\n1,7\n2,0.3\n", "epoch 1 has accuracy 7, allowed is 0 to 1"),
        ("summary.json", '{"wall_seconds": NaN}', "summary.json: cannot be read as JSON .NaN is no number"),
        ("summary.json", '{"wall_seconds": 1e999}', "summary.json: cannot be read as JSON .1e999 is no number"),
        ("summary.json", '{"seed": -1}', "summary.json: seed -1; allowed is a whole number from 0 to 4294967295"),
        ("summary.json", '{"stages": [1]}', "summary.json: stages .1.; allowed is a list of objects"),
        ("setting.json", json.dumps(SETTING | {"channels": "4"}), "setting.json: channels '4'; allowed is a whole"),
        ("setting.json", json.dumps(SETTING | {"edges": [[1]]}), "setting.json: edges"),
        ("setting.json", json.dumps(SETTING | {"offsets": {"a": "x"}}), "setting.json: offsets"),
        ("stopped.json", '{"epoch": []}', r"stopped.json: epoch \[\]; allowed"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, said):
    folder = write_run(tmp_path / "run")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(KdartsError, match=said) as error:
        write_report([folder], tmp_path / "a.html")
    assert "\n" not in str(error.value) and not (tmp_path / "a.html").exists()


def test_a_history_that_is_not_that_of_the_checkpoint_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", accuracy=[0.1, 0.5, 0.9])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    kept = Checkpoint(folder / "backup", model, 1)
    kept.records["history"] = [{"epoch": epoch, "accuracy": value} for epoch, value in enumerate((0.1, 0.5, 0.9))]
    kept.on_epoch_end(2)
    path = folder / "history.csv"
    whole = path.read_text()
    assert len(read_run(folder).parts[0].rows) == 3
    path.write_text(whole[: whole.rindex("2,")])  # as if read before its last row is written
    assert len(read_run(folder).parts[0].rows) == 2
    for change, said in (
        (
            whole.replace("0.5", "0.95"),
            "history.csv: its accuracy of epoch 1 is 0.95, in the run's checkpoint it is 0.5",
        ),
        (whole.replace("accuracy", "accurate"), "history.csv: its accuracy of epoch 0 is None"),
        (whole + "3,0.99\n", "history.csv: has 4 epochs, and the checkpoint of the run 3; the run's own command"),
    ):
        path.write_text(change)
        with pytest.raises(KdartsError, match=said):
            read_run(folder)


def test_command(tmp_path, capsys):
    first, second = write_run(tmp_path / "x" / "run"), write_run(tmp_path / "y" / "run")
    for words, said in (
        (["--to=a.html"], "--workdir is missing"),
        ([f"--workdir={first}"], "--to is missing"),
        ([f"--workdir={first}", f"--to={tmp_path}/a.txt"], "ends in .html"),
        ([str(first), str(tmp_path / "nowhere"), f"--to={tmp_path}/a.html"], "does not exist"),
        ([f"--workdir={tmp_path}", f"--to={tmp_path}/a.html"], "holds no run"),
        ([f"--workdir={first}/history.csv", f"--to={tmp_path}/a.html"], "is a file"),
    ):
        assert main(["report", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("kdarts: ") and error.count("\n") == 1 and said in error
    assert not list(tmp_path.glob("a.*"))
    assert main(["report", str(first), str(second), f"--to={tmp_path}/a.html"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/a.html\n"
    data = json.loads(Elements((tmp_path / "a.html").read_text()).texts[2])
    names = [run["name"] for run in data["runs"]]
    assert [name[-5:] for name in names] == ["x/run", "y/run"]  # of one name: told apart by their folders
    assert {c["unit"] for run in data["runs"] for c in run["curves"] if c["key"] == "macs"} == {"thousands"}
    assert {run["answers"][-1][2] for run in data["runs"]} == {""}  # their flags do not tell what comes next
    write_flags(first, [("dataset", "folder:/my pictures"), ("method", "pcdarts"), ("image_size", 24)])
    write_arrays(first / "data.npz", {"train": np.zeros(90)})
    write_json(first / "summary.json", {"epochs": 3})
    assert main(["report", f"--workdir={first}", f"--to={tmp_path}/b.html"]) == 0
    line = json.loads(Elements((tmp_path / "b.html").read_text()).texts[2])["runs"][0]["answers"][-1][2]
    start = f"kdarts train --genotype={first}/genotype.json '--dataset=folder:/my pictures' --image_size=24"
    assert line == f"{start} --batch_size=8 --epochs=200 --channels=16 --cells=8"


def test_setting_and_events(tmp_path, eagerly):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    net = Supernet("none,skip_connect,avg_pool_3x3", (8, 8, 1), 3, channels=2, cells=2, nodes=2, multiplier=2)
    search = Search(net, "darts")
    setting = json.loads(json.dumps(setting_of(search)))
    assert set(setting) == set(SETTING)
    assert setting["edges"] == [list(edge) for edge in net.edges] and setting["cells"] == 2
    assert network_cost(search.genotype(), setting["input_shape"], 3, 2, 2, setting["stem"]) == net.cost_of(
        search.genotype()
    )
    events = CellEvents(tmp_path)
    events.set_model(search)
    events.on_train_begin()
    events._cost = 0.0  # as if pictures took no time
    events.on_epoch_end(0)
    events.on_epoch_end(1)
    events.on_train_end()
    read = EventAccumulator(str(tmp_path / "search"), size_guidance={"tensors": 0})
    read.Reload()
    counts = {tag: len(read.Tensors(tag)) for tag in read.Tags()["tensors"]}
    kinds = {f"{kind}/{name}": 2 for kind in ("alpha", "weight") for name in ("normal", "reduce")}
    assert counts == {**kinds, "found/params": 2, "found/macs": 2, "found": 1}  # nothing else was found: one picture
    assert tf.make_ndarray(read.Tensors("found")[0].tensor_proto)[2].startswith(b"\x89PNG")


def opened(view, path) -> float:
    """Opens a page until it is drawn; returns the seconds that this took."""
    began = time.monotonic()
    view.goto(path.as_uri())
    view.wait_for_selector("html[data-ready]", state="attached")
    view.wait_for_selector(".plot svg")
    return time.monotonic() - began


@pytest.mark.slow
def test_in_a_browser(tmp_path):
    api = pytest.importorskip("playwright.sync_api")
    write_report([hostile_run(tmp_path)], tmp_path / "hostile.html")
    write_report([write_run(tmp_path / "a"), write_run(tmp_path / "b", FOUND[:2])], tmp_path / "two.html")
    write_report([tmp_path / "a"], tmp_path / "one.html")
    path = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path)
        except api.Error:
            pytest.skip("no Chromium is here")
        for width in (390, 1280):
            view = browser.new_page(viewport={"width": width, "height": 800})
            faults = []
            view.on("console", lambda message, to=faults: to.append(message.text))
            view.on("pageerror", lambda error, to=faults: to.append(str(error)))
            view.on("request", lambda r, to=faults: r.url.startswith("file:") or to.append(r.url))
            for name in ("hostile", "two", "one"):
                opened(view, tmp_path / f"{name}.html")
                assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
                assert view.evaluate("window.hacked === undefined && !document.querySelector('img, b.run')")
            assert min(opened(view, tmp_path / "one.html") for _ in range(3)) < 2
            assert view.locator(".alpha td").count() == len(PAIRS) * len(OPERATIONS)
            slider, cells = view.locator("input[type=range]"), view.locator(".cell svg")
            before = view.locator(".alpha").inner_text(), cells.first.get_attribute("aria-label")
            assert slider.get_attribute("aria-valuetext") == "epoch 3 of 3"
            slider.press("ArrowLeft")
            assert slider.get_attribute("aria-valuetext") == "epoch 2 of 3"
            assert view.locator(".alpha").inner_text() != before[0]
            assert cells.first.get_attribute("aria-label") != before[1]
            view.locator("select").last.select_option(label="node 3")
            assert view.locator(".pair .plot").count() == 3
            assert not faults
        browser.close()
