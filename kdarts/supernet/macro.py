"""The macro plan: which cells reduce, how wide each is, how an image enters."""

import itertools
import math
from dataclasses import dataclass

from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype, thirds
from kdarts.genotypes.settings import MOST_CELLS, MOST_CHANNELS, MOST_SIDE
from kdarts.ops.operations import Conv, Norm, Operation, Relu


@dataclass(frozen=True)
class Stem:
    """How an image becomes a cell's two inputs.

    Attributes:
        parts: `(name, operation, stride, width)`: layers in order, `width` in multiples of the channels;
            the last two parts' outputs are the first cell's inputs, a single part's output is both.
        halved: whether the last part halves the image once more, so that the first cell must adapt its first input.
    """

    parts: tuple[tuple[str, Operation, int, float], ...]
    halved: bool = False


_CONV_BN = Operation("conv_bn", (Conv((3, 3)), Norm()), prefix="")
_HALF = Conv((3, 3), (True, True), expansion=0.5)
_FULL = Conv((3, 3), (True, True))
_STEM0 = Operation("stem0", (_HALF, Norm(), Relu(), _FULL, Norm()), prefix="")
_STEM0_ONCE = Operation("stem0", (_HALF, Norm(), Relu(), Conv((3, 3)), Norm()), prefix="")
_STEM1 = Operation("stem1", (Relu(), _FULL, Norm()), prefix="")

STEMS = {
    "none": Stem(()),
    "cifar": Stem((("stem", _CONV_BN, 1, 3),)),
    "small": Stem((("stem", _CONV_BN, 1, 1),)),
    "imagenet": Stem((("stem0", _STEM0, 2, 1), ("stem1", _STEM1, 2, 1)), halved=True),
    "imagenet_wide": Stem((("stem0", _STEM0, 2, 3), ("stem1", _STEM1, 2, 3)), halved=True),
    "imagenet_quarter": Stem((("stem0", _STEM0_ONCE, 2, 1), ("stem1", _STEM1, 2, 1)), halved=True),
}
"""`none`: the image is both inputs; `cifar`: 3x3 convolution to three times the channels; `small`: to the channels
alone; `imagenet`: to an eighth of the size; `imagenet_wide`: with three times the channels, as PC-DARTS searches;
`imagenet_quarter`: to a quarter, with the same weights, for DARTOpti's networks, whose three reductions leave 7 pixels
of 224 (its code)."""

MOST_WIDTH = 65_536
"""The greatest width of a hidden layer of a classifier."""

MOST_DOUBLINGS = 12
"""The most reductions of a network: 4096 pixels of a side have become one."""

WIDENINGS = ("at", "after")
"""Where the width doubles: at a reduction, or in the cell after it."""


@dataclass(frozen=True)
class MacroConfig:
    """The macro structure around the cells, behind the stem. The defaults are DARTS'.

    Attributes:
        head: widths of the classifier's hidden layers, each behind a ReLU, which read the whole of the last cell's
            output, flattened channel by channel; (): the mean of each channel goes straight to the logits.
        widen: "at" or "after" (see `WIDENINGS`).
        epsilon: of the normalisations that adapt a cell's inputs.

    Raises:
        KdartsError: if a number is out of its range.
    """

    head: tuple[int, ...] = ()
    widen: str = "at"
    epsilon: float = 1e-5

    def __post_init__(self):
        object.__setattr__(self, "head", tuple(self.head))
        choice("widen", self.widen, WIDENINGS)
        if len(self.head) > 10 or any(type(width) is not int or not 1 <= width <= MOST_WIDTH for width in self.head):
            raise KdartsError(
                f"head {self.head}: needs none or up to 10 widths of hidden layers, each from 1 to {MOST_WIDTH}"
            )
        if not 0 < self.epsilon < 1:
            raise KdartsError(f"epsilon {self.epsilon}: needs 0 < epsilon < 1")


@dataclass(frozen=True)
class CellPlan:
    """One cell.

    Attributes:
        filters: channels of its nodes.
        reduction: whether it reduces.
        after_reduction: whether its first input must be halved.
        entry: how it takes its inputs: "adapted": both, by a convolution each; "plain": the last cell's output alone,
            as it is; "residual": that, behind a residual block that halves it.
    """

    filters: int
    reduction: bool
    after_reduction: bool
    entry: str = "adapted"


def final_size(size, stem: Stem, plan) -> tuple[int, int]:
    """Height and width of the last cell's output, from those of an image in pixels."""
    strides = [1 + (cell.reduction or cell.entry == "residual") for cell in plan]
    for _, operation, stride, _ in stem.parts:
        strides += [stride for step in operation.layers(stride) if isinstance(step, Conv) and any(step.strided)]
    for stride in strides:
        size = tuple(-(-side // stride) for side in size)
    return tuple(size)


def check_input_shape(input_shape) -> tuple[int, int, int]:
    """`(height, width, channels)` as integers; raises `KdartsError` for anything smaller than 8x8, or far too large."""
    shape = tuple(int(n) for n in input_shape)
    most = MOST_SIDE, MOST_SIDE, MOST_CHANNELS
    if len(shape) != 3 or min(shape[:2]) < 8 or shape[2] < 1 or any(a > b for a, b in zip(shape, most, strict=True)):
        raise KdartsError(f"input shape {shape}: needs (height, width, channels) of at least (8, 8, 1), at most {most}")
    return shape


def choose_stem(name: str, input_shape, stages: int | None = None) -> Stem:
    """The stem called `name`; "auto" takes `small` under 16 pixels, `imagenet` from 96 on, else `cifar`.

    With stages, as of `Genotype`, it always takes `small`.
    """
    if name == "auto":
        side = min(input_shape[:2])
        name = "small" if side < 16 or stages else "imagenet" if side >= 96 else "cifar"
    stem = STEMS[choice("stem", name, STEMS)]
    if stages and (not stem.parts or stem.parts[-1][3] != 1):
        raise KdartsError(f"stem {name!r}: cells that take their input as it is need one of their width: 'small'")
    return stem


def check_reductions(reductions, cells: int) -> tuple[int, ...]:
    """Sorted positions of the reduction cells; None gives the default; raises `KdartsError` outside the network."""
    if reductions is None:
        return thirds(cells)
    positions = tuple(sorted({int(i) for i in reductions}))
    if positions and not 0 <= positions[0] <= positions[-1] < cells:
        raise KdartsError(f"reductions {list(positions)}: allowed are positions 0 to {cells - 1} of {cells} cells")
    return positions


def auxiliary_position(size, stem: Stem, plan) -> int:
    """The cell that feeds the auxiliary classifier: the last reduction, two thirds of the way in DARTS.

    Args:
        size, stem, plan: as of `final_size`.

    Raises:
        KdartsError: if the images are so small that it has less than 2x2 pixels.
    """
    position = max((i for i, cell in enumerate(plan) if cell.reduction), default=2 * len(plan) // 3)
    before = plan[: position + 1]
    if min(final_size(size, stem, before)) < 2:
        least = next(side for side in itertools.count(min(size)) if final_size((side, side), stem, before)[0] > 1)
        raise KdartsError(
            f"auxiliary=True: needs images of {least}x{least} or more in this network, got {size[0]}x{size[1]}; "
            f"allowed: image_size={least} or more, or auxiliary=False"
        )
    return position


def plan_cells(
    cells: int, channels: int, reductions, halved: bool = False, widen: str = "at", stages: int | None = None
) -> list[CellPlan]:
    """The cells in order, from the channels of the first.

    The width doubles at each of the `reductions` (positions), or after it (`widen`, see `WIDENINGS`); `halved` is as of
    `Stem`. With stages, as of `Genotype`, there are no reductions: each stage has so many cells, and the width doubles
    between them.
    """
    if not 1 <= cells <= MOST_CELLS:
        raise KdartsError(f"cells {cells}: needs at least 1 and at most {MOST_CELLS}")
    if not 2 <= channels <= MOST_CHANNELS or channels % 2:
        raise KdartsError(f"channels {channels}: needs an even number, at least 2 and at most {MOST_CHANNELS}")
    doublings = stages - 1 if stages else len(reductions)
    if doublings > MOST_DOUBLINGS:
        raise KdartsError(f"{doublings} reductions: each doubles the channels; at most {MOST_DOUBLINGS} are allowed")
    if stages:
        entries = [["residual" if stage else "plain", *["plain"] * (cells - 1)] for stage in range(stages)]
        return [CellPlan(channels << s, False, False, entry) for s, stage in enumerate(entries) for entry in stage]
    plan, before = [], halved
    for index in range(cells):
        reduction = index in reductions
        widening = index if widen == "at" else index - 1
        channels *= 2 if widening in reductions else 1
        plan.append(CellPlan(channels, reduction, before))
        before = reduction
    return plan


def plan_genotype(
    genotype: Genotype, cells: int | None, channels: int, stem: Stem, frame: MacroConfig
) -> list[tuple[CellPlan, int]]:
    """For each cell of a genotype's network (see `build_network`) its plan and the index of its distinct cell."""
    sequence, reductions = genotype.at_depth(cells)
    reductions = () if genotype.stages else check_reductions(reductions, len(sequence))
    each = len(sequence) // (genotype.stages or 1)
    plan = plan_cells(each, channels, reductions, stem.halved, frame.widen, genotype.stages)
    return list(zip(plan, sequence, strict=True))


def share_cells(sharing, plan) -> list[int]:
    """For each cell the index of its α: normal and reduce, one for each cell, or as given.

    Raises `KdartsError` if `sharing` is no known word and no list of one index a cell, counted from 0 without gaps.
    """
    if sharing == "shared":
        normal = not all(cell.reduction for cell in plan)
        return [int(cell.reduction and normal) for cell in plan]
    if sharing == "individual":
        return list(range(len(plan)))
    listed = isinstance(sharing, list | tuple) and all(isinstance(i, int) for i in sharing)
    if listed and len(sharing) == len(plan) and set(sharing) == set(range(max(sharing) + 1)):
        return list(sharing)
    raise KdartsError(
        f"sharing {sharing!r}: allowed are 'shared', 'individual', or {len(plan)} indices counted from 0 without gaps"
    )


def head_inputs(hidden, channels: int, size, stem, plan) -> int:
    """How many numbers the first layer of a classifier reads, if the last cell's output has so many channels.

    `hidden` as of `MacroConfig`; `size`, `stem` and `plan` as of `final_size`.
    """
    return channels * (math.prod(final_size(size, stem, plan)) if hidden else 1)
