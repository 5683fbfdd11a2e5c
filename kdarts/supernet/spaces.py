"""Search spaces: what may be found."""

import math
from dataclasses import asdict, dataclass

from kdarts.genotypes.edges import edge_count
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.settings import Registry
from kdarts.genotypes.text import STAGES
from kdarts.ops.operations import Operation, get_operation
from kdarts.supernet.macro import STEMS, MacroConfig

_DARTS = MacroConfig()


@dataclass(frozen=True)
class SearchSpace:
    """Candidates of an edge, the size of a cell, and what a supernet of them is like where nothing else is asked for.

    Attributes:
        name: as `--space` spells it.
        operations: names of the candidates, in α's column order.
        nodes: default number of intermediate nodes of a cell.
        multiplier: default number of nodes whose concatenation is a cell's output.
        source: paper it comes from.
        stem: default stem: "auto" (by image size) or one of `STEMS`.
        frame: default frame.
        affine: whether candidates stand in a search as they do in a network, with the scales and offsets of their
            normalisations and bare pools; else, as in DARTS' search, without, and each pool is normalised.
        alpha_scale: standard deviation of α at the start, from 0, where the mixing does not start from zero anyway.
        stages: number of runs of equally many cells, between which residual blocks halve the image; the cells have one
            input, pools are bare, and a genotype has an operation, maybe `none`, on every edge (NAS-Bench-201). None:
            cells of two inputs, some of which reduce.
        cells: usual number of cells, with stages of each; None: the method's.
    """

    name: str
    operations: tuple[str, ...]
    nodes: int = 4
    multiplier: int = 4
    source: str = ""
    stem: str = "auto"
    frame: MacroConfig = _DARTS
    affine: bool = False
    alpha_scale: float = 1e-3
    stages: int | None = None
    cells: int | None = None

    def __post_init__(self):
        if len(self.operations) < 2 or len(set(self.operations)) < len(self.operations):
            raise KdartsError(f"space {self.name!r}: needs two or more different operations, got {self.operations}")
        for name in self.operations:
            get_operation(name)
        choice("stem", self.stem, ("auto", *STEMS))

    def config(self) -> str | dict:
        """What `get_space` makes an equal space of: its name if it is registered, else its fields as plain data."""
        known = self.name in _SPACES.names() and _SPACES.get(self.name) == self
        return self.name if known or ("," in self.name and self == listed_space(self.name)) else asdict(self)

    @property
    def candidates(self) -> tuple[Operation, ...]:
        """The operations' definitions, in α's column order."""
        return tuple(get_operation(name) for name in self.operations)

    @property
    def inputs(self) -> int:
        """How many inputs a cell has, 2 or 1."""
        return 1 if self.stages else 2

    def size(self, cells: int = 1) -> int:
        """Number of genotypes that `cells` distinct cells can be (D-DARTS Eq. 6, to the power of the cells).

        Each node i of N takes two of its i + 1 inputs, and one of the K operations but `none` on each:
        s(K, N) = product over i = 1..N of K^2 i (i + 1) / 2. With stages it is one of all on every edge.

        Args:
            cells: distinct cells: 2 where normal cells and reductions share theirs, else as many as the network has.
        """
        if self.stages:
            return len(self.operations) ** (edge_count(self.nodes, 1) * cells)
        choices = len(set(self.operations) - {"none"})
        return math.prod(choices**2 * i * (i + 1) // 2 for i in range(1, self.nodes + 1)) ** cells


_SPACES = Registry("space")


def register_space(space: SearchSpace) -> SearchSpace:
    """Makes `space` known by its name; a name is given once."""
    return _SPACES.add(space)


def get_space(given: str | dict | SearchSpace) -> SearchSpace:
    """The space of a name, of operations separated by commas, or of a configuration; a space is returned as it is.

    Raises:
        KdartsError: with the known names, of spaces or of operations, for any other.
    """
    if isinstance(given, SearchSpace):
        return given
    if isinstance(given, dict):
        frame = {**given["frame"], "head": tuple(given["frame"]["head"])}
        return SearchSpace(**{**given, "operations": tuple(given["operations"]), "frame": MacroConfig(**frame)})
    return listed_space(given) if "," in given else _SPACES.get(given)


def listed_space(text: str) -> SearchSpace:
    """The space of the operations that a text such as `none,skip_connect,sep_conv_3x3` lists, in its order.

    Raises `KdartsError` if they are fewer than two, or one stands twice or is unknown.
    """
    operations = tuple(word.strip() for word in text.split(","))
    return SearchSpace(",".join(operations), operations, source="operations as listed")


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

_SEP3, _SEP5, _DIL3, _DIL5 = _LEARNED
_PAIRS = ((_SEP3, _DIL3), (_SEP5, _DIL5), (_SEP3, _SEP5), (_DIL3, _DIL5), (_SEP3, _DIL5), (_SEP5, _DIL3))
for _number, _learned in enumerate((*_PAIRS, (_SEP3, _SEP5, _DIL3), (_SEP3, _SEP5, _DIL5)), 1):
    # The paper has either pooling in them and does not say which.
    _kept = ("none", "max_pool_3x3", "skip_connect", *_learned)
    register_space(SearchSpace(f"ss{_number}", _kept, source=f"eDARTS, Siddiqui et al., Table I: SS{_number}"))
register_space(
    SearchSpace(
        "course",
        (*_LEARNED, "max_pool_3x3", "padded_avg_pool_3x3", "identity", "none"),
        nodes=3,
        multiplier=3,
        source="course project, Voronkova, section 4.2 and its program: DARTS with smaller cells in a plainer network",
        stem="none",
        frame=MacroConfig(head=(2048, 1024, 256), widen="after", epsilon=1e-3),
        affine=True,
        alpha_scale=0.0,
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
for _name, _operations in (
    ("s2", ("skip_connect", "sep_conv_3x3")),
    ("s3", ("none", "skip_connect", "sep_conv_3x3")),
    ("s4", ("noise", "sep_conv_3x3")),
):
    register_space(SearchSpace(_name, _operations, source=f"RobustDARTS, Zela et al., ICLR 2020: {_name.upper()}"))
register_space(
    SearchSpace(
        "nasbench201",
        ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
        nodes=3,
        multiplier=1,
        source="NAS-Bench-201, Dong and Yang, ICLR 2020: 15,625 cells whose true accuracy is known",
        stages=STAGES,
        cells=5,
    )
)
