"""Checkpoints of a run: within an epoch too, the last two, a damaged one known as such."""

import pathlib
import resource

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.loop import run_epochs
from kdarts.search.session import Session
from kdarts.training.checkpoint import Checkpoint, checkpoints, last_is_whole, notes

pytestmark = pytest.mark.usefixtures("eagerly")

STEPS = 5


def _model(units=6):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(keras.layers.Dense(units)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, metrics=["accuracy"])
    return model


class Die(keras.callbacks.Callback):
    """Ends a run before one of its steps."""

    def __init__(self, epoch, step):
        super().__init__()
        self.place, self.epoch = (epoch, step), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise KeyboardInterrupt


class Note(keras.callbacks.Callback):
    """Notes an array for each epoch."""

    def __init__(self, checkpoint):
        super().__init__()
        self.checkpoint = checkpoint

    def on_epoch_end(self, epoch, logs=None):
        self.checkpoint.arrays.setdefault("bias", []).append(self.model.weights[1].numpy())


class Restored(Session):
    """Begins a run where its newest checkpoint ends."""

    verbose, first = 0, None

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def begin(self, model, steps, epochs, record):
        self.first = self.checkpoint.restore()
        return self.first


def _run(folder, every=2, more=(), epochs=3):
    model = _model()
    checkpoint = Checkpoint(folder, model, STEPS, every)
    rng, session = np.random.default_rng(0), Restored(checkpoint)
    x, y = rng.normal(size=(STEPS * epochs, 8, 4)).astype("float32"), rng.integers(0, 3, (STEPS * epochs, 8))

    def batches(first):
        return tf.data.Dataset.from_tensor_slices((x[first:], y[first:])).repeat()

    callbacks = [*more, Note(checkpoint), checkpoint]
    run_epochs(model, batches, steps=STEPS, epochs=epochs, callbacks=callbacks, session=session)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return session.first, checkpoint, [v.numpy() for v in variables]


def _killed(folder, *place, **choices):
    with pytest.raises(KeyboardInterrupt):
        _run(folder, more=[Die(*place)], **choices)


def _numbers(folder):
    return [int(prefix.rpartition("-")[2]) for prefix in checkpoints(folder)]


def _files(folder, number):
    return sorted(folder.glob(f"ckpt-{number}.*"))


def _change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.fixture
def whole(tmp_path):
    return _run(tmp_path / "whole", every=None)


def _same(one, other):
    assert one[1].records["history"] == other[1].records["history"]
    np.testing.assert_array_equal(one[1].arrays["bias"], other[1].arrays["bias"])
    for a, b in zip(one[2], other[2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_goes_on_inside_an_epoch_to_the_same_result(tmp_path, whole):
    folder = tmp_path / "run"
    _killed(folder, 0, 3)
    assert _numbers(folder) == [2]
    _killed(folder, 1, 4)
    assert _numbers(folder) == [STEPS + 2, STEPS + 4]
    run = _run(folder)
    assert run[0] == STEPS + 4
    assert _numbers(folder) == [2 * STEPS + 4, 3 * STEPS]
    _same(run, whole)
    records, arrays = notes(folder)
    assert records["history"] == whole[1].records["history"]
    np.testing.assert_array_equal(arrays["bias"], np.stack(whole[1].arrays["bias"]))
    assert {path.name.partition(".")[0] for path in folder.iterdir()} == {"checkpoint", "ckpt-14", "ckpt-15"}


@pytest.mark.parametrize("damage", ["index", "data", "cut", "lost"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, whole, capsys, damage):
    folder = tmp_path / "run"
    _killed(folder, 2, 1)
    data, index = _files(folder, 2 * STEPS)
    assert last_is_whole(folder)
    if damage == "cut":
        data.write_bytes(data.read_bytes()[:100])
    elif damage == "lost":
        data.unlink()
    else:
        _change_a_byte(index if damage == "index" else data)
    assert not last_is_whole(folder)
    run = _run(folder)
    told = f"{index.with_suffix('')}: damaged (checksum); going on from epoch 1, step 4 of the next"
    assert told in capsys.readouterr().out
    assert run[0] == STEPS + 4
    _same(run, whole)
    assert last_is_whole(folder) and _numbers(folder) == [2 * STEPS + 4, 3 * STEPS]


def test_when_all_are_damaged_nothing_is_changed(tmp_path):
    _killed(tmp_path, 2, 1)
    for path in tmp_path.glob("*.data*"):
        _change_a_byte(path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for read in (lambda: _run(tmp_path), lambda: Checkpoint(tmp_path, _model(), STEPS).restore()):
        with pytest.raises(KdartsError, match=r"damaged .*: ckpt-9 and ckpt-10, and there is no other checkpoint"):
            read()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("listed", [None, b"", b"\xff\x00", b'model_checkpoint_path: "ckpt-99"'], ids=str)
def test_the_list_of_checkpoints_does_not_matter(tmp_path, whole, listed):
    folder = tmp_path / "run"
    _killed(folder, 1, 3)
    (folder / "checkpoint").unlink() if listed is None else (folder / "checkpoint").write_bytes(listed)
    run = _run(folder)
    assert run[0] == STEPS + 2
    _same(run, whole)
    assert _numbers(folder) == [2 * STEPS + 4, 3 * STEPS]
    assert tf.train.latest_checkpoint(folder) == str(folder / "ckpt-15")


@pytest.mark.parametrize("first", [True, False], ids=["in its first save", "later"])
def test_a_run_killed_while_it_saves_comes_to_the_same_result(tmp_path, whole, capsys, first):
    folder = tmp_path / "run"
    _killed(folder, 0, 3) if first else _killed(folder, 1, 3)
    index = folder / f"ckpt-{2 if first else STEPS + 2}.index"
    index.write_bytes(index.read_bytes()[:70])
    if first:
        (folder / "checkpoint").unlink()
    (folder / "ckpt-99_temp").mkdir()
    (folder / "ckpt-98.data-00000-of-00001").write_bytes(b"")
    (folder / "checkpoint.tmp0123").write_bytes(b"")
    run = _run(folder)
    assert run[0] == (0 if first else STEPS)
    assert f"{index.with_suffix('')}: " in capsys.readouterr().out
    _same(run, whole)
    assert {path.name.partition(".")[0] for path in folder.iterdir()} == {"checkpoint", "ckpt-14", "ckpt-15"}


@pytest.mark.parametrize(
    "model",
    [
        lambda: _model(units=7),
        lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]),
        lambda: keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(n) for n in (6, 6, 6, 6, 3))]),
    ],
    ids=["other shapes", "fewer variables", "more variables"],
)
def test_another_models_checkpoint_is_refused(tmp_path, model):
    _killed(tmp_path, 1, 0)
    other = model()
    other.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    with pytest.raises(KdartsError, match=r"ckpt-5: belongs to another model"):
        Checkpoint(tmp_path, other, STEPS).restore()
    assert _numbers(tmp_path) == [4, 5]


def test_without_a_checkpoint_a_run_begins_and_there_are_no_notes(tmp_path):
    assert Checkpoint(tmp_path / "new", _model(), STEPS).restore() == 0
    assert not last_is_whole(tmp_path / "new") and checkpoints(tmp_path / "new") == []
    with pytest.raises(KdartsError, match="holds no checkpoint"):
        notes(tmp_path / "new")


def test_on_a_full_disk_the_checkpoints_before_are_left(tmp_path, whole):
    folder = tmp_path / "run"

    class Fill(keras.callbacks.Callback):
        """Lets no file grow from the second step of the second epoch on."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(KdartsError, match=r"ckpt-7: cannot be written \(.*File too large"):
            _run(folder, more=[Fill()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert _numbers(folder) == [4, STEPS]
    run = _run(folder)
    assert run[0] == STEPS
    _same(run, whole)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KdartsError, match=r"file/run/ckpt-2: cannot be written"):
        _run(pathlib.Path(tmp_path, "file", "run"))
