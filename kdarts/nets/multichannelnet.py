"""The layers of MultiChannelNet, a HyperCuboid of filters, layers, strides and operations (sharpDARTS, section 4.1)."""

import keras

from kdarts.genotypes.cuboid import Cuboid
from kdarts.genotypes.errors import KdartsError
from kdarts.nets.cuboid_spaces import PRIMITIVES
from kdarts.nets.initializers import uniform
from kdarts.nets.operations import RESIZABLE_POOL, Operation, get_operation
from kdarts.nets.parts import Parts
from kdarts.nets.placed import Placed
from kdarts.nets.plan import STEMS

_AXES = {"sequence": ("layer", "stride"), "states": ("filters",), "choices": ("primitive",)}
_KEPT = Operation("kept_pool", RESIZABLE_POOL.steps[:1])


def multichannelnet_parts(axes: Cuboid, num_classes: int, features: int | None = None) -> Parts:
    """Its layers.

    Args:
        axes: as of `multichannelnet_axes`; the order of the primitives is free.
        num_classes: number of classes.
        features: channels of the head; None: three times the widest scale, the program's 768 at 256.

    Raises:
        KdartsError: if the axes are others.
    """
    names = {kind: tuple(name for name, _ in getattr(axes, kind)) for kind in _AXES}
    filters, strides = dict(axes.states).get("filters", ()), dict(axes.sequence).get("stride", ())
    known = all(isinstance(n, int) and n > 0 for n in filters) and set(strides) <= {1, 2}
    if names != _AXES or not known or not set(dict(axes.choices)["primitive"]) <= set(PRIMITIVES):
        raise KdartsError(
            "MultiChannelNet has the axes layer, stride (1, 2), filters (whole numbers) and primitive "
            f"({', '.join(PRIMITIVES)}), got {axes.to_json()}"
        )
    separable, stem = get_operation("sep_conv_3x3"), STEMS["cifar"].parts[0][1]
    features = features or 3 * max(filters)

    def build(step):
        if step["primitive"] == "SharpSepConv":
            return Placed(separable, step["filters"], step["stride"])
        pool = _KEPT if step.source == step.target else RESIZABLE_POOL
        return Placed(pool, step["filters"], step["stride"])

    def tail():
        policy, fan_in = keras.config.dtype_policy().variable_dtype, uniform(features)
        dense = keras.layers.Dense(
            num_classes, kernel_initializer=fan_in, bias_initializer=fan_in, dtype=policy, name="classifier"
        )
        return [keras.layers.GlobalAveragePooling2D(dtype=policy, name="pool"), dense]

    return Parts(
        build,
        head=lambda state: Placed(separable, features),
        stem=lambda state: Placed(stem, state["filters"]),
        tail=tail,
    )
