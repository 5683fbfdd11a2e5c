"""What stands before the cells of a network that is made for searching."""

import tensorflow as tf

from kdarts.nets.operations import CLOSING
from kdarts.nets.plan import Stem
from kdarts.nets.stack import Stack


def make_stems(stem: Stem, channels: int, dtype) -> list[Stack]:
    """The stem's parts; the cells read the first and the last.

    Args:
        stem: says which.
        channels: of a node before any reduction.
        dtype: policy of the layers.
    """
    return [
        Stack(operation, 1, int(width * channels), stride, affine=True, name=name, dtype=dtype)
        for name, operation, stride, width in stem.parts
    ]


def run_stems(stems: list[Stack], x, training) -> list:
    """The first cell's two inputs: what the first and the last stem give, or the images themselves without any."""
    outputs = [x]
    for stem in stems:
        x = stem(tf.nn.relu(x) if stem.reads[0] else x, training=training)
        outputs.append(x)
    outputs = outputs[1:] or outputs
    return [outputs[0], outputs[-1]]


def make_closing(cells, dtype) -> Stack | None:
    """What stands between the last cell and the head, where no cell adapts its inputs; else None."""
    if cells[-1].entry == "adapted":
        return None
    return Stack(CLOSING, 1, cells[-1].outputs, affine=True, name=CLOSING.name, dtype=dtype)


def build_chain(stems, cells, channels: int, closing: Stack | None = None) -> None:
    """Makes the variables of stems and cells, each behind the one before; nothing is computed.

    Args:
        stems: as made here.
        cells: layers of two inputs with the number of their `outputs`.
        channels: of an image.
        closing: as made here.
    """
    widths = [channels]
    for stem in stems:
        stem.build((None, None, None, widths[-1]))
        widths.append(stem.filters)
    before, last = (widths[1:] or widths)[0], widths[-1]
    for cell in cells:
        cell.build((None, None, None, before), (None, None, None, last))
        before, last = last, cell.outputs
    if closing is not None:
        closing.build((None, None, None, last))
