"""The training loop of `Search.fit`, which the commands call too: its data, its callbacks, its epochs.

It works as Keras' loop does, but it can begin inside an epoch, and it checks each step for values that are not finite.
"""

import contextlib
import re
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.distance import distance
from kdarts.genotypes.errors import KdartsError, handed_on
from kdarts.networks.examples import Expected
from kdarts.search.objective import Curvature
from kdarts.search.path_start import places_changed
from kdarts.search.random_search import take_best, take_best_untrained
from kdarts.search.replicas import draw_apart, evaluate, is_spread, spread
from kdarts.search.schedules import SkipDropout
from kdarts.search.session import Record, Session
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
    calibration: Callable = contextlib.nullcontext,
    whole=lambda batch: (),
) -> keras.callbacks.History:
    """Trains a compiled model, calling callbacks as `fit` does; returns the history of the epochs.

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
        calibration: makes the context of a measurement, as of `calibrated`.
        whole: as of `spread`, where the model was made in a strategy's scope.
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
        length, validation = (steps, epochs, first_step), (validation_data, validation_freq, calibration)
        _epochs(model, dataset, step, hooks, session, *length, *validation)
    hooks.on_train_end()
    session.finish(model)
    return model.history


def _epochs(
    model, dataset, step, hooks, session, steps, epochs, first_step, validation_data, freq, calibration
) -> None:
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
                session.diverged(epoch, number, found)
            session.took(fetched - began, time.perf_counter() - fetched)
            if step.scaled:
                session.skipped(step.skipped)
            hooks.on_train_batch_end(number, logs)
        start = 0
        results = model.get_metrics_result()
        logs = {name: results.get(name, value) for name, value in logs.items()}
        if validation_data is not None and (epoch + 1) % freq == 0:
            with calibration():
                measured = evaluate(model, validation_data, callbacks=hooks)
            logs |= {f"val_{name}": value for name, value in measured.items()}
        logs |= session.epoch_logs()
        hooks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break


_CHECKED = re.compile(r"assertion failed: \[(.+?)\]")
"""What a check of `Expected` says of a batch."""


def _next(iterator):
    try:
        return next(iterator)
    except StopIteration:
        raise KdartsError(
            "the data ended before the epoch did: give fit as many steps_per_epoch as there are"
        ) from None
    except tf.errors.OpError as error:
        checked, first = _CHECKED.search(str(error.message)), str(error.message).splitlines()[0]
        line = checked[1] if checked else handed_on(error)
        raise KdartsError(line or f"the next batch cannot be had: {first}") from None


class SearchEpochs(keras.callbacks.Callback):
    """Runs the schedules of a search, and measures, notes and maybe ends it after each epoch.

    At the beginning of an epoch: the learning rates, whether α moves, the progress of the search, the rate of the
    dropout on skip connections. At its end, in this order: the terms of the loss, the masks, the random search (by
    `seed`), the curvature, the record, the stop rule.

    `data` is a `SearchData`, whose held-back batches are measured on.
    """

    def __init__(self, data, record: Record, seed: int):
        super().__init__()
        self.data, self.record, self.seed = data, record, seed
        self._told, self._curvature = False, None

    def on_epoch_begin(self, epoch, logs=None):
        search, method = self.model, self.model.method
        length, update = (method.epochs, method.pretrain_epochs), method.axes["update"]
        if search.schedules_weights:
            search.optimizer.learning_rate = method.axes["weights"].rate(*length)(epoch)
        if search.schedules_alpha:
            search.arch_optimizer.learning_rate = update.rate(*length)(epoch)
        rests = method.axes["masks"].rests(epoch - method.pretrain_epochs, method)
        search.searching = epoch >= update.resting_epochs and method.update != "frozen" and not rests
        search.supernet.mixture.progress.assign(max(0, epoch - method.pretrain_epochs) / method.epochs)
        if search.supernet.skip_dropout:
            search.supernet.skip_dropout_rate.assign(self._skip_dropout(epoch))
        if search.supernet.search_drop_path:
            search.supernet.search_drop_path_rate.assign(self._drop_path(epoch))
        self._told = False

    def _skip_dropout(self, epoch: int) -> float:
        method = self.model.method
        rate = SkipDropout(method.skip_dropout, method.epochs, method.warmup_epochs, method.pretrain_epochs)
        return rate(epoch)

    def _drop_path(self, epoch: int) -> float:
        method = self.model.method
        return method.search_drop_path * max(0, epoch - method.pretrain_epochs) / max(1, method.epochs - 1)

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.steps_left is not None and not self._told:
            self.model.steps_left.assign(self.params["steps"] - batch)
            self._told = True

    def on_epoch_end(self, epoch, logs=None):
        search, method, logs = self.model, self.model.method, {} if logs is None else logs
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(search.optimizer.learning_rate))
        if search.supernet.skip_dropout:
            logs["skip_dropout"] = self._skip_dropout(epoch)
        if search.supernet.search_drop_path:
            logs["search_drop_path"] = self._drop_path(epoch)
        for term in search.attached.values():
            logs |= term.epoch_logs(search) if hasattr(term, "epoch_logs") else {}
        if (masks := method.axes["masks"]).active:
            masks.end_epoch(search, epoch - method.pretrain_epochs, self.data)
            logs["candidates"] = float(np.sum([mask.numpy().sum() for mask in search.supernet.mixture.masks]))
        if search.freezing is not None:
            logs |= search.freezing.epoch_logs()
        if method.samples and epoch + 1 == self.params["epochs"]:
            batches, how = self.data.held_back(), (method.samples, self.seed)
            if method.trains:
                logs["val_accuracy"] = take_best(search, batches, *how)
            else:
                logs["score"] = take_best_untrained(search, next(iter(batches))[0], *how, method.score)
        every = method.stopping.watched_every
        if every and (epoch + 1) % every == 0 and search.searching:
            self._curvature = self._curvature or Curvature(search.objective)
            logs["eigenvalue"] = self._curvature.eigenvalue(next(iter(self.data.held_back())))
        logs |= search.genotype(derived=False).measures()
        if search.start is not None and search.supernet.grid:
            logs["places_changed"] = places_changed(search.start, search.genotype(derived=False))
        elif search.start is not None:
            logs["distance"] = distance(search.above_threshold(), search.start)
        self.record.add(search, epoch, logs)
        if method.stopping.should_stop(self.record.so_far(search)):
            self.record.stop(search, method.stopping)
            search.stop_training = True


class SearchData:
    """The data of a search from a dataset of pairs.

    `kdarts.search_dataset` has a kind of its own, which begins at any step and knows the images. This one goes through
    the dataset once an epoch, as Keras does.

    Args:
        dataset: of `((x, y), (x_valid, y_valid))`: batches for the weights and for α.
        steps: of an epoch; None: one pass, if the dataset knows its length.

    Attributes:
        steps: of an epoch.
        num_classes: of the labels, where it is known.
    """

    num_classes: int | None = None

    def __init__(self, dataset, steps: int | None = None):
        self.dataset = dataset
        if steps is None:
            steps = int(dataset.cardinality())
            if steps < 0:
                what = "has no end" if steps == tf.data.INFINITE_CARDINALITY else "does not know its length"
                raise KdartsError(f"the dataset {what}: give fit steps_per_epoch")
        self.steps = steps
        if not steps:
            raise KdartsError("the dataset is empty")

    def pairs(self, first_step: int = 0, seed: int = 0):
        """The batches from `first_step` on, which counts from the start of the run, without end.

        `seed` is counted from that of the data; a stage of a search has its own.
        """
        endless = self.dataset.repeat()
        return endless.skip(first_step % self.steps) if first_step else endless

    def at(self, one_level: bool) -> "SearchData":
        """The data of a search with one level, or with two; a plain dataset has the batches that it has."""
        return self

    def held_back(self):
        """Batches `(x, y)` to measure on: those of α, once, in order."""
        return self.dataset.take(self.steps).map(lambda train, valid: valid)

    def path_steps(self, batch_size: int) -> int:
        """Steps of one pass over the images of the weights, in batches of a size, or of the size that there is."""
        return self.steps

    def path_batches(self, batch_size: int, cutout: int | None, first_step: int = 0):
        """Batches `(x, y)` for the weights of shared paths, without end, from `first_step` of their training on.

        They have `batch_size` examples where the data can be batched anew. `cutout` is the side of the square cut out
        of each image, in pixels; None: as in the search.
        """
        batches = self.dataset.map(lambda train, valid: train).repeat()
        return batches.skip(first_step % self.steps) if first_step else batches

    def path_held_back(self, batch_size: int):
        """Batches `(x, y)` to compare paths on."""
        return self.held_back()


def search_data(
    given, labels, expected: Expected, batch_size: int, seed: int, steps: int | None = None, one_level: bool = False
) -> SearchData:
    """The data that `fit` was given, as `SearchData`.

    Args:
        given: a `SearchData`, a dataset of pairs, one of `kdarts.search_dataset`, which carries its own, or with
            `labels` an array of images, or a tuple of both arrays; of these, half are for the weights, or with one
            level all are for both.
        labels: integers, or None.
        expected: what the supernet takes.
        batch_size, seed: of arrays.
        steps: of an epoch, for a plain dataset.
        one_level: as of `SearchData.at`.

    Raises:
        KdartsError: for anything else, and for examples that are not as expected.
    """
    own = getattr(given, "search_data", given)
    if isinstance(own, SearchData):
        if expected.num_classes and own.num_classes and own.num_classes > expected.num_classes:
            raise KdartsError(f"num_classes {expected.num_classes}: the data have {own.num_classes} classes")
        if own is not given:
            expected.spec(given, *_PAIRS)
        return own.at(one_level)
    if isinstance(given, tuple) and len(given) == 2 and labels is None:
        given, labels = given
    if isinstance(given, tf.data.Dataset):
        spec = given.element_spec
        if not isinstance(spec, tuple) or len(spec) != 2 or not all(isinstance(p, tuple) and len(p) == 2 for p in spec):
            raise KdartsError(
                "a search needs a tf.data.Dataset of ((x, y), (x_valid, y_valid)), a batch for the weights and one for "
                "α: tf.data.Dataset.zip(train, valid) makes one of two datasets of (x, y), kdarts.search_dataset one "
                "of a data set; arrays are divided: fit(x, y)"
            )
        if labels is not None:
            raise KdartsError("y: a dataset has its own labels; epochs are named: fit(data, epochs=5)")
        return SearchData(expected.dataset(given, *_PAIRS), steps)
    if labels is None:
        raise KdartsError(f"fit({type(given).__name__}): needs images and labels, fit(x, y), or a tf.data.Dataset")
    return SearchData(_pairs(*expected.arrays(given, labels), batch_size, seed, one_level), steps)


_PAIRS = ("x", "y"), ("x_valid", "y_valid")


def _pairs(x, y, batch_size: int, seed: int, one_level: bool) -> tf.data.Dataset:
    """Pairs of batches from the two halves of arrays, or both from all of them, each shuffled anew in every epoch."""
    half = len(x) if one_level else len(x) // 2
    if batch_size > half:
        of = "the" if one_level else "half of the"
        raise KdartsError(f"batch_size {batch_size}: allowed is 1 to {half}, {of} {len(x)} examples")
    order = np.random.default_rng(seed).permutation(len(x))
    with tf.device("CPU:0"):
        x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)

    def part(indices, number):
        drawn = tf.data.Dataset.from_tensor_slices(np.sort(indices)).shuffle(half, 2 * seed + number)
        return drawn.batch(batch_size, drop_remainder=True).map(lambda i: (tf.gather(x, i), tf.gather(y, i)))

    return tf.data.Dataset.zip(
        part(order[:half], 0), part(order[-half:] if one_level else order[half : 2 * half], 1)
    ).prefetch(2)
