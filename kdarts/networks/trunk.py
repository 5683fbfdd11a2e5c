"""Stem and cells of the network of a genotype, and drop-path.

`Trunk` adds the stem and the cells to a functional model, one after the other: `build_network` puts a classifier behind
them, `build_backbone` makes their outputs the levels of a feature pyramid.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import keras
from keras import layers, ops

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.ops.layers import all_layers, apply_operation
from kdarts.ops.operations import CLOSING, RESIDUAL, Conv, adapter, get_operation
from kdarts.supernet.macro import MacroConfig, Stem, plan_genotype


@keras.saving.register_keras_serializable("kdarts")
class DropPath(keras.layers.Layer):
    """Drop-path (FractalNet; DARTS section 4.1): sets the whole input of some examples to zero during training.

    The inputs of the other examples are divided by `1 - rate`. The rate is a variable, which `DropPathSchedule` sets.

    Args:
        rate: The probability that an example is dropped, a float in [0, 1).
        seed: The seed of the random masks. Defaults to `None`, for a random one.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"drop-path rate {rate}: needs 0 <= rate < 1")
        self.final_rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        initial = keras.initializers.Constant(self.final_rate)
        self.rate = self.add_weight(name="rate", shape=(), initializer=initial, trainable=False, autocast=False)

    def mask(self, batch_size):
        """Draws a mask `[batch_size]`: 1 for the examples that are kept, 0 for the others."""
        return ops.cast(keras.random.uniform((batch_size,), seed=self.seed_generator) >= self.rate, "float32")

    def call(self, x, training=False):
        if not training:
            return x
        kept = self.mask(ops.shape(x)[0]) / (1 - self.rate)
        return x * ops.cast(ops.reshape(kept, (-1, *[1] * (len(x.shape) - 1))), x.dtype)

    def get_config(self):
        return {**super().get_config(), "rate": self.final_rate, "seed": self.seed}


class DropPathSchedule(keras.callbacks.Callback):
    """A callback that raises the rate of every `DropPath` layer linearly: `rate * epoch / epochs` in epoch 0, 1, ....

    Args:
        epochs: The number of epochs of the training.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        for layer in all_layers(self.model):
            if isinstance(layer, DropPath):
                layer.rate.assign(layer.final_rate * epoch / self.epochs)


def check_sides(input_shape, stride: int) -> tuple:
    """Returns the shape of an image, whose sides are `None` or multiples of `stride`, as a tuple of integers."""
    shape = tuple(None if n is None else int(n) for n in input_shape)
    sides = [side for side in shape[:2] if side is not None]
    if len(shape) != 3 or not shape[2] or min([shape[2], *sides]) < 1 or any(n < 8 or n % stride for n in sides):
        needed = f"(height, width, channels), sides from 8 that are multiples of {stride}, or None"
        raise KdartsError(f"input shape {tuple(input_shape)}: needs {needed}")
    return shape


@dataclass(frozen=True)
class Grown:
    """The output `x` of a part of the trunk, a symbolic tensor that is smaller than the image by the factor `stride`.

    `cell` is the position of the cell whose output it is, or `None` for a part of the stem.
    """

    x: object
    stride: int
    cell: int | None = None


class Trunk:
    """The stem and the cells of a network, without its classifier. For the arguments see `build_network`.

    Attributes:
        plan: The plans of the cells, in order.
        stride: The factor by which the last cell's output is smaller than the image, along each side.
    """

    def __init__(self, genotype: Genotype, channels, cells, drop_path, stem: Stem, seed, frame: MacroConfig, c_mid):
        if not 0 <= drop_path < 1:
            raise KdartsError(f"drop_path {drop_path}: needs 0 <= drop_path < 1")
        planned = plan_genotype(genotype, cells, channels, stem, frame)
        self.plan, self.sequence = zip(*planned, strict=True)
        self.genotype, self.channels, self.stem, self.frame, self.c_mid = genotype, channels, stem, frame, c_mid
        self.drop_path, self.seed = drop_path, seed
        self.stride = math.prod([*map(_stride, stem.parts), *map(_cell_stride, self.plan)])
        for operation in genotype.operations:
            get_operation(operation, c_mid)

    def grow(self, image) -> Iterator[Grown]:
        """Adds the parts of the stem, then the cells, to the model of the input `image`, and yields their outputs."""
        stride, states = 1, [] if self.stem.parts else [image]
        for part in self.stem.parts:
            name, operation, step, width = part
            image = apply_operation(operation, image, int(width * self.channels), step, name)
            stride *= _stride(part)
            states.append(image)
            yield Grown(image, stride)
        s0, s1 = states[0], states[-1]
        individual = self.genotype.sequence is not None
        seeds = itertools.repeat(None) if self.seed is None else itertools.count(self.seed)

        def drop(x, name):
            return DropPath(self.drop_path, next(seeds), name=f"{name}-drop")(x) if self.drop_path else x

        for position, (cell, index) in enumerate(zip(self.plan, self.sequence, strict=True)):
            live, name = self.genotype.live(index), f"cells-{self.number(position)}"
            if cell.entry == "adapted":
                nodes = _adapted(s0, s1, cell, self.frame.epsilon, name)
            elif cell.entry == "residual":
                nodes = {1: _residual(s1, cell.filters, f"cells-{self.number(position) - 1}")}
            else:
                nodes = {1: s1}
            s0, s1 = s1, _cell(*live, self.c_mid, individual, nodes, cell, name, drop)
            stride *= _cell_stride(cell)
            yield Grown(s1, stride, position)

    def number(self, position: int) -> int:
        """Returns the number of the cell at `position`, where residual blocks count as cells, as in NAS-Bench-201."""
        return position + sum(cell.entry == "residual" for cell in self.plan[: position + 1])

    def close(self, x):
        """Adds the layers between the last cell's output `x` and the classifier: NAS-Bench-201 has some, DARTS none."""
        return x if self.plan[-1].entry == "adapted" else apply_operation(CLOSING, x, x.shape[-1], 1, CLOSING.name)


def _cell_stride(cell) -> int:
    return 1 + (cell.reduction or cell.entry == "residual")


def _stride(part) -> int:
    """Returns the stride of a part of a stem, whose operation may have several convolutions with a stride."""
    _, operation, stride, _ = part
    return stride ** sum(isinstance(step, Conv) and any(step.strided) for step in operation.layers(stride))


def _adapted(s0, s1, plan, epsilon, name) -> dict:
    """Adds the layers that adapt both inputs of a cell, and returns them as its nodes 0 and 1."""
    nodes = {}
    for number, (halving, x) in enumerate(((plan.after_reduction, s0), (False, s1))):
        adapt, stride = adapter(halving, epsilon)
        nodes[number] = apply_operation(adapt, x, plan.filters, stride, f"{name}-preprocess{number}")
    return nodes


def _residual(x, filters, name):
    """Adds a residual block, which halves the image."""
    first, second, beside = (f"{name}-{part.name}" for part in RESIDUAL)
    y = apply_operation(RESIDUAL[0], x, filters, 2, first)
    y = apply_operation(RESIDUAL[1], y, filters, 1, second)
    return layers.Add(name=f"{name}-output")([y, apply_operation(RESIDUAL[2], x, filters, 2, beside)])


def _cell(edges, outputs, c_mid, individual, nodes, plan, name, drop):
    """Adds a cell: each node is the sum of its edges, and the output concatenates the output nodes.

    `nodes` has the inputs of the cell. `drop(x, name)` adds drop-path: in DARTS behind every edge but the identities,
    in D-DARTS, whose cells are `individual`, behind every node.
    """
    numbers = _edge_numbers(edges, individual, plan.entry)
    for node in sorted({to for _, to, _ in edges}):
        arriving = []
        for (operation_name, to, source), number in zip(edges, numbers, strict=True):
            if to != node:
                continue
            stride = 2 if plan.reduction and source < 2 else 1
            operation, path = get_operation(operation_name, c_mid), f"{name}-{number}"
            edge = apply_operation(operation, nodes[source], plan.filters, stride, path)
            identity = not operation.layers(stride) and not operation.zero
            arriving.append(edge if individual or identity else drop(edge, path))
        path = f"{name}-node{node}"
        if len(arriving) > 1:
            nodes[node] = layers.Add(name=path)(arriving)
        else:
            # Every node of D-DARTS has a layer, from which `load_reference_state` sees which nodes exist.
            nodes[node] = layers.Identity(name=path)(arriving[0]) if individual else arriving[0]
        if individual:
            nodes[node] = drop(nodes[node], path)
    joined = [nodes[node] for node in outputs]
    return layers.Concatenate(name=f"{name}-output")(joined) if len(joined) > 1 else joined[0]


def _edge_numbers(edges, individual, entry) -> list[str]:
    """Returns the names of the edges in the papers' code, with dashes for dots.

    DARTS numbers the edges of a cell. D-DARTS has `to.from.k` for the k-th operation between two nodes, and
    NAS-Bench-201 numbers the pairs of nodes.
    """
    if not individual and entry == "adapted":
        return [f"_ops-{position}" for position in range(len(edges))]
    seen, numbers = Counter(), []
    for _, to, source in edges:
        k = seen[to, source]
        again = f"-{k}" if k else ""
        row = edge_row(to, source, inputs=1)
        numbers.append(f"_ops-{to}-{source}-{k}" if entry == "adapted" else f"layers-{row}{again}")
        seen[to, source] += 1
    return numbers
