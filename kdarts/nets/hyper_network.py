"""The network of a path through a HyperCuboid, as a plain functional Keras model."""

import keras

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.hyper_path import HyperPath
from kdarts.nets.cost import Cost
from kdarts.nets.model_cost import model_cost
from kdarts.nets.parts import Parts, apply_parts


def path_network(path: HyperPath, input_shape, parts: Parts, drop_last_step: bool = False) -> keras.Model:
    """Builds the network of a path: stem, its steps in order, without weights of α or sums, head and tail.

    Args:
        path: what was found.
        input_shape: of one example, without the batch.
        parts: the functions that make its layers.
        drop_last_step: whether the head follows the last step but one, as in sharpDARTS' program.

    Returns:
        A model from examples to logits.

    Raises:
        KdartsError: if a function forbids a part of the path.
    """
    steps = path.steps[:-1] if drop_last_step else path.steps
    x = inputs = keras.Input(tuple(input_shape), name="input")
    made = {
        "stem.0": parts.of_stem(path.states[0], path.start),
        **{f"op_grid.{step.stage}": parts.build(step) for step in steps},
        "base.0": parts.head(path.cuboid.state_values[path.states[len(steps)]]),
        "tail": [] if parts.tail is None else parts.tail(),
    }
    for name, part in made.items():
        if part is None:
            raise KdartsError(f"the path's {name} is forbidden in this HyperCuboid")
        x = apply_parts(part, x, name)
    return keras.Model(inputs, x, name=path.name or "network")


def path_network_cost(path: HyperPath, input_shape, parts: Parts) -> Cost:
    """Cost of that network, which is built for it."""
    return model_cost(path_network(path, input_shape, parts))
