"""The space of small networks for devices: a chain of MobileNetV2's blocks, each chosen on its own.

It is a HyperCuboid of one sequence axis and one choice. A value of the sequence, such as `2.1 32/2`, is a place: the
first block of the second stage, with 32 channels and stride 2. What the axes cannot say, the images and the layers
before and behind the blocks, is in the cuboid's `macro`, so that a path's file rebuilds its network.
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from kdarts.genotypes.cuboid import Cuboid, HyperPath
from kdarts.genotypes.errors import KdartsError, choice, quoted
from kdarts.genotypes.settings import MOST_CHANNELS
from kdarts.ops.cost import Cost
from kdarts.ops.operations import Conv, Norm, Operation, Relu6, inverted_residual
from kdarts.supernet.grids import CuboidSpace, register_cuboid

SKIP = "skip"
BLOCKS = ("mb_k3_e3", "mb_k3_e6", "mb_k5_e3", "mb_k5_e6", SKIP)
"""What a place is offered unless `blocks` says otherwise; the skip only where it changes no shape."""

_BLOCK = re.compile(r"mb_k([357])_e([12346])(_se)?")
_PLACE = re.compile(r"(\d{1,3})\.(\d{1,3}) (\d{1,4})/([12])")


@dataclass(frozen=True)
class Macro:
    """The macro structure of a mobile network: all but its blocks.

    Attributes:
        stem: channels and stride of the 3x3 convolution at the start.
        first: the same of the block behind it, which is not searched: a depthwise 3x3 convolution without expansion.
        stages: channels, number of blocks and stride of each stage; its first block takes the stride.
        head: channels of the 1x1 convolution before the mean over all pixels; 0: none.
    """

    stem: tuple[int, int]
    first: tuple[int, int]
    stages: tuple[tuple[int, int, int], ...]
    head: int = 0


MACROS = {
    "32": Macro((16, 1), (16, 1), ((24, 3, 2), (32, 3, 2), (48, 3, 1))),
    "32_large": Macro((32, 1), (16, 1), ((24, 3, 1), (40, 3, 2), (80, 3, 2), (112, 3, 1))),
    "48": Macro((16, 2), (8, 1), ((16, 3, 1), (24, 3, 2), (40, 3, 2), (64, 3, 1))),
    "96": Macro((16, 2), (8, 1), ((16, 3, 2), (24, 3, 2), (40, 3, 2), (64, 3, 1))),
    "224": Macro((16, 2), (16, 2), ((24, 3, 2), (40, 4, 2), (48, 3, 1), (96, 3, 2)), 576),
}
"""Structures by the side of the images that they are for, in pixels."""

_SIDES = {"32": 40, "48": 72, "96": 160}
"""The greatest side that "auto" takes each for; beyond them it takes "224"."""

WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Widths that are tried where limits choose one."""

_KEYS = ("input", "stem", "stem_stride", "first", "first_stride", "head", "activation", "epsilon")


def macro_names() -> tuple[str, ...]:
    """What `--macro` takes."""
    return ("auto", *MACROS)


def fitting_macro(input_shape) -> str:
    """The name of the structure for images `(height, width, channels)`, by their smaller side."""
    side = min(input_shape[:2])
    return next((name for name, most in _SIDES.items() if side <= most), "224")


def rounded(channels: float) -> int:
    """The multiple of 8 that is nearest, the larger of two, and at least 8."""
    return max(8, int(channels + 4) // 8 * 8)


def mobile_axes(input_shape=(32, 32, 3), macro: str = "auto", width: float | None = None, blocks: str = "") -> Cuboid:
    """The axes of the mobile space.

    Args:
        input_shape: `(height, width, channels)` of an image.
        macro: one of `MACROS`; "auto": the one for such images.
        width: factor of all channels but the head's, above 0; None: 1. Products are rounded to multiples of 8.
        blocks: what a place is offered, separated by commas: `skip`, and `mb_kK_eE` or `mb_kK_eE_se` with a kernel K of
            3, 5 or 7, an expansion E of 1, 2, 3, 4 or 6 and, with `_se`, a gate; "": `BLOCKS`.

    Raises:
        KdartsError: for any other macro or block, or a width that makes the channels too many.
    """
    macro = fitting_macro(input_shape) if macro == "auto" else choice("macro", macro, macro_names())
    plan, factor = MACROS[macro], 1.0 if width is None else width
    offered = tuple(name.strip() for name in blocks.split(",")) if blocks else BLOCKS
    for name in offered:
        _block(name)
    if set(offered) == {SKIP}:
        raise KdartsError(f"blocks {blocks}: needs one or more besides skip")
    if max(channels for channels, _, _ in plan.stages) * factor > MOST_CHANNELS:
        raise KdartsError(f"width {factor:g}: a stage may have {MOST_CHANNELS} channels at most")
    places = [
        f"{stage}.{block} {rounded(factor * channels)}/{stride if block == 1 else 1}"
        for stage, (channels, count, stride) in enumerate(plan.stages, 1)
        for block in range(1, count + 1)
    ]
    (stem, stem_stride), (first, first_stride) = plan.stem, plan.first
    around = [tuple(input_shape), rounded(factor * stem), stem_stride, rounded(factor * first), first_stride]
    around = dict(zip(_KEYS, [*around, plan.head, "relu6", 1e-3], strict=True))
    return Cuboid({"place": places}, {}, {"block": offered}, around)


def _block(name: str) -> tuple[int, int, bool] | None:
    """Kernel, expansion and gate of a block by its name; None: the skip."""
    found = _BLOCK.fullmatch(name)
    if name != SKIP and found is None:
        raise KdartsError(
            f"block {quoted(name)}: allowed are skip and mb_kK_eE or mb_kK_eE_se, K of 3, 5, 7 and E of 1, 2, 3, 4, 6"
        )
    return found and (int(found[1]), int(found[2]), found[3] is not None)


def places(axes: Cuboid) -> dict[str, tuple[int, int, int]]:
    """For each value of the sequence the channels before and after it, and its stride.

    Raises `KdartsError` if the axes or their `macro` are not those of a mobile space.
    """
    _check(axes)
    before, found = dict(axes.macro)["first"], {}
    for place in dict(axes.sequence)["place"]:
        _, _, channels, stride = map(int, _PLACE.fullmatch(place).groups())
        found[place] = before, channels, stride
        before = channels
    return found


def _check(axes: Cuboid) -> None:
    names = [[name for name, _ in getattr(axes, kind)] for kind in ("sequence", "states", "choices")]
    if names != [["place"], [], ["block"]]:
        raise KdartsError(f"a mobile path has the axes place and block, got {quoted(axes.to_json())}")
    for place in dict(axes.sequence)["place"]:
        found = _PLACE.fullmatch(place) if isinstance(place, str) else None
        if found is None or not 1 <= int(found[3]) <= MOST_CHANNELS:
            raise KdartsError(f"place {quoted(place)}: needs stage.block channels/stride, such as 2.1 32/2")
    for name in dict(axes.choices)["block"]:
        _block(name if isinstance(name, str) else quoted(name))
    around = dict(axes.macro)
    if set(around) != set(_KEYS):
        raise KdartsError(f"macro: needs {', '.join(_KEYS)}, got {quoted(sorted(around))}")
    shape = around["input"]
    counts = {name: around[name] for name in ("stem", "first", "head")}
    good = {
        "input": isinstance(shape, tuple) and len(shape) == 3,
        **{
            name: type(n) is int and (name == "head") <= n + (name == "head") <= MOST_CHANNELS
            for name, n in counts.items()
        },
        **{name: around[name] in (1, 2) for name in ("stem_stride", "first_stride")},
        "activation": around["activation"] == "relu6",
        "epsilon": around["epsilon"] == 1e-3,
    }
    for name in [name for name, fine in good.items() if not fine]:
        raise KdartsError(f"macro: {name} {quoted(around[name])} is not known here")


def skippable(axes: Cuboid) -> dict[str, bool]:
    """For each value of the sequence whether the skip may stand there: where it changes no shape."""
    return {place: stride == 1 and before == after for place, (before, after, stride) in places(axes).items()}


def count_paths(axes: Cuboid) -> int:
    """The number of paths."""
    offered = dict(axes.choices)["block"]
    skips = SKIP in offered
    return math.prod(len(offered) - (skips and not may) for may in skippable(axes).values())


def block_costs(axes: Cuboid, num_classes: int) -> tuple[np.ndarray, Cost]:
    """What each block costs at each place, and what the rest of a network costs, without building any of it.

    Returns:
        Objects `[places, blocks]`, each a `Cost` or None where the block may not stand; and the `Cost` of the rest.
    """
    from kdarts.ops.device import CHANNEL, FILE, LAYER
    from kdarts.supernet.parts import placed_cost

    parts, shape = mobile_parts(axes, num_classes), tuple(dict(axes.macro)["input"])
    around, shape = placed_cost(parts.stem({}), shape)
    costs = np.full((axes.shape[0], axes.shape[3]), None, object)
    after = shape
    for (stage, _, _, block), step in axes.steps():
        if block == 0:
            shape = after
        if (made := parts.build(step)) is not None:
            costs[stage, block], after = placed_cost(made, shape)
    closing, shape = placed_cost(parts.head({}), after)
    values, features = math.prod(shape), shape[-1]
    weights, file = features * num_classes, FILE + 2 * LAYER + CHANNEL * num_classes
    last = Cost(weights + num_classes, weights, flash=weights + file, ram=max(values, num_classes) + features)
    return costs, around + closing + last


SAMPLES = 1000
"""Random networks of each width that are compared with the limits."""


def fitting_width(
    input_shape, num_classes: int, limits: dict, macro: str = "auto", blocks: str = "", latencies=None
) -> float:
    """The width that fits limits best, by MCUNet's rule (Lin et al. 2020, section 3.1), without any training.

    Of `SAMPLES` random networks of each of `WIDTHS` those within all limits count; where they have the most MACs in
    the mean, the best of them is likely to be the most accurate. Where no network fits it is the least width.

    Args:
        input_shape, macro, blocks: as of `mobile_axes`.
        num_classes: number of classes.
        limits: the most "macs", "params", "ram", "flash" and "latency_ms", those that there are.
        latencies: a table for milliseconds. Widths that it has no rows of are left out, but not all.
    """
    means = {}
    for width in WIDTHS:
        axes = mobile_axes(input_shape, macro, width, blocks)
        costs, around = block_costs(axes, num_classes)
        try:
            found = _sampled(axes, costs, around, latencies)
        except KdartsError:
            if width == WIDTHS[-1] and not means:
                raise
            continue
        fits = np.all([found[kind] <= limit for kind, limit in limits.items()], 0)
        means[width] = found["macs"][fits].mean() if fits.any() else 0.0
    return max(means, key=lambda width: (means[width], -width))


START_WIDTHS = tuple(step / 20 for step in range(5, 41))
"""Widths that are tried where a start chooses one: from 0.25 to 2 in steps of 0.05."""


def mobilenet_v2(axes: Cuboid) -> HyperPath:
    """The path of MobileNetV2's own block, a kernel of 3 and an expansion of 6, at every place.

    Raises `KdartsError` where it is not among the blocks.
    """
    blocks = dict(axes.choices)["block"]
    if "mb_k3_e6" not in blocks:
        raise KdartsError(f"start MobileNetV2: is of mb_k3_e6, which blocks {','.join(blocks)} lack")
    return uniform_path(axes, "mb_k3_e6").named("MobileNetV2")


def uniform_path(axes: Cuboid, block: str) -> HyperPath:
    """The path of one block, which must be among those of the axes, at every place."""
    count, index = axes.shape[0], dict(axes.choices)["block"].index(block)
    return HyperPath(axes, (0,) * (count + 1), (index,) * count, "mobile")


def start_width(start, input_shape, num_classes: int, limits: dict, macro="auto", blocks="", latencies=None):
    """The width of a search that starts from a path: that of its own, or MobileNetV2's at the limits.

    The latter is the greatest of `START_WIDTHS` at which MobileNetV2 keeps all limits, or the least width if it never
    does; without limits None, which is 1. Of widths with the same channels it is the least. The other arguments are
    those of `fitting_width`.
    """
    if not limits and not isinstance(start, HyperPath):
        return None
    made = [(width, mobile_axes(input_shape, macro, width, blocks)) for width in START_WIDTHS]
    widths = {axes: width for width, axes in reversed(made)}
    if isinstance(start, HyperPath):
        own = _channels(start.cuboid)
        return next((width for axes, width in widths.items() if _channels(axes) == own), None)
    found, known, missing = START_WIDTHS[0], False, None
    for axes, width in sorted(widths.items(), key=lambda pair: pair[1]):
        (costs, rest), path = block_costs(axes, num_classes), mobilenet_v2(axes)
        try:
            costs, base = (costs, 0.0) if latencies is None else _timed(axes, costs, latencies)
        except KdartsError as error:  # The table is of other widths.
            missing = error
            continue
        total = sum((costs[place] for place in enumerate(path.choices)), rest + Cost(latency_ms=base))
        known = True
        if all(getattr(total, kind) <= limit for kind, limit in limits.items()):
            found = width
    if not known:
        raise missing
    return found


def _channels(axes: Cuboid) -> tuple:
    """The channels of a mobile network everywhere but in its head."""
    around = dict(axes.macro)
    return axes.sequence, around.get("stem"), around.get("first")


def _sampled(axes: Cuboid, costs: np.ndarray, around: Cost, latencies) -> dict[str, np.ndarray]:
    """The costs of random networks by their kinds, `[SAMPLES]` each."""
    rng, kinds = np.random.default_rng(0), ("macs", "params", "flash", "latency_ms", "ram")
    total = {kind: np.full(SAMPLES, float(getattr(around, kind))) for kind in kinds}
    if latencies is not None:
        costs, base = _timed(axes, costs, latencies)
        total["latency_ms"] += base
    for row in costs:
        there = [cost for cost in row if cost is not None]
        drawn = rng.integers(len(there), size=SAMPLES)
        for kind in kinds:
            of = np.array([float(getattr(cost, kind)) for cost in there])[drawn]
            total[kind] = np.maximum(total[kind], of) if kind == "ram" else total[kind] + of
    return total


def _timed(axes: Cuboid, costs: np.ndarray, latencies) -> tuple[np.ndarray, float]:
    """The costs with milliseconds by a table, and those of the layers before and behind the blocks."""
    found, timed = {}, costs.copy()
    for where, operation, *key in measured_operations(axes):
        found[where] = found.get(where, 0.0) + latencies.of(operation, *key)
    for stage, block in np.argwhere(costs != None).tolist():  # noqa: E711 (of each object)
        timed[stage, block] = costs[stage, block] + Cost(latency_ms=found.get((stage, block), 0.0))
    return timed, found.get(None, 0.0)


def measured_operations(axes: Cuboid) -> list[tuple]:
    """What a table of latencies has of a mobile space.

    Returns:
        For each operation `(place and block, operation, channels, filters, stride, (height, width))`: the first is
        `(number of the place, number of the block)`, or None for the stem, the first block and the head.
    """
    from kdarts.supernet.parts import placed_operations

    parts, shape, found = mobile_parts(axes, 2), tuple(dict(axes.macro)["input"]), []

    def walk(where, made, shape):
        keys, shape = placed_operations(made, shape)
        found.extend((where, *key) for key in keys)
        return shape

    after = shape = walk(None, parts.stem({}), shape)
    for (stage, _, _, block), step in axes.steps():
        shape = after if block == 0 else shape
        if made := parts.build(step):
            after = walk((stage, block), made, shape)
    walk(None, parts.head({}), after)
    return found


def mobile_parts(axes: Cuboid, num_classes: int):
    """The layers of the mobile space, a `Parts`; raises `KdartsError` as of `places`."""
    import keras

    from kdarts.ops.layers import LAST, uniform
    from kdarts.supernet.parts import Parts, Placed
    from kdarts.supernet.super_block import SuperBlock

    at, around = places(axes), dict(axes.macro)
    features = around["head"] or next(reversed(at.values()))[1]

    def convolution(name, size, strided=False):
        kernel = Conv((size, size), (strided, strided), same=True)
        return Operation(name, (kernel, Norm(1e-3), Relu6()))

    def block(name, channels, filters, stride, affine):
        size, expansion, gated = _block(name)
        residual = stride == 1 and channels == filters
        operation = inverted_residual(name, channels, size, expansion, gated)
        return Placed(operation, filters, stride, residual, affine)

    def build(step):
        before, after, stride = at[step["place"]]
        if step["block"] == SKIP:
            return [] if stride == 1 and before == after else None
        return block(step["block"], before, after, stride, False)

    def join(steps, **options):
        before, after, stride = at[next(step for step in steps if step is not None)["place"]]
        found = [None if step is None else _block(step["block"]) for step in steps]
        if any(block is not None and block[2] for block in found):
            raise KdartsError("form 'shared': has no squeeze-and-excitation; blocks without _se are allowed")
        sizes = [block and block[:2] for block in found]
        return SuperBlock(sizes, after, stride, stride == 1 and before == after, **options)

    def stem(_):
        width, stride = around["stem"], around["stem_stride"]
        first = block("mb_k3_e1", width, around["first"], around["first_stride"], True)
        return [Placed(convolution("conv_3x3_relu6", 3, True), width, stride), first]

    def head(_):
        return [Placed(convolution("conv_1x1_relu6", 1), around["head"])] if around["head"] else []

    def tail():
        policy, fan_in = keras.config.dtype_policy().variable_dtype, uniform(features)
        start = {"kernel_initializer": fan_in, "bias_initializer": fan_in}
        dense = keras.layers.Dense(num_classes, **start, dtype=policy, name="classifier")
        return [keras.layers.GlobalAveragePooling2D(LAST, dtype=policy, name="pool"), dense]

    return Parts(build, head, stem, tail, join)


register_cuboid(
    CuboidSpace(
        "mobile",
        mobile_axes,
        "MobileNetV2, Sandler et al. 2018, with choices as of ProxylessNAS, Cai et al. 2019",
        mobile_parts,
        sizes=("macro", "width", "blocks"),
        paths=count_paths,
        starts={"MobileNetV2": mobilenet_v2},
        start_width=start_width,
    )
)
