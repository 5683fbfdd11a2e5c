"""The edges of a cell where each goes through one candidate at most, drawn anew in every pass.

A candidate is computed for the edges that drew it, and for no other. Which these are changes from pass to pass, and a
graph is traced once: so the weights of the edges that drew a candidate are picked in each pass, and its convolutions
have as many groups as there are such edges. What no edge drew is computed for one edge and one image, and left out:
TensorFlow has no convolution without groups, and gives one without images a wrong shape. Running statistics stay as
they are, because nothing is measured by them where passes are drawn.

All that is only about numbers of edges and images is computed once for a cell: for each operation alone it would be
tens of thousands of small operations in a supernet.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kdarts.ops.kernels import constant


@dataclass(frozen=True)
class Drawing:
    """The edges that leave one node and drew one operation, `m` of them, or one edge for one image if none did.

    Attributes:
        picked: One-hot rows, `[m, edges that have the operation]`.
        scale: `[m * filters]`, the weights of these edges.
        edges: m.
        repeats: `[4]`, multiples for `tf.tile` that give each edge its copy of the input.
        groups: `[3]`, a shape that sets the edges apart: -1, m and the number of filters.
        images: `[2]`, how many images of the batch are computed and how many are not.
        fill: `[4, 2]`, the padding of the computed images to the batch.
        kept: `[2]`, how many of those that are computed belong to the output: all, or none if no edge drew it.
        kept_shape: `[4]`, the shape of these.
        shape: `[4]`, the shape of the output, without channels if no edge drew the operation.
        unkept: `[4, 2]`, the padding of the kept images to the computed ones.
    """

    picked: tf.Tensor
    scale: tf.Tensor
    edges: tf.Tensor
    repeats: tf.Tensor
    groups: tf.Tensor
    images: tf.Tensor
    fill: tf.Tensor
    kept: tf.Tensor
    kept_shape: tf.Tensor
    shape: tf.Tensor
    unkept: tf.Tensor

    def pick(self, values: list) -> list:
        """The part of each weight, `[..., edges * channels]`, that belongs to the edges, `[..., m * channels]`."""
        edges = self.picked.shape[1]
        sides = [(int(np.prod(v.shape[:-1])), v.shape[-1] // edges) for v in values]

        @tf.custom_gradient
        def apply(*values):
            parts = [
                tf.reshape(
                    tf.matmul(self.picked, tf.reshape(value, constant([rows, edges, channels]))),
                    constant([*value.shape[:-1], -1]),
                )
                for value, (rows, channels) in zip(values, sides, strict=True)
            ]

            def gradient(*arriving):
                whole = [
                    tf.matmul(self.picked, tf.reshape(dy, constant([rows, -1, channels])), transpose_a=True)
                    for dy, (rows, channels) in zip(arriving, sides, strict=True)
                ]
                return [tf.reshape(w, constant(list(value.shape))) for w, value in zip(whole, values, strict=True)]

            return tuple(parts), gradient

        return list(apply(*values)) if values else []


def inputs(forms: list, readers: list[tuple[Drawing, int, bool]]) -> list:
    """What each operation of a source reads: the images that are computed, side by side for each edge if it wants so.

    Args:
        forms: The forms of the source that there are, such as rectified, `[batch, height, width, channels]` each.
        readers: For each operation its drawing, the form it reads, and whether each edge has its own copy.
    """

    @tf.custom_gradient
    def apply(*forms):
        parts = []
        for drawing, form, tiled in readers:
            part = tf.split(forms[form], drawing.images, constant(0), num=2)[0]
            if tiled:
                part = tf.tile(part, drawing.repeats)
                part.set_shape([None, *forms[form].shape[1:3], None])
            parts.append(part)

        def gradient(*arriving):
            back = [[] for _ in forms]
            for (drawing, form, tiled), dy in zip(readers, arriving, strict=True):
                if tiled:
                    dy = tf.reduce_sum(tf.reshape(dy, drawing.groups), constant(1))
                dy = tf.reshape(dy, constant([-1, *forms[form].shape[1:]]))
                back[form].append(tf.pad(dy, drawing.fill))
            return [tf.add_n(parts) if parts else None for parts in back]

        return tuple(parts), gradient

    return list(apply(*forms))


def by_edge(results: list, drawn: list[Drawing], order, channels, copies: int, filters: int, batch=None) -> list:
    """Gives each edge its part of what the operations of a source computed.

    Args:
        results: `[images, height, width, m * filters]` each.
        drawn: The drawing of each.
        order, channels: As of `drawings`.
        copies: The number of edges.
        filters: The number of channels of an edge.
        batch: The number of images, where the graph knows it.

    Returns:
        For each edge `[batch, height, width, filters]`; zero if it drew nothing.
    """
    place = tf.scatter_nd(order[:, None], 1 + tf.range(tf.size(order)), [copies])
    zero = tf.zeros_like(place)
    begins = tf.unstack(tf.stack([zero, zero, zero, place * filters], 1))

    @tf.custom_gradient
    def apply(*results):
        sides = results[0].shape[1:3]
        outputs = [
            tf.reshape(tf.split(y, drawing.kept, constant(0), num=2)[0], drawing.shape)
            for y, drawing in zip(results, drawn, strict=True)
        ]
        y = tf.concat(outputs, constant(-1))
        padded = tf.pad(y, constant([[0, 0], [0, 0], [0, 0], [filters, 0]]))

        def gradient(*arriving):
            together = tf.gather(tf.stack(arriving, 3), order, axis=3)
            split = tf.split(tf.reshape(together, tf.shape(y)), channels, constant(-1), num=len(drawn))
            return [
                tf.pad(tf.reshape(dy, drawing.kept_shape), drawing.unkept)
                for dy, drawing in zip(split, drawn, strict=True)
            ]

        parts = [tf.slice(padded, begin, constant([-1, -1, -1, filters])) for begin in begins]
        for part in parts:
            part.set_shape([batch, *sides, filters])
        return tuple(parts), gradient

    return list(apply(*results))


def drawings(mixing, layers: list, rows: list, batch, sides) -> list[tuple]:
    """What each source of a cell has to compute.

    Args:
        mixing: `[edges, operations]`, with one weight at most in each row that is not zero.
        layers: The edges by their source, as `MixedEdges` of the same number of filters.
        rows: For each layer those of `mixing` that are its edges.
        batch: The number of images.
        sides: The height and width of the nodes.

    Returns:
        For each layer its `Drawing` by column; the edges that drew anything, in the order in which their outputs are
        computed; and the number of channels that each operation adds to these.
    """
    columns, filters = mixing.shape[1], layers[0].filters
    widest = max(layer.copies for layer in layers)
    pairs = [(place, column) for place, layer in enumerate(layers) for column in layer.edges]
    places = np.full((len(pairs), widest), mixing.shape[0] * columns)  # What is nowhere weighs 0.
    edge_of = np.zeros((len(pairs), widest))
    for number, (place, column) in enumerate(pairs):
        edges = layers[place].edges[column]
        places[number, : len(edges)] = [rows[place][edge] * columns + column for edge in edges]
        edge_of[number, : len(edges)] = edges
    flat = tf.pad(tf.reshape(mixing, constant([-1])), constant([[0, 1]]))
    active = tf.not_equal(tf.gather(tf.stop_gradient(flat), constant(places)), 0)
    counts = tf.reduce_sum(tf.cast(active, tf.int32), 1)
    none = tf.equal(counts, 0)
    computed = active | (none[:, None] & tf.constant(np.arange(widest) == 0))
    sizes = tf.maximum(counts, 1)
    entries = tf.gather(flat, tf.boolean_mask(constant(places), computed))
    wide = tf.reshape(entries[:, None] * constant(np.ones((1, filters)), mixing.dtype), constant([-1]))
    positions = tf.boolean_mask(constant(np.tile(np.arange(widest), (len(pairs), 1))), computed)
    picked = tf.split(tf.one_hot(positions, widest, dtype=mixing.dtype), sizes, num=len(pairs))

    def each(*numbers, shape=(-1,)):
        table = tf.stack([constant([n] * len(pairs)) if isinstance(n, int) else n for n in numbers], 1)
        return tf.unstack(tf.reshape(table, [len(pairs), *shape]))

    images, kept, batch = tf.where(none, 1, batch), tf.where(none, 0, batch), tf.fill([len(pairs)], batch)
    parts = zip(
        tf.split(wide, sizes * filters, num=len(pairs)),
        tf.unstack(sizes),
        each(1, 1, 1, sizes),
        each(-1, sizes, filters),
        each(images, batch - images),
        each(0, batch - images, 0, 0, 0, 0, 0, 0, shape=(4, 2)),
        each(kept, images - kept),
        each(kept, *sides, sizes * filters),
        each(batch, *sides, counts * filters),
        each(0, images - kept, 0, 0, 0, 0, 0, 0, shape=(4, 2)),
        strict=True,
    )
    found = [{} for _ in layers]
    for (place, column), one_hot, part in zip(pairs, picked, parts, strict=True):
        edges = len(layers[place].edges[column])
        if edges < widest:
            one_hot = tf.slice(one_hot, constant([0, 0]), constant([-1, edges]))
        found[place][column] = Drawing(one_hot, *part)
    by_layer = tf.split(counts, constant([len(layer.edges) for layer in layers]), num=len(layers))
    totals = tf.stack([tf.reduce_sum(own) for own in by_layer])
    orders = tf.split(tf.boolean_mask(constant(edge_of), active), totals, num=len(layers))
    return list(zip(found, orders, [own * filters for own in by_layer], strict=True))
