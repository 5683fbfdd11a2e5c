"""Search spaces: what may be found."""

import math
from dataclasses import dataclass

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.registry import Registry
from kdarts.nets.operations import Operation, get_operation


@dataclass(frozen=True)
class SearchSpace:
    """Candidates of an edge and the size of a cell.

    Attributes:
        name: as `--space` spells it.
        operations: names of the candidates, in α's column order.
        nodes: default number of intermediate nodes of a cell.
        multiplier: default number of nodes whose concatenation is a cell's output.
        source: paper it comes from.
    """

    name: str
    operations: tuple[str, ...]
    nodes: int = 4
    multiplier: int = 4
    source: str = ""

    def __post_init__(self):
        if len(self.operations) < 2 or len(set(self.operations)) < len(self.operations):
            raise KdartsError(f"space {self.name!r}: needs two or more different operations, got {self.operations}")
        for name in self.operations:
            get_operation(name)

    @property
    def candidates(self) -> tuple[Operation, ...]:
        """The operations' definitions, in α's column order."""
        return tuple(get_operation(name) for name in self.operations)

    def size(self, cells: int = 1) -> int:
        """Number of genotypes that `cells` distinct cells can be (D-DARTS Eq. 6, to the power of the cells).

        Each node i of N takes two of its i + 1 inputs, and one of the K operations but `none` on each:
        s(K, N) = product over i = 1..N of K^2 i (i + 1) / 2.

        Args:
            cells: distinct cells: 2 where normal cells and reductions share theirs, else as many as the network has.
        """
        choices = len(set(self.operations) - {"none"})
        return math.prod(choices**2 * i * (i + 1) // 2 for i in range(1, self.nodes + 1)) ** cells


_SPACES = Registry("space")


def register_space(space: SearchSpace) -> SearchSpace:
    """Makes `space` known by its name; a name is given once."""
    return _SPACES.add(space)


def get_space(name: str) -> SearchSpace:
    """The space called `name`; raises `KdartsError` with the known names otherwise."""
    return _SPACES.get(name)


def space_names() -> list[str]:
    """Every known name."""
    return _SPACES.names()


_LEARNED = ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
_FREE = ("max_pool_3x3", "avg_pool_3x3", "skip_connect")

register_space(SearchSpace("darts", ("none", *_FREE, *_LEARNED), source="DARTS, Liu et al. 2019, section 3.1"))
register_space(SearchSpace("ddarts", (*_FREE, *_LEARNED), source="D-DARTS and FairDARTS: S without none"))
register_space(
    SearchSpace(
        "dartopti",
        ("conv_3x1_1x3", "conv_7x1_1x7", *_FREE, "simple_conv_1x1", "simple_conv_3x3", *_LEARNED, "bottleneck_1x3x1"),
        source="D-DARTS, Heuillet et al., section 4.4: S_o, which handcrafted networks fit in",
    )
)

_POOLS = ("max_pool_3x3", "padded_avg_pool_3x3")
_SHARP = ("sep_conv_3x3", "dil_sep_conv_3x3", "flood_conv_3x3", "dil_flood_conv_3x3")
_CHOKED = ("choke_conv_3x3", "dil_choke_conv_3x3")
_SHARPSEPCONV = ("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_sep_conv_3x3", "dil_sep_conv_5x5")
_SHARPER = ("sep_conv_7x7", "dil_sep_conv_3x3", "dil_sep_conv_5x5", "flood_conv_3x3", "flood_conv_5x5")
_PAPER = "sharpDARTS, Hundt et al. 2019"

for _name, _operations, _source in (
    (
        "sharpdarts",
        ("none", "max_pool_3x3", "skip_connect", *_SHARP, *_CHOKED),
        "table 1 without average pooling, as its program searches",
    ),
    ("sharpdarts_avg_pool", ("none", *_POOLS, "skip_connect", *_SHARP, *_CHOKED), "table 1, all 10 rows"),
    ("sharpsepconv", ("none", *_POOLS, *_SHARPSEPCONV), "DARTS' space with SharpSepConv; padding counts in its mean"),
    (
        "sharpsepconv_unpadded",
        ("none", "max_pool_3x3", "avg_pool_3x3", *_SHARPSEPCONV),
        "DARTS' space with SharpSepConv, and DARTS' own average pooling",
    ),
    (
        "sharper",
        ("none", *_POOLS, *_SHARPSEPCONV[:3], *_SHARPER, "dil_flood_conv_3x3"),
        "its program's later space, of 12 operations",
    ),
):
    register_space(SearchSpace(_name, _operations, source=f"{_PAPER}: {_source}"))
