"""Distillation: a network learns from the outputs of a trained one besides its labels (Hinton, Vinyals and Dean, 2015).

`keras.distillation.Distiller` has the same loss, in a model around both networks with a training step of its own.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from kdarts.genotypes.errors import KdartsError

TEMPERATURE, WEIGHT = 4.0, 0.9
"""The defaults, with which Zagoruyko and Komodakis (ICLR 2017) distil. The paper itself finds that the labels should
weigh considerably less than the teacher."""


class Teacher:
    """A trained network whose outputs another one, the student, is trained towards.

    In place of the loss `L` of the labels the student has `(1 - weight) L + weight T² KL(p || q)`, the mean over a
    batch, where `p` and `q` are the softmax of the teacher's and of the student's logits, divided by the temperature
    `T` (section 2 of the paper). An auxiliary classifier learns from the same `p`.

    Args:
        model: A model from images to `[n, classes]`. It is not changed.
        temperature: The temperature T, a float above 0. Defaults to 4.
        weight: The weight of the teacher, above 0 and at most 1. Defaults to 0.9.
        scale, shift: What makes of the student's images those of the teacher, `scale * x + shift`, for each channel
            (see `conversion`). Defaults to 1 and 0.
        order: The teacher's output for each class of the student, if the order of their classes differs.
        probabilities: Whether the model's outputs are probabilities. Defaults to `False`: they are logits.

    Raises:
        KdartsError: If `temperature` or `weight` is out of its range.
    """

    def __init__(
        self,
        model: keras.Model,
        temperature: float = TEMPERATURE,
        weight: float = WEIGHT,
        scale: Sequence[float] = (1.0,),
        shift: Sequence[float] = (0.0,),
        order: Sequence[int] | None = None,
        probabilities: bool = False,
    ):
        if not 0 < temperature < float("inf"):
            raise KdartsError(f"temperature {temperature} of a distillation; allowed: above 0")
        if not 0 < weight <= 1:
            raise KdartsError(f"weight {weight} of a distillation; allowed: above 0, to 1")
        self.model, self.temperature, self.weight = model, temperature, weight
        self.scale, self.shift = (np.asarray(each, "float32") for each in (scale, shift))
        self.order, self.probabilities = order, probabilities

    def targets(self, x):
        """Returns the logarithm of the teacher's `p`, float32 `[n, classes]`, for a batch of the student's images."""
        if (self.scale != 1).any() or (self.shift != 0).any():
            x = self.scale * x + self.shift
        outputs = ops.cast(self.model(x, training=False), "float32")
        if self.probabilities:
            outputs = ops.log(ops.maximum(outputs, 1e-30))
        if self.order is not None:
            outputs = ops.take(outputs, self.order, axis=-1)
        return ops.log_softmax(outputs / self.temperature)

    def loss(self, targets, logits):
        """Returns `T² KL(p || q)`, the mean over the batch, for `targets` and the student's logits."""
        found = ops.log_softmax(ops.cast(logits, "float32") / self.temperature)
        distance = ops.sum(ops.exp(targets) * (targets - found), axis=-1)
        return self.temperature**2 * ops.mean(distance)

    def blended(self, loss, targets, outputs, auxiliary_weight: float = 0.0):
        """Returns the loss of the student.

        Args:
            loss: That of the labels, the mean over the batch.
            targets: As of `targets`.
            outputs: The student's logits; with an auxiliary classifier those of both, of which the second ones weigh
                `auxiliary_weight`.
        """
        main, *auxiliary = outputs if isinstance(outputs, tuple | list) else [outputs]
        distance = self.loss(targets, main) + sum(auxiliary_weight * self.loss(targets, each) for each in auxiliary)
        return (1 - self.weight) * loss + self.weight * distance


def conversion(mean, std, teacher_mean, teacher_std) -> tuple[np.ndarray, np.ndarray]:
    """Returns `scale` and `shift` of a `Teacher` whose images are normalised by another mean and deviation.

    Args:
        mean, std: The numbers for each channel by which the student's images are normalised, on the scale 0 to 1.
        teacher_mean, teacher_std: The same of the teacher's.
    """
    mean, std, other, deviation = (np.asarray(each, "float64") for each in (mean, std, teacher_mean, teacher_std))
    return std / deviation, (mean - other) / deviation
