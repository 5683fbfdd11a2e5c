"""What in a step is not finite, told by name: every optimizer notes the gradients it is given, where someone asks.

One number stands for each tensor, its *sign*: finite where all elements are. A sum of squares serves, which costs one
small kernel; it also overflows for gradients beyond 1e19, from which nothing can be learned either.
"""

import contextlib
import contextvars

import tensorflow as tf

_noted = contextvars.ContextVar("noted", default=None)


class Noted:
    """The signs of one step, as they are noted while it is traced.

    Attributes:
        names: what each sign is of: "gradient" or "value", and the path of its variable.
    """

    def __init__(self):
        self.names: list[tuple[str, str]] = []
        self._signs: list[tf.Tensor] = []
        self._place = tf.compat.v1.get_default_graph() if not tf.executing_eagerly() else None

    def add(self, kind: str, variables, tensors) -> None:
        """Notes one sign for each variable's tensor; inside a branch of the graph, which cannot hand them out, none."""
        if not tf.executing_eagerly() and tf.compat.v1.get_default_graph() is not self._place:
            return
        self.names += [(kind, variable.path) for variable in variables]
        self._signs += [tf.cast(tf.nn.l2_loss(t), tf.float32) for t in tensors]

    def signs(self) -> tf.Tensor:
        """All of them, `[names]`."""
        return tf.stack(self._signs) if self._signs else tf.zeros([0])


@contextlib.contextmanager
def noting():
    """Inside it, `note_gradients` takes down what it is given; yields the `Noted`."""
    noted = Noted()
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def note_gradients(gradients, variables) -> None:
    """Takes down the gradients that an optimizer is about to apply; without `noting` nothing is computed."""
    noted = _noted.get()
    if noted is None:
        return
    pairs = [(v, g) for v, g in zip(variables, gradients, strict=True) if g is not None]
    noted.add("gradient", [v for v, _ in pairs], [g for _, g in pairs])
