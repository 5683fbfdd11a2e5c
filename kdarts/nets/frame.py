"""What stands around the cells of a network that is made for searching: stems before them, a classifier behind."""

import keras

from kdarts.nets.initializers import uniform
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


def make_classifier(num_classes: int, width: int, dtype) -> keras.layers.Dense:
    """The last layer, of so many inputs; it starts as in the papers' framework."""
    start = uniform(width)
    name = "classifier"
    return keras.layers.Dense(num_classes, kernel_initializer=start, bias_initializer=start, name=name, dtype=dtype)


def build_chain(stems, cells, classifier, channels: int) -> None:
    """Makes the variables of stems, cells and classifier, each behind the one before; nothing is computed.

    Args:
        stems, classifier: as made here.
        cells: layers of two inputs with the number of their `outputs`.
        channels: of an image.
    """
    widths = [channels]
    for stem in stems:
        stem.build((None, None, None, widths[-1]))
        widths.append(stem.filters)
    before, last = widths[1], widths[-1]
    for cell in cells:
        cell.build((None, None, None, before), (None, None, None, last))
        before, last = last, cell.outputs
    classifier.build((None, last))
