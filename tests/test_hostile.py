"""Input that nobody means: one line, exit code 2, at once, and nothing left behind."""

import json
import math
import os
import zipfile

import keras
import pytest
from absl import flags

from kdarts import Search
from kdarts.cli.main import VERBS, command_of, main
from kdarts.data import label_files
from kdarts.genotypes.cuboid import Cuboid, HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.settings import Setting, in_words
from kdarts.networks.models import load_model, save_model
from kdarts.ops.cost import amount
from kdarts.search.method import get_method
from kdarts.training.workdir import read_arrays
from kdarts.views.drawing import draw_genotype
from kdarts.views.trellis import draw_path

CELL = [["sep_conv_3x3", 2, 0], ["skip_connect", 2, 1]]


@pytest.fixture
def refused(capfd, tmp_path, monkeypatch):
    """Runs a command that must fail with one line and without a trace in the folder; returns the line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> str:
        before = sorted(tmp_path.rglob("*"))
        capfd.readouterr()
        assert main([str(word) for word in arguments]) == 2
        out, err = capfd.readouterr()
        assert err.startswith("kdarts: ") and err.count("\n") == 1 and err[:-1].isprintable() and len(err) < 2100
        assert "Traceback" not in out + err
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return run


def _numbers(verb):
    values = command_of(verb).values()
    kinds = flags.IntegerParser | flags.FloatParser
    return [values[name] for name in values if isinstance(values[name].parser, kinds)]


@pytest.mark.parametrize("verb", VERBS)
def test_every_number_has_a_range_which_the_help_tells(verb, capsys):
    assert main([verb, "--help"]) == 0
    told = {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("  --"):
            told[name := line.strip().removeprefix("--")] = ""
        elif told:
            told[name] += f" {line.strip()}"
    for flag in _numbers(verb):
        least, most = flag.parser.lower_bound, flag.parser.upper_bound
        assert least is not None and most is not None and math.isfinite(most), flag.name
        assert in_words(least, most, getattr(flag, "open", False)) in told[flag.name], flag.name
        assert flag.default is None or least <= flag.default <= most, flag.name


@pytest.mark.parametrize("verb", VERBS)
def test_no_number_is_taken_beyond_its_range(verb, refused):
    command, numbers = command_of(verb), _numbers(verb)
    words = [verb, *["x"] * command.count]
    for flag in numbers:
        least, most = flag.parser.lower_bound, flag.parser.upper_bound
        for given in (10 * most, least - 1, "nan", "inf", "x"):
            with pytest.raises(KdartsError, match=f"^--{flag.name}=.*: allowed is a"):
                command.parse([*words, f"--{flag.name}={given}"])
    if numbers:
        assert f"--{numbers[0].name}=99999" in refused(*words, f"--{numbers[0].name}={'9' * 5000}")


def test_the_settings_of_a_method_are_bounded_in_the_library():
    """The flags have their ranges from the axes: an argument of `Search` is refused as a flag is."""
    for name, value, message in (
        ("momentum", 1.0, "allowed is from 0 to 0.9999; at 1 the steps add up without end"),
        ("arch_beta_1", 2.0, "allowed is from 0 to 0.9999; at 1 a running mean never moves"),
        ("power", 0.0, "allowed is from 1 to 100"),
        ("cells", 10**8, "allowed is from 1 to 1000"),
        ("channels", 10**9, "allowed is from 1 to 4096"),
        ("learning_rate", math.inf, "allowed is above 0, at most 1000"),
        ("l2", math.nan, "allowed is from 0 to 1000"),
        ("target_macs", math.inf, "allowed is above 0, at most 1000000000000000"),
    ):
        with pytest.raises(KdartsError, match=f"^{name} .*: {message}"):
            get_method("darts").override(**{name: value})
    for choice, message in (
        ({"seed": 2**32}, "^seed 4294967296: allowed"),
        ({"nodes": 100}, "^nodes 100: allowed is 1 to"),
    ):
        with pytest.raises(KdartsError, match=message):
            Search("darts", (8, 8, 1), 3, **choice)
    with pytest.raises(KdartsError, match="x 5: allowed is at most 4"):
        Setting("", most=4).check("x", 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "--seed=4294967296"], "from 0 to 4294967295; random generators take 32 bits"),
        (["train", "--seed=99999999999999999999"], "--seed=99999999999999999999: allowed is a whole number from 0"),
        (["search", "--seed=4294967295", "--seeds=2"], "--seed=4294967295 with --seeds=2: the last seed is at most"),
        (["train", "--genotype=DARTS_V2", "--seed=4294967295", "--seeds=2"], "the last seed"),
        (["search", "--nodes=100"], "from 1 to 16; the edges of a cell grow with the square of its nodes"),
        (["info", "DARTS_V2", "--num_classes=1"], "from 2 to 1000000"),
        (["search", "--pad=1000"], "--pad=1000: allowed is 0 to 7; more shifts"),
        (["search", "--cutout=9"], "--cutout=9: allowed is 0 to 8, the smaller side"),
        (["search", "--method=dartspd", "--path_cutout=9"], "--path_cutout=9: allowed is 0 to 8, the smaller side"),
        (["train", "--genotype=DARTS_V2", "--pad=8"], "--pad=8: allowed is 0 to 7"),
        (["search", "--target_macs=nan"], "--target_macs=nan: allowed is above 0"),
        (["search", "--memory_limit=" + "9" * 400 + "GB"], "needs a number and MB or GB"),
        (["search", "--data_service=x"], "needs HOST:PORT"),
        (["toy", "--xi=nan"], "--xi=nan: needs numbers of at most 1000"),
        (["toy", "--start=1e300,1"], "needs numbers of at most 1000"),
        (["bench", "--input_shape=32,32"], "needs height,width,channels"),
        (["info", "DARTS_V2", "--input_shape=9999999,32,3"], "at most (16384, 16384, 4096)"),
        (["info", "DARTS_V2", "--head=99999999999"], "widths of hidden layers, each from 1 to 65536"),
        (["search", "--workdir=a\udcff"], "needs UTF-8"),
        (["search", "--workdir=a\0b"], "has no null characters"),
        (["search", "--workdir=" + "x" * 300], "cannot be used (File name too long)"),
        (["search", "--workdir=" + "a/" * 3000], "cannot be used (File name too long)"),
        (["train", "--genotype=DARTS_V2", "--workdir=" + "x" * 300], "cannot be used (File name too long)"),
        (["tune", "--workdir=" + "x" * 300], "cannot be used (File name too long)"),
        (["search", "--dataset=folder:" + "x" * 300], "no folder"),
        (["info", "x" * 300 + ".json"], "no genotype file"),
        (["deepen", "--genotype=DD-4", "--cells=14", "--to=" + "x" * 300], "cannot be written"),
        (["search", "--\x1b[31mred=1"], "\\x1b[31mred"),
    ],
)
def test_what_nobody_means_is_refused(words, message, refused):
    assert message in refused(*words)


@pytest.mark.parametrize("content", ["--epochs=1\n".encode("utf-16"), bytes(range(256)), "é".encode("latin-1")])
def test_a_flagfile_that_is_no_text_is_refused(content, refused, tmp_path):
    (tmp_path / "odd.flags").write_bytes(content)
    assert "--flagfile: needs a text file in UTF-8" in refused("search", f"--flagfile={tmp_path}/odd.flags")


def test_a_flagfile_without_a_mark_or_that_cannot_be_read_is_refused(refused, tmp_path):
    (tmp_path / "odd.flags").write_bytes("--epochs=1\n".encode("utf-16-le"))
    assert "in UTF-8?" in refused("search", f"--flagfile={tmp_path}/odd.flags")
    assert "Unable to open flagfile" in refused("search", f"--flagfile={tmp_path}")


def test_an_interruption_promises_only_what_the_command_does(capsys, monkeypatch):
    monkeypatch.setattr("kdarts.cli.command.Command.parse", _interrupt)
    for words, said in ((["export"], "interrupted"), (["train"], "the same command goes on from the last saved state")):
        assert main(words) == 130
        assert capsys.readouterr().err.endswith(f"{said}\n")


def _interrupt(self, words):
    raise KeyboardInterrupt


def test_more_images_than_there_are(refused):
    assert "--train_examples=1438: allowed is 1 to 1437, all images" in refused(
        "train", "--genotype=DARTS_V2", "--train_examples=1438"
    )
    assert "--train_examples=1438: allowed is 1 to 1436 of the" in refused("search", "--train_examples=1438")
    assert "--valid_examples=1437: allowed is 1 to 1436 of the" in refused("search", "--valid_examples=1437")


def test_small_counts_are_told_in_full():
    assert [amount(number) for number in (0, 999, 99_999, 100_000, 3_345_678)] == [
        "0",
        "999",
        "99,999",
        "0.10 M",
        "3.35 M",
    ]


def test_messages_repeat_no_more_than_a_line_of_what_was_given(refused, tmp_path):
    path = tmp_path / "odd.json"
    for fields in (
        {"cells": [CELL, [["x" * 5000, 2, 0]]], "concats": [[2], [2]]},
        {"cells": [CELL] * 2, "concats": [[2], ["x" * 5000]]},
        {"cells": [CELL] * 2, "concats": [[2], [2]], "y" * 5000: 1},
    ):
        path.write_text(json.dumps({"format": "kdarts-genotype-1", **fields}))
        assert len(refused("info", path)) < 300 + len(str(path))
    path.write_text("|" + "x" * 5000 + "~0|")
    assert len(refused("info", path)) < 600 + len(str(path))
    assert len(refused("info", "x" * 5000)) < 300
    assert len(refused("methods", "x" * 5000)) < 300


@pytest.mark.parametrize("text", ["a\ud800", "a\nb", "x" * 101])
def test_an_axis_that_cannot_be_shown_is_refused(text):
    for axes in ({text: [1]}, {"layer": [text]}):
        with pytest.raises(KdartsError, match="allowed are 100 printable characters"):
            Cuboid(axes)


def test_pictures_larger_than_anyone_draws_are_refused(tmp_path):
    many = Genotype((((("skip_connect", 2, 0),) * 600),) * 2, ((2,), (2,)))
    long = HyperPath(Cuboid({"layer": range(400)}), (0,) * 401, (0,) * 400)
    longer = HyperPath(Cuboid({"layer": range(2000)}), (0,) * 2001, (0,) * 2000)
    for draw, found, name, message in (
        (draw_genotype, many, "a.svg", "2 different cells of 1200 edges; a picture has room for 100 and 1000, a .dot"),
        (draw_path, longer, "a.svg", "2000 stages of 1 states; a picture has room for 2000"),
        (draw_path, long, "a.png", r"pixels; allowed are 60,000 pixels of a side .* \.svg and \.pdf have no pixels"),
    ):
        with pytest.raises(KdartsError, match=message):
            draw(found, tmp_path / name)
    assert not list(tmp_path.iterdir())
    draw_genotype(many, tmp_path / "a.dot")
    draw_path(HyperPath(Cuboid({"layer": [" "]}, {}, {"kind": [""]}), (0, 0), (0,)), tmp_path / "empty.svg")


def test_labels_with_two_columns_of_a_name(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label,label\na.png,cat,dog\n", "utf-8-sig")
    with pytest.raises(KdartsError, match="has two columns label; allowed: one of each name"):
        label_files.read(str(tmp_path / "labels.csv"), str(tmp_path), ["a.png"], print)


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """The content of a `.keras` file, by its members."""
    path = tmp_path_factory.mktemp("model") / "small.keras"
    inputs = keras.Input((8, 8, 1))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, padding="same")(inputs))
    save_model(keras.Model(inputs, keras.layers.Dense(10)(features)), path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode("latin-1") for name in archive.namelist()}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"units": 10', '"units": 1000000000', "describes a model of 3,000,000,020 weights, more than the"),
        ('"filters": 2', '"filters": 100000000', "describes a number above the"),
        (
            '"batch_shape": [null, 8, 8',
            '"batch_shape": [null, 99999, 99999',
            "makes 19,999,600,002 numbers of an image",
        ),
        ('"units": 10', '"units": 1000000000, "x": 1', "describes a number above the"),
        ('"class_name"', "[" * 10_000, "its config.json is not JSON"),
    ],
)
def test_a_model_larger_than_its_weights_is_refused_before_it_is_built(old, new, message, small_model, tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in small_model.items():
            archive.writestr(name, (content.replace(old, new) if name == "config.json" else content).encode("latin-1"))
    with pytest.raises(KdartsError, match=message):
        load_model(path)


def test_models_that_cannot_be_counted_are_not_refused_for_their_size(tmp_path):
    unbuilt = keras.Sequential([keras.layers.Conv2D(2, 3), keras.layers.Dropout(0.5, seed=2**31)])
    normal = keras.Sequential([keras.Input((2,)), keras.layers.Normalization(mean=[1.0, 2.0], variance=[1.0, 1.0])])
    for model in (unbuilt, normal, keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])):
        model.save(tmp_path / "model.keras")
        assert len(load_model(tmp_path / "model.keras").layers) == len(model.layers)


@pytest.mark.parametrize("content", [b"no array", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4', ("])
def test_a_member_that_is_no_array_is_refused(content, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("normal.npy", content)
    with pytest.raises(KdartsError, match=r"a\.npz: cannot be read as arrays"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("operation", ["", "a\nb", "x" * 101])
def test_an_operation_that_cannot_be_shown_is_refused(operation):
    with pytest.raises(KdartsError, match=r"cell 0, edge 0 has the operation .*: allowed are 1 to 100 printable"):
        Genotype((((operation, 2, 0),),) * 2, ((2,),) * 2)


def test_a_flag_of_thousands_of_letters(refused):
    assert "unknown flag '--xxx" in refused("search", "--" + "x" * 5000)


def test_an_archive_that_unpacks_to_far_more_than_itself_is_refused(small_model, tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(65_000_000))
    for read in (load_model, read_arrays):
        with pytest.raises(KdartsError, match="unpacks to 65 MB, over 50 times its own size"):
            read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", small_model["config.json"])
    with pytest.raises(KdartsError, match=r"needs one model\.weights\.h5 in it, and has 0"):
        load_model(path)


GENOTYPES = {
    "stages": ({"cells": [CELL[1:]], "concats": [[2]], "stages": 10**6}, "stages must be a whole number from 1 to 12"),
    "sequence": ({"cells": [CELL], "concats": [[2]], "sequence": [0] * 10**6}, "1000000 entries of sequence"),
    "cells": ({"cells": [CELL] * 2000, "concats": [[2]] * 2000}, "2000 entries of cells"),
    "edges": ({"cells": [CELL * 501] * 2, "concats": [[2], [2]]}, "1002 edges in a cell; allowed are at most 1000"),
    "all edges": (
        {"cells": [CELL * 200], "concats": [[2]], "sequence": [0] * 1000},
        "400000 edges in 1000 cells; allowed are at most 20000",
    ),
    "reductions": (
        {"cells": [CELL], "concats": [[2]], "sequence": [0] * 20, "reductions": list(range(20))},
        "20 reductions: each doubles the channels; at most 12",
    ),
    "control": ({"cells": [CELL] * 2, "concats": [[2]] * 2, "name": "a\x1b[31mb"}, r"name 'a\x1b[31mb'"),
    "slash": ({"cells": [CELL] * 2, "concats": [[2]] * 2, "name": "../../up"}, "name '../../up'"),
    "surrogate": ({"cells": [CELL] * 2, "concats": [[2]] * 2, "name": "\ud800"}, r"name '\ud800'"),
    "long": ({"cells": [CELL] * 2, "concats": [[2]] * 2, "name": "x" * 101}, "100 printable characters"),
    "null": ({"cells": [CELL] * 2, "concats": [[2]] * 2, "name": "a\0"}, "printable"),
}


@pytest.mark.parametrize("kind", GENOTYPES)
def test_genotypes_beyond_any_network(kind, refused, tmp_path):
    fields, message = GENOTYPES[kind]
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({"format": "kdarts-genotype-1", **fields}))
    assert message in refused("info", path)
    if kind != "reductions":
        assert message in refused("train", f"--genotype={path}")


def test_a_genotype_has_its_limits_at_any_depth_and_as_a_file(tmp_path):
    many = Genotype((tuple(map(tuple, CELL * 100)),) * 2, ((2,), (2,)))
    with pytest.raises(KdartsError, match="200000 edges in 1000 cells"):
        many.at_depth(1000)
    with pytest.raises(KdartsError, match="cells 1001: needs at least 1 and at most 1000"):
        many.at_depth(1001)
    path = tmp_path / "long.json"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 17_000_000)
    with pytest.raises(KdartsError, match="is larger than 16 MB"):
        Genotype.load(path)


@pytest.mark.parametrize("words", [["search"], ["train", "--genotype=DARTS_V2"], ["bench"], ["toy"], ["tune"]])
def test_another_backend_is_refused_where_tensorflow_computes(words, refused, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert "KERAS_BACKEND=jax: the commands compute with TensorFlow" in refused(*words)
    monkeypatch.delenv("KERAS_BACKEND")
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert "backend torch: the commands" in refused(*words)


@pytest.mark.slow
def test_a_training_on_the_only_device_of_a_strategy_is_measured(tmp_path):
    """What follows `search --seeds --strategy=mirrored`: the metrics of the end belong to the strategy, too."""
    size = ["--cells=1", "--channels=2", "--epochs=1", "--train_examples=64", "--batch_size=32"]
    assert main(["train", "--genotype=DARTS_V2", "--strategy=mirrored", f"--workdir={tmp_path}/run", *size]) == 0
    assert "test_accuracy" in json.loads((tmp_path / "run" / "summary.json").read_text())
