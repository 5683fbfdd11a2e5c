"""Published HyperCuboids: their supernets, the networks of their paths, and their layers.

MultiChannelNet is a HyperCuboid of filters, layers, strides and operations (sharpDARTS, section 4.1).
"""

from collections.abc import Sequence

import keras

from kdarts.genotypes.cuboid import Cuboid, HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.ops.cost import Latencies
from kdarts.ops.layers import LAST, uniform
from kdarts.ops.operations import RESIZABLE_POOL, Operation, get_operation
from kdarts.supernet.grids import PRIMITIVES, CuboidSpace, get_cuboid
from kdarts.supernet.hypercuboid import HyperCuboid
from kdarts.supernet.macro import STEMS, check_input_shape
from kdarts.supernet.parts import Parts, Placed, path_latency_ms, path_network
from kdarts.supernet.relaxation import configuration


@keras.saving.register_keras_serializable("kdarts")
class PublishedHyperCuboid(HyperCuboid):
    """The supernet of a published HyperCuboid, which unlike one of a program's own functions can be saved and loaded.

    Args:
        space: name of the HyperCuboid.
        input_shape: `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: number of classes, at least 2.
        channels, cells, nodes, macro, width, blocks: those that are `sizes` of the `CuboidSpace`; None: its own.
        mixing, sampling, form, max_ram: as of `HyperCuboid`.

    Raises:
        KdartsError: if a size is given that is none of the space's, or as of its axes.
    """

    def __init__(
        self,
        space,
        input_shape,
        num_classes,
        channels=None,
        cells=None,
        nodes=None,
        mixing="max_w",
        *,
        macro=None,
        width=None,
        blocks=None,
        **kwargs,
    ):
        if num_classes < 2:
            raise KdartsError(f"num_classes {num_classes}: needs at least 2")
        published, shape = get_cuboid(space), check_input_shape(input_shape)
        sizes = {"channels": channels, "cells": cells, "nodes": nodes, "macro": macro, "width": width, "blocks": blocks}
        sizes = {name: value for name, value in sizes.items() if value is not None}
        for name in [name for name in sizes if name not in published.sizes]:
            raise KdartsError(
                f"{name} {sizes[name]}: space {space!r} has none; its sizes are {', '.join(published.sizes)}"
            )
        axes = published.axes(**({"input_shape": shape} if published.fits_images else {}), **sizes)
        made = vars(_parts_of(published)(axes, num_classes))
        super().__init__(shape, **vars(axes), **made, mixing=mixing, space=space, **kwargs)
        self._axes = sizes

    def get_config(self):
        about = {"space": self.space_name, "input_shape": self.image_shape, "num_classes": self.num_classes}
        about |= {"max_ram": self.max_ram} if self.max_ram is not None else {}
        about |= {"sampling": configuration(self.mixture.sampling)} if self.mixture.draws_passes else {}
        about |= {"form": self.form} if self.form != "separate" else {}
        mixing = configuration(self.mixture.relaxation)
        return {**keras.Model.get_config(self), **about, **self._axes, "mixing": mixing}

    def setting(self):
        return {**super().setting(), **{name: self._axes[name] for name in ("macro", "width") if name in self._axes}}


def build_path_network(
    path: HyperPath, input_shape: Sequence[int], num_classes: int, drop_last_step: bool = False
) -> keras.Model:
    """The network of a path of a published HyperCuboid, as a functional Keras model.

    Args:
        path: the path.
        input_shape: `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: number of classes, at least 2.
        drop_last_step: whether the head follows the last step but one. sharpDARTS' program builds 7 of a path's 8
            steps so, and the sizes in the paper's Table 4 are of these networks.

    Raises:
        KdartsError: if the path is of a program's own HyperCuboid, or names what is none of its axes.
    """
    if not path.space:
        raise KdartsError(
            "the path is of a HyperCuboid of a program's own, which alone can build it: HyperCuboid.network"
        )
    if num_classes < 2:
        raise KdartsError(f"num_classes {num_classes}: needs at least 2")
    parts = _parts_of(get_cuboid(path.space))(path.cuboid, num_classes)
    return path_network(path, check_input_shape(input_shape), parts, drop_last_step)


def path_latency(path: HyperPath, input_shape, latencies: Latencies) -> float:
    """The milliseconds of a path of a published HyperCuboid by a table, without its classifier.

    Raises `KdartsError` if the table lacks one of its operations.
    """
    parts = _parts_of(get_cuboid(path.space))(path.cuboid, 2)
    return path_latency_ms(path, check_input_shape(input_shape), parts, latencies)


_AXES = {"sequence": ("layer", "stride"), "states": ("filters",), "choices": ("primitive",)}
_KEPT = Operation("kept_pool", RESIZABLE_POOL.steps[:1])


def multichannelnet_parts(axes: Cuboid, num_classes: int, features: int | None = None) -> Parts:
    """The layers of MultiChannelNet on its axes; the order of the primitives is free.

    The head has `features` channels; None: three times the widest scale, the program's 768 at 256. Raises `KdartsError`
    if the axes are others.
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
        return [keras.layers.GlobalAveragePooling2D(LAST, dtype=policy, name="pool"), dense]

    return Parts(
        build,
        head=lambda state: Placed(separable, features),
        stem=lambda state: Placed(stem, state["filters"]),
        tail=tail,
    )


_PARTS = {"multichannelnet": multichannelnet_parts}


def _parts_of(space: CuboidSpace):
    return space.parts or _PARTS[space.name]
