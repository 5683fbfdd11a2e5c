"""All blocks of a place of a mobile network in one, which costs what the largest of them does.

The blocks share their weights: one 1x1 convolution to the most channels, for each kernel size a depthwise kernel, one
1x1 convolution back. Blocks with less expansion have the first of the channels. Let w be the mixing weights, and for
the channels that blocks of expansion e or more have, m_e = Σ of w over those blocks. Then

- the depthwise kernel of such a channel is Σ_k s_k W_k, with s_k the share of m_e that is of kernels k, and smaller
  kernels in the middle of the largest: a convolution is linear, so that one block alone has its own kernel;
- the channel is multiplied by m_e / m behind the second activation, m being the sum over all blocks, and the output of
  the block by m behind the last normalisation.

The places matter: a factor in front of a normalisation over its own channel is divided out again, and has no gradient.
No paper has just this form; it is between AtomNAS (Mei et al. 2020) and FBNetV2 (Wan et al. 2020).
"""

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.ops import kernels
from kdarts.ops.cost import operation_cost
from kdarts.ops.layers import uniform
from kdarts.ops.operations import inverted_residual

EPSILON = 1e-3
"""Of its normalisations, which have no scale and no offset."""


@keras.saving.register_keras_serializable("kdarts")
class SuperBlock(keras.layers.Layer):
    """The blocks of one place with shared weights (see above).

    Args:
        blocks: for each choice its depthwise kernel and its expansion, of 2 or more; None: it is no block, so that
            nothing is added where it is chosen.
        filters: output channels.
        stride: 1 or 2, of the depthwise convolution.
        residual: whether the input is added.

    Attributes:
        kernels: variables `[k, k, 1, channels]`, for each size of a kernel, ascending.
        expand, project: variables of the 1x1 convolutions.
        statistics: running mean and variance of the three normalisations.

    Call arguments:
        x: `[batch, height, width, channels]`.
        weights: the mixing weights of the choices, `[choices]`.
        training: whether to normalise by the batch's statistics.

    Raises:
        KdartsError: for a block without an expansion.
    """

    def __init__(self, blocks, filters: int, stride: int = 1, residual: bool = False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.blocks, self.filters, self.stride, self.residual = tuple(blocks), filters, stride, residual
        found = [block for block in self.blocks if block is not None]
        if wrong := [block for block in found if block[1] < 2]:
            raise KdartsError(
                f"form 'shared': the blocks share a convolution that expands, and mb_k{wrong[0][0]}_e1 has none"
            )
        self.sizes, self.expansions = (sorted({block[part] for block in found}) for part in (0, 1))
        table = [[block is not None and block[1] >= e for block in self.blocks] for e in self.expansions]
        self._of_channels = np.array(table, np.float32)
        of_size = [[block is not None and block[0] == size for block in self.blocks] for size in self.sizes]
        self._of_kernels = np.array(of_size, np.float32)

    def build(self, input_shape):
        channels = input_shape[-1]
        wide = self.expansions[-1] * channels
        self.counts = [
            channels * (e - before) for e, before in zip(self.expansions, [0, *self.expansions], strict=False)
        ]

        def kernel(name, shape, fan_in):
            return self.add_weight(name=name, shape=shape, initializer=uniform(fan_in))

        self.expand = kernel("expand_kernel", (1, 1, channels, wide), channels)
        self.kernels = [kernel(f"depthwise_{k}_kernel", (k, k, 1, wide), k * k) for k in self.sizes]
        self.project = kernel("project_kernel", (1, 1, wide, self.filters), wide)
        self.statistics = []
        for name, count in (("expand", wide), ("depthwise", wide), ("project", self.filters)):
            state = {"shape": (count,), "trainable": False, "autocast": False}
            mean = self.add_weight(name=f"{name}_mean", initializer="zeros", **state)
            variance = self.add_weight(name=f"{name}_var", initializer="ones", **state)
            self.statistics.append((mean, variance))

    @property
    def running_statistics(self) -> list[tuple]:
        """As of the function of that name."""
        return [(pair[place], float(place), 1 - kernels.DECAY) for pair in self.statistics for place in (0, 1)]

    def macs(self, shape) -> int:
        """Multiply-accumulates for one input of `shape`: those of its largest block."""
        largest = inverted_residual("largest", shape[-1], self.sizes[-1], self.expansions[-1])
        return operation_cost(largest, shape[-1], self.filters, self.stride, shape[:2])[0].macs

    def call(self, x, weights, training=False):
        x = tf.cast(x, self.compute_dtype)
        blocks = tf.cast(weights, self.statistics[0][0].dtype)
        mass = tf.linalg.matvec(tf.constant(self._of_channels, blocks.dtype), blocks)
        y = kernels.convolution(x, tf.cast(self.expand, x.dtype))
        y = tf.nn.relu6(self._normalize(y, 0, None, training))
        y = kernels.depthwise(y, tf.cast(self._kernel(blocks, mass), y.dtype), self.stride, same=True)
        y = tf.nn.relu6(self._normalize(y, 1, None, training))
        y = y * tf.cast(self._by_channel(tf.math.divide_no_nan(mass, mass[0])), y.dtype)
        y = kernels.convolution(y, tf.cast(self.project, y.dtype))
        y = self._normalize(y, 2, tf.fill([self.filters], mass[0]), training)
        return y + x * tf.cast(tf.reduce_sum(blocks), x.dtype) if self.residual else y

    def _by_channel(self, values):
        """Values of the groups of channels, one for each channel."""
        return tf.repeat(values, self.counts)

    def _kernel(self, blocks, mass):
        """The depthwise kernel, `[k, k, 1, channels]`, with the k of the largest."""
        largest, whole = self.sizes[-1], 0.0
        for size, kernel, of_size in zip(self.sizes, self.kernels, self._of_kernels, strict=True):
            own = tf.linalg.matvec(tf.constant(self._of_channels * of_size, blocks.dtype), blocks)
            share = self._by_channel(tf.math.divide_no_nan(own, mass))
            edge = (largest - size) // 2
            padded = tf.pad(tf.convert_to_tensor(kernel), [[edge, edge], [edge, edge], [0, 0], [0, 0]])
            whole += padded * tf.cast(share, padded.dtype)
        return whole

    def _normalize(self, x, place, scale, training):
        mean, variance = (tf.convert_to_tensor(value) for value in self.statistics[place])
        y, *after = kernels.normalize(x, scale, None, mean, variance, training, EPSILON)
        if training:
            for variable, value in zip(self.statistics[place], after, strict=True):
                variable.assign(value)
        return y
