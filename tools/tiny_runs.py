"""Small runs of every kind, and whether two of them came to the same: for `kill_runs.py` and `damage_runs.py`."""

import pathlib

import numpy as np

from kdarts.genotypes.errors import DamageError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.method import method_names
from kdarts.training.workdir import read_json

_SIZE = ["--nodes=1", "--train_examples=96", "--valid_examples=96", "--batch_size=16"]

START = Genotype(
    (
        (("sep_conv_3x3", 2, 0), ("skip_connect", 2, 1)),
        (("sep_conv_5x5", 2, 1), ("max_pool_3x3", 2, 0)),
    ),
    ((2,), (2,)),
    reductions=(1,),
    sequence=(0, 1),
)
"""What DARTOpti improves and a training trains."""

COMMANDS = {
    "darts": ["search", "--method=darts", "--order=first", "--cells=2", "--channels=2", "--epochs=3"],
    "ddarts": ["search", "--method=ddarts", "--cells=2", "--channels=2", "--epochs=3", "--removal=random"],
    "pdarts": ["search", "--method=pdarts", "--stages=1:8,2:4:0.4", "--channels=2", "--epochs=3", "--warmup_epochs=1"],
    "dartspd": [
        *("search", "--method=dartspd", "--cells=1", "--channels=4", "--partial_channels=2", "--epochs=2"),
        *("--warmup_epochs=1", "--path_batch_size=16", "--path_epochs=2", "--population=4", "--generations=2"),
        *("--calibration_batches=1", "--family_channels=2", "--family_cells=1"),
    ],
    "placed_skips": [
        *("search", "--method=placed_skips", "--space=nasbench201", "--cells=1", "--channels=2", "--epochs=2"),
        *("--path_batch_size=16", "--path_epochs=2", "--calibration_batches=1"),
    ],
    "dartopti": [
        *("search", "--method=dartopti", "--space=ddarts", "--channels=2", "--epochs=3", "--pretrain_epochs=1"),
        "--start=START",
    ],
    "gaea": ["search", "--method=gaea", "--level=single", "--cells=2", "--channels=2", "--epochs=3"],
    "lambda_darts": ["search", "--method=lambda_darts", "--cells=4", "--channels=2", "--epochs=3"],
    "pcdarts": ["search", "--method=pcdarts", "--cells=2", "--channels=4", "--epochs=3", "--warmup_epochs=1"],
    "r_darts": ["search", "--method=r_darts", "--search_drop_path=0.3", "--cells=2", "--channels=2", "--epochs=3"],
    "random": ["search", "--method=random", "--cells=2", "--channels=2", "--epochs=3", "--samples=3"],
}
COMMANDS |= {
    name: ["search", f"--method={name}", "--cells=2", "--channels=2", "--epochs=3"]
    for name in method_names()
    if name not in COMMANDS
}
"""A search of each method, but for its folder; `START` stands for the file of a genotype."""

SEARCHES = {name: [*words, *_SIZE] for name, words in COMMANDS.items()}

TRAININGS = {
    "train": ["train", "--genotype=START", "--channels=2", "--epochs=3", "--train_examples=96", "--batch_size=16"],
    "seeds": ["train", "--genotype=START", "--channels=2", "--epochs=2", "--train_examples=64", "--seeds=2"],
}
"""Trainings likewise."""

STREAMED = {"streamed": [*SEARCHES["darts"], "--dataset=folder:PICTURES", "--image_size=8"]}
"""A search on the pictures of `write_pictures`, which `kill_runs.py` lets it read from disk for each batch."""

_MEASURED = {
    "step_ms",
    "wall_seconds",
    "peak_memory_mb",
    "path_seconds",
    "removal_seconds",
    "seconds",
    "data_wait_share",
}
"""What is a matter of the clock and of the machine."""


def reading(words: list[str]) -> list[str]:
    """A command that reads what a finished one left."""
    workdir = words[-1].removeprefix("--workdir=")
    if words[0] == "train":
        return ["evaluate", f"--model={workdir}/model.keras"]
    return ["info", f"{workdir}/genotype.json", "--channels=2", "--cells=2", "--input_shape=8,8,1"]


def words_of(name: str, start: pathlib.Path, workdir: pathlib.Path) -> list[str]:
    """The command of a run, after `kdarts`."""
    words = (SEARCHES | TRAININGS | STREAMED)[name]
    files = {"START": str(start), "PICTURES": str(start.with_name("pictures"))}
    for mark, file in files.items():
        words = [word.replace(mark, file) for word in words]
    return [*words, f"--workdir={workdir}"]


def write_pictures(root: pathlib.Path) -> None:
    """Writes pictures of noise of two classes, for training and for the test."""
    from PIL import Image

    draw = np.random.default_rng(0)
    for part, count in (("train", 100), ("test", 10)):
        for number in range(2 * count):
            file = root / part / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(file)


def difference(one: pathlib.Path, other: pathlib.Path) -> str | None:
    """The first thing in which two finished runs differ; None if they came to the same.

    Compared bit by bit: every table, genotype, path, α, β and set of candidates, the newest checkpoints (weights,
    running statistics, optimizers, generators, metrics, history), the networks' weights, and the summaries, but for
    what clocks have measured.
    """
    for path in sorted(file for file in one.rglob("*") if file.is_file()):
        name, twin = path.relative_to(one), other / path.relative_to(one)
        if any(part in ("events", "path_events") for part in name.parts) or path.name == "trial.json":
            continue
        if path.name == "checkpoint":
            found = _of_checkpoints(path.parent, twin.parent)
            if found:
                return f"{name.parent}: {found}"
        if path.name.startswith(("checkpoint", "ckpt-")):
            continue
        if not twin.is_file():
            return f"{name} is missing"
        if path.suffix == ".npz":
            found = _of_arrays(dict(np.load(path)), dict(np.load(twin)))
            if found:
                return f"{name}: {found}"
        elif path.suffix == ".json":
            if _object(path) != _object(twin):
                return str(name)
        elif path.suffix == ".keras":
            if _weights(path) != _weights(twin):
                return str(name)
        elif path.suffix in (".csv", ".jsonl", ".flags") and path.read_bytes() != twin.read_bytes():
            return str(name)
    return None


def _of_checkpoints(one: pathlib.Path, other: pathlib.Path) -> str | None:
    from kdarts.training.checkpoint import checkpoints, notes

    if not checkpoints(other):
        return "no checkpoint"
    (records, arrays), (other_records, other_arrays) = notes(one), notes(other)
    if _lasting(records) != _lasting(other_records):
        return "records"
    return _of_arrays(variables(one) | arrays, variables(other) | other_arrays)


def variables(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The variables in the newest checkpoint in a folder."""
    import tensorflow as tf

    from kdarts.training.checkpoint import checkpoints

    reader = tf.train.load_checkpoint(checkpoints(folder)[-1])
    return {n: reader.get_tensor(n) for n in sorted(reader.get_variable_to_shape_map()) if n.startswith("variables/")}


def _of_arrays(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> str | None:
    if sorted(a) != sorted(b):
        return "other arrays"
    return next((n for n in a if a[n].dtype != b[n].dtype or a[n].tobytes() != b[n].tobytes()), None)


def _object(path: pathlib.Path):
    try:
        return _lasting(read_json(path))
    except DamageError as error:
        return str(error)


def _lasting(value):
    if isinstance(value, dict):
        return {name: _lasting(part) for name, part in value.items() if name not in _MEASURED}
    return [_lasting(part) for part in value] if isinstance(value, list) else value


def _weights(path: pathlib.Path) -> list[bytes]:
    from kdarts.networks.models import load_model

    return [np.asarray(weight).tobytes() for weight in load_model(path).get_weights()]
