"""The parts of a HyperCuboid: the user's functions, and the network of a path, a functional Keras model.

The user's functions return Keras layers or `Placed` operations. A HyperCuboid makes the search form of a `Placed`
operation, and the network of a path its evaluation form.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import keras

from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.ops.cost import Cost, operation_cost
from kdarts.ops.layers import apply_operation, layer_name
from kdarts.ops.operations import Operation


@dataclass(frozen=True)
class Placed:
    """An operation with its number of filters and its stride, which a HyperCuboid accepts in place of Keras layers.

    Its second derivatives are correct, which those of some Keras layers are not.

    Attributes:
        operation: The definition of the operation.
        filters: The number of output channels, at least 1.
        stride: 1 or 2.

    Raises:
        KdartsError: If `filters` or `stride` is out of its range.
    """

    operation: Operation
    filters: int
    stride: int = 1

    def __post_init__(self):
        if self.filters < 1 or self.stride not in (1, 2):
            raise KdartsError(
                f"placed {self.operation.name!r}: filters {self.filters}, stride {self.stride}; "
                "needs 1 or more filters, stride 1 or 2"
            )

    def evaluation_form(self, x, name: str):
        """Adds the layers of the operation to a functional model."""
        return apply_operation(self.operation, x, self.filters, self.stride, name)

    def cost(self, shape) -> tuple[Cost, tuple[int, int, int]]:
        """Returns the cost of the operation for an input of `shape`, and the shape of its output."""
        height, width, channels = shape
        cost, size = operation_cost(self.operation, channels, self.filters, self.stride, (height, width))
        return cost, (*size, self.filters if self.operation.parametric(self.stride) else channels)


@dataclass(frozen=True)
class Parts:
    """The functions that make the layers of a HyperCuboid, new ones with each call.

    A function returns a Keras layer, a `Placed` operation, a list of them in order, or `None`.

    Attributes:
        build: A function of a `Step` that makes the layers of this transition, or returns `None` to forbid it.
        head: A function of a state that makes the layers after the last step, or returns `None` if no path ends in the
            state. Their outputs are summed.
        stem: A function of a state that makes the layers before the first step, or returns `None` if no path begins in
            the state. Without it the input is the first state.
        tail: A function that makes the layers from the sum to the logits. Without it the sum is the logits.
    """

    build: Callable
    head: Callable
    stem: Callable | None = None
    tail: Callable | None = None

    def of_stem(self, index: int, state: dict):
        """Makes the layers before the first step, for the state of number `index`."""
        if self.stem is None:
            return [] if index == 0 else None
        return self.stem(state)


def apply_parts(made, x, name: str):
    """Adds the layers that one of the functions returned, except `None`, to a functional model."""
    parts = listed(made, name)
    for number, part in enumerate(parts):
        if isinstance(part, Placed):
            x = part.evaluation_form(x, layer_name(name if len(parts) == 1 else f"{name}.{number}"))
        else:
            with naming(name):
                x = part(x)
    return x


def listed(made, name: str) -> list:
    """Returns the result of one of the functions as a list. Raises `KdartsError` if it contains anything but layers."""
    parts = list(made) if isinstance(made, list | tuple) else [made]
    for part in parts:
        if not isinstance(part, keras.Layer | Placed):
            raise KdartsError(f"{name}: needs Keras layers or placed operations, got {part!r}")
    return parts


@contextlib.contextmanager
def naming(name: str):
    """Raises errors inside the context, of a layer that does not accept its input, as `KdartsError` with its name."""
    try:
        yield
    except (ValueError, TypeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KdartsError(f"{name}: {first}") from error


def path_network(path: HyperPath, input_shape, parts: Parts, drop_last_step: bool = False) -> keras.Model:
    """Builds the network of a path: stem, steps in order, head and tail, without mixing weights or sums.

    `input_shape` is that of one example, without the batch. With `drop_last_step` the last step is left out, as in
    sharpDARTS' program. Raises `KdartsError` if a function of the parts forbids a part of the path.
    """
    steps = path.steps[:-1] if drop_last_step else path.steps
    x = inputs = keras.Input(tuple(input_shape), name="input")
    made = {
        "stem.0": parts.of_stem(path.states[0], path.start),
        **{f"op_grid.{step.stage}": parts.build(step) for step in steps},
        "base.0": parts.head(path.cuboid.state_values[path.states[len(steps)]]),
        "tail": [] if parts.tail is None else parts.tail(),
    }
    for name, part in made.items():
        if part is None:
            raise KdartsError(f"the path's {name} is forbidden in this HyperCuboid")
        x = apply_parts(part, x, name)
    return keras.Model(inputs, x, name=path.name or "network")
