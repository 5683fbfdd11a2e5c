"""The training loop, of `fit` and of the commands: as Keras', but it may begin inside an epoch and watches each step."""

import time
from collections.abc import Callable

import keras
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.replicas import draw_apart, evaluate, is_spread, spread
from kdarts.search.session import Session
from kdarts.search.step import NotFinite, Step


def run_epochs(
    model: keras.Model,
    batches: Callable[[int], object],
    *,
    steps: int,
    epochs: int,
    callbacks=(),
    session: Session | None = None,
    record=None,
    step: Step | None = None,
    validation_data=None,
    validation_freq: int = 1,
    whole=lambda batch: (),
) -> keras.callbacks.History:
    """Trains a compiled model, calling callbacks as `fit` does.

    Args:
        model: built and compiled.
        batches: from the step to begin with, counted from the start of the run, to a dataset without end.
        steps: of an epoch.
        epochs: of the whole run.
        callbacks: as of `fit`.
        session: keeps the state of the run; None: nothing is kept.
        record: of the model, as of `Session.begin`.
        step: of the model; None: made here.
        validation_data: dataset `(x, y)` to measure on at the end of an epoch, or None.
        validation_freq: epochs between two measurements.
        whole: as of `spread`, where the model was made in a strategy's scope.

    Returns:
        The history of the epochs.
    """
    session, step = session or Session(), step or Step(model)
    first_step = session.begin(model, steps, epochs, record)
    hooks = keras.callbacks.CallbackList(
        [*callbacks, *session.callbacks(model)],
        add_history=True,
        add_progbar=session.progress_bar and session.verbose != 0,
        model=model,
        verbose=1 if session.verbose == "auto" else session.verbose,
        epochs=epochs,
        steps=steps,
    )
    hooks.on_train_begin()
    ended = record is not None and record.stopped
    if first_step < epochs * steps and not ended:
        dataset = batches(first_step)
        session.ready(model, step, dataset, steps, first_step)
        if is_spread(model):
            draw_apart(model)
            dataset = spread(dataset, model.distribute_strategy, whole)
        _epochs(model, dataset, step, hooks, session, steps, epochs, first_step, validation_data, validation_freq)
    hooks.on_train_end()
    session.finish(model)
    return model.history


def _epochs(model, dataset, step, hooks, session, steps, epochs, first_step, validation_data, validation_freq) -> None:
    iterator, model.stop_training = iter(dataset), False
    first_epoch, start = divmod(first_step, steps)
    for epoch in range(first_epoch, epochs):
        if start == 0:
            model.reset_metrics()
        hooks.on_epoch_begin(epoch)
        for number in range(start, steps):
            hooks.on_train_batch_begin(number)
            began = time.perf_counter()
            batch = _next(iterator)
            fetched = time.perf_counter()
            try:
                logs = step(batch)
            except NotFinite as found:
                session.diverged(epoch, number, str(found))
            session.took(fetched - began, time.perf_counter() - fetched)
            if step.scaled:
                session.skipped(step.skipped)
            hooks.on_train_batch_end(number, logs)
        start = 0
        results = model.get_metrics_result()
        logs = {name: results.get(name, value) for name, value in logs.items()}
        if validation_data is not None and (epoch + 1) % validation_freq == 0:
            measured = evaluate(model, validation_data, callbacks=hooks)
            logs |= {f"val_{name}": value for name, value in measured.items()}
        logs |= session.epoch_logs()
        hooks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break


def _next(iterator):
    try:
        return next(iterator)
    except StopIteration:
        raise KdartsError(
            "the data ended before the epoch did: give fit as many steps_per_epoch as there are"
        ) from None
    except tf.errors.OpError as error:
        raise KdartsError(f"the next batch cannot be had: {str(error.message).splitlines()[0]}") from None
