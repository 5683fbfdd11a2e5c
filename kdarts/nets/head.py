"""What reads the last cell: DARTS' mean of each channel and one layer, or hidden layers on the whole of the map."""

import math

from keras import layers, ops

from kdarts.nets.initializers import uniform
from kdarts.nets.plan import final_size


def head_inputs(hidden, channels: int, size, stem, plan) -> int:
    """How many numbers the first layer reads.

    Args:
        hidden: widths of the hidden layers, as of `Frame`.
        channels: of the last cell's output.
        size, stem, plan: as of `final_size`.
    """
    return channels * (math.prod(final_size(size, stem, plan)) if hidden else 1)


def make_head(hidden, num_classes: int, inputs: int, dtype) -> list[layers.Dense]:
    """The layers, built, each behind the one before; they start as in the papers' framework.

    Args:
        hidden: widths of those with a ReLU, as of `Frame`.
        num_classes: of the last, without one.
        inputs: of the first.
        dtype: policy of the layers.
    """
    made, widths = [], (*hidden, num_classes)
    for position, width in enumerate(widths):
        last, start = position == len(hidden), uniform(inputs)
        name = f"classifier.{2 * position + 1}" if hidden else "classifier"  # as in the reference code
        options = {"kernel_initializer": start, "bias_initializer": start, "name": name, "dtype": dtype}
        made.append(layers.Dense(width, None if last else "relu", **options))
        made[-1].build((None, inputs))
        inputs = width
    return made


def run_head(made, x):
    """What the layers of `make_head` make of a map `[batch, height, width, channels]`.

    Hidden layers read it channel by channel, as the papers' framework lays it out.
    """
    if len(made) > 1:
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, math.prod(x.shape[1:])))
    else:
        x = ops.mean(x, axis=(1, 2))
    for layer in made:
        x = layer(x)
    return x
