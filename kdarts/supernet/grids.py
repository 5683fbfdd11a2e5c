"""Published HyperCuboids by name: their axes, and where their layers come from."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kdarts.genotypes.cuboid import Cuboid
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import Registry

FORMS = ("separate", "shared")
"""Whether the choices of a stage have weights of their own."""


@dataclass(frozen=True)
class CuboidSpace:
    """What `--space` calls a HyperCuboid of images.

    Attributes:
        name: as `--space` spells it.
        axes: the axes from the settings in `sizes`; each has a default. Those of a space whose sizes are not
            `channels` (of the narrowest state), `cells` (stages) and `nodes` (states) come from `input_shape`, too.
        source: paper it comes from.
        parts: from the axes and the number of classes to the functions that make its layers, a `Parts`; None: those
            of `kdarts.supernet.cuboids`, which are loaded when a network is built.
        sizes: names of the settings of a method that the axes come from.
        paths: from the axes to the number of paths; None: every transition is allowed.
        starts: named paths that a search may start from, each as a function of the axes.
        start_width: from a start, `input_shape`, the number of classes, the limits, macro, blocks and the table of
            latencies to the width where none is given; None: a space without widths.
    """

    name: str
    axes: Callable
    source: str
    parts: Callable | None = None
    sizes: tuple[str, ...] = ("channels", "cells", "nodes")
    paths: Callable | None = None
    starts: Mapping[str, Callable] = field(default_factory=dict)
    start_width: Callable | None = None

    @property
    def fits_images(self) -> bool:
        """Whether the axes follow the shape of the images."""
        return "channels" not in self.sizes

    def count(self, axes: Cuboid) -> int:
        """The number of paths through the axes."""
        return axes.paths if self.paths is None else self.paths(axes)


_CUBOIDS = Registry("HyperCuboid", "kdarts.supernet.mobile")


def register_cuboid(space: CuboidSpace) -> CuboidSpace:
    """Makes `space` known by its name; a name is given once."""
    return _CUBOIDS.add(space)


def get_cuboid(name: str) -> CuboidSpace:
    """The HyperCuboid called `name`; raises `KdartsError` with the known names otherwise."""
    return _CUBOIDS.get(name)


def cuboid_names() -> list[str]:
    """Every known name."""
    return _CUBOIDS.names()


PRIMITIVES = ("ResizablePool", "SharpSepConv")
"""Operations of MultiChannelNet."""


def multichannelnet_axes(channels: int = 32, cells: int = 8, nodes: int = 4) -> Cuboid:
    """Layers of a step of stride 1 and one of stride 2 each, over scales of filters (sharpDARTS, section 4.1).

    There are so many steps (`cells`, even) and so many scales (`nodes`), each twice as wide as the one before. The
    narrowest has `channels` filters, rounded down to a power of two, at least 2.
    """
    if cells < 2 or cells % 2 or channels < 2 or nodes < 1:
        raise KdartsError(
            f"channels {channels}, cells {cells}, nodes {nodes}: MultiChannelNet needs 2 or more channels, an even "
            "number of cells and 1 or more nodes"
        )
    first = int(math.log2(channels))
    filters = tuple(2 ** (first + k) for k in range(nodes))
    return Cuboid({"layer": range(cells // 2), "stride": (1, 2)}, {"filters": filters}, {"primitive": PRIMITIVES})


register_cuboid(CuboidSpace("multichannelnet", multichannelnet_axes, "sharpDARTS, Hundt et al. 2019, section 4.1"))
