"""Dots in the names of layers, under Keras' PyTorch backend.

The layers of a network are called as in the reference codes, `cells.0.preprocess0.op.1`, and a variable's path begins
with its layer's name. Keras registers variables by their path with PyTorch, which takes no dot in a name, and would not
build the network. Importing this lets paths have `-` there; the layers keep their names.
"""

import keras


def _undot(variable: type) -> None:
    dotted = variable.path
    variable.path = property(lambda self: dotted.fget(self).replace(".", "-"))


if keras.backend.backend() == "torch":
    _undot(keras.Variable)
