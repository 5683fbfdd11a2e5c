"""The loop of a run does what Keras' `fit` does, from any step on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdarts.search.loop import run_epochs
from kdarts.search.session import Session
from kdarts.training.session import StepTime

STEPS, EPOCHS = 4, 3


class Seen(keras.callbacks.Callback):
    """What the loop called, and the logs of each epoch."""

    def __init__(self):
        super().__init__()
        self.calls, self.logs = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"epoch {epoch}")

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(f"batch {batch}")

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(logs)


def _model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", metrics=["mae"])
    return model


def _data(first=0):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(STEPS * EPOCHS, 5, 3)), rng.normal(size=(STEPS * EPOCHS, 5, 2))
    return tf.data.Dataset.from_tensor_slices((x[first:], y[first:])).repeat()


class From(Session):
    """Begins at a step, and takes the times of those that follow."""

    verbose = 0

    def __init__(self, first_step):
        self.first_step, self.clock = first_step, StepTime()

    def begin(self, model, steps, epochs, record):
        return self.first_step

    def took(self, waited, computed):
        self.clock.add(waited, computed)


def _loop(model, first_step=0, callbacks=(), **options):
    seen, session = Seen(), From(first_step)
    choices = {"steps": STEPS, "epochs": EPOCHS, "session": session, **options}
    run_epochs(model, _data, callbacks=[seen, *callbacks], **choices)
    return seen, session.clock


def test_it_does_what_fit_does():
    ours, theirs, seen = _model(), _model(), Seen()
    valid = _data().take(2)
    found, clock = _loop(ours, validation_data=valid, validation_freq=2)
    fit = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "shuffle": False, "verbose": 0}
    theirs.fit(_data(), callbacks=[seen], validation_data=valid, validation_freq=2, **fit)
    assert found.calls == seen.calls
    assert found.logs == seen.logs
    assert [sorted(logs) for logs in found.logs][:2] == [["loss", "mae"], ["loss", "mae", "val_loss", "val_mae"]]
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(clock.steps) == len(clock.waits) == STEPS * EPOCHS - 1
    assert min(clock.steps) > 0


class Copy(keras.callbacks.Callback):
    """Gives another model the state of this one after some step."""

    def __init__(self, to, step):
        super().__init__()
        self.to, self.step = to, step

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.step:
            for source, target in zip(_state(self.model), _state(self.to), strict=True):
                target.assign(source)


def _state(model):
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


@pytest.mark.parametrize("step", [1, STEPS, 2 * STEPS + 3])
def test_it_goes_on_inside_an_epoch(step):
    whole, resumed = _model(), _model()
    resumed.train_on_batch(np.zeros((5, 3)), np.zeros((5, 2)))  # makes the metrics' variables
    seen, _ = _loop(whole, callbacks=[Copy(resumed, step)])
    found, _ = _loop(resumed, first_step=step)
    assert found.calls[:2] == [f"epoch {step // STEPS}", f"batch {step % STEPS}"]
    assert found.logs == seen.logs[step // STEPS :]
    for a, b in zip(_state(resumed), _state(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_callback_may_end_it():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    seen, _ = _loop(_model(), callbacks=[Stop()])
    assert len(seen.logs) == 1
