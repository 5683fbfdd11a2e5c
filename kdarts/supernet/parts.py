"""An operation at its sizes, for a HyperCuboid, which makes both its forms from it.

What a HyperCuboid is made of: the user's functions, and the evaluation form of what they return.

The network of a path through a HyperCuboid, as a plain functional Keras model.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import keras

from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.ops.cost import Cost, operation_cost
from kdarts.ops.layers import apply_operation, model_cost
from kdarts.ops.operations import Operation


@dataclass(frozen=True)
class Placed:
    """What a HyperCuboid's functions may return in place of Keras layers; its second derivatives are right, too.

    Attributes:
        operation: the definition.
        filters: output channels, at least 1.
        stride: 1 or 2.

    Raises:
        KdartsError: if one of the two is out of its range.
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
        """Adds its stock layers to a functional model."""
        return apply_operation(self.operation, x, self.filters, self.stride, name)

    def cost(self, shape) -> tuple[Cost, tuple[int, int, int]]:
        """Its cost on an input of `shape`, and the shape of its output."""
        height, width, channels = shape
        cost, size = operation_cost(self.operation, channels, self.filters, self.stride, (height, width))
        return cost, (*size, self.filters if self.operation.parametric(self.stride) else channels)


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


def apply_parts(made, x, name: str):
    """Adds what one of the functions returned, but None, to a functional model."""
    parts = listed(made, name)
    for number, part in enumerate(parts):
        if isinstance(part, Placed):
            x = part.evaluation_form(x, name if len(parts) == 1 else f"{name}.{number}")
        else:
            with naming(name):
                x = part(x)
    return x


def listed(made, name: str) -> list:
    """What one of the functions returned as a list; raises `KdartsError` for anything that is no layer."""
    parts = list(made) if isinstance(made, list | tuple) else [made]
    for part in parts:
        if not isinstance(part, keras.Layer | Placed):
            raise KdartsError(f"{name}: needs Keras layers or placed operations, got {part!r}")
    return parts


@contextlib.contextmanager
def naming(name: str):
    """Says of an error inside it where it happened: a layer that does not take what it is given."""
    try:
        yield
    except (ValueError, TypeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KdartsError(f"{name}: {first}") from error


def path_network(path: HyperPath, input_shape, parts: Parts, drop_last_step: bool = False) -> keras.Model:
    """Builds the network of a path: stem, its steps in order, without weights of α or sums, head and tail.

    Args:
        path: what was found.
        input_shape: of one example, without the batch.
        parts: the functions that make its layers.
        drop_last_step: whether the head follows the last step but one, as in sharpDARTS' program.

    Returns:
        A model from examples to logits.

    Raises:
        KdartsError: if a function forbids a part of the path.
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


def path_network_cost(path: HyperPath, input_shape, parts: Parts) -> Cost:
    """Cost of that network, which is built for it."""
    return model_cost(path_network(path, input_shape, parts))
