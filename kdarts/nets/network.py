"""A genotype as a plain functional Keras model."""

import itertools
from collections import Counter

import keras
from keras import layers

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.nets.auxiliary import AuxiliaryNetwork, auxiliary_head
from kdarts.nets.drop_path import DropPath
from kdarts.nets.initializers import uniform
from kdarts.nets.layers import apply_operation
from kdarts.nets.operations import FACTORIZED_REDUCE, RELU_CONV_BN, get_operation
from kdarts.nets.plan import auxiliary_position, check_input_shape, check_reductions, choose_stem, plan_cells


def build_network(
    genotype: Genotype,
    input_shape,
    num_classes: int,
    channels: int,
    cells: int | None = None,
    auxiliary: bool = False,
    drop_path: float = 0.0,
    stem: str = "auto",
    seed: int | None = None,
    c_mid: int | None = None,
) -> keras.Model:
    """Builds the network of a genotype (DARTS section 3.2, D-DARTS section 4) from stock Keras layers.

    What the genotype found is built as `Genotype.live` says; `Genotype.gaps` tells what is left out.

    Args:
        genotype: what was found.
        input_shape: `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: number of classes, at least 2.
        channels: channels of a node before any reduction, even.
        cells: number of cells; None: as many as the genotype has, if it has a depth of its own.
        auxiliary: whether to add the auxiliary classifier; the model then returns `(logits, auxiliary logits)` when
            training, and its loss counts the second by 0.4.
        drop_path: final drop-path rate, 0 to below 1 (see `DropPathSchedule`): of every operation but the identity
            (DARTS), or, where the genotype has a sequence, of every node's sum (D-DARTS' code).
        stem: "auto" (by image size) or one of `STEMS`: "cifar", "small", "imagenet", "imagenet_quarter".
        seed: of the drop-path masks.
        c_mid: channels in the middle of choke convolutions, at least 1; None: the 32 of the search (sharpDARTS takes 96
            for ImageNet).

    Returns:
        A model from images, channels last, float32, to logits `[batch, num_classes]`.

    Raises:
        KdartsError: if the genotype names an unknown operation or the sizes do not fit.
    """
    input_shape = check_input_shape(input_shape)
    if num_classes < 2:
        raise KdartsError(f"num_classes {num_classes}: needs at least 2")
    if not 0 <= drop_path < 1:
        raise KdartsError(f"drop_path {drop_path}: needs 0 <= drop_path < 1")
    sequence, reductions = genotype.at_depth(cells)
    reductions = check_reductions(reductions, len(sequence))
    chosen = choose_stem(stem, input_shape)
    plan = plan_cells(len(sequence), channels, reductions, chosen.halved)
    for operation in genotype.operations:
        get_operation(operation, c_mid)

    x = inputs = keras.Input(input_shape, name="image")
    states = []
    for name, operation, stride, width in chosen.parts:
        x = apply_operation(operation, x, int(width * channels), stride, name)
        states.append(x)
    s0, s1 = states[0], states[-1]
    aux_at = auxiliary_position(reductions, len(sequence))
    aux_logits = None
    individual = genotype.sequence is not None
    seeds = itertools.repeat(None) if seed is None else itertools.count(seed)

    def drop(x, name):
        return DropPath(drop_path, next(seeds), name=f"{name}.drop")(x) if drop_path else x

    for position, (cell, index) in enumerate(zip(plan, sequence, strict=True)):
        found, name = genotype.live(index), f"cells.{position}"
        s0, s1 = s1, _cell(*found, c_mid, individual, s0, s1, cell, name, drop)
        if auxiliary and position == aux_at:
            aux_logits = auxiliary_head(s1, num_classes, imagenet=chosen.halved)
    x = layers.GlobalAveragePooling2D(name="pool")(s1)
    fan_in = uniform(x.shape[-1])
    dense = layers.Dense(
        num_classes, kernel_initializer=fan_in, bias_initializer=fan_in, dtype="float32", name="classifier"
    )
    name = genotype.name or "network"
    if auxiliary:
        return AuxiliaryNetwork(inputs, [dense(x), aux_logits], name=name)
    return keras.Model(inputs, dense(x), name=name)


def _cell(edges, outputs, c_mid, individual, s0, s1, plan, name, drop):
    """One cell: adapt both inputs, sum each node's edges, join the output nodes.

    `drop(x, name)` is drop-path: in DARTS on every edge but identities, in D-DARTS, whose cells are `individual`, on
    every node's sum.
    """
    adapt, stride = (FACTORIZED_REDUCE, 2) if plan.after_reduction else (RELU_CONV_BN, 1)
    nodes = {
        0: apply_operation(adapt, s0, plan.filters, stride, f"{name}.preprocess0"),
        1: apply_operation(RELU_CONV_BN, s1, plan.filters, 1, f"{name}.preprocess1"),
    }
    numbers = _edge_numbers(edges, individual)
    for node in sorted({to for _, to, _ in edges}):
        arriving = []
        for (operation_name, to, source), number in zip(edges, numbers, strict=True):
            if to != node:
                continue
            stride = 2 if plan.reduction and source < 2 else 1
            operation, path = get_operation(operation_name, c_mid), f"{name}._ops.{number}"
            edge = apply_operation(operation, nodes[source], plan.filters, stride, path)
            identity = not operation.layers(stride) and not operation.zero
            arriving.append(edge if individual or identity else drop(edge, path))
        path = f"{name}.node{node}"
        if len(arriving) > 1:
            nodes[node] = layers.Add(name=path)(arriving)
        else:
            # A name for every node of D-DARTS, so that reading weights sees which nodes there are.
            nodes[node] = layers.Identity(name=path)(arriving[0]) if individual else arriving[0]
        if individual:
            nodes[node] = drop(nodes[node], path)
    joined = [nodes[node] for node in outputs]
    return layers.Concatenate(name=f"{name}.output")(joined) if len(joined) > 1 else joined[0]


def _edge_numbers(edges, individual) -> list[str]:
    """What the reference codes call the edges: DARTS counts them, D-DARTS says `to.from.k`, the k-th from there."""
    if not individual:
        return [str(position) for position in range(len(edges))]
    seen = Counter()
    numbers = []
    for _, to, source in edges:
        numbers.append(f"{to}.{source}.{seen[to, source]}")
        seen[to, source] += 1
    return numbers
