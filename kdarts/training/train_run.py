"""One training of a network from scratch, or from where it was left, to its summary."""

import keras

from kdarts.data import pipeline
from kdarts.data.pipeline import served
from kdarts.networks.models import save_model, training_loss
from kdarts.networks.trunk import DropPathSchedule
from kdarts.ops.layers import unbiased_statistics
from kdarts.search.loop import run_epochs
from kdarts.search.replicas import evaluate
from kdarts.training.session import RunSession, peak_memory_mb, skipped_steps
from kdarts.training.workdir import Workdir, read_summary, write_json

_MEASURED = ("step_ms", "data_wait_share", "peak_memory_mb")
"""Figures of the process that trained; one that finds all of it done has none of its own."""


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
    """Trains a compiled network in a workdir, going on from its latest state, and measures it on the test images.

    Args:
        network: the compiled model.
        workdir: claimed for this run.
        train, test: images to train and to measure on; the test images are looked at once, at the end.
        epochs, batch_size: length of the training, examples of a step.
        schedule: learning rate by epoch.
        mean, std: of each channel, for the scale 0 to 1.
        augmentation: of the training images.
        seed: of the order and the augmentation.
        about: opens the summary.
        began: `time.monotonic()` when the run began; None: now.
        measured_on: what `test` is, as the summary's names begin.
        checkpoint_every: as `every` of `Checkpoint`.
        data_service: address of a tf.data service that prepares the batches, or None (see `served`).

    Returns:
        The summary, as in `summary.json`; `test_loss` is the plain cross-entropy, whatever the network was trained on.
    """
    steps = pipeline.steps_per_epoch(train, batch_size)
    session = RunSession(workdir, checkpoint_every, began=began)

    def batches(first_step):
        made = pipeline.train_dataset(train, batch_size, seed, augmentation, mean, std, start_step=first_step)
        return served(made, data_service) if data_service else made

    run_epochs(
        network,
        batches,
        steps=steps,
        epochs=epochs,
        callbacks=[keras.callbacks.LearningRateScheduler(schedule), DropPathSchedule(epochs)],
        session=session,
    )
    known = {}
    if session.clock.median_ms is None and (before := read_summary(workdir)) is not None:
        known = {name: before[name] for name in _MEASURED if name in before}
    # What a short training measures and saves would else be mostly the values that the running statistics start from.
    for variable, value in unbiased_statistics(network, network.optimizer.iterations):
        variable.assign(value)
    save_model(network, workdir / "model.keras")
    # Without what only the training has: smoothed labels, and the metrics' state.
    with network.distribute_strategy.scope():
        network.compile(loss=training_loss(), metrics=["accuracy"])
    result = evaluate(network, pipeline.eval_dataset(test, batch_size, mean, std), verbose=0)
    summary = {
        **about,
        "epochs": len(session.history),
        f"{measured_on}_accuracy": float(result["accuracy"]),
        f"{measured_on}_loss": float(result["loss"]),
        f"{measured_on}_examples": len(test),
        "mean": [float(m) for m in mean],
        "std": [float(s) for s in std],
        "class_names": list(train.class_names),
        "input_shape": list(train.image_shape),
        "step_ms": session.clock.median_ms,
        "data_wait_share": session.clock.wait_share,
        **skipped_steps(session.history),
        "wall_seconds": session.checkpoint.records["seconds"],
        "peak_memory_mb": peak_memory_mb(),
        **known,
    }
    write_json(workdir / "summary.json", summary)
    return summary
