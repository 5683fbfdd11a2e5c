"""How the graph of a step is made."""

import contextlib

import tensorflow as tf


@contextlib.contextmanager
def without_graph_rewriting():
    """Leaves the step's graph as it is built: rewriting it costs more time at the start than it ever gives back.

    The setting belongs to the whole process, so it is put back afterwards.
    """
    before = tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})
