"""The networks that are compared: made by hand, published, drawn at random, and found. Each has the size of a limit."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from kdarts.auto.limits import Limits, cost_of
from kdarts.genotypes.cuboid import Architecture, HyperPath
from kdarts.genotypes.genotype import Genotype
from kdarts.networks.handmade import build_resnet
from kdarts.networks.network import build_network
from kdarts.ops.cost import Cost
from kdarts.search.selection import discretize
from kdarts.supernet.cost import network_cost
from kdarts.supernet.mobile import START_WIDTHS, mobile_axes, mobilenet_v2
from kdarts.supernet.spaces import get_space

HANDMADE, PUBLISHED, RANDOM, RULE, FOUND = "made by hand", "published", "random", "by rule", "found"
"""Where a network comes from. `RULE` is the cell that one sentence describes (see `kdarts.genotypes.rule`)."""

CELLS = 5
"""The number of cells of a network of cells: that of eDARTS' shallow networks."""

_CHANNELS = tuple(range(4, 66, 2))
_RESNET = tuple(range(4, 17)) + tuple(range(18, 34, 2)) + tuple(range(36, 68, 4))
_WIDER = (*START_WIDTHS, 2.5, 3.0, 4.0)


@dataclass(frozen=True)
class Candidate:
    """A network to be trained.

    Attributes:
        name: Its name, such as "ResNet-8".
        origin: Where it comes from, one of the names above.
        size: Its size in words, such as "16 channels".
        build: A function without arguments that builds the network.
        cost: What it costs.
        architecture: The architecture with which it can be built again; None of a network made by hand.
        channels: The channels of a network of cells; None of others.
    """

    name: str
    origin: str
    size: str
    build: Callable[[], keras.Model]
    cost: Cost
    architecture: Architecture | None = None
    channels: int | None = None

    def same_as(self, other: "Candidate") -> bool:
        """Returns whether both have the same architecture and the same size."""
        if self.architecture is None or other.architecture is None or self.channels != other.channels:
            return False
        return self.architecture.named("") == other.architecture.named("")

    @property
    def by_hand(self) -> bool:
        """Whether somebody designed it, in place of a search or a draw."""
        return self.origin == HANDMADE


@dataclass(frozen=True)
class Family:
    """Networks that differ in size alone.

    Attributes:
        name, origin: See `Candidate`.
        sizes: The sizes, ascending.
        make: A function from a size to the network, and to its size in words, its architecture and its channels.
        count: A function from a size to the `Cost` without the file and the time, or None: the network is built.
    """

    name: str
    origin: str
    sizes: tuple
    make: Callable
    count: Callable | None = None

    def least(self, timed: bool = False) -> Cost:
        """Returns the cost of the smallest network; with `timed`, its latency, too."""
        return cost_of(self.make(self.sizes[0])[0](), timed)

    def largest(self, limits: Limits) -> Candidate | str:
        """Returns the largest network within the limits; if none is, the kind of limit that the smallest exceeds."""
        timed, best, least = limits.latency_ms is not None, None, None
        count = None if timed or limits.size is not None else self.count
        low, high = 0, len(self.sizes) - 1
        while low <= high:
            middle = (low + high) // 2
            size = self.sizes[middle]
            over = limits.exceeded(count(size) if count else cost_of(self.make(size)[0](), timed))
            if over is None:
                best, low = size, middle + 1
            else:
                least, high = over, middle - 1
        if best is None:
            return least
        build, words, architecture, channels = self.make(best)
        return Candidate(self.name, self.origin, words, build, cost_of(build(), timed), architecture, channels)


def resnets(depth: int, shape, classes: int) -> Family:
    """The residual networks of a depth (see `build_resnet`)."""

    def make(width):
        return lambda: build_resnet(shape, classes, depth, width), f"{width} channels", None, None

    return Family(f"ResNet-{depth}", HANDMADE, _RESNET, make)


def mobilenets(shape, classes: int) -> Family:
    """MobileNetV2's chain of blocks, 3x3 and of expansion 6, in the macro structure for the images."""

    def make(width):
        path = mobilenet_v2(mobile_axes(tuple(shape), "auto", width))
        return lambda: build_network(path, shape, classes), f"width {width:g}", path, None

    return Family("MobileNetV2", HANDMADE, _WIDER, make)


def of_cells(name: str, origin: str, genotype: Genotype, shape, classes: int) -> Family:
    """The networks of a genotype of cells."""

    def make(channels):
        def build():
            return build_network(genotype, shape, classes, channels, CELLS)

        return build, f"{CELLS} cells, {channels} channels", genotype, channels

    return Family(name, origin, _CHANNELS, make, lambda size: network_cost(genotype, shape, classes, size, CELLS))


def of_path(name: str, path: HyperPath, shape, classes: int) -> Family:
    """The one network of a path that a search has found."""
    size = f"{len(path.choices)} blocks"
    return Family(name, FOUND, (0,), lambda _: (lambda: build_network(path, shape, classes), size, path, None))


def random_cells(seed: int) -> Genotype:
    """Returns cells of DARTS' space that are read out of random numbers in place of a search's result."""
    rng = np.random.default_rng(seed)
    return discretize([rng.random((14, 8)) for _ in range(2)], get_space("darts")).named("random")


def references(shape, classes: int, seed: int) -> list[Family]:
    """Returns what searched networks are compared with, the most telling first."""
    where = shape, classes
    return [
        resnets(8, *where),
        mobilenets(*where),
        of_cells("DARTS_V2", PUBLISHED, Genotype.load("DARTS_V2"), *where),
        of_cells("random cell", RANDOM, random_cells(seed), *where),
        resnets(20, *where),
        of_cells("rule cell", RULE, Genotype.load("rule"), *where),
    ]
