"""What the time of a run allows: how large networks and pictures may be, and how many epochs fit."""

import statistics
import time

import tensorflow as tf

from kdarts.auto.limits import cost_of
from kdarts.auto.recipe import compile_network
from kdarts.networks.handmade import build_resnet
from kdarts.search.step import Step
from kdarts.training.forecast import measure

SHARES = {"search": 0.15, "first": 0.2, "second": 0.2, "final": 0.45}
"""The parts of the time for the phases."""

RESERVE = 0.04
"""The part of the time that is kept for the export and the report."""

EPOCHS = 30
"""The epochs for which a network of the most MACs can be trained at the end."""

STEPS, SUPERNET = 100, 25
"""The steps that a search of a network of the most MACs has time for, and how many times as long as a step of that
network's training each of them takes."""

PACE_SIDE = 32
"""The side in pixels of the images that are timed."""

SIDES = (224, 160, 128, 96, 64, 48, 32)
"""The sides in pixels that pictures are scaled to."""

EPOCH, END = 0.1, 2.0
"""The seconds of an epoch besides its steps, and of the measurement at the end of a training, on two slow cores."""

TRAINING = 8
"""The time before the first step of a training in the first round, in multiples of what the small network needs."""

LEAST_EPOCHS = 3
"""The epochs that each training of the first round has time for, of a network of the most MACs."""

MOST_EPOCHS = 400
"""The most epochs of a training: with small data more of them change nothing."""


def measured_pace(channels: int, classes: int, batch_size: int) -> dict[str, float]:
    """Times the step of a small network.

    Returns:
        `mac_seconds`, the seconds of a multiply-accumulate in a step, with its gradients; and `overhead`, those that
        a training needs before its first step.
    """
    began = time.monotonic()
    network = build_resnet((PACE_SIDE, PACE_SIDE, channels), classes)
    macs = cost_of(network).macs
    compile_network(network, batch_size)
    images = tf.random.stateless_normal((batch_size, *network.input_shape[1:]), (0, 0))
    batches = tf.data.Dataset.from_tensors((images, tf.zeros(batch_size, tf.int32))).repeat()
    seconds = step_seconds(Step(network), batches)
    return {"mac_seconds": seconds / batch_size / macs, "overhead": time.monotonic() - began}


def most_macs(mac_seconds: float, seconds: float, examples: int, batch_size: int, finals: int) -> float:
    """Returns the most MACs of a network whose search and final training fit a time.

    Args:
        mac_seconds: See `measured_pace`.
        seconds: The time of the run.
        examples: The number of pictures to train on.
        batch_size: The pictures in a batch.
        finals: The number of final trainings.
    """
    final = SHARES["final"] * seconds / finals / (EPOCHS * examples)
    search = SHARES["search"] * seconds / (STEPS * batch_size)
    return min(final / mac_seconds, search / (SUPERNET * mac_seconds))


def fitting_epochs(seconds: float, steps: int, step: float) -> int:
    """Returns how many epochs of a training fit in so many seconds, at least 1, with steps of `step` seconds."""
    return max(1, min(MOST_EPOCHS, int((seconds - END) / (EPOCH + 1.05 * steps * step))))


def fitting_side(shape, classes: int, macs: float) -> int:
    """Returns the side for pictures of a shape: their own, or the largest of `SIDES` for which ResNet-8 fits the MACs.

    Pictures that are no squares keep their size.
    """
    height, width, channels = shape
    if height != width:
        return min(height, width)
    sides = [height, *(side for side in SIDES if side < height)]
    fits = (side for side in sides if cost_of(build_resnet((side, side, channels), classes)).macs <= macs)
    return next(fits, sides[-1])


def step_seconds(step: Step, batches) -> float:
    """Returns the seconds of a step, the middle one of three measurements (see `measure`)."""
    return statistics.median(measure(step, batches) for _ in range(3))


def fitting_batch(examples: int) -> int:
    """Returns the size of a batch for so many training examples: 64, of fewer than 2,000 less, at least 4."""
    return next((size for size in (64, 32, 16, 8) if examples >= 32 * size), 4)
