"""The training loop of a run: as Keras' `fit`, but it may begin inside an epoch, and it knows what it waits for."""

import time

import keras

from kdarts.run.logs import verbosity
from kdarts.run.timing import StepTime


def run_epochs(
    model: keras.Model,
    batches,
    *,
    steps: int,
    epochs: int,
    callbacks: list,
    clock: StepTime,
    first_step: int = 0,
    validation_data=None,
    validation_freq: int = 1,
) -> None:
    """Trains a compiled model, calling callbacks as `fit` does.

    Args:
        model: built and compiled.
        batches: dataset without end, whose first batch is that of `first_step`.
        steps: of an epoch.
        epochs: of the whole run.
        callbacks: as of `fit`.
        clock: takes down what each step waited for and how long it took.
        first_step: counted from the start of the run. Inside an epoch the metrics go on from the state they have.
        validation_data: dataset `(x, y)` to measure on at the end of an epoch, or None.
        validation_freq: epochs between two measurements.
    """
    hooks = keras.callbacks.CallbackList(
        callbacks, add_history=True, model=model, verbose=verbosity(), epochs=epochs, steps=steps
    )
    iterator = iter(batches)
    model.stop_training = False
    model.make_train_function()
    hooks.on_train_begin()
    first_epoch, start = divmod(first_step, steps)
    logs: dict = {}
    for epoch in range(first_epoch, epochs):
        if start == 0:
            model.reset_metrics()
        hooks.on_epoch_begin(epoch)
        for step in range(start, steps):
            hooks.on_train_batch_begin(step)
            began = time.perf_counter()
            batch = next(iterator)
            fetched = time.perf_counter()
            logs = model.train_function([batch])
            clock.add(fetched - began, time.perf_counter() - fetched)
            hooks.on_train_batch_end(step, logs)
        start = 0
        results = model.get_metrics_result()
        logs = {name: results.get(name, value) for name, value in logs.items()}
        if validation_data is not None and (epoch + 1) % validation_freq == 0:
            measured = model.evaluate(validation_data, callbacks=hooks, return_dict=True)
            logs |= {f"val_{name}": value for name, value in measured.items()}
        hooks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    hooks.on_train_end(logs)
