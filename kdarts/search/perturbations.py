"""What is added to the mixing weights in the pass that trains the weights (Chen and Hsieh, ICML 2020).

The weights w then descend the training loss in a neighbourhood of the mixing weights p, so that it stays low on the way
from p to the architecture that is derived. α's own pass is at p. The shares of partial channels stay as they are.

Keras and TensorFlow are imported where they are used: commands that only read settings do not wait for them.
"""

from dataclasses import dataclass
from typing import ClassVar

from kdarts.genotypes.settings import Axis, Registry, setting

PERTURBATIONS = Registry("perturbation")


@dataclass(frozen=True)
class Perturbation(Axis):
    """What is added to the mixing weights before the pass that trains the weights. A kind of it defines `shifts`."""

    @property
    def passes(self) -> int:
        """Gradients of the training loss that it takes, for estimates of cost."""
        return 0

    def shifts(self, weights, present, loss_at, progress, seed) -> list:
        """What is added.

        Args:
            weights: the mixing weights of the pass, for each α `[edges, operations]`.
            present: for each α which operations an edge still has, a boolean array of its shape; None: all.
            loss_at: a function of such a list: from what is added to the training loss there, a scalar, and its
                gradients by the mixing weights, both means over the replicas.
            progress: scalar, 0 to 1, how much of the search is done.
            seed: integers `[2]`, which differ from step to step.

        Returns:
            For each α a tensor of its shape.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class NoPerturbation(Perturbation):
    """Nothing is added."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True)
class Random(Perturbation):
    """Uniform noise within ±ε, drawn in each step (SmoothDARTS-RS); ε grows along the search.

    A weight that leaves 0 to 1 is cut off, and an edge keeps the sum of its weights.
    """

    name: ClassVar[str] = "random"
    perturb_from: float = setting(0.03, "ε of the perturbation at the start", least=0, most=1, source="SmoothDARTS")
    perturb_to: float = setting(0.3, "ε of the perturbation at the end; it changes linearly by epochs", least=0, most=1)

    def radius(self, progress, dtype):
        """ε."""
        import tensorflow as tf

        return tf.cast(self.perturb_from + (self.perturb_to - self.perturb_from) * progress, dtype)

    def shifts(self, weights, present, loss_at, progress, seed) -> list:
        import tensorflow as tf

        found = []
        for index, (w, there) in enumerate(zip(weights, present, strict=True)):
            epsilon = self.radius(progress, w.dtype)
            noise = tf.random.stateless_uniform(w.shape, tf.random.fold_in(seed, index), -1, 1, w.dtype)
            found.append(projected(w, w + epsilon * noise, there) - w)
        return found


@dataclass(frozen=True)
class Adversarial(Random):
    """What raises the training loss most within ±ε, by projected gradient ascent (SmoothDARTS-ADV).

    From a random start, each step adds 2ε / steps along the sign of ∂L_train/∂p on the batch of the weights. What would
    come out lower than the loss at p is undone. The normalisations take the moments of the batch, as in the pass
    itself, and none of these passes changes their running statistics.
    """

    name: ClassVar[str] = "adversarial"
    perturb_steps: int = setting(7, "steps of the ascent", least=1, most=1000, source="SmoothDARTS")

    @property
    def passes(self) -> int:
        return self.perturb_steps + 1  # The two losses without a gradient are less than one with it.

    def shifts(self, weights, present, loss_at, progress, seed) -> list:
        import tensorflow as tf

        found = super().shifts(weights, present, loss_at, progress, seed)
        for _ in range(self.perturb_steps):
            _, slopes = loss_at(found)
            ascended = []
            for w, shift, slope, there in zip(weights, found, slopes, present, strict=True):
                epsilon = self.radius(progress, w.dtype)
                step = 2 * epsilon / self.perturb_steps * tf.sign(tf.cast(slope, w.dtype))
                moved = tf.clip_by_value(w + shift + step, w - epsilon, w + epsilon)
                ascended.append(projected(w, moved, there) - w)
            found = ascended
        higher = loss_at(found)[0] >= loss_at([tf.zeros_like(w) for w in weights])[0]
        return [tf.where(higher, shift, tf.zeros_like(shift)) for shift in found]


def projected(weights, moved, present=None):
    """Moved mixing weights as an edge may have them: from 0 to 1, and of the same sum as before.

    Where all of them are below 0 the greatest takes everything. It is no projection in the strict sense: what is cut
    off is made up for by a factor, as in the authors' program.

    Args:
        weights, moved: before and after, `[edges, operations]`.
        present: which operations an edge still has, boolean; None: all. The others stay at 0.
    """
    import tensorflow as tf

    if present is not None:
        moved = tf.where(present, moved, moved.dtype.min)
    cut = tf.clip_by_value(moved, 0, 1)
    none_left = tf.reduce_all(cut <= 0, -1, keepdims=True)
    best = tf.one_hot(tf.argmax(moved, -1), moved.shape[-1], dtype=moved.dtype)
    cut = tf.where(none_left, best, cut)
    return cut * (tf.reduce_sum(weights, -1, keepdims=True) / tf.reduce_sum(cut, -1, keepdims=True))


def perturbed(kind: Perturbation, objective, values, batch, scale=None) -> list:
    """What a perturbation adds to the mixing weights of each cell in the pass of a step on the training batch.

    Args:
        kind: the perturbation.
        objective: an `Objective`.
        values: weights, α and statistics, as of `Objective.values`.
        batch: `(x, y)`.
        scale: as of `scaled_gradient`.

    Returns:
        For each cell a tensor `[edges, operations]`, as of `Supernet.states`.
    """
    import tensorflow as tf

    from kdarts.ops.replicas import mean_over_replicas

    net = objective.supernet
    mixture = net.mixture
    with objective.at(*values):
        progress, draws = tf.convert_to_tensor(mixture.progress), tf.convert_to_tensor(mixture.draws)
        weights = [w[:, : len(net.operation_names)] for w, _ in mixture.drawn(training=True)]
        present = mixture.present

    def loss_at(shifts):
        found = objective.gradients(*values, batch, scale, [shifts[index] for index in net.sequence])
        slopes = [tf.zeros_like(w) for w in weights]
        for index, slope in zip(net.sequence, found["by_shifts"], strict=True):
            slopes[index] += slope
        return mean_over_replicas((found["loss"], slopes))

    seed = tf.random.fold_in(tf.stack([draws, 0]), 2)  # Others than those of a sampling, of a relaxation, of dropouts.
    shifts = kind.shifts(weights, present, loss_at, progress, seed)
    return [shifts[index] for index in net.sequence]


def register_perturbation(kind: type[Perturbation]) -> type[Perturbation]:
    """Makes a perturbation known by its `name`, to `--perturbation` and to `perturbation=`."""
    return PERTURBATIONS.add(kind)


for _kind in (NoPerturbation, Random, Adversarial):
    register_perturbation(_kind)
