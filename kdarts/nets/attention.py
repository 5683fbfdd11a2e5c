"""Operation attention: constants that favour some operations and hold others back (eDARTS, sections III-A, IV-C)."""

import math

import numpy as np

from kdarts.genotypes.errors import KdartsError
from kdarts.nets.operations import get_operation

MODES = ("each_update", "once", "offset")
"""When α gets the constants: after each of its updates, at the start, or never, but in mixing, as softmax(α + w)."""

Attention = tuple[tuple[str, float], ...]


def parse_attention(text: str) -> Attention:
    """The constants that a text such as `sep_conv_3x3:0.0006,dil_conv_5x5:-0.0006` says; none where it is empty.

    Raises:
        KdartsError: for another form, an operation that does not exist or stands twice, or no finite number.
    """
    found = {}
    for word in text.split(",") if text.strip() else []:
        name, _, value = word.strip().partition(":")
        try:
            constant = float(value)
        except ValueError:
            constant = math.nan
        if not math.isfinite(constant):
            raise KdartsError(f"attention {word!r}: needs operation:constant, such as sep_conv_3x3:0.0006")
        if get_operation(name).name in found:
            raise KdartsError(f"attention {word!r}: {name} stands there twice")
        found[name] = constant
    return tuple(found.items())


def attention_row(attention, operations: tuple[str, ...]) -> np.ndarray:
    """The constants as a row of α, `[operations]`, float32: 0 for what has none.

    Args:
        attention: `(operation, constant)` pairs; what is not among the operations has no effect.
        operations: names of the columns.
    """
    constants = {get_operation(name).name: constant for name, constant in attention}
    return np.array([constants.get(name, 0) for name in operations], np.float32)
