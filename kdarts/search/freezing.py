"""Freezing: which operations of the supernet are trained no further while the search goes on.

Operations with weights fit the training part, and α, which is judged by the validation part, turns to those without
(OLES, Jiang et al., NeurIPS 2023). The set is open: a program registers a class of its own by `register_freezing`.

Keras and TensorFlow are imported where they are used: commands that only read settings do not wait for them.
"""

from dataclasses import dataclass
from typing import ClassVar

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import Axis, Registry, setting

FREEZING = Registry("freezing")


@dataclass(frozen=True)
class Freezing(Axis):
    """Which operations are trained no further. A kind of it defines `attach`.

    Attributes:
        passes: gradients that it takes in a step, on average, for estimates of cost.
    """

    passes: ClassVar[float] = 0

    def attach(self, search):
        """What freezes operations of a search, made when the search is, as an `OperationFreezing`; None: nothing."""
        return None


def register_freezing(kind: type[Freezing]) -> type[Freezing]:
    """Makes a way of freezing known by its `name`, to `--freezing` and to `freezing=`."""
    return FREEZING.add(kind)


@register_freezing
@dataclass(frozen=True)
class NoFreezing(Freezing):
    """Every operation is trained to the end."""

    name: ClassVar[str] = "none"


@register_freezing
@dataclass(frozen=True)
class GradientMatching(Freezing):
    """Operations whose training and validation gradients agree too little (OLES, Jiang et al. 2023).

    After each step that measures, GM is the mean of cos(∂L_train/∂w_o, ∂L_valid/∂w_o) over the last M of them, for each
    operation o of each edge of each cell alone. Once it is below ξ, w_o stays as it is for good; α goes on. What has no
    gradient in a step, such as a candidate that was not drawn, is not measured by it.
    """

    name: ClassVar[str] = "oles"
    freeze_below: float = setting(
        0.4, "ξ: mean cosine of an operation's two gradients below which it is frozen", least=-1, most=1, source="OLES"
    )
    freeze_window: int = setting(20, "M: measurements that the mean is over", least=1, most=10_000, source="OLES")
    freeze_every: int = setting(
        1, "steps between measurements; each is one more pass, on the validation batch", least=1, most=100_000
    )

    @property
    def passes(self) -> float:
        """One pass for each measurement, spread over the steps between two of them."""
        return 1 / self.freeze_every

    def attach(self, search):
        method = search.method
        if search.supernet.grid:
            raise KdartsError("freezing 'oles' is about cells; a HyperCuboid has none")
        if method.update == "frozen":
            raise KdartsError("freezing 'oles': measures while α moves, which it never does with update 'frozen'")
        if method.gradient.unrolls:
            raise KdartsError(
                f"freezing 'oles': order {method.order!r} unrolls a step of all weights; choose order 'first'"
            )
        return OperationFreezing(search, self)


class OperationFreezing:
    """The operations of a search's supernet: how their gradients agree, and which are frozen.

    Its variables are the search's own, so that checkpoints have them.

    Args:
        search: of cells.
        axis: the `GradientMatching`.

    Attributes:
        slices: for each weight of an operation its place among `network_variables`, the number of the operation on the
            first of the edges that share it, and the number of these edges. Its last axis is edge by edge.
        frozen: variable `[operations]`, boolean; an operation is one of one edge of one cell.
    """

    def __init__(self, search, axis: GradientMatching):
        net, self.axis, self.slices, count = search.supernet, axis, [], 0
        self._variables = net.network_variables
        places = {id(variable): place for place, variable in enumerate(self._variables)}
        for cell in net.cells:
            for mixed in cell.mixed_edges:
                for column, stack in mixed.stacks.items():
                    if column < len(net.operation_names):  # Behind them is the auxiliary skip connection.
                        self.slices += [(places[id(v)], count, stack.copies) for v in stack.own_weights]
                        count += stack.copies
        if not count:
            raise KdartsError(f"freezing 'oles': no operation of space {net.space.name!r} has weights")
        still = {"initializer": "zeros", "trainable": False, "autocast": False}
        self._steps = search.add_weight(name="freezing_steps", shape=(), dtype="int64", **still)
        self._counts = search.add_weight(name="freezing_counts", shape=(count,), dtype="int32", **still)
        size = (axis.freeze_window, count)
        self._cosines = search.add_weight(name="freezing_cosines", shape=size, dtype="float32", **still)
        self.frozen = search.add_weight(name="frozen", shape=(count,), dtype="bool", **still)

    def compare(self, gradients: list, validation, *arguments) -> None:
        """Measures how two gradients agree, at each step that is due.

        Args:
            gradients: of the training loss by `network_variables`, the same on all replicas.
            validation: a function of the `arguments` that gives those of the validation loss at the same weights.
        """
        import tensorflow as tf

        from kdarts.ops.replicas import if_true

        def measure(gradients, *arguments):
            self.measure(gradients, validation(*arguments))

        if self.axis.freeze_every == 1:
            measure(gradients, *arguments)
        else:
            due = tf.equal(tf.convert_to_tensor(self._steps) % self.axis.freeze_every, 0)
            if_true(due, measure, gradients, *arguments)
            self._steps.assign_add(1)

    def masked(self, gradients: list) -> list:
        """The gradients by `network_variables` with zeros for what is frozen."""
        import tensorflow as tf

        gradients = list(gradients)
        for place, mask in self._masks():
            gradients[place] = tf.where(mask, tf.zeros_like(gradients[place]), gradients[place])
        return gradients

    def hold(self, before: list) -> None:
        """Gives what is frozen the weights `before` a step again: momentum and decay do not move it either."""
        import tensorflow as tf

        for place, mask in self._masks():
            variable = self._variables[place]
            variable.assign(tf.where(mask, before[place], tf.convert_to_tensor(variable)))

    def measure(self, train: list, valid: list) -> None:
        """Notes how the gradients of the two losses by `network_variables` agree, and freezes what they say."""
        import tensorflow as tf

        window, found = self.axis.freeze_window, cosines(train, valid, self.slices)
        known, counts = tf.math.is_finite(found), tf.convert_to_tensor(self._counts)
        place = tf.one_hot(counts % window, window, True, False, axis=0) & known
        noted = tf.where(place, tf.cast(found, tf.float32), tf.convert_to_tensor(self._cosines))
        self._cosines.assign(noted)
        self._counts.assign(counts + tf.cast(known, tf.int32))
        full = tf.convert_to_tensor(self._counts) >= window
        low = tf.reduce_mean(noted, 0) < self.axis.freeze_below
        self.frozen.assign(tf.convert_to_tensor(self.frozen) | (full & low))

    def _masks(self):
        """The place of each weight of an operation, and which elements of its last axis are frozen."""
        import tensorflow as tf

        frozen, masks = tf.convert_to_tensor(self.frozen), {}
        for place, first, copies in self.slices:
            key = first, self._variables[place].shape[-1] // copies
            if key not in masks:
                masks[key] = tf.repeat(frozen[first : first + copies], key[1])
            yield place, masks[key]

    def epoch_logs(self) -> dict:
        """How many operations are frozen, and the mean over all measured ones of their mean cosines so far."""
        import numpy as np

        counts = np.minimum(np.asarray(self._counts), self.axis.freeze_window)
        measured = counts > 0
        logs = {"frozen_operations": float(np.sum(np.asarray(self.frozen)))}
        if measured.any():
            means = np.sum(np.asarray(self._cosines), 0)[measured] / counts[measured]
            logs["gradient_cosine"] = float(means.mean())
        return logs


def cosines(train: list, valid: list, slices: list):
    """The cosine of two gradients of each operation, over all its weights together, `[operations]`; NaN where one is 0.

    Args:
        train, valid: gradients by the same variables.
        slices: as of `OperationFreezing`.
    """
    import tensorflow as tf

    parts: dict[int, list] = {}
    for place, first, copies in slices:
        a, b = (tf.reshape(each[place], [-1, copies, each[place].shape[-1] // copies]) for each in (train, valid))
        parts.setdefault(first, []).append(tf.reduce_sum(tf.stack([a * b, a * a, b * b]), [1, 3]))
    dots, *squares = tf.unstack(tf.concat([tf.add_n(sums) for sums in parts.values()], 1))
    return tf.clip_by_value(dots / (tf.sqrt(squares[0]) * tf.sqrt(squares[1])), -1, 1)
