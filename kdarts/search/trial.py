"""What a network is worth that runs in the supernet's weights."""

import tensorflow as tf

from kdarts.search.search import Search


def make_trial(search: Search):
    """A compiled function that tries networks on a batch, with the statistics of that batch.

    Args:
        search: a compiled search, whose weights now are those that all trials share.

    Returns:
        A function of what a pass weighs by (as of `Mixture.drawn`), images and labels, which gives the mean loss and
        the number of images that are classified rightly.
    """
    net, values = search.supernet, search.objective.values()

    @tf.function(autograph=False, reduce_retracing=True)
    def trial(mixtures, x, y):
        with search.objective.at(*values):
            logits = net.classify(net.states(x, training=True, mixtures=mixtures)[-1])
        right = tf.argmax(logits, -1, tf.int32) == tf.cast(tf.reshape(y, [-1]), tf.int32)
        return search.objective.loss_of(y, logits), tf.math.count_nonzero(right)

    return trial
