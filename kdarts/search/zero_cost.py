"""Scores of networks that are not trained.

- NASWOT (Mellor, Turner, Storkey and Crowley, ICML 2021): how differently the ReLUs of a network see the images of one
  batch. It takes a forward pass; labels do not count.
- AZ-NAS (Lee and Ham, CVPR 2024): E, P and T of the feature maps that a batch of noise leads to, and the MACs; the
  product of the ranks among all networks compared decides.

`naswot` takes any function of images, such as a Keras model, or a supernet under mixtures that leave one candidate on
each of its edges. Running statistics stay as they are, although all is normalised by the statistics of the batch.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.rule import live_part, rule_parts
from kdarts.networks.network import classified
from kdarts.networks.trunk import Trunk
from kdarts.ops.layers import all_layers
from kdarts.search.building import seeded
from kdarts.search.ranks import ranks
from kdarts.supernet.cost import network_cost
from kdarts.supernet.macro import MacroConfig, choose_stem

_AZ_NAS = ("expressivity", "progressivity", "trainability", "macs")

FIGURES = {**{name: (name,) for name in ("params", "macs", "naswot", "rule")}, "az_nas": _AZ_NAS}
"""The scores, and the figures of a network that each is made of. Parameters and MACs are those of the live part."""

_SEED = 20210608, 0
"""Of the directions in which NASWOT asks what reaches the logits."""


def naswot(forward: Callable, *inputs) -> float:
    """NASWOT of a network: ln det K, where K_ij counts the ReLU units that are on for both images i and j or off for
    both (Mellor et al. 2021, Eq. 2).

    A unit counts if it is part of a channel whose gradient is not zero: what a weight of 0 cuts off does not. In a
    supernet the ReLU that a node's operations share counts once.

    Args:
        forward: from images to logits `[batch, num_classes]`. A Keras model, which is called with `training=True`, or
            any function of `inputs`.
        *inputs: `[batch, height, width, channels]`, and what else `forward` takes.

    Returns:
        The score, -inf where K is singular, as for two equal images.

    Raises:
        KdartsError: if there is no ReLU.
    """
    return log_determinant(activation_kernel(forward)(*inputs).numpy())


def activation_kernel(forward: Callable) -> Callable:
    """A function that is traced once and gives K of `naswot`, `[batch, batch]` float64, for each of its calls.

    With a supernet, the mixtures are best given as arguments: so one trace serves all of its genotypes.
    """

    @tf.function(autograph=False)
    def kernel(*inputs):
        with keras.StatelessScope():
            logits = forward(*inputs, training=True) if isinstance(forward, keras.Model) else forward(*inputs)
        operations = tf.compat.v1.get_default_graph().get_operations()
        units = [operation.outputs[0] for operation in operations if operation.type == "Relu"]
        # Under a batch normalisation the gradient of a plain sum would be zero.
        direction = tf.random.stateless_normal(tf.shape(logits), _SEED, dtype=logits.dtype)
        gradients = tf.gradients(logits, units, direction) if units else []
        reached = [pair for pair in zip(units, gradients, strict=True) if pair[1] is not None]
        if not reached:
            raise KdartsError("naswot: the network has no ReLU")
        return tf.add_n([_agreement(unit, gradient) for unit, gradient in reached])

    # Traced also where functions run eagerly: the operations are found in the graph.
    return lambda *inputs: kernel.get_concrete_function(*inputs)(*inputs)


def _agreement(unit, gradient):
    """How many units of one ReLU agree on each two images: N - (those on for the one) - (for the other) + 2 (both)."""
    axes = list(range(len(unit.shape) - 1))
    counts = tf.cast(tf.reduce_any(tf.not_equal(gradient, 0), axes), tf.float32)
    on = tf.cast(unit > 0, tf.float32)
    batch, size = tf.shape(unit)[0], tf.size(unit) // tf.shape(unit)[0]
    counted = tf.reshape(on * counts, [batch, size])
    both = tf.cast(tf.matmul(counted, tf.reshape(on, [batch, size]), transpose_b=True), tf.float64)
    each = tf.linalg.diag_part(both)
    units = tf.cast(tf.reduce_sum(counts), tf.float64) * tf.cast(size // tf.shape(unit)[-1], tf.float64)
    return units - each[:, None] - each[None, :] + 2 * both


def log_determinant(kernel: np.ndarray) -> float:
    """ln det of a positive semidefinite matrix, -inf where it is singular to the precision of float64."""
    values = np.linalg.eigvalsh(kernel)
    if values[0] <= len(values) * np.finfo(np.float64).eps * values[-1]:
        return -np.inf
    return float(np.log(values).sum())


@dataclass(frozen=True)
class Sizes:
    """What the networks that are compared have in common; the fields are arguments of `build_network`."""

    input_shape: tuple[int, int, int]
    num_classes: int
    channels: int
    cells: int
    stem: str = "auto"
    frame: MacroConfig | None = None

    @classmethod
    def of(cls, supernet) -> "Sizes":
        """Those of a supernet of cells."""
        size = tuple(supernet.image_shape), supernet.num_classes, supernet.channels, supernet.depth
        return cls(*size, supernet.stem_name, supernet.frame)


def figures(genotype: Genotype, score: str, sizes: Sizes, images, seed: int = 0) -> dict[str, float]:
    """The figures of a genotype's network that a score is made of, as `FIGURES` names them.

    Args:
        genotype: the genotype; for "rule" one with a normal cell of two inputs.
        score: a key of `FIGURES`.
        sizes: of the network.
        images: a batch, `[batch, height, width, channels]`; AZ-NAS takes noise of the same shape.
        seed: of the weights and of what AZ-NAS draws.
    """
    if score == "rule":
        return {"rule": rule_parts(genotype)["rule"]}
    size = sizes.input_shape, sizes.num_classes, sizes.channels, sizes.cells, sizes.stem, sizes.frame
    cost = network_cost(live_part(genotype), *size)
    if score in ("params", "macs"):
        return {score: getattr(cost, score)}
    network, features = _network(genotype, sizes, seed)
    if score == "naswot":
        return {"naswot": naswot(network, images)}
    draw_weights(network, seed)
    noise = np.random.default_rng([seed, 1]).normal(size=np.shape(images)).astype(np.float32)
    return {**az_nas(lambda x: features(x, training=True), noise, seed), "macs": cost.macs}


def compared(score: str, rows: list[dict[str, float]]) -> np.ndarray:
    """The score of each of several networks, from their figures; the greatest is the best.

    That of AZ-NAS is the sum of ln(rank / n) of its four figures among these n networks (Lee and Ham 2024, Eq. 8), so
    it depends on all of them; the others are their figures.
    """
    columns = np.array([[row[name] for name in FIGURES[score]] for row in rows], np.float64).T
    if score != "az_nas":
        return columns[0]
    return np.sum([np.log(ranks(column) / len(rows)) for column in columns], 0)


def _network(genotype: Genotype, sizes: Sizes, seed: int) -> tuple[keras.Model, keras.Model]:
    """A network, its weights drawn by a seed, and the same to the outputs of its stem and of its cells."""
    frame = sizes.frame or MacroConfig()
    with seeded(seed):
        image = keras.Input(sizes.input_shape)
        stem = choose_stem(sizes.stem, sizes.input_shape, genotype.stages)
        trunk = Trunk(genotype, sizes.channels, sizes.cells, 0.0, stem, None, frame, None)
        parts = [part.x for part in trunk.grow(image)]
        logits = classified(trunk.close(parts[-1]), frame.head, sizes.num_classes)
    return keras.Model(image, logits), keras.Model(image, parts[max(len(stem.parts) - 1, 0) :])


def draw_weights(network: keras.Model, seed: int) -> None:
    """Draws the kernels of a network anew, as AZ-NAS has it: N(0, 2 / fan-in) (He et al. 2015); biases are 0."""
    for number, layer in enumerate(layer for layer in all_layers(network) if hasattr(layer, "kernel")):
        shape = layer.kernel.shape
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        deviation = math.sqrt(2 / math.prod(shape[: -2 if depthwise else -1]))
        layer.kernel.assign(np.random.default_rng([seed, 0, number]).normal(0, deviation, shape))
        if layer.bias is not None:
            layer.bias.assign(np.zeros(layer.bias.shape))


def az_nas(features: Callable, images, seed: int = 0) -> dict[str, float]:
    """E, P and T of feature maps (Lee and Ham 2024, Eq. 2 to 6).

    Args:
        features: from images to a list of feature maps `[batch, height, width, channels]`, each computed from the one
            before it, and maybe from earlier ones.
        images: `[batch, height, width, channels]`.
        seed: of the gradients that are drawn for T.

    Returns:
        `expressivity`, the sum of the entropies of the maps' channels; `progressivity`, the least growth of the entropy
        from one map to the next; `trainability`, at most 0, the mean over the steps between two maps (see
        `trainability`).
    """

    @tf.function(autograph=False)
    def measure(images):
        with keras.StatelessScope():
            maps = features(images)
        steps = [_pulled_back(*pair, [seed, n]) for n, pair in enumerate(itertools.pairwise(maps))]
        return [_covariance(x) for x in maps], steps

    covariances, steps = measure.get_concrete_function(images)(images)
    entropies = [entropy(covariance.numpy()) for covariance in covariances]
    kept = [-np.inf if same.numpy() else trainability(matrix.numpy()) for matrix, same in steps]
    return {
        "expressivity": sum(entropies),
        "progressivity": min(np.diff(entropies), default=0.0),
        "trainability": float(np.mean(kept)) if kept else 0.0,
    }


def _covariance(x):
    rows = tf.reshape(x, [-1, x.shape[-1]])
    rows -= tf.reduce_mean(rows, 0)
    return tf.matmul(rows, rows, transpose_a=True) / tf.cast(tf.shape(rows)[0], rows.dtype)


def _pulled_back(before, after, seed):
    """Gᵀ_in G_out over the number of pixels, for random G_out of ±1, and whether both G are the same.

    Where the step halves the image, the pixels of G_in that become one are stacked on its channels.
    """
    given = tf.sign(tf.random.stateless_uniform(tf.shape(after), seed, -1, 1, after.dtype))
    [back] = tf.gradients(after, before, given)
    back = tf.zeros_like(before) if back is None else back
    same = tf.reduce_all(tf.equal(given, back)) if before.shape[1:] == after.shape[1:] else tf.constant(False)
    stride = -(-before.shape[1] // after.shape[1])
    if stride > 1:
        back = tf.pad(back, [[0, 0], *([0, -side % stride] for side in before.shape[1:3]), [0, 0]])
        back = tf.nn.space_to_depth(back, stride)
    rows, columns = (tf.reshape(g, [-1, g.shape[-1]]) for g in (back, given))
    return tf.matmul(rows, columns, transpose_a=True) / tf.cast(tf.shape(columns)[0], given.dtype), same


def entropy(covariance: np.ndarray) -> float:
    """The entropy of the eigenvalues of a covariance, normalised to a sum of 1: ln C for isotropic C channels; 0 where
    nothing varies."""
    values = np.maximum(np.linalg.eigvalsh(covariance.astype(np.float64)), 0)
    if not values.sum() > 0:
        return 0.0
    shares = values / values.sum()
    return float(-(shares * np.log(shares + 1e-8)).sum())


def trainability(matrix: np.ndarray) -> float:
    """2 - s - 1/s of the greatest singular value s: 0 where a step keeps the size of gradients, else less."""
    greatest = np.linalg.svd(matrix.astype(np.float64), compute_uv=False).max()
    return float(2 - greatest - 1 / (greatest + 1e-6))
