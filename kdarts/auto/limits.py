"""Limits of a network's cost, and what a network costs."""

import dataclasses
import math
import pathlib
import tempfile

import keras
import numpy as np

from kdarts.genotypes.errors import KdartsError
from kdarts.ops.cost import Cost, amount
from kdarts.ops.device import device_cost
from kdarts.serving.export import write_litert
from kdarts.serving.served import litert, median_ms

UNITS = {"params": "weights", "macs": "MACs", "latency_ms": "ms", "size": "bytes"}
"""The kinds of limits, with what each counts."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that a network may cost. None is no limit.

    Args:
        params: The number of trainable weights.
        macs: The number of multiply-accumulates for an image.
        latency_ms: The milliseconds of an answer to one image by LiteRT on this machine, float32, one thread.
        size: The bytes of the 8-bit LiteRT file, estimated (see `kdarts.ops.device`).

    Raises:
        KdartsError: If a limit is not a number above 0.
    """

    params: float | None = None
    macs: float | None = None
    latency_ms: float | None = None
    size: float | None = None

    def __post_init__(self):
        for name, value in self.given().items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise KdartsError(f"max_{name} {value!r}: needs a number above 0")

    def given(self) -> dict[str, float]:
        """Returns the limits that there are, by their kind."""
        return {name: getattr(self, name) for name in UNITS if getattr(self, name) is not None}

    def with_macs(self, most: float) -> "Limits":
        """Returns the same limits, with at most so many MACs."""
        return dataclasses.replace(self, macs=min(most, self.macs or most))

    def exceeded(self, cost: Cost) -> str | None:
        """Returns the kind of the first limit that a cost exceeds; None if it exceeds none."""
        spent = self.spent(cost)
        return next((name for name, most in self.given().items() if spent[name] > most), None)

    @staticmethod
    def spent(cost: Cost) -> dict[str, float]:
        """Returns what a cost has of each kind of limit."""
        return {"params": cost.params, "macs": cost.macs, "latency_ms": cost.latency_ms, "size": cost.flash}

    def in_words(self) -> str:
        """Returns the limits as `at most 80,000 weights, 12.50 M MACs`; "" without any."""
        return f"at most {self.listed()}" if self.given() else ""

    def listed(self) -> str:
        """Returns the limits as `80,000 weights, 12.50 M MACs`; "" without any."""
        return ", ".join(
            f"{value:.3g} ms" if name == "latency_ms" else f"{amount(value)} {UNITS[name]}"
            for name, value in self.given().items()
        )


def cost_of(network: keras.Model, timed: bool = False) -> Cost:
    """Returns what a network costs; with `timed`, its latency, too (see `latency_ms`)."""
    cost = device_cost(network)
    return dataclasses.replace(cost, latency_ms=latency_ms(network)) if timed else cost


def latency_ms(network: keras.Model) -> float:
    """Returns the median time of an answer to one image by LiteRT on this machine, float32 and one thread, in ms."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network.tflite")
        about = {"class_names": [], "input_shape": list(network.input_shape[1:])}
        write_litert(network, path, about, batch=1)
        content = path.read_bytes()
    interpreter = litert(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    [given] = interpreter.get_input_details()
    interpreter.set_tensor(given["index"], np.zeros(given["shape"], np.float32))
    return median_ms(interpreter.invoke)
