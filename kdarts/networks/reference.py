"""Weights of the papers' PyTorch code, given as `{name: array}`, for supernets and networks.

`load_reference_state` copies them into a model. Of a network it looks them up under the names of the layers (see
`kdarts.ops.layers`).
"""

import re
from collections.abc import Mapping

import keras
import numpy as np

from kdarts.genotypes.errors import KdartsError
from kdarts.ops.layers import reference_name
from kdarts.ops.mixed import GroupedOperation, MixedEdges
from kdarts.supernet.hypercuboid import HyperCuboid
from kdarts.supernet.supernet import Supernet

_CELL = re.compile(r"cells\.(\d+)\.")
_ADAPTER = re.compile(r"cells\.(\d+)\.preprocess[01]\.")
_EDGE_OF_DDARTS = re.compile(r"cells\.(\d+)\._ops\.(\d+)\.(\d+)\.\d+\.")
_OFFSET = re.compile(r"cells\.\d+\.edges\.\d+<-\d+\.\d+\.op\.1\.bias")
_STATISTICS = {"mean": "running_mean", "var": "running_var", "gamma": "weight", "beta": "bias"}


class _State:
    """The given arrays, and the names of those that were read."""

    def __init__(self, state):
        self.arrays, self.read = {name: np.asarray(array) for name, array in state.items()}, set()

    def has(self, name: str) -> bool:
        return name in self.arrays

    def take(self, name: str, shape) -> np.ndarray:
        """Returns the array `name` in Keras' layout. Raises `KdartsError` if it is missing or of another shape."""
        if name not in self.arrays:
            raise KdartsError(f"reference state: {name!r} is missing")
        self.read.add(name)
        array = self.arrays[name]
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        elif array.ndim == 2:
            array = array.T
        if array.shape != tuple(shape):
            given = f"{name!r} has shape {array.shape} in Keras' layout"
            raise KdartsError(f"reference state: {given}, needs {tuple(shape)}")
        return array

    def left(self) -> list[str]:
        """Returns the names of the arrays that were not read."""
        return [n for n in self.arrays if n not in self.read and not n.endswith("num_batches_tracked")]


def load_reference_state(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Copies a PyTorch state dict of the papers' code into `model`.

    Args:
        model: A `Supernet`, a `HyperCuboid` of placed operations, or the network of a genotype or a path.
        state: A dict `{name: array}` with the names (`cells.0._ops.3._ops.4.op.1.weight`, ...) and layouts of the
            papers' code. Running statistics are optional; the model keeps its own where they are missing. In
            supernets, P-DARTS has `cells.0.cell_ops.3.m_ops.2`, the number among the operations of that edge, and
            NAS-Bench-201 has `cells.0.edges.1<-0.3`, whose convolutions have a bias without effect, which is ignored.
            In networks, DARTS numbers the edges of a cell (`cells.0._ops.3.op.1.weight`), and D-DARTS, for genotypes
            with a sequence, names the k-th operation of an edge (`cells.0._ops.{to}.{from}.{k}.op.1.weight`). Weights
            of operations that the network leaves out (see `Genotype.live`), or whose result is not used, are ignored.

    Raises:
        KdartsError: If an array is missing, left over, or of the wrong shape. The model is then unchanged.
    """
    source = _State(state)
    kinds = {Supernet: _supernet_values, HyperCuboid: _cuboid_values}
    read = next((read for kind, read in kinds.items() if isinstance(model, kind)), _network_values)
    pending = read(model, source)
    if left := source.left():
        raise KdartsError(f"reference state: {len(left)} arrays fit nothing in the model, the first {left[0]!r}")
    for variable, value in pending:
        variable.assign(value)


def _supernet_values(model: Supernet, state: _State) -> list:
    pending = []
    for stem in model.stems:
        pending += _grouped_values(stem, [stem.name], state)
    place = 0
    for index, cell in enumerate(model.cells):
        if cell.residual is not None:  # NAS-Bench-201 counts its residual blocks among the cells.
            for grouped in cell.residual.parts:
                pending += _grouped_values(grouped, [f"cells.{place}.{grouped.name}"], state)
            place += 1
        for grouped in cell.preprocess:
            pending += _grouped_values(grouped, [f"cells.{place}.{grouped.name}"], state)
        for source, mixed in zip(cell.sources, cell.mixed_edges, strict=True):
            numbers = [e for e, (_, start) in enumerate(model.edges) if start == source]
            names = [_operation_names(model, index, place, e, state) for e in numbers]
            pending += _mixed_values(mixed, names, state)
        place += 1
    if model.closing is not None:
        pending += _grouped_values(model.closing, [model.closing.name], state)
        # The convolutions of its candidates have a bias, which the batch normalization behind them cancels.
        state.read.update(name for name in state.left() if _OFFSET.match(name))
    for layer in (*model.hidden, model.classifier):
        pending += _dense_values(layer, state)
    return pending


def _cuboid_values(model: HyperCuboid, state: _State) -> list:
    pending = []
    for name, chain in model.chains.items():
        for layer in chain.layers:
            if isinstance(layer, GroupedOperation):
                pending += _grouped_values(layer, [name], state)
            elif isinstance(layer, keras.layers.Dense):
                pending += _dense_values(layer, state)
    return pending


def _operation_names(model: Supernet, cell: int, place: int, edge: int, state: _State) -> dict[int, str]:
    """Returns the names of the operations of an edge, by their columns. They are numbered among those of the edge."""
    in_pdarts = any(".cell_ops." in name for name in state.arrays)
    path = f"cells.{place}.cell_ops.{edge}.m_ops" if in_pdarts else f"cells.{place}._ops.{edge}._ops"
    if model.space.stages:
        to, source = model.edges[edge]
        path = f"cells.{place}.edges.{to - 1}<-{source - 1}"
    columns = range(len(model.space.operations))
    if model.mixture.candidates is not None:
        columns = [c for c in columns if model.mixture.candidates[model.sequence[cell]][edge, c]]
    return {column: f"{path}.{k}" for k, column in enumerate(columns)}


def _mixed_values(mixed: MixedEdges, edges: list[dict[int, str]], state: _State) -> list:
    pending = []
    for column, grouped in mixed.stacks.items():
        pending += _grouped_values(grouped, [edges[e][column] for e in mixed.edges[column]], state)
    for column, grouped in mixed.free.items():
        # In the papers' code every edge has statistics, all of the same pooled input: those of the first edge are read.
        names = [edges[e][column] for e in mixed.edges[column]]
        pending += _grouped_values(grouped, names[:1], state, pooling=True)
        for name in names[1:]:
            state.read.update(n for n in state.arrays if n.startswith(f"{name}.1.running"))
    return pending


def _grouped_values(grouped: GroupedOperation, prefixes: list[str], state: _State, pooling: bool = False) -> list:
    """Returns pairs `(variable, value)` of the weights of a grouped operation, for the edges named `prefixes`."""
    pending = []
    names = grouped.operation.step_names(grouped.stride)
    for position, (weights, parts) in enumerate(zip(grouped.step_weights, names, strict=True)):
        if not weights:
            continue
        if len(parts) == len(weights):
            for variable, part in zip(weights, parts, strict=True):
                pending.append((variable, _joined(variable, [f"{p}.{part}.weight" for p in prefixes], state)))
            continue
        part = str(position) if pooling else parts[0]
        for variable in weights:
            suffix = _STATISTICS[variable.name.rsplit("_", 1)[1]]
            full = [f"{p}.{part}.{suffix}" for p in prefixes]
            if suffix.startswith("running") and not state.has(full[0]):
                continue
            pending.append((variable, _joined(variable, full, state)))
    return pending


def _joined(variable, names: list[str], state: _State) -> np.ndarray:
    """Concatenates the arrays called `names` along the last axis, to the shape of `variable`."""
    shape = (*variable.shape[:-1], variable.shape[-1] // len(names))
    return np.concatenate([state.take(name, shape) for name in names], -1)


def _dense_values(layer, state: _State) -> list:
    name = reference_name(layer)
    weights = (layer.kernel, state.take(f"{name}.weight", layer.kernel.shape))
    return [weights, (layer.bias, state.take(f"{name}.bias", layer.bias.shape))]


def _network_values(model, state: _State) -> list:
    pending = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = {"weight": layer.gamma, "bias": layer.beta}
            values |= {"running_mean": layer.moving_mean, "running_var": layer.moving_variance}
            for suffix, variable in values.items():
                name = f"{reference_name(layer)}.{suffix}"
                if state.has(name) or not suffix.startswith("running"):
                    pending.append((variable, state.take(name, variable.shape)))
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            height, width, channels, _ = layer.kernel.shape
            value = state.take(f"{reference_name(layer)}.weight", (height, width, 1, channels))
            pending.append((layer.kernel, value.swapaxes(2, 3)))
        elif isinstance(layer, keras.layers.Conv2D):
            pending.append((layer.kernel, state.take(f"{reference_name(layer)}.weight", layer.kernel.shape)))
        elif isinstance(layer, keras.layers.Dense):
            pending += _dense_values(layer, state)
    layers = {reference_name(layer) for layer in model.layers}
    state.read.update(name for name in state.left() if _left_out(name, layers))
    return pending


def _left_out(name: str, layers: set[str]) -> bool:
    """Whether `name` belongs to an edge from or to a node, or to an input's adapter, that the network leaves out."""
    if edge := _EDGE_OF_DDARTS.match(name):
        cell, *ends = edge.groups()
        missing = [node for node in ends if int(node) >= 2 and f"cells.{cell}.node{node}" not in layers]
    elif adapter := _ADAPTER.match(name):
        cell = adapter[1]
        missing = [] if any(layer.startswith(adapter[0]) for layer in layers) else [adapter[0]]
    else:
        return False
    return bool(missing) and int(cell) <= max(int(m[1]) for m in map(_CELL.match, layers) if m)
