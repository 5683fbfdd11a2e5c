"""The training of a network in a folder, from scratch or from its last checkpoint to its summary."""

import math

import keras

from kdarts.data import pipeline
from kdarts.data.pipeline import served
from kdarts.networks.models import save_model, training_loss, write_about
from kdarts.networks.trunk import DropPathSchedule
from kdarts.ops.layers import unbiased_statistics
from kdarts.search.loop import run_epochs
from kdarts.search.replicas import evaluate, is_spread, spread
from kdarts.training.forecast import measure
from kdarts.training.session import RunSession, clock, peak_memory_mb, skipped_steps
from kdarts.training.workdir import Workdir, read_summary, write_json

_MEASURED = ("step_ms", "data_wait_share", "peak_memory_mb")
"""Figures of the process that trained. A process that finds the training finished keeps them."""


class TrainingSession(RunSession):
    """Keeps a training in a folder, and tells before it how long it will take."""

    def ready(self, model, step, batches, steps, first_step):
        self.say("building the training step …")
        left = self.epochs * steps - first_step
        seconds = measure(step, spread(batches, model.distribute_strategy) if is_spread(model) else batches)
        self.say(f"about {clock(left * seconds)} to train, {1000 * seconds:.0f} ms a step")
        super().ready(model, step, batches, steps, first_step)


def run_training(
    network: keras.Model,
    workdir: Workdir,
    train,
    test,
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
    measured_on: str = "test",
    checkpoint_every: int | None = None,
    data_service: str | None = None,
) -> dict:
    """Trains a compiled network in a workdir, from its last checkpoint, and measures it on the test images.

    Args:
        network: The compiled model.
        workdir: The locked folder.
        train, test: The images for training and for the measurement, which happens once, at the end.
        epochs, batch_size: The number of epochs and of examples in a step.
        schedule: The learning rate by epoch.
        mean, std: The statistics of each channel, on the scale 0 to 1.
        augmentation: The augmentation of the training images.
        seed: The seed of the order and of the augmentation.
        about: The first entries of the summary.
        began: `time.monotonic()` when the run began. Defaults to now.
        measured_on: The prefix of the figures on `test` in the summary.
        checkpoint_every: See `every` of `Checkpoint`.
        data_service: The address of a tf.data service that prepares the batches, or None (see `served`).

    Returns:
        The content of `summary.json`. `test_loss` is the plain cross-entropy, whatever the loss of the training was.
    """
    steps = pipeline.steps_per_epoch(train, batch_size)
    session = TrainingSession(workdir, checkpoint_every, began=began)

    def batches(first_step):
        made = pipeline.train_dataset(train, batch_size, seed, augmentation, mean, std, start_step=first_step)
        return served(made, data_service) if data_service else made

    callbacks = [keras.callbacks.LearningRateScheduler(schedule), DropPathSchedule(epochs)]
    run_epochs(network, batches, steps=steps, epochs=epochs, callbacks=callbacks, session=session)
    known = {}
    if session.clock.median_ms is None and (before := read_summary(workdir)) is not None:
        known = {name: before[name] for name in _MEASURED if name in before}
    # What a short training measures and saves would else be mostly the values that the running statistics start from.
    for variable, value in unbiased_statistics(network, network.optimizer.iterations):
        variable.assign(value)
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
        network.compile(loss=training_loss(), metrics=["accuracy"])
    result = evaluate(network, pipeline.eval_dataset(test, batch_size, mean, std), verbose=0)
    measured = {f"{measured_on}_accuracy": float(result["accuracy"]), f"{measured_on}_loss": float(result["loss"])}
    finite = {name: value for name, value in measured.items() if math.isfinite(value)}
    write_about(workdir / "model.keras", {**model_about, "metrics": {**finite, f"{measured_on}_examples": len(test)}})
    summary = {
        **model_about,
        "epochs": len(session.history),
        **measured,
        f"{measured_on}_examples": len(test),
        "step_ms": session.clock.median_ms,
        "data_wait_share": session.clock.wait_share,
        **skipped_steps(session.history),
        "wall_seconds": session.checkpoint.records["seconds"],
        "peak_memory_mb": peak_memory_mb(),
        **known,
    }
    write_json(workdir / "summary.json", summary)
    return summary
