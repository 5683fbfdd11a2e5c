"""What a HyperCuboid is made of: the user's functions, and the two forms of what they return."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.nets.cost import Cost
from kdarts.nets.model_cost import model_cost
from kdarts.nets.placed import Placed
from kdarts.nets.stack import Stack


@dataclass(frozen=True)
class Parts:
    """The functions that make the layers of a HyperCuboid, each time new ones.

    What they return is a Keras layer, a `Placed` operation, a list of such, one behind the other, or None.

    Attributes:
        build: from a `Step` to what computes it; None: the transition is forbidden.
        head: from a state to what follows the last step there, whose results are summed; None: no path ends there.
        stem: from a state to what precedes the first step there; None: no path begins there. Without it the data
            themselves are the first state.
        tail: what makes logits of the sum; without it the sum is the logits.
    """

    build: Callable
    head: Callable
    stem: Callable | None = None
    tail: Callable | None = None

    def of_stem(self, index: int, state: dict):
        """What makes the first states."""
        if self.stem is None:
            return [] if index == 0 else None
        return self.stem(state)


class Strand:
    """The search form of what one of the functions returned.

    Args:
        made: what it returned, but None.
        shape: of its input, without the batch.
        name: what it is, for names and messages.
        dtype: policy of `Placed` operations.

    Attributes:
        layers: in order.
        shape: of the output.
        cost: of all.
    """

    def __init__(self, made, shape, name: str, dtype):
        self.layers, self.shape, self.cost = [], tuple(shape), Cost()
        for number, part in enumerate(_listed(made, name)):
            if isinstance(part, Placed):
                self.layers.append(part.search_form(self.shape, _scope(f"{name}_{number}"), dtype))
                cost, self.shape = part.cost(self.shape)
            else:
                with _naming(name):
                    output = part(keras.KerasTensor((None, *self.shape), dtype=part.compute_dtype))
                self.layers.append(part)
                cost, self.shape = model_cost(part), tuple(output.shape[1:])
            self.cost += cost

    def __call__(self, x, scale, training):
        """Its output times the scalar `scale`; None: as it is."""
        for number, layer in enumerate(self.layers):
            last = number == len(self.layers) - 1
            if isinstance(layer, Stack):
                x = tf.nn.relu(x) if layer.reads[0] else x
                factor = tf.fill([layer.filters], scale) if last and scale is not None else None
                x = layer(tf.cast(x, layer.compute_dtype), scale=factor, training=training)
                scale = None if last else scale
            else:
                x = layer(x, training=training)
        return x if scale is None else x * tf.cast(scale, x.dtype)


def apply_parts(made, x, name: str):
    """Adds what one of the functions returned, but None, to a functional model."""
    listed = _listed(made, name)
    for number, part in enumerate(listed):
        if isinstance(part, Placed):
            x = part.evaluation_form(x, name if len(listed) == 1 else f"{name}.{number}")
        else:
            with _naming(name):
                x = part(x)
    return x


def _listed(made, name: str) -> list:
    listed = list(made) if isinstance(made, list | tuple) else [made]
    for part in listed:
        if not isinstance(part, keras.Layer | Placed):
            raise KdartsError(f"{name}: needs Keras layers or placed operations, got {part!r}")
    return listed


def _scope(name: str) -> str:
    """`name` as TensorFlow allows it in a graph."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII)


class _naming:
    """Says where a layer does not take what it is given."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        if isinstance(error, ValueError | TypeError) and not isinstance(error, KdartsError):
            first = (str(error).strip().splitlines() or [kind.__name__])[0]
            raise KdartsError(f"{self.name}: {first}") from error
