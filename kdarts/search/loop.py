"""The training loop of a run: as Keras' `fit`, but it may begin inside an epoch, and it knows what it waits for."""

import contextlib
import time

import keras
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.replicas import draw_apart, evaluate, is_spread, spread
from kdarts.search.step import Step
from kdarts.training.progress import StepTime, Watch, verbosity


def run_epochs(
    model: keras.Model,
    batches,
    *,
    steps: int,
    epochs: int,
    callbacks: list,
    clock: StepTime,
    first_step: int = 0,
    step: Step | None = None,
    validation_data=None,
    validation_freq: int = 1,
    whole=lambda batch: (),
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
        step: of the model; None: made here.
        validation_data: dataset `(x, y)` to measure on at the end of an epoch, or None.
        validation_freq: epochs between two measurements.
        whole: as of `spread`, where the model was made in a strategy's scope.
    """
    hooks = keras.callbacks.CallbackList(
        callbacks, add_history=True, model=model, verbose=verbosity(), epochs=epochs, steps=steps
    )
    if is_spread(model):
        draw_apart(model)
        batches = spread(batches, model.distribute_strategy, whole)
    iterator = iter(batches)
    model.stop_training = False
    taken = step or Step(model)
    watch = next((callback for callback in callbacks if isinstance(callback, Watch)), None)
    hooks.on_train_begin()
    first_epoch, start = divmod(first_step, steps)
    logs: dict = {}
    for epoch in range(first_epoch, epochs):
        if start == 0:
            model.reset_metrics()
        hooks.on_epoch_begin(epoch)
        for number in range(start, steps):
            hooks.on_train_batch_begin(number)
            began = time.perf_counter()
            batch = _next(iterator)
            fetched = time.perf_counter()
            with watch.over(epoch, number) if watch else contextlib.nullcontext():
                logs = taken(batch)
            clock.add(fetched - began, time.perf_counter() - fetched)
            hooks.on_train_batch_end(number, logs)
        start = 0
        results = model.get_metrics_result()
        logs = {name: results.get(name, value) for name, value in logs.items()}
        if validation_data is not None and (epoch + 1) % validation_freq == 0:
            measured = evaluate(model, validation_data, callbacks=hooks)
            logs |= {f"val_{name}": value for name, value in measured.items()}
        hooks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    hooks.on_train_end(logs)


def _next(iterator):
    try:
        return next(iterator)
    except tf.errors.OpError as error:
        raise KdartsError(f"the next batch cannot be had: {str(error.message).splitlines()[0]}") from None
