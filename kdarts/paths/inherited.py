"""The paths through a supernet, with the weights that it was trained to (SPOS, FairNAS)."""

import tensorflow as tf

from kdarts.genotypes.path_space import PathSpace
from kdarts.paths.network import PathNetwork


def paths_of(net) -> PathSpace:
    """All paths through a `Supernet`: every operation on each of its edges, `none` the last."""
    names = tuple(sorted(net.space.operations, key=lambda name: name == "none"))
    cell = tuple((to, source, names) for to, source in net.edges)
    kinds = 1 if net.space.stages else 2
    concat = tuple(range(net.nodes + 2 - net.multiplier, net.nodes + 2))
    reductions = None if net.space.stages else net.reductions
    return PathSpace((cell,) * kinds, (concat,) * kinds, reductions, net.space.stages)


def network_of(net) -> PathNetwork:
    """The paths through a `Supernet`, with a copy of its weights: each computes what the supernet does along it.

    The supernet's cells are whole and share α, and around them is DARTS' macro structure.
    """
    affine = net.space.affine
    sizes = net.image_shape, net.num_classes, net.channels, net.depth, net.stem_name
    network = PathNetwork(paths_of(net), *sizes, affine, bare_pools=affine, dtype=net.dtype_policy)
    parts = [(one, other) for one, other in zip(net.stems, network.stems, strict=True)]
    parts += [(net.classifier, network.classifier)]
    parts += [(net.closing, network.closing)] if net.closing is not None else []
    for cell, other in zip(net.cells, network.cells, strict=True):
        parts += zip(cell.preprocess, other.preprocess, strict=True)
        parts += [(cell.residual, other.residual)] if cell.residual is not None else []
        for (to, source, names), stacks in zip(other.slots, other.edges, strict=True):
            place = cell.sources.index(source)
            edge = [cell.edges[row] for row in cell.rows[place]].index((to, source))
            for name, stack in zip(names, stacks, strict=True):
                column = net.space.operations.index(name)
                if column in cell.mixed_edges[place].stacks:
                    _copy_edge(cell.mixed_edges[place], column, edge, stack)
    for one, other in parts:
        for variable, value in zip(other.trainable_variables, one.trainable_variables, strict=True):
            variable.assign(value)
    return network


def _copy_edge(mixed, column: int, edge: int, stack) -> None:
    """Copies the weights of an operation of one edge, which those of the others stand beside."""
    grouped, edge = mixed.stacks[column], mixed.edges[column].index(edge)
    for target, value in zip(stack.trainable_variables, grouped.trainable_variables, strict=True):
        if target.shape != value.shape:
            value = tf.reshape(value, [*value.shape[:-1], grouped.copies, target.shape[-1]])[..., edge, :]
        target.assign(value)
