"""The states of a run: within an epoch too, the last two, whole or not at all, a damaged one known as such."""

import errno
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.loop import run_epochs
from kdarts.training.checkpoint import Checkpoint, last_is_whole, notes
from kdarts.training.progress import StepTime

pytestmark = pytest.mark.usefixtures("eagerly")

STEPS = 5


def _model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(keras.layers.Dense(6)(inputs)))
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


def _run(folder, every=2, more=(), epochs=3):
    model = _model()
    checkpoint = Checkpoint(folder, model, STEPS, every)
    first = checkpoint.restore()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(STEPS * epochs, 8, 4)).astype("float32"), rng.integers(0, 3, (STEPS * epochs, 8))
    data = tf.data.Dataset.from_tensor_slices((x[first:], y[first:])).repeat()
    callbacks = [*more, checkpoint]
    run_epochs(model, data, steps=STEPS, epochs=epochs, first_step=first, callbacks=callbacks, clock=StepTime())
    return first, checkpoint, [v.numpy() for v in checkpoint._variables()]


def _killed(folder, *place, **choices):
    with pytest.raises(KeyboardInterrupt):
        _run(folder, more=[Die(*place)], **choices)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def whole(tmp_path):
    return _run(tmp_path / "whole", every=None)


def _same(one, other):
    assert one[1].records["history"] == other[1].records["history"]
    for a, b in zip(one[2], other[2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_goes_on_inside_an_epoch_to_the_same_result(tmp_path, whole):
    folder = tmp_path / "run"
    _killed(folder, 0, 3)
    assert _names(folder) == ["epoch-000000-step-000002.npz"]
    _killed(folder, 1, 4)
    assert _names(folder) == ["epoch-000001-step-000002.npz", "epoch-000001-step-000004.npz"]
    found = _run(folder)
    assert found[0] == STEPS + 4
    assert _names(folder) == ["epoch-000002-step-000004.npz", "epoch-000003.npz"]
    _same(found, whole)
    assert notes(folder)[0]["history"] == whole[1].records["history"]


def test_a_damaged_state_gives_way_to_the_one_before(tmp_path, whole, capsys):
    folder = tmp_path / "run"
    _killed(folder, 2, 1)
    state = folder / "epoch-000002.npz"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 4
    state.write_bytes(content)
    assert not last_is_whole(folder)
    found = _run(folder)
    assert f"{state}: damaged (checksum); going on from epoch 1, step 4 of the next" in capsys.readouterr().out
    assert found[0] == STEPS + 4
    _same(found, whole)
    assert last_is_whole(folder)
    before = {path: path.read_bytes()[:200] for path in folder.iterdir()}
    for path, part in before.items():
        path.write_bytes(part)
    with pytest.raises(KdartsError, match=r"run: damaged .*: epoch-000002-step-000004\.npz and epoch-000003\.npz"):
        _run(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_another_models_state_is_refused(tmp_path):
    _killed(tmp_path, 1, 0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(KdartsError, match=r"epoch-000001\.npz: belongs to another model"):
        Checkpoint(tmp_path, model, STEPS).restore()


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_on_a_full_disk_the_states_before_are_left(tmp_path, whole, monkeypatch, call):
    folder, left = tmp_path / "run", [3]
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*arguments, **choices):
        left[0] -= 1
        if left[0] < 0:
            raise full
        return real(*arguments, **choices)

    place, name = (os, "fsync") if call == "fsync" else (np, "savez")
    real = getattr(place, name)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail)
        with pytest.raises(KdartsError, match=r"epoch-000001-step-000002\.npz: cannot be written \(No space left"):
            _run(folder)
    assert _names(folder) == ["epoch-000000-step-000004.npz", "epoch-000001.npz"]
    found = _run(folder)
    assert found[0] == STEPS
    _same(found, whole)
