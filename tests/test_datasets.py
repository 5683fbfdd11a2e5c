"""Data sets: what is embedded, what is read from folders and from TensorFlow Datasets, and what is refused."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import prepared

from kdarts.cli.main import main
from kdarts.data import sources
from kdarts.data.datasets import ImageData, halves, load, statistics
from kdarts.genotypes.errors import KdartsError


def _png(path, value, size=(10, 10), channels=3):
    """Writes one picture of one colour; its value says which one it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(np.full((*size, channels), value, np.uint8)).numpy())


def _folder(root, classes=("ape", "bee"), count=10, **how):
    """Pictures `count` to each class, of values 0, 1, 2, ... in order of class and name."""
    for i, name in enumerate(classes):
        for j in range(count):
            _png(root / name / f"{j:02}.png", i * count + j, **how)
    return f"folder:{root}"


def _refused(*args, **kwargs):
    with pytest.raises(KdartsError) as caught:
        load(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


# digits


def test_digits_are_the_1797_real_scans():
    train, test = load(), load(split="test")
    assert train.image_shape == test.image_shape == (8, 8, 1) and train.num_classes == 10
    assert (len(train), len(test)) == (1437, 360)
    assert np.bincount(test.labels).tolist() == [36] * 10
    # The totals of the published file: pixels 0 to 16, and the examples of each digit.
    pixels = np.rint(np.concatenate([train.images, test.images]) * (16 / 255))
    assert int(pixels.sum()) == 561718
    assert np.bincount(np.concatenate([train.labels, test.labels])).tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]
    assert train.images.max() == 255 and len(np.unique(train.images)) == 17
    together = np.concatenate([train.images, test.images]).reshape(1797, -1)
    assert len(np.unique(together, axis=0)) == 1797, "no scan is in both splits"
    assert (np.bincount(train.labels[:718]) > 50).all(), "halves hold every digit"


def test_digits_are_limited_resized_and_the_same_each_time():
    few = load("digits", limit=5, image_size=16)
    assert few.images.shape == (5, 16, 16, 1) and few.images.dtype == np.uint8
    assert np.array_equal(few.labels, load().labels[:5])
    assert abs(few.images.mean() - load(limit=5).images.mean()) < 4
    assert np.array_equal(load(limit=5, image_size=8).images, load(limit=5).images)


def test_arguments_out_of_range_are_refused():
    assert "allowed: train, test" in _refused("digits", split="valid")
    assert "limit 0" in _refused("digits", limit=0)
    assert "8 pixels or more" in _refused("digits", image_size=4)
    assert "allowed: 8 to 864" in _refused("digits", image_size=4096)


def test_image_data_is_checked():
    images, labels = np.zeros((3, 8, 8, 3), np.uint8), np.zeros(3, np.int32)
    data = ImageData(images, labels, ("a", "b"), "x")
    assert len(data) == 3 and len(data.take(np.array([2, 0]))) == 2
    for bad in (
        (images.astype(np.float32), labels),
        (images[..., :2], labels),
        (images, labels[:2]),
        (images, labels + 2),
    ):
        with pytest.raises(KdartsError):
            ImageData(*bad, ("a", "b"), "x")


# folders


def test_folder_of_classes_is_divided_once_and_for_all(tmp_path):
    name = _folder(tmp_path)
    train, test = load(name), load(name, split="test")
    assert train.class_names == ("ape", "bee") and train.name == name
    assert train.images.shape == (15, 10, 10, 3) and len(test) == 5
    values = {part: data.images[:, 0, 0, 0] for part, data in (("train", train), ("test", test))}
    assert sorted([*values["train"], *values["test"]]) == list(range(20)), "each picture in one split"
    for data in (train, test):
        assert np.array_equal(data.labels, data.images[:, 0, 0, 0] // 10)
    assert 0 < train.labels[:8].sum() < 8, "classes are mixed"
    assert np.array_equal(load(name).images, train.images)
    assert np.array_equal(load(name, limit=3).images, train.images[:3])


@pytest.mark.parametrize("test_folder", ["test", "val", "validation"])
def test_folders_of_splits_are_the_splits(tmp_path, test_folder):
    _folder(tmp_path / "train", count=4)
    _folder(tmp_path / test_folder, count=3)
    assert len(load(f"folder:{tmp_path}")) == 8
    assert len(load(f"folder:{tmp_path}", split="test")) == 6
    _png(tmp_path / test_folder / "cow" / "0.png", 0)
    assert "only in test: cow" in _refused(f"folder:{tmp_path}")


def test_folder_formats(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    name = _folder(tmp_path, count=3, size=(9, 9))
    (tmp_path / "ape" / "a.JPG").write_bytes(tf.io.encode_jpeg(image).numpy())
    _png(tmp_path / "ape" / "alpha.png", 7, (9, 9), channels=4)
    header = (
        b"BM" + (54 + 9 * 28).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    )
    header += (9).to_bytes(4, "little") * 2 + (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)
    (tmp_path / "bee" / "b.bmp").write_bytes(header + bytes(9 * 28))
    (tmp_path / "bee" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    assert len(load(name)) + len(load(name, split="test")) == 9


def test_grey_pictures_keep_one_channel_unless_any_has_colour(tmp_path):
    name = _folder(tmp_path, channels=1)
    _png(tmp_path / "ape" / "alpha.png", 200, channels=2)
    (tmp_path / "bee" / "grey.jpg").write_bytes(tf.io.encode_jpeg(np.full((10, 10, 1), 210, np.uint8)).numpy())
    grey = load(name)
    assert grey.image_shape == load(name, split="test").image_shape == (10, 10, 1)
    _png(tmp_path / "bee" / "colour.png", 255)
    coloured = load(name)
    assert coloured.image_shape == load(name, split="test").image_shape == (10, 10, 3)
    assert set(grey.images.ravel()) <= {*coloured.images[..., 2].ravel(), *load(name, split="test").images.ravel()}


def test_pictures_that_differ_in_size(tmp_path, capsys):
    name = _folder(tmp_path, size=(10, 14))
    _png(tmp_path / "bee" / "big.png", 99, (40, 20))
    _png(tmp_path / "ape" / "big.png", 98, (40, 20))
    assert load(name).image_shape == load(name, split="test").image_shape == (8, 8, 3)
    assert capsys.readouterr().err.count("pictures of 2 sizes, 14x10 to 20x40") == 1
    data = load(name, image_size=12)
    assert data.image_shape == (12, 12, 3)
    assert all(len(np.unique(image)) == 1 for image in data.images), "one colour stays one colour"


def test_broken_pictures_are_named(tmp_path):
    name = _folder(tmp_path, count=20)
    whole = (tmp_path / "ape" / "00.png").read_bytes()
    for i in range(20):
        (tmp_path / "ape" / f"{i:02}.png").write_bytes([whole[: 40 + i], b"", b"\xff\xd8\xffjunk", b"text"][i % 4])
    message = _refused(name)
    assert "cannot read 16 pictures: " in message and " and 11 more" in message, "those with a broken header"
    assert all(str(tmp_path / "ape" / f"{i:02}.png (") in message for i in range(4))


def test_folders_that_are_no_data_set_are_refused(tmp_path):
    assert "no folder" in _refused(f"folder:{tmp_path / 'missing'}")
    assert "no folder" in _refused("folder:")
    assert "none; allowed: two or more" in _refused(f"folder:{tmp_path}")
    _folder(tmp_path, classes=("ape",))
    assert "ape; allowed: two or more" in _refused(f"folder:{tmp_path}")


def test_slow_reading_shows_itself_on_standard_error(tmp_path, monkeypatch, capsys):
    name = _folder(tmp_path)
    load(name)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sources, "_CHUNK", 4)
    monkeypatch.setattr(sources, "PATIENCE", 0)
    load(name)
    out, err = capsys.readouterr()
    assert out == "" and "reading folder" in err and "s left" in err


# TensorFlow Datasets


def test_prepared_data_set_with_a_test_split(tmp_path):
    prepared(tmp_path, "tiny", ("train", "validation", "test"), shape=(9, 9, 1))
    train, test = load("tiny", str(tmp_path)), load("tiny", str(tmp_path), split="test")
    assert train.class_names == ("a", "b") and train.image_shape == (9, 9, 1) and len(train) == len(test) == 20
    assert np.array_equal(train.images[:, 0, 0, 0], np.arange(20))
    assert np.array_equal(train.labels, np.arange(20) % 2)
    assert np.array_equal(load("tiny", str(tmp_path), limit=7).images, train.images[:7])


def test_prepared_data_set_with_a_validation_split(tmp_path):
    prepared(tmp_path, "tiny", ("train", "validation", "test"), shape=(9, 9, 1))
    for split in ("train", "valid", "test"):
        assert len(load("tiny", str(tmp_path), split=split, valid_split="validation")) == 20
    prepared(tmp_path, "valid", ("train", "validation"))
    for name, given, allowed in (("tiny", "dev", "'validation', a part"), ("valid", "validation", "a part")):
        with pytest.raises(KdartsError, match=f"valid_split '{given}': no such split .*; allowed: {allowed} of train"):
            load(name, str(tmp_path), valid_split=given)
    with pytest.raises(KdartsError, match="allowed: train, test"):
        load("tiny", str(tmp_path), split="valid")


def test_prepared_data_set_without_a_test_split(tmp_path):
    prepared(tmp_path, "valid", ("train", "validation"))
    assert len(load("valid", str(tmp_path))) == len(load("valid", str(tmp_path), split="test")) == 20
    prepared(tmp_path, "bare", size=lambda i: (9 + i % 3, 12), shape=(None, None, 3))
    for split in ("train", "test"):
        assert load("bare", str(tmp_path), split=split).image_shape == (8, 8, 3), "the median of all 20"
    parts = [load("bare", str(tmp_path), image_size=8, split=split) for split in ("train", "test")]
    values = [part.images[:, 0, 0, 0] for part in parts]
    assert [len(value) for value in values] == [16, 4]
    assert sorted(np.concatenate(values)) == list(range(20))
    for part, value in zip(parts, values, strict=True):
        assert np.array_equal(part.labels, value % 2)
    assert np.array_equal(load("bare", str(tmp_path), image_size=8, limit=5).images, parts[0].images[:5])


def test_data_sets_that_cannot_be_had_are_refused_at_once(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def download(*_, **__):
        raise AssertionError("the network was tried")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download)
    message = _refused("mnist", str(tmp_path))
    assert "'mnist' is not prepared" in message and str(tmp_path) in message and "--download" in message
    assert "the network was tried" in _refused("mnist", str(tmp_path), download=True)
    assert "did you mean 'mnist'?" in _refused("mnits", str(tmp_path))
    assert "folder:PATH" in _refused("no such thing", str(tmp_path))
    assert f"did you mean 'folder:{tmp_path}'?" in _refused(str(tmp_path))
    assert "unknown data set" in _refused("huggingface:mnist", str(tmp_path))
    assert "foo not found" in _refused("cifar10/foo", str(tmp_path))


def test_prepared_data_that_is_damaged_or_of_another_kind_is_refused(tmp_path):
    prepared(tmp_path, "plain", keys=None)
    assert "image classification" in _refused("plain", str(tmp_path))
    prepared(tmp_path, "untrained", ("test",))
    assert "it has: test" in _refused("untrained", str(tmp_path))
    prepared(tmp_path, "small", count=3)
    assert "too few examples" in _refused("small", str(tmp_path), split="test")

    folder = prepared(tmp_path, "hurt")
    records = folder / "hurt-train.tfrecord-00000-of-00001"
    whole = records.read_bytes()
    records.write_bytes(whole[:300] + b"xxxx" + whole[304:])
    message = _refused("hurt", str(tmp_path))
    assert str(folder) in message and "corrupted record" in message
    records.write_bytes(b"")
    assert "has 0 examples of the 20" in _refused("hurt", str(tmp_path))
    records.unlink()
    assert records.name in _refused("hurt", str(tmp_path))
    (folder / "dataset_info.json").write_text("{")
    assert str(tmp_path) in _refused("hurt", str(tmp_path))


def test_prepared_data_cannot_have_modules_imported(tmp_path):
    features = prepared(tmp_path, "sly") / "features.json"
    said = json.loads(features.read_text())
    said["featuresDict"]["features"]["image"]["pythonClassName"] = "antigravity.Image"
    features.write_text(json.dumps(said))
    assert "'antigravity.Image'; allowed: classes of tensorflow_datasets" in _refused("sly", str(tmp_path))


def test_cifar10(cifar10_dir):
    data = load("cifar10", cifar10_dir)
    assert data.images.shape == (50000, 32, 32, 3) and data.class_names[3] == "cat"
    mean, std = statistics(data.images)
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=6e-4)
    np.testing.assert_allclose(std, (0.2452, 0.2428, 0.2606), atol=6e-4)
    train, valid = halves(data)
    assert len(train) == len(valid) == 25000
    assert min(*np.bincount(train.labels), *np.bincount(valid.labels)) > 2300
    assert load("cifar10", cifar10_dir, split="test", limit=10, image_size=16).images.shape == (10, 16, 16, 3)


# statistics and halves


def test_statistics_against_the_plain_formula():
    images = np.random.default_rng(0).integers(0, 256, (1500, 8, 9, 3), dtype=np.uint8) // np.array([1, 2, 5], np.uint8)
    mean, std = statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-10)
    assert statistics(np.full((2, 8, 8, 1), 51, np.uint8)) == ((0.2,), (1e-3,))


def _parts(train, valid):
    return train.images[:, 0, 0, 0].tolist(), valid.images[:, 0, 0, 0].tolist()


def test_halves_are_contiguous_unless_sizes_are_asked():
    images = np.tile(np.arange(101, dtype=np.uint8)[:, None, None, None], (1, 8, 8, 1))
    data = ImageData(images, np.arange(101, dtype=np.int32), tuple(map(str, range(101))), "x")
    assert _parts(*halves(data)) == (list(range(50)), list(range(50, 101)))
    for sizes, expected in (
        ((10, 20), (10, 20)),
        ((30, None), (30, 30)),
        ((None, 30), (30, 30)),
        ((90, None), (90, 11)),
    ):
        train, valid = _parts(*halves(data, *sizes))
        assert (len(train), len(valid)) == expected
        assert not set(train) & set(valid)
    assert _parts(*halves(data, 10, 20)) == _parts(*halves(data, 10, 20))
    assert _parts(*halves(data, 10, 20)) != _parts(*halves(data, 10, 20, seed=1))
    for sizes in ((0, 10), (10, 0), (60, 60), (102, None), (101, None), (None, -1)):
        with pytest.raises(KdartsError, match=r"101 in all|1 to 100 of the 101 images"):
            halves(data, *sizes)
    with pytest.raises(KdartsError, match="2 or more"):
        halves(data.take(slice(1)))


def test_stratified_parts_have_every_class_in_its_share():
    labels = np.repeat(np.arange(3, dtype=np.int32), (20, 40, 41))[np.random.default_rng(0).permutation(101)]
    images = np.tile(np.arange(101, dtype=np.uint8)[:, None, None, None], (1, 8, 8, 1))
    data = ImageData(images, labels, ("a", "b", "c"), "x")
    for sizes in ((None, None), (10, 20), (30, 30), (25, 25)):
        parts = halves(data, *sizes, stratified=True)
        assert not set(_parts(*parts)[0]) & set(_parts(*parts)[1])
        for part in parts:
            shares = np.bincount(part.labels, minlength=3)
            np.testing.assert_allclose(shares, len(part) * np.array([20, 40, 41]) / 101, atol=2)
    assert _parts(*halves(data, 10, 20, 3, True)) == _parts(*halves(data, 10, 20, 3, True))
    assert _parts(*halves(data, 10, 20, 3, True)) != _parts(*halves(data, 10, 20, 4, True))
    even = data.take(np.concatenate([np.flatnonzero(labels == k)[:20] for k in range(3)]))
    for part in halves(even, 15, 15, 5, stratified=True):
        assert np.bincount(part.labels).tolist() == [5, 5, 5]


def test_cifar10_1_has_test_images_alone_and_measures_a_network(tmp_path, capsys):
    size = {"shape": (32, 32, 3), "size": lambda i: (32, 32)}
    prepared(tmp_path, "cifar10_1", ("test",), version="v6/1.1.0", **size)
    data = load("cifar10_1/v6", str(tmp_path), split="test")
    assert len(data) == 20 and data.labels.tolist() == [0, 1] * 10 and data.image_shape == (32, 32, 3)
    assert "has no split 'train'; it has: test" in _refused("cifar10_1/v6", str(tmp_path))
    x = keras.Input((32, 32, 3))
    y = keras.layers.Dense(10, kernel_initializer="zeros", bias_initializer="ones")(keras.layers.Flatten()(x))
    keras.Model(x, y).save(tmp_path / "model.keras")
    (tmp_path / "summary.json").write_text(json.dumps({"mean": [0.5] * 3, "std": [0.25] * 3}))
    flags = [f"--model={tmp_path / 'model.keras'}", "--dataset=cifar10_1/v6", f"--data_dir={tmp_path}"]
    assert main(["evaluate", *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["examples"] == 20 and result["accuracy"] == 0.5
