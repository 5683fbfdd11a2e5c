"""Published HyperCuboids: their supernets, and the networks of their paths."""

import keras

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.hyper_path import HyperPath
from kdarts.nets.cuboid_spaces import get_cuboid
from kdarts.nets.hyper_network import path_network
from kdarts.nets.hypercuboid import HyperCuboid
from kdarts.nets.plan import check_input_shape


def make_hypercuboid(
    name: str,
    input_shape,
    num_classes: int,
    channels: int,
    cells: int,
    nodes: int | None = None,
    mixing: str = "max_w",
    dtype=None,
) -> HyperCuboid:
    """The supernet of a published HyperCuboid.

    Args:
        name: of the HyperCuboid.
        input_shape: `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: number of classes, at least 2.
        channels, cells, nodes: as of `CuboidSpace.axes`; nodes None: its own.
        mixing: as of `HyperCuboid`.
        dtype: policy of its layers.
    """
    if num_classes < 2:
        raise KdartsError(f"num_classes {num_classes}: needs at least 2")
    space, shape = get_cuboid(name), check_input_shape(input_shape)
    axes = space.axes(channels, cells, **({"nodes": nodes} if nodes else {}))
    made = vars(space.parts(axes, num_classes))
    axes = {"sequence": axes.sequence, "states": axes.states, "choices": axes.choices}
    return HyperCuboid(shape, **axes, **made, mixing=mixing, space=name, dtype=dtype)


def build_path_network(path: HyperPath, input_shape, num_classes: int, drop_last_step: bool = False) -> keras.Model:
    """The network of a path of a published HyperCuboid, as a functional Keras model.

    Args:
        path: what was found.
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
    parts = get_cuboid(path.space).parts(path.cuboid, num_classes)
    return path_network(path, check_input_shape(input_shape), parts, drop_last_step)
