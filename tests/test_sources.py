"""Images that stay on disk stand for the same array as images in memory."""

import io
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import prepared
from PIL import Image

from kdarts.cli.main import main
from kdarts.data import datasets, records, sources
from kdarts.data.augmentation import Augmentation
from kdarts.data.pipeline import check_service, eval_dataset, search_dataset_from, train_dataset
from kdarts.genotypes.errors import KdartsError

AUGMENT = Augmentation(pad=2, cutout=3)
MEAN, STD = (0.5,) * 3, (0.2,) * 3


def _folder(root, count=12, classes=("ant", "bee"), size=(11, 9)):
    """Pictures of noise, in `train` and `test`."""
    rng = np.random.default_rng(0)
    for part, name, i in itertools.product(("train", "test"), classes, range(count)):
        (root / part / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / part / name / f"{i:02}.png")
    return f"folder:{root}"


@pytest.fixture
def streamed(monkeypatch):
    """Inside it, nothing fits in memory."""

    def load(*args, **kwargs):
        with monkeypatch.context() as limited:
            limited.setattr(sources, "IN_MEMORY", 0)
            return datasets.load(*args, **kwargs)

    return load


def _same(one, other):
    pairs = list(zip(map(tf.nest.flatten, one), map(tf.nest.flatten, other), strict=True))
    assert pairs
    for a, b in pairs:
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_streamed_batches_are_those_of_memory_from_any_step(tmp_path, streamed):
    name = _folder(tmp_path)
    whole, data = datasets.load(name, image_size=8), streamed(name, image_size=8)
    assert data.streamed and not whole.streamed and data.images.shape == whole.images.shape
    assert data.names == whole.names and data.names[0].startswith("train/")
    for one, other in zip(
        [*datasets.halves(whole, 7, 9, 1, stratified=True), *datasets.hold_back(whole, 0.25)],
        [*datasets.halves(data, 7, 9, 1, stratified=True), *datasets.hold_back(data, 0.25)],
        strict=True,
    ):
        assert other.streamed and one.names == other.names
        np.testing.assert_array_equal(one.images, np.asarray(other.images))
        np.testing.assert_array_equal(one.labels, other.labels)
    assert datasets.statistics(data.images) == datasets.statistics(whole.images)

    def batches(of, start, number):
        pair = *datasets.halves(of), 5, 3, AUGMENT, MEAN, STD
        return list(itertools.islice(search_dataset_from(*pair, start_step=start), number))

    for start, number in ((0, 5), (3, 2)):
        _same(batches(data, start, number), batches(whole, start, number))
    _same(eval_dataset(data, 7, MEAN, STD), eval_dataset(whole, 7, MEAN, STD))
    one, other = (train_dataset(each, 5, 3, AUGMENT, MEAN, STD) for each in (data, whole))
    for _ in range(2):  # epochs
        _same(one, other)
    assert one.element_spec == other.element_spec and one.cardinality() == 4


def _array_record(root):
    """The data set of `prepared`, in the format that is read at random."""
    import tensorflow_datasets as tfds

    folder = prepared(root, "tiny", shape=(None, None, 3), size=lambda i: (9 + i % 2, 12))
    writer = pytest.importorskip("array_record.python.array_record_module").ArrayRecordWriter
    file = folder / "tiny-train.tfrecord-00000-of-00001"
    written = writer(str(file).replace("tfrecord", "array_record"), "group_size:1")
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        written.write(record)
    written.close()
    file.unlink()
    builder = tfds.builder_from_directory(str(folder))
    template = tfds.core.ShardedFileTemplate(folder, filetype_suffix="array_record", dataset_name="tiny", split="train")
    split = tfds.core.SplitInfo(name="train", shard_lengths=[20], num_bytes=0, filename_template=template)
    about = {"features": builder.info.features, "split_infos": [split], "supervised_keys": ("image", "label")}
    tfds.folder_dataset.write_metadata(data_dir=str(folder), check_data=False, **about)


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_records_are_read_at_any_place(tmp_path, streamed, form):
    if form == "array_record":
        _array_record(tmp_path)
    else:
        prepared(tmp_path, "tiny", shape=(None, None, 3), size=lambda i: (9 + i % 2, 12), words=("aside", "wide"))
    for more in ({}, {"image_size": 9}, {"limit": 5}):
        whole, data = datasets.load("tiny", str(tmp_path), **more), streamed("tiny", str(tmp_path), **more)
        assert data.streamed and data.image_shape == ((9, 9, 3) if "image_size" in more else (8, 8, 3))
        np.testing.assert_array_equal(np.asarray(data.images), whole.images)
        np.testing.assert_array_equal(data.labels, whole.labels)
    for split in ("train", "test"):  # Both are of one file.
        kept = streamed("tiny", str(tmp_path), split=split, cache_dir=tmp_path / "cache")
        np.testing.assert_array_equal(np.asarray(kept.images), datasets.load("tiny", str(tmp_path), split=split).images)
    data = streamed("tiny", str(tmp_path), split="test")
    assert len(data) == 4 and data.images[2].shape == (8, 8, 3)
    np.testing.assert_array_equal(data.images[[3, 0]][:, 0, 0, 0] % 2, data.labels[[3, 0]])


def test_an_index_of_several_files_reads_only_those_that_are_needed(tmp_path):
    folder = prepared(tmp_path, "tiny", labels=("side",))
    whole = folder / "tiny-train.tfrecord-00000-of-00001"
    raw = list(tf.data.TFRecordDataset(str(whole)).as_numpy_iterator())
    files = [tmp_path / f"{i}" for i in range(3)]
    for i, file in enumerate(files):
        with tf.io.TFRecordWriter(str(file)) as writer:
            for record in raw[i * 7 : i * 7 + 7]:
                writer.write(record)
    how = [7, 7, 6], ("image", "label")
    found = records.index(files, *how, np.arange(20), "tiny")
    assert found.labels.tolist() == [0, 1] * 10
    images = [tf.io.decode_png(found[i]).numpy()[0, 0, 0] for i in (13, 0, 19)]
    assert images == [13, 0, 19]
    pictures = sources.Pictures((9, 9, 3), np.arange(20), found, None, (0, 0, 0), 255)
    assert pictures[[13, 0]][:, 0, 0, 0].tolist() == [13, 0]
    found.length[13] -= 40  # A truncated picture in a sound record.
    with pytest.raises(KdartsError, match=rf"cannot read the picture at {found.offset[13]} in {files[1]}: "):
        pictures[[13, 0]]
    files[0].unlink()
    assert records.index(files, *how, np.array([8, 15]), "tiny")[15] == found[15]
    with pytest.raises(KdartsError, match="has 6 examples of the 7"):
        records.index(files, [7, 6, 7], ("image", "label"), np.array([15]), "tiny")
    with pytest.raises(KdartsError, match="has more examples of the 5"):
        records.index(files, [7, 5, 6], ("image", "label"), np.array([8]), "tiny")
    damaged = files[1].read_bytes()
    for content in (damaged[:-9], damaged[:4] + b"\xff" + damaged[5:], damaged[:12] + b"\xff" * 9 + damaged[21:]):
        files[1].write_bytes(content)
        with pytest.raises(KdartsError, match=f"cannot read {files[1]}: corrupted record at "):
            records.index(files, *how, np.array([8]), "tiny")


def test_a_cache_is_written_once_goes_on_and_is_checked(tmp_path, streamed, monkeypatch):
    name, cache = _folder(tmp_path / "pictures"), tmp_path / "cache"
    monkeypatch.setattr(sources, "_CHUNK", 5)
    expected = datasets.load(name).images
    decoded = []
    decode = sources.Pictures.decode

    def stopping(self, places):
        decoded.extend(places)
        if len(decoded) > most:
            raise KeyboardInterrupt
        return decode(self, places)

    monkeypatch.setattr(sources.Pictures, "decode", stopping)
    most = 12
    with pytest.raises(KeyboardInterrupt):
        streamed(name, cache_dir=cache)
    (part,) = cache.iterdir()
    assert part.name.endswith(".writing")
    with part.open("ab") as file:
        file.write(b"half of a picture")
    most = 100
    decoded.clear()
    images = streamed(name, cache_dir=cache).images
    assert decoded == list(range(10, 24)), "two chunks were there"
    np.testing.assert_array_equal(np.asarray(images), expected)
    decoded.clear()
    (file,) = cache.iterdir()
    np.testing.assert_array_equal(np.asarray(streamed(name, cache_dir=cache).images), expected)
    np.testing.assert_array_equal(np.load(file), expected)
    assert not decoded
    for other in ({"image_size": 8}, {"background": "black"}, {"limit": 7}):
        streamed(name, cache_dir=cache, **other)
    assert len(list(cache.iterdir())) == 4
    Image.new("RGB", (9, 11)).save(tmp_path / "pictures" / "train" / "ant" / "00.png")
    assert (np.asarray(streamed(name, cache_dir=cache).images).max((1, 2, 3)) == 0).sum() == 1
    for damage in (b"\x93NUMPY", file.read_bytes()[:-1]):
        for each in cache.iterdir():
            each.write_bytes(damage)
        with pytest.raises(KdartsError, match="damaged: remove it"):
            streamed(name, cache_dir=cache)
    with pytest.raises(KdartsError, match=r"cache_dir .* cannot be written"):
        streamed(name, cache_dir=file)


def test_pictures_that_break_are_named_in_one_line(tmp_path, streamed, monkeypatch, capsys):
    name = _folder(tmp_path / "pictures")
    file = sorted((tmp_path / "pictures" / "train" / "bee").iterdir())[4]
    whole = file.read_bytes()
    file.write_bytes(whole[:-60])  # its header is sound
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(KdartsError, match=f"cannot read {file}"):
            datasets.statistics(streamed(name, cache_dir=cache).images)
    assert not list((tmp_path / "cache").iterdir()), "what could not be finished is not kept"
    monkeypatch.setattr(sources, "IN_MEMORY", 0)
    monkeypatch.setattr(datasets, "statistics", lambda images: (MEAN, STD))
    flags = ["--genotype=DARTS_V1", "--cells=2", "--channels=2", "--epochs=1", "--batch_size=8", "--stem=cifar"]
    assert main(["train", *flags, f"--dataset={name}", f"--workdir={tmp_path / 'run'}"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"kdarts: cannot read {file}: ")
    file.write_bytes(b"")
    with pytest.raises(KdartsError, match=f"cannot read {file}"):
        streamed(name)


def test_statistics_of_large_data_are_those_of_a_fixed_sample(monkeypatch, capsys):
    images = np.random.default_rng(0).integers(0, 256, (100, 2, 2, 1), dtype=np.uint8)
    monkeypatch.setattr(datasets, "SAMPLE", 25)
    whole = datasets.statistics(images)
    monkeypatch.setattr(sources, "IN_MEMORY", 399)
    assert datasets.statistics(images) == datasets.statistics(images[::4]) != whole
    assert "from 25 of them" in capsys.readouterr().err


def test_flags_and_arguments_that_make_no_sense(tmp_path, streamed):
    name = _folder(tmp_path)
    for more, message in (
        ({"background": "reddish"}, "background reddish: allowed is a colour"),
        ({"name": "digits", "labels": "a.csv"}, "labels a.csv: is about pictures in a folder"),
        ({"name": "digits", "group": "(.*)_"}, "group .*: is about pictures in a folder"),
    ):
        with pytest.raises(KdartsError, match=message):
            datasets.load(**{"name": name, **more})
    with pytest.raises(KdartsError, match=r"data_service localhost:1: .* is read from this machine's disk"):
        check_service(streamed(name), "localhost:1")
    check_service(datasets.load(name), "localhost:1")


def test_the_flags_of_pictures_reach_the_data(tmp_path):
    from kdarts.cli import options
    from kdarts.cli.search import SEARCH

    for i in range(12):
        clear = np.zeros((8, 8, 4), np.uint8)
        Image.fromarray(clear).save(tmp_path / f"{i}_{i % 3}.png")
    table = ["file,label", *(f"{i}_{i % 3}.png,{'ab'[i % 2]}" for i in range(12))]
    (tmp_path / "l.csv").write_text("\n".join(table))
    flags = [f"--dataset=folder:{tmp_path}", "--labels=l.csv", r"--group=_(\d)", "--background=#0a141e"]
    values = SEARCH.parse(["search", *flags])
    parts = [options.load(values, split) for split in ("train", "test")]
    assert {name.split("_")[1] for name in parts[0].names}.isdisjoint(name.split("_")[1] for name in parts[1].names)
    assert (parts[0].images == np.array([10, 20, 30])).all() and parts[0].class_names == ("a", "b")


def _photograph(rng, size) -> bytes:
    """A JPEG of about 90 kB: smooth shapes under noise."""
    small = rng.integers(0, 256, (size[1] // 6, size[0] // 6, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    pixels = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def _imagenet(root, splits, files=8):
    """ImageNet as TFDS prepares it, of 200 pictures that are repeated."""
    import tensorflow_datasets as tfds

    folder = root / "imagenet2012" / "5.1.0"
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=1000),
        }
    )
    rng, examples = np.random.default_rng(0), []
    for i in range(200):
        jpeg = io.BytesIO(_photograph(rng, (500, 375) if i % 3 else (375, 500)))
        example = features.encode_example({"file_name": f"{i}.JPEG", "image": jpeg, "label": 5 * i})
        examples.append(features.serialize_example(example))
    infos = []
    for split, count in splits.items():
        about = {"data_dir": folder, "dataset_name": "imagenet2012", "filetype_suffix": "tfrecord", "split": split}
        template = tfds.core.ShardedFileTemplate(**about)
        lengths = [count // files] * files
        for number in range(files):
            with tf.io.TFRecordWriter(str(template.sharded_filepath(shard_index=number, num_shards=files))) as writer:
                for i in range(lengths[number]):
                    writer.write(examples[(number * lengths[number] + i) % 200])
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=0, filename_template=template))
    how = {"features": features, "split_infos": infos, "supervised_keys": ("image", "label"), "check_data": False}
    tfds.folder_dataset.write_metadata(data_dir=str(folder), **how)


_BATCHES = """
import itertools, json, pathlib, resource, sys, time
from kdarts.cli import options, search, train
from kdarts.data import datasets, pipeline
from kdarts.training.distribution import configure_threads
from kdarts.training.session import peak_memory_mb
import tensorflow_datasets

def memory():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

verb, *words = sys.argv[1:]
values = {"search": search.SEARCH, "train": train.TRAIN}[verb].parse([verb, *words])
if verb == "search":
    configure_threads()
before = memory()
if verb == "search":
    halves = search.halves(values)
    augmentation = options.augmentation(values, halves[0].image_shape)
    data = pipeline.ImageSearchData(*halves[:2], values.batch_size, 0, augmentation, *halves[2:4])
    batches, size = data.pairs(0), 2 * values.batch_size
else:
    data = options.load(values, "train")
    about = datasets.statistics(data.images)
    augmentation = options.augmentation(values, data.image_shape)
    batches, size = pipeline.train_dataset(data, values.batch_size, 0, augmentation, *about, 0), values.batch_size
began, shapes = time.monotonic(), set()
for batch in itertools.islice(batches, 5):
    shapes.add(tuple(batch[0][0].shape if verb == "search" else batch[0].shape))
rate = 5 * size / (time.monotonic() - began)
peak = peak_memory_mb()
print(json.dumps({"shapes": list(shapes), "megabytes": peak - before, "pictures_per_second": rate}))
"""


@pytest.mark.slow
def test_recipes_for_imagenet_run_at_their_full_size(tmp_path):
    """On 20,000 pictures of real size, which take 2.8 GiB decoded; figures are printed."""
    _imagenet(tmp_path, {"train": 20_000, "validation": 200})
    root = pathlib.Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}

    def run(*words) -> subprocess.CompletedProcess:
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done

    recipes = {
        "ddarts_imagenet": ("search", 96, []),
        "train_do2_imagenet": ("train", 128, ["--genotype=DO-2-ResNet18"]),
    }
    where = f"--data_dir={tmp_path}"
    for name, (verb, size, more) in recipes.items():
        done = run("-c", _BATCHES, verb, f"--flagfile={root / 'flags' / name}.flags", where, *more)
        assert "20000 pictures of 224x224x3 take 2.8 GiB decoded" in done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        print(name, found)
        assert found["shapes"] == [[size, 224, 224, 3]] and found["megabytes"] < 2000
    small = ["--genotype=SHARPSEPCONV_DARTS", "--cells=3", "--channels=8", "--batch_size=16", "--epochs=1"]
    small += ["--train_examples=96", f"--workdir={tmp_path / 'run'}", where]
    run("-m", "kdarts", "train", f"--flagfile={root / 'flags' / 'train_sharp_imagenet.flags'}", *small)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    print({name: summary[name] for name in ("step_ms", "data_wait_share", "peak_memory_mb")})
    assert summary["test_examples"] == 200 and summary["peak_memory_mb"] < 3000
    shutil.rmtree(tmp_path / "imagenet2012")
