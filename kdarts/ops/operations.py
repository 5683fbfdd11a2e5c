"""The candidate operations, each defined once as a sequence of steps.

A definition says which layers an operation has, their sizes and their order, and nothing about how they are computed.
The evaluation network (`kdarts.networks.network`) and the fast search form (`kdarts.ops.mixed`) both interpret it.
"""

from dataclasses import dataclass, field, replace

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import Registry


@dataclass(frozen=True)
class Relu:
    """Rectifier, never in place."""


@dataclass(frozen=True)
class Relu6:
    """Rectifier that ends at 6, so that 8-bit integers have a fixed range to hold."""


@dataclass(frozen=True)
class Conv:
    """Convolution without bias, zero padding.

    Attributes:
        kernel: height and width, odd.
        strided: whether the operation's stride applies along height and along width.
        dilation: 1 or 2.
        depthwise: one filter for each channel; otherwise all channels mix.
        expansion: filters as a multiple of the operation's output channels (ignored when depthwise).
        width: filters, whatever the output channels are; None: by `expansion`.
        same: whether the padding is TensorFlow's "same", which at stride 2 pads the end of an even side alone; else it
            is symmetric. At stride 1 both are equal.
    """

    kernel: tuple[int, int] = (1, 1)
    strided: tuple[bool, bool] = (False, False)
    dilation: int = 1
    depthwise: bool = False
    expansion: float = 1
    width: int | None = None
    same: bool = False

    def filters(self, channels: int) -> int:
        """How many filters it has, unless it is depthwise, in an operation of so many output channels."""
        return int(channels * self.expansion) if self.width is None else self.width


@dataclass(frozen=True)
class Norm:
    """Batch normalisation; `epsilon` is added to the variance."""

    epsilon: float = 1e-5


@dataclass(frozen=True)
class Gate:
    """Squeeze-and-excitation: each channel times a number from 0 to 1 that the means of all channels give.

    They go through two 1x1 convolutions with a bias, ReLU behind the first and a hard sigmoid behind the second
    (MobileNetV3, section 5.3).

    Attributes:
        width: channels between the two.
    """

    width: int


@dataclass(frozen=True)
class Reduce:
    """Half of the filters of a 1x1 convolution at stride 2 see the even pixels, half the odd ones."""


@dataclass(frozen=True)
class Pool:
    """3x3 pooling ("max" or "avg"), one pixel of padding, whose zeros count in the mean if `padded`."""

    kind: str
    padded: bool = False


@dataclass(frozen=True)
class Halve:
    """Mean of 2x2 pixels at stride 2, or of what there is of them at the end of an odd side."""


@dataclass(frozen=True)
class Noise:
    """Standard normal noise in the shape of the output, whatever the input is."""


@dataclass(frozen=True)
class Operation:
    """One candidate.

    Attributes:
        name: as genotypes spell it.
        steps: layers at stride 1.
        strided_steps: layers at stride 2 where they differ; None: the same steps.
        zero: passes nothing on (`none`).
        prefix: what precedes a step's position in the reference weights' names.
    """

    name: str
    steps: tuple = ()
    strided_steps: tuple | None = field(default=None)
    zero: bool = False
    prefix: str = "op."

    def layers(self, stride: int) -> tuple:
        """The steps at `stride` 1 or 2; empty for the identity and for zero."""
        return self.steps if stride == 1 or self.strided_steps is None else self.strided_steps

    def parametric(self, stride: int) -> bool:
        """Whether it has weights at this stride."""
        return any(isinstance(step, Conv | Gate | Reduce) for step in self.layers(stride))

    @property
    def noisy(self) -> bool:
        """Whether it draws noise, anew in each pass."""
        return any(isinstance(step, Noise) for step in self.steps)

    def step_names(self, stride: int) -> list[tuple[str, ...]]:
        """For each step the names of its weights in the reference's state dict."""
        steps = self.layers(stride)
        if any(isinstance(step, Reduce) for step in steps):
            return [("conv_1", "conv_2") if isinstance(s, Reduce) else ("bn",) for s in steps]
        return [(f"{self.prefix}{i}",) for i in range(len(steps))]


def _depthwise(size, strided=False, dilation=1):
    return Conv((size, size), (strided, strided), dilation, depthwise=True)


def sharp_sep_conv(
    name: str, size: int, dilation: int = 1, c_mid_mult: float = 1, c_mid: int | None = None
) -> Operation:
    """SharpSepConv (sharpDARTS, figure 3): ReLU, depthwise, pointwise, BN, twice; DARTS' separable one by default.

    Both depthwise kernels have the odd `size`; the first takes the dilation, 1 or 2, and the stride. Between the halves
    are `c_mid_mult` times the output's channels, or `c_mid` of them.
    """
    between = Conv(expansion=c_mid_mult, width=c_mid)
    second = (Relu(), _depthwise(size), Conv(), Norm())
    return Operation(name, (Relu(), _depthwise(size, True, dilation), between, Norm(), *second))


def dilated(name: str, size: int) -> Operation:
    """ReLU, depthwise with dilation 2, pointwise, BN."""
    return Operation(name, (Relu(), _depthwise(size, strided=True, dilation=2), Conv(), Norm()))


def simple(name: str, size: int) -> Operation:
    """ReLU, one convolution, BN."""
    return Operation(name, (Relu(), Conv((size, size), (True, True)), Norm()))


def asymmetric(name: str, size: int, prefix: str = "op.") -> Operation:
    """ReLU, a convolution along the width, one along the height, BN; each takes the stride along its own side."""
    pair = Conv((1, size), (False, True)), Conv((size, 1), (True, False))
    return Operation(name, (Relu(), *pair, Norm()), prefix=prefix)


def bottleneck(name: str, size: int) -> Operation:
    """ReLU; 1x1, `size` and 1x1 convolutions to four times the channels, each with BN; ReLU, 1x1 back, BN.

    D-DARTS' code; no ReLU stands between the first three convolutions, and nothing inside is a residual.
    """
    widened = (Conv(), Norm(), Conv((size, size), (True, True)), Norm(), Conv(expansion=4), Norm())
    return Operation(name, (Relu(), *widened, Relu(), Conv(), Norm()))


def inverted_residual(name: str, channels: int, size: int, expansion: int, gated: bool = False) -> Operation:
    """MobileNetV2's block (Sandler et al. 2018, table 1): 1x1 to more channels, depthwise, 1x1 back without a ReLU.

    Args:
        name: of the operation.
        channels: of its input.
        size: of the depthwise kernel, odd.
        expansion: how many times the input's channels the depthwise convolution has; at 1 the first 1x1 is left out.
        gated: whether a `Gate` of a quarter of these channels, a multiple of 8, stands behind the depthwise one.
    """
    wide = expansion * channels
    first = (Conv(width=wide), Norm(1e-3), Relu6()) if expansion > 1 else ()
    gate = (Gate(max(8, (wide // 4 + 4) // 8 * 8)),) if gated else ()
    middle = (Conv((size, size), (True, True), depthwise=True, same=True), Norm(1e-3), Relu6(), *gate)
    return Operation(name, (*first, *middle, Conv(), Norm(1e-3)))


RESIZABLE_POOL = Operation("resizable_pool", (Pool("max"), Conv(), Norm(1e-3)))
"""A maximum that changes the channels (sharpDARTS' program, whose epsilon is another here)."""

FACTORIZED_REDUCE = Operation("factorized_reduce", (), (Relu(), Reduce(), Norm()))
"""Halves the image: the first of the two ways a cell adapts its inputs."""

RELU_CONV_BN = Operation("relu_conv_bn", (Relu(), Conv(), Norm()))
"""Changes the channels alone: the second way."""


def adapter(halving: bool, epsilon: float = 1e-5) -> tuple[Operation, int]:
    """How a cell adapts an input, and at which stride: 2 where the image must be halved."""
    operation, stride = (FACTORIZED_REDUCE, 2) if halving else (RELU_CONV_BN, 1)
    if epsilon == Norm().epsilon:
        return operation, stride
    steps = tuple(Norm(epsilon) if isinstance(step, Norm) else step for step in operation.layers(stride))
    return replace(operation, **{"strided_steps" if halving else "steps": steps}), stride


RESIDUAL = (simple("conv_a", 3), simple("conv_b", 3), Operation("downsample", (), (Halve(), Conv()), prefix=""))
"""A residual block that halves the image (NAS-Bench-201): two convolutions, of which the first takes the stride, and
beside them a mean and a bare convolution."""

CLOSING = Operation("lastact", (Norm(), Relu()), prefix="")
"""The operation after the last cell if no cell adapts its inputs (NAS-Bench-201)."""

_OPERATIONS = Registry("operation")


def register_operation(operation: Operation) -> Operation:
    """Makes `operation` known by its name to genotypes, spaces and networks; a name is given once."""
    return _OPERATIONS.add(operation)


def get_operation(name: str, c_mid: int | None = None) -> Operation:
    """The operation called `name`.

    Args:
        name: as genotypes spell it.
        c_mid: filters of its convolutions of fixed width, which choke convolutions have; None: their own.

    Raises:
        KdartsError: with the known names for another; or if `c_mid` is below 1.
    """
    if c_mid is not None and c_mid < 1:
        raise KdartsError(f"c_mid {c_mid}: needs at least 1")
    operation = _OPERATIONS.get(name)
    if c_mid is None:
        return operation
    steps = (replace(s, width=c_mid) if isinstance(s, Conv) and s.width else s for s in operation.steps)
    return replace(operation, steps=tuple(steps))


def operation_names() -> list[str]:
    """Every known name."""
    return _OPERATIONS.names()


for _operation in (
    Operation("none", zero=True),
    Operation("max_pool_3x3", (Pool("max"),)),
    Operation("avg_pool_3x3", (Pool("avg"),)),
    Operation("skip_connect", (), FACTORIZED_REDUCE.strided_steps),
    sharp_sep_conv("sep_conv_3x3", 3),
    sharp_sep_conv("sep_conv_5x5", 5),
    sharp_sep_conv("sep_conv_7x7", 7),
    dilated("dil_conv_3x3", 3),
    dilated("dil_conv_5x5", 5),
    asymmetric("conv_7x1_1x7", 7, prefix=""),
    asymmetric("conv_3x1_1x3", 3),
    simple("simple_conv_1x1", 1),
    simple("simple_conv_3x3", 3),
    simple("simple_conv_5x5", 5),
    bottleneck("bottleneck_1x3x1", 3),
    Operation("identity", (), (Relu(), Conv(strided=(True, True)), Norm(1e-3))),
    Operation("padded_avg_pool_3x3", (Pool("avg", padded=True),)),
    simple("nor_conv_1x1", 1),
    simple("nor_conv_3x3", 3),
    sharp_sep_conv("dil_sep_conv_3x3", 3, dilation=2),
    sharp_sep_conv("dil_sep_conv_5x5", 5, dilation=2),
    sharp_sep_conv("flood_conv_3x3", 3, c_mid_mult=4),
    sharp_sep_conv("flood_conv_5x5", 5, c_mid_mult=4),
    sharp_sep_conv("dil_flood_conv_3x3", 3, dilation=2, c_mid_mult=4),
    sharp_sep_conv("choke_conv_3x3", 3, c_mid=32),
    sharp_sep_conv("dil_choke_conv_3x3", 3, dilation=2, c_mid=32),
    Operation("noise", (Noise(),)),
):
    register_operation(_operation)
