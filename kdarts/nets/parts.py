"""What a HyperCuboid is made of: the user's functions, and the evaluation form of what they return."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import keras

from kdarts.genotypes.errors import KdartsError
from kdarts.nets.placed import Placed


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
