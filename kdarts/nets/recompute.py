"""Cells that forget their activations: computed once forward, and once more for their gradient."""

import tensorflow as tf

from kdarts.nets.replicas import is_synchronized, synchronized


def recomputed(cell, s0, s1, mixing, shares=None, **options):
    """The output of a cell in training, of which no more than the inputs is kept for the gradient.

    Args:
        cell: a `SearchCell`; its running statistics are updated as by a call.
        s0, s1, mixing, shares, **options: as of its call; the first four have gradients.

    Returns:
        As of its call. Its derivatives, the second ones included, are those of the cell.
    """
    trainable = [tf.convert_to_tensor(v) for v in cell.trainable_variables]
    statistics = [tf.convert_to_tensor(v) for v in cell.non_trainable_variables]
    shares = shares or []
    edges, count = len(mixing), len(mixing) + len(shares)
    together = is_synchronized()

    def forward(s0, s1, *rest):
        given = {"mixing": list(rest[:edges]), "shares": list(rest[edges:count]), **options}
        with synchronized(together):
            output, after = cell.stateless_call(list(rest[count:]), statistics, s0, s1, **given)
        return output, *after

    @tf.custom_gradient
    def call(*inputs):
        def backward(*gradients):
            # Without the dependency the second computation would start at once, and keep what the first forgot.
            with tf.control_dependencies(gradients):
                again = [tf.identity(x) for x in inputs]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(again)
                outputs = forward(*again)
            return tape.gradient(outputs, again, output_gradients=gradients, unconnected_gradients="zero")

        return forward(*inputs), backward

    output, *after = call(s0, s1, *mixing, *shares, *trainable)
    for variable, value in zip(cell.non_trainable_variables, after, strict=True):
        variable.assign(value)
    return output
