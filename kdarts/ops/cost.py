"""Cost of operations: parameters, multiply-accumulates (MACs), and measured latencies from a table.

`tools/latency_table.py` writes such a table.
"""

import json
import math
import os
from dataclasses import dataclass

from kdarts.genotypes.errors import KdartsError, quoted
from kdarts.genotypes.files import json_in, write_text
from kdarts.ops.operations import Conv, Gate, Halve, Norm, Operation, Pool, Reduce

FORMAT = "kdarts-latencies-1"
LEAST_RANKS = 0.9
"""The least correlation of ranks that a table which was validated must have."""

_SIZES = ("channels", "filters", "stride", "height", "width")


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of operations by their sizes.

    Attributes:
        rows: from `(operation, channels, filters, stride, height, width)`, sizes those of its input, to milliseconds.
        source: where they come from, for messages.
    """

    rows: dict[tuple, float]
    source: str = "latencies"

    def of(self, operation: Operation, channels: int, filters: int, stride: int, size: tuple[int, int]) -> float:
        """Milliseconds of one operation at a stride, for an input of `size` (height and width in pixels).

        0 for what computes nothing; raises `KdartsError` if the table has no such row.
        """
        if computes_nothing(operation, stride):
            return 0.0
        try:
            return self.rows[operation.name, channels, filters, stride, *size]
        except KeyError:
            raise KdartsError(
                f"{self.source}: nothing about {operation.name}, {channels} to {filters} channels, stride {stride}, "
                f"{size[0]}x{size[1]} pixels; tools/latency_table.py measures it, with the flags of this search"
            ) from None

    def save(self, path: str | os.PathLike, **about) -> None:
        """Writes the table as JSON, a row a line; `about` says how it was measured."""
        rows = [dict(zip(("operation", *_SIZES, "ms"), (*key, ms), strict=True)) for key, ms in self.rows.items()]
        head = json.dumps({"format": FORMAT, **about})[:-1]
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        write_text(path, f'{head}, "rows": [\n{lines}\n]}}\n')

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Latencies":
        """Reads what `save` wrote; raises `KdartsError` if there is no such file or it holds something else."""
        data = json_in(path)
        if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("rows"), list):
            raise KdartsError(f'{path}: no table of latencies; its "format" must be "{FORMAT}", with "rows"')
        ranks = data.get("validation", {}).get("spearman", 1.0) if isinstance(data.get("validation", {}), dict) else 1.0
        if isinstance(ranks, int | float) and ranks < LEAST_RANKS:
            raise KdartsError(
                f"{path}: its sums rank whole networks with a correlation of {ranks:g}; needs {LEAST_RANKS:g}. Measure "
                "it again on a machine that does nothing else"
            )
        rows = {}
        for number, row in enumerate(data["rows"]):
            try:
                key = row["operation"], *(row[name] for name in _SIZES)
                ms = float(row["ms"])
            except (TypeError, KeyError, ValueError):
                key, ms = ("",), math.nan
            whole = isinstance(key[0], str) and all(type(size) is int and size > 0 for size in key[1:])
            if len(key) < 6 or not whole or not (math.isfinite(ms) and ms >= 0):
                raise KdartsError(
                    f"{path}: row {number} needs operation, {', '.join(_SIZES)} and ms from 0, got {quoted(row)}"
                )
            rows[key] = ms
        return cls(rows, str(path))


def computes_nothing(operation: Operation, stride: int) -> bool:
    """Whether it takes no time: zero, and the identity."""
    return operation.zero or not operation.layers(stride)


def amount(number: float) -> str:
    """Returns a count as text: in millions from 100,000 on, such as `3.35 M`, and below in full, such as `5,376`."""
    return f"{number / 1e6:,.2f} M" if number >= 1e5 else f"{number:,.0f}"


UNITS = {"params": 1e6, "macs": 1e6, "latency_ms": 1.0}
"""The sizes of a network, and in what of each of them bins and limits of sizes are given."""


@dataclass(frozen=True)
class Cost:
    """What a network costs, or a part of it. Those of parts that follow one another add up, but for the memory.

    Attributes:
        params: trainable parameters.
        macs: multiply-accumulates for one image.
        latency_ms: milliseconds by a table of latencies, 0 without one.
        flash: estimated bytes in an int8 `.tflite` file, and
        ram: the peak of its activations in bytes (see `kdarts.ops.device`); both 0 where they are not asked for.
    """

    params: int = 0
    macs: int = 0
    latency_ms: float = 0.0
    flash: int = 0
    ram: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        added = (getattr(self, name) + getattr(other, name) for name in ("params", "macs", "latency_ms", "flash"))
        return Cost(*added, max(self.ram, other.ram))

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.params * times, self.macs * times, self.latency_ms * times, self.flash * times, self.ram)


def operation_cost(
    operation: Operation, channels: int, filters: int, stride: int, size: tuple[int, int], affine: bool = True
) -> tuple[Cost, tuple[int, int]]:
    """Cost of one operation, and the height and width of its output.

    `channels` and `size` are those of its input, `filters` the channels of its output; with `affine` normalisations
    have a scale and an offset.
    """
    params = macs = 0
    for step in operation.layers(stride):
        match step:
            case Conv():
                size = tuple(-(-n // (stride if along else 1)) for n, along in zip(size, step.strided, strict=True))
                width = channels if step.depthwise else step.filters(filters)
                weights = math.prod(step.kernel) * width * (1 if step.depthwise else channels)
                params, macs, channels = params + weights, macs + weights * math.prod(size), width
            case Gate(width):
                weights = 2 * channels * width
                params, macs = params + weights + width + channels, macs + weights
            case Reduce():
                size = tuple(-(-n // 2) for n in size)
                params, macs = params + channels * filters, macs + channels * filters * math.prod(size)
                channels = filters
            case Pool():
                size = tuple(-(-n // stride) for n in size)
            case Halve():
                size = tuple(-(-n // 2) for n in size)
            case Norm():
                params += 2 * channels * affine
    if not any(isinstance(step, Conv | Reduce | Pool | Halve) for step in operation.layers(stride)) and stride == 2:
        size = tuple(-(-n // 2) for n in size)
    return Cost(params, macs), size
