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
from kdarts.ops.cost import Cost, Latencies, operation_cost
from kdarts.ops.device import operation_flash, operation_ram
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
        residual: Whether the input, which then has the shape of the output, is added to it.
        affine: Whether its normalisations have a scale and an offset in a HyperCuboid, too; in a network they have.

    Raises:
        KdartsError: If `filters` or `stride` is out of its range, or a residual operation has stride 2.
    """

    operation: Operation
    filters: int
    stride: int = 1
    residual: bool = False
    affine: bool = True

    def __post_init__(self):
        if self.residual and self.stride == 2:
            raise KdartsError(f"placed {self.operation.name!r}: what is residual needs stride 1, got 2")
        if self.filters < 1 or self.stride not in (1, 2):
            raise KdartsError(
                f"placed {self.operation.name!r}: filters {self.filters}, stride {self.stride}; "
                "needs 1 or more filters, stride 1 or 2"
            )

    def evaluation_form(self, x, name: str):
        """Adds the layers of the operation to a functional model."""
        y = apply_operation(self.operation, x, self.filters, self.stride, name)
        return keras.layers.Add(name=f"{name}-add")([x, y]) if self.residual else y

    def cost(self, shape) -> tuple[Cost, tuple[int, int, int]]:
        """Returns the cost of the operation for an input of `shape`, and the shape of its output."""
        height, width, channels = shape
        at = channels, self.filters, self.stride
        cost, size = operation_cost(self.operation, *at, (height, width))
        flash = operation_flash(self.operation, *at, self.residual)
        cost += Cost(flash=flash, ram=operation_ram(self.operation, *at, (height, width), self.residual))
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
        join: A function that makes one layer for all choices of a stage of a chain, with shared weights, or `None` if
            there is none. Its first argument has for each choice the `Step`, or `None` if it is forbidden, the others
            are those of a Keras layer; the layer takes the state and the mixing weights, and has `macs(shape)`.
    """

    build: Callable
    head: Callable
    stem: Callable | None = None
    tail: Callable | None = None
    join: Callable | None = None

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


def placed_operations(made, shape) -> tuple[list[tuple], tuple]:
    """Returns the keys by which a table of latencies knows what one of the functions returned.

    Args:
        made: `Placed` operations, in a list or alone. Keras layers, of which a table has nothing, end it.
        shape: Height, width and channels of the input.

    Returns:
        `(operation, channels, filters, stride, (height, width))` for each, and the shape of the output.
    """
    found = []
    for part in listed(made, "latencies"):
        if not isinstance(part, Placed):
            break
        height, width, channels = shape
        found.append((part.operation, channels, part.filters, part.stride, (height, width)))
        shape = part.cost(shape)[1]
    return found, shape


def path_latency_ms(path: HyperPath, input_shape, parts: Parts, latencies: Latencies) -> float:
    """Returns the milliseconds of the placed operations of a path by a table; other layers are left out."""
    shape, total = tuple(input_shape), 0.0
    ends = parts.of_stem(path.states[0], path.start), parts.head(path.end)
    for made in (ends[0], *(parts.build(step) for step in path.steps), ends[1]):
        if made is not None:
            keys, shape = placed_operations(made, shape)
            total += sum(latencies.of(*key) for key in keys)
    return total


def placed_cost(made, shape) -> tuple[Cost, tuple]:
    """Returns the cost of what one of the functions returned for an input of `shape`, and the shape of its output.

    Raises `KdartsError` if it is a Keras layer and not a `Placed` operation: its output is known once it is built.
    """
    total = Cost()
    for part in listed(made, "max_ram"):
        if not isinstance(part, Placed):
            raise KdartsError(f"max_ram: is known of placed operations alone, not of {part.name!r}")
        cost, shape = part.cost(shape)
        total += cost
    return total, tuple(shape)


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
