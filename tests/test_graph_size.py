"""The size of the graph of a step, on which the time until the first step depends."""

import tensorflow as tf

from kdarts.ops import kernels
from kdarts.search.search import Search
from kdarts.search.step import Step


def _operations(method, **choices):
    search = Search(method, (32, 32, 3), 10, channels=4, cells=3, **choices)
    search.compile()
    batch = tf.TensorSpec((4, 32, 32, 3)), tf.TensorSpec((4,), tf.int32)
    graph = Step(search).graph((batch, batch))
    loss = search.objective._gradients.get_concrete_function(
        *search.objective.values(), *(tf.zeros(spec.shape, spec.dtype) for spec in batch), None
    ).graph
    return len(graph.get_operations()), len(loss.get_operations())


def test_the_first_order_step_has_few_operations():
    step, loss = _operations("darts")
    assert step < 3_900 and loss < 4_800


def test_equal_constants_are_one_in_a_graph():
    with tf.Graph().as_default():
        one = kernels.constant([1, 2])
        assert kernels.constant([1, 2]) is one and kernels.constant([1.0, 2.0], tf.float32) is not one
        with tf.Graph().as_default():
            assert kernels.constant([1, 2]) is not one
    assert kernels.constant([1, 2]).numpy().tolist() == [1, 2]
