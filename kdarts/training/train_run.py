"""The training of a network in a folder, from scratch or from its last checkpoint to its summary."""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kdarts.data import pipeline
from kdarts.data.mixing import Mixing
from kdarts.data.pipeline import served
from kdarts.networks.distillation import Teacher
from kdarts.networks.models import save_model, training_loss, write_about
from kdarts.networks.trunk import DropPathSchedule
from kdarts.ops.layers import unbiased_statistics
from kdarts.search.loop import run_epochs
from kdarts.search.replicas import evaluate, is_spread, spread
from kdarts.search.step import Step
from kdarts.training.averages import CALIBRATION, WeightAverage, restored
from kdarts.training.entries import FIGURE
from kdarts.training.forecast import measure
from kdarts.training.session import RunSession, clock, peak_memory_mb, skipped_steps
from kdarts.training.workdir import Workdir, read_summary, write_json

_VALIDATED = "val_accuracy"
"""The column of `history.csv` that epochs are compared by."""

TOP = 5
"""The k of the top-k accuracy, which is measured where there are more classes."""

_MEASURED = ("step_ms", "data_wait_share", "peak_memory_mb")
"""Figures of the process that trained. A process that finds the training finished keeps them."""


class TrainingSession(RunSession):
    """Keeps a training in a folder, and tells before it how long it will take.

    Args:
        keep: "last", or "best" to hold in the checkpoints the weights of the best measured epoch, too.
        average: The `WeightAverage` that is measured and saved in place of the weights, or None.
        **more: See `RunSession`.
    """

    def __init__(self, workdir: Workdir, keep: str = "last", average: WeightAverage | None = None, **more):
        super().__init__(workdir, **more)
        self._keep, self._kept, self._average = keep, [], average

    def more_variables(self, model):
        averages = {"average": self._average.variables} if self._average else {}
        if self._keep == "last":
            return averages
        with tf.device("CPU"):
            self._kept = [
                keras.Variable(ops.convert_to_numpy(w), dtype=w.dtype, trainable=False) for w in model.weights
            ]
        return averages | {"kept": self._kept}

    def callbacks(self, model):
        noting = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self._note(model, logs))
        return [*([noting] if self._kept else []), *super().callbacks(model)]

    def _note(self, model, logs):
        """Keeps the weights if no epoch before had so high a held-back accuracy. The checkpoint comes after this."""
        before = max((row.get(_VALIDATED, -1.0) for row in self.history), default=-1.0)
        if logs.get(_VALIDATED, -1.0) > before:
            measured = {id(variable): value for variable, value in measured_values(model, self._average)}
            for kept, weight in zip(self._kept, model.weights, strict=True):
                kept.assign(measured.get(id(weight), weight))

    def take(self, model) -> int:
        """Gives the model the weights to test and to save, and returns after how many epochs they were those."""
        if not self._kept:
            if self._average:
                self._average.calibrate()
            for variable, value in measured_values(model, self._average):
                variable.assign(value)
            return len(self.history)
        for kept, weight in zip(self._kept, model.weights, strict=True):
            weight.assign(kept)
        return 1 + max(range(len(self.history)), key=lambda epoch: self.history[epoch].get(_VALIDATED, -1.0))

    def ready(self, model, step, batches, steps, first_step):
        self.say("building the training step …")
        left = self.epochs * steps - first_step
        seconds = measure(step, spread(batches, model.distribute_strategy) if is_spread(model) else batches)
        self.say(f"about {clock(left * seconds)} to train, {1000 * seconds:.0f} ms a step")
        super().ready(model, step, batches, steps, first_step)


def measured_values(network: keras.Model, average: WeightAverage | None = None) -> list[tuple]:
    """Returns `(variable, value)` for what a network has another value of when it is measured or saved.

    These are its averages; without an average its running statistics, of which a short training would else measure
    mostly the values that they start from (see `unbiased_statistics`).
    """
    return average.values() if average else unbiased_statistics(network, network.optimizer.iterations)


@contextlib.contextmanager
def measuring(network: keras.Model, average: WeightAverage | None = None):
    """A context in which a network has its `measured_values`. To measure changes no training."""
    if average:
        average.calibrate()
    found = measured_values(network, average)
    with restored(network.distribute_strategy, [variable for variable, _ in found]):
        for variable, value in found:
            variable.assign(value)
        yield


def weight_average(network, ema: float, train, batch_size: int, *, seed: int, augmentation, mean, std):
    """Returns the `WeightAverage` of a training with the arguments of `run_training`."""
    drawn = train.take(np.random.default_rng(seed).permutation(len(train))[: CALIBRATION * batch_size])
    images = pipeline.train_dataset(drawn, batch_size, seed, augmentation, mean, std, start_step=0)
    return WeightAverage(network, ema, images.take(CALIBRATION))


def run_training(
    network: keras.Model,
    workdir: Workdir,
    train,
    test=None,
    valid=None,
    *,
    epochs: int,
    batch_size: int,
    schedule,
    mean,
    std,
    augmentation,
    seed: int,
    about: dict,
    began: float | None = None,
    validate_every: int = 0,
    keep: str = "last",
    checkpoint_every: int | None = None,
    data_service: str | None = None,
    mixing: Mixing | None = None,
    teacher: Teacher | None = None,
    ema: float = 0.0,
    step: Step | None = None,
    verbose: bool = True,
) -> dict:
    """Trains a compiled network in a workdir, from its last checkpoint, and measures it.

    Args:
        network: The compiled model.
        workdir: The locked folder.
        train: The images for training.
        test: The images that are measured once, at the end, or None.
        valid: The images that are held back from training and measured at the end, too, or None.
        epochs, batch_size: The number of epochs and of examples in a step.
        schedule: The learning rate by epoch.
        mean, std: The statistics of each channel, on the scale 0 to 1.
        augmentation: The augmentation of the training images.
        seed: The seed of the order and of the augmentation.
        about: The first entries of the summary.
        began: `time.monotonic()` when the run began. Defaults to now.
        validate_every: The number of epochs between measurements on `valid`, which `history.csv` has as `val_accuracy`
            and `val_loss` (with the training's loss); 0 measures at the end alone.
        keep: The weights that are tested and saved: "last", or "best", those of the measured epoch of the highest
            `val_accuracy`, the first of equal ones.
        checkpoint_every: See `every` of `Checkpoint`.
        data_service: The address of a tf.data service that prepares the batches, or None (see `served`).
        mixing: The `Mixing` of the training images, or None. The network's loss must then take shares of classes.
        teacher: The `Teacher` that the network learns from besides the labels, or None. It is not saved.
        ema: The momentum of the `WeightAverage` that is measured, tested and saved; 0 for the weights themselves.
        step: The network's step, if it is traced already, or None. Its own teacher and average are then in place of
            `teacher` and `ema`.
        verbose: Whether to print progress.

    Returns:
        The content of `summary.json`. It has figures on `test` and on `valid`, as `test_` and `held_back_` with
        `accuracy`, `top_5_accuracy` of more than 5 classes, `examples` and `loss`, which is the plain cross-entropy,
        whatever the loss of the training was, and None beyond 1e30. With a validation it also has
        `tested_after_epochs`, the number of epochs after which the weights were those that are tested and saved.
    """
    steps = pipeline.steps_per_epoch(train, batch_size)
    how = {"seed": seed, "augmentation": augmentation, "mean": mean, "std": std}
    step = step or Step(network, teacher, weight_average(network, ema, train, batch_size, **how) if ema else None)
    average = step.average
    how = {"checkpoint_every": checkpoint_every, "began": began, "verbose": verbose}
    session = TrainingSession(workdir, keep, average, **how)

    def batches(first_step):
        made = pipeline.train_dataset(train, batch_size, seed, augmentation, mean, std, first_step, mixing)
        return served(made, data_service) if data_service else made

    callbacks = [keras.callbacks.LearningRateScheduler(schedule), DropPathSchedule(epochs)]
    measured = {}
    if validate_every:
        measured = {"validation_data": pipeline.eval_dataset(valid, batch_size, mean, std)}
        measured |= {"validation_freq": validate_every, "calibration": lambda: measuring(network, average)}
    length = {"steps": steps, "epochs": epochs, "step": step}
    run_epochs(network, batches, callbacks=callbacks, session=session, **length, **measured)
    known = {}
    if session.clock.median_ms is None and (before := read_summary(workdir)) is not None:
        known = {name: before[name] for name in _MEASURED if name in before}
    tested_after = session.take(network)
    model_about = {
        **about,
        "class_names": list(train.class_names),
        "input_shape": list(train.image_shape),
        "mean": [float(m) for m in mean],
        "std": [float(s) for s in std],
        "peak": train.peak,
    }
    save_model(network, workdir / "model.keras", model_about)
    # The measurement has no smoothed labels, and starts with new metrics.
    with network.distribute_strategy.scope():
        top = keras.metrics.SparseTopKCategoricalAccuracy(TOP, name=f"top_{TOP}_accuracy")
        network.compile(loss=training_loss(), metrics=["accuracy", *([top] if train.num_classes > TOP else [])])
    figures = {}
    for name, images in {"held_back": valid, "test": test}.items():
        if images is not None:
            result = evaluate(network, pipeline.eval_dataset(images, batch_size, mean, std), verbose=0)
            figures |= {f"{name}_{figure}": float(value) for figure, value in sorted(result.items())}
            figures[f"{name}_examples"] = len(images)
    figures = {name: value if FIGURE.fits(value) else None for name, value in figures.items()}
    there = {name: value for name, value in figures.items() if value is not None}
    write_about(workdir / "model.keras", {**model_about, "metrics": there})
    summary = {
        **model_about,
        "epochs": len(session.history),
        **({"tested_after_epochs": tested_after} if validate_every else {}),
        **figures,
        "step_ms": session.clock.median_ms,
        "data_wait_share": session.clock.wait_share,
        **skipped_steps(session.history),
        "wall_seconds": session.checkpoint.records["seconds"],
        "peak_memory_mb": peak_memory_mb(),
        **known,
    }
    write_json(workdir / "summary.json", summary)
    return summary
