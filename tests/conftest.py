"""What the tests share: quiet TensorFlow, the step's threads, and the reference arrays where they are present."""

import gzip
import importlib
import json
import os
import pathlib

import numpy as np
import pytest

from kdarts.cli.process import start_tensorflow

start_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from kdarts.networks.reference import load_reference_state  # noqa: E402
from kdarts.ops.layers import layer_name  # noqa: E402
from kdarts.training.distribution import configure_threads  # noqa: E402

configure_threads()

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = pathlib.Path(os.environ.get("KDARTS_GOLDEN", ROOT.parent / "shared" / "golden"))
DATA = ROOT / "tests" / "data"
TFDS = ROOT.parent / "shared" / "data" / "tfds"


@pytest.fixture
def golden(tool):
    """Reads a file of reference arrays or tables by its name, or what tests/data has of it; skips the test without."""

    def read(name: str):
        whole, packed, table = GOLDEN / name, DATA / name, DATA / f"{name}.gz"
        if whole.is_file():
            is_table = whole.suffix == ".json"
            return json.loads(whole.read_text()) if is_table else dict(np.load(whole, allow_pickle=False))
        if table.is_file():
            return json.loads(gzip.decompress(table.read_bytes()))
        if packed.is_file():
            return tool("golden_data").unpack(packed)
        pytest.skip(f"reference file {name} is not here")

    return read


@pytest.fixture(autouse=True)
def dtype_policy():
    """Every test begins and ends in float32, Keras' default, whatever policy a test sets."""
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def eagerly():
    """Without tracing: a test runs each function once."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def tool(monkeypatch):
    """Imports a program of tools/ by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module


@pytest.fixture
def cifar10_dir():
    """Where CIFAR-10 lies, prepared for TensorFlow Datasets; skips the test where it is absent."""
    if not (TFDS / "cifar10").is_dir():
        pytest.skip("CIFAR-10 is not here")
    return str(TFDS)


def state_dict(arrays: dict, prefixes=("param:", "buf:")) -> dict:
    """The weights in a reference file, under their own names."""
    return {key.split(":", 1)[1]: value for key, value in arrays.items() if key.startswith(prefixes)}


def prepared(
    root,
    name,
    splits=("train",),
    shape=(9, 9, 3),
    size=lambda i: (9, 9),
    count=20,
    keys=("image", "label"),
    version="1.0.0",
    words=(),
    labels=(),
):
    """Writes a data set as TFDS prepares it: picture `i` has value `i % 256` and class `i % 2`.

    `words` are text features, `labels` further class labels.
    """
    import tensorflow_datasets as tfds

    folder = root / name / version
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
            **{word: tfds.features.Text() for word in words},
            **{label: tfds.features.ClassLabel(names=["a", "b"]) for label in labels},
        }
    )
    infos = []
    for split in splits:
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=name, split=split, filetype_suffix="tfrecord"
        )
        with tf.io.TFRecordWriter(str(folder / f"{name}-{split}.tfrecord-00000-of-00001")) as writer:
            for i in range(count):
                image = np.full((*size(i), shape[-1]), i % 256, np.uint8)
                example = {"image": image, "label": i % 2, **dict.fromkeys(words, ""), **dict.fromkeys(labels, 0)}
                writer.write(features.serialize_example(features.encode_example(example)))
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=0, filename_template=template))
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder), features=features, split_infos=infos, supervised_keys=keys, check_data=False
    )
    return folder


def numbered_by_reference(model, state: dict):
    """How the elements of a model's variables are called in the reference code.

    Overwrites the weights of `model` (float32 or float64) with the numbers of the elements of `state`.

    Returns:
        A function from variables and as many arrays of their shapes to `{name: array}` in the reference's layout.
    """
    ends = np.cumsum([0, *(array.size for array in state.values())])
    numbers = [np.arange(a.size).reshape(a.shape) + end for a, end in zip(state.values(), ends[:-1], strict=True)]
    load_reference_state(model, dict(zip(state, numbers, strict=True)))
    places = {id(variable): variable.numpy().astype(int) for variable in model.variables}

    def named(variables, arrays) -> dict:
        flat = np.full(ends[-1], np.nan)
        for variable, array in zip(variables, arrays, strict=True):
            flat[places[id(variable)]] = array
        return {name: flat[place] for name, place in zip(state, numbers, strict=True)}

    return named


def copy_edge(stack, edge: int, model, name: str) -> None:
    """Copies one edge's share of the weights of a `GroupedOperation` into the layers called `name` of a network."""
    steps = stack.operation.step_names(stack.stride)
    for variables, parts in zip(stack.step_weights, steps, strict=True):
        share = [v.numpy().reshape(*v.shape[:-1], stack.copies, -1)[..., edge, :] for v in variables]
        if len(variables) == len(parts):
            for value, part in zip(share, parts, strict=True):
                layer = model.get_layer(layer_name(f"{name}.{part}"))
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                layer.kernel.assign(value.swapaxes(2, 3) if depthwise else value)
        elif variables:
            layer = model.get_layer(layer_name(f"{name}.{parts[0]}"))
            targets = (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
            for target, value in zip(targets, share, strict=False):
                target.assign(value)
