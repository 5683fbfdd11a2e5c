"""Every published experiment tells the truth: its commands start on the real data, and its figures are theirs.

The header of a flagfile has its command on the first line, and behind it what it is, and entries such as `# Cost: ...`
(see `ENTRIES`). Commands run here with `--dry_run` at the sizes of the real data sets, without their images.
"""

import functools
import gc
import pathlib
import re
import shlex
from types import SimpleNamespace

import numpy as np
import pytest

from kdarts.cli import options, search
from kdarts.cli.main import main
from kdarts.data import datasets
from kdarts.data.sources import Source
from kdarts.genotypes.edges import edge_count, edge_row
from kdarts.genotypes.text import genotype_names
from kdarts.training.workdir import Workdir

ROOT = pathlib.Path(__file__).parent.parent
FLAGFILES = sorted((ROOT / "flags").glob("*.flags"))

ENTRIES = ("First", "Size", "Cost", "Expect", "Elsewhere", "For minutes", "Or", "Then")
"""`First` and `Then` are commands before and behind that of the first line, `For minutes` and `Or` flags to add to it.
`Expect` has figures of the run itself, `Elsewhere` those of others."""

DECLARED = {
    "cifar10": ((32, 32, 3), 10, {"train": 50_000, "test": 10_000}),
    "cifar100": ((32, 32, 3), 100, {"train": 50_000, "test": 10_000}),
    "imagenet2012": ((None, None, 3), 1000, {"train": 1_281_167, "test": 50_000}),
}
"""Image, classes and examples of each data set, as TensorFlow Datasets declares them."""


class Declared(Source):
    """Images of a size that nobody reads."""


@functools.cache
def declared(name: str, split: str, side: int | None) -> datasets.ImageData:
    """A split of a data set, at an `image_size`."""
    shape, classes, counts = DECLARED[name]
    labels = (np.arange(counts[split]) % classes).astype(np.int32)
    images = Declared((side, side, 3) if side else shape, np.arange(len(labels)))
    return datasets.ImageData(images, labels, tuple(map(str, range(classes))), name)


def load(values, split, valid_split=None):
    """As `options.load`, of data sets that are not here."""
    if values.dataset == "digits":
        return datasets.load("digits", split=split)
    assert values.data_dir == "DIR", "the command does not say where the data are"
    return declared(values.dataset, split, values.image_size)


@pytest.fixture
def real_sizes(monkeypatch):
    """Commands see the sizes of the real data sets, and no image."""
    monkeypatch.setattr(options, "load", load)
    monkeypatch.setattr(datasets, "statistics", lambda images: ((0.5,) * 3, (0.2,) * 3))
    monkeypatch.setattr(Workdir, "check_data", lambda *parts, **named: None)  # It hashes a million names.


@pytest.fixture
def dry(real_sizes, monkeypatch, tmp_path, capsys):
    """Runs a command of a flagfile dry, with W for a folder that has a genotype of its last search."""
    gc.disable()  # It takes a third of the time.
    folder = tmp_path / "W"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flags").symlink_to(ROOT / "flags")
    assembled = search.assembled

    def recorded(values, method, *more, **how):
        made, batches = assembled(values, method, *more, **how)
        if not (folder / "genotype.json").exists():
            _found(made.supernet, method.selection).save(folder / "genotype.json")
        return made, batches

    monkeypatch.setattr(search, "assembled", recorded)

    def run(words: list[str]) -> str:
        dry_too = ["--dry_run", f"--workdir={tmp_path / 'run'}"] if words[0] in ("search", "train") else []
        code = main([*words, *dry_too])
        captured = capsys.readouterr()
        assert code == 0, f"kdarts {shlex.join(words)}: {captured.err}"
        assert not (tmp_path / "run").exists()
        return captured.out + captured.err

    yield run
    gc.enable()


def _found(net, selection):
    """What a search may come to, whatever it is."""
    rng = np.random.default_rng(0)
    if net.grid:
        return net.read_out(selection, np.where(net.allowed, rng.random(net.allowed.shape), np.nan))
    rows = [edge_row(to, source, net.space.inputs) for to, source in net.edges]
    weights = np.zeros((len(net.alphas), edge_count(net.nodes, net.space.inputs), len(net.space.operations)))
    weights[:, rows] = rng.random((len(net.alphas), len(rows), weights.shape[2]))
    return net.read_out(selection, list(weights))


def read(path) -> SimpleNamespace:
    """The words of a flagfile's command, and `(key, text)` of its entries."""
    first, *header = [line[2:] for line in path.read_text("utf-8").splitlines() if line.startswith("# ")]
    entries = [["", ""]]
    for line in header:
        if found := re.match(rf"({'|'.join(ENTRIES)})(?:, [^:]*)?: ", line):
            entries.append([found[1], line[found.end() :]])
        else:
            entries[-1][1] += f" {line.strip()}"
    return SimpleNamespace(command=shlex.split(first), entries=[(key, text.strip()) for key, text in entries])


def of(flagfile, *keys) -> list[str]:
    """The texts of the entries under some keys."""
    return [text for key, text in flagfile.entries if key in keys]


def commands(flagfile, *keys) -> list[list[str]]:
    """The words of the commands under some keys, without `kdarts`."""
    found = [shlex.split(text.split(" (")[0]) for text in of(flagfile, *keys)]
    assert all(words[0] == "kdarts" for words in found)
    return [words[1:] for words in found]


def variants(flagfile) -> list[tuple[str, list[str]]]:
    """The text and the flags of each entry that adds some."""
    found = re.compile(r"(?<!\S)--[^\s]*[^\s.,;:)]")
    return [(text, found.findall(text)) for text in of(flagfile, "For minutes", "Or")]


def test_no_flagfile_stands_behind_flags_that_it_would_reset():
    for path in FLAGFILES:
        flagfile = read(path)
        for words in [flagfile.command[1:], *commands(flagfile, "First", "Then")]:
            assert not any(word.startswith("--flagfile=") for word in words[2:]), (path.stem, words)


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_every_command_starts_at_the_real_size_and_the_figures_are_its_own(path, dry):
    flagfile = read(path)
    program, verb, given, *more = flagfile.command
    assert (program, given) == ("kdarts", f"--flagfile=flags/{path.name}")
    assert {key for key, _ in flagfile.entries} >= {"Size", "Cost", "Expect"}
    for words in commands(flagfile, "First"):
        dry(words)
    told = dry([verb, given, *more])
    assert "has no effect" not in told
    assert of(flagfile, "Size") == [re.search(r"· ([^·]* MACs an image)", told)[1]]
    steps = re.search(r"dry run: (.*)", told)[1]
    assert of(flagfile, "Cost")[0].startswith(steps), steps
    if verb == "train":
        _check_parameters(of(flagfile, "Expect")[0], told)
    for text, words in variants(flagfile):
        assert words
        told = dry([verb, given, *more, *words])
        _check_parameters(text, told)
    for words in commands(flagfile, "Then"):
        dry(words)
        if words[0] == "train":
            _check_zoo(flagfile, words, dry)


def _check_parameters(text: str, told: str) -> None:
    """What a text calls the parameters of a network is that of the network, rounded."""
    for expected in re.findall(r"([\d.]+) M parameters", text):
        params = float(re.search(r"([\d.,]+) M weights", told)[1].replace(",", ""))
        assert float(expected) == pytest.approx(params, rel=0.03), "of another network"


def _check_zoo(flagfile, words, dry) -> None:
    """What is said of published cells in the training that follows."""
    for name, size in re.findall(r"([\w-]+) in the zoo: ([\d.,]+ M)\b", " ".join(of(flagfile, "Expect", "Elsewhere"))):
        assert name in genotype_names()
        told = dry([f"--genotype={name}" if word.startswith("--genotype=") else word for word in words])
        assert f": {size} weights" in told, told


def test_the_page_lists_every_flagfile_and_no_other():
    table = (ROOT / "docs" / "recipes.md").read_text("utf-8").rsplit("|---|", 1)[1]
    assert sorted(path.stem for path in FLAGFILES) == sorted(re.findall(r"`(\w+)`", table))


def test_a_dry_run_refuses_what_the_run_would_and_leaves_nothing(real_sizes, tmp_path, capsys):
    train = ["train", "--genotype=DARTS_V2", "--dataset=cifar10", "--data_dir=DIR", f"--workdir={tmp_path / 'run'}"]
    search = ["search", *train[2:], "--channels=4", "--cells=2", "--nodes=2"]
    for words, wrong, message in (
        (train, "--batch_size=50001", "--batch_size=50001: allowed is 1 to 50000, the training images"),
        (train, "--schedule=cosin", "unknown schedule 'cosin' (did you mean 'cosine'?"),
        (train, "--channels=3", "--channels=3: needs an even number"),
        (search, "--batch_size=25001", "--batch_size=25001: allowed is 1 to 25000, the images of a half"),
        (search, "--channels=3", "--channels=3: needs an even number"),
        (search, "--partial_channels=3", "--partial_channels=3"),
    ):
        assert main([*words, wrong, "--dry_run"]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
