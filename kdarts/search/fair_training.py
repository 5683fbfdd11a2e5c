"""Training of shared paths: a Keras model whose `fit` trains a fair group of paths in each step."""

import keras
import numpy as np
import tensorflow as tf

from kdarts.nets.path_net import PathNetwork
from kdarts.nets.replicas import counted_once, mean_over_replicas, replicas, synchronized, whole_loss
from kdarts.search.method import Method, get_method
from kdarts.search.objective import cross_entropy
from kdarts.search.optimizers import SGD
from kdarts.search.search import without_graph_rewriting


@keras.saving.register_keras_serializable("kdarts")
class FairTraining(keras.Model):
    """The second stage of DARTS-PD (section 3.2, Algorithm 1): path-wise strict fairness, with no α any more.

    `fit` takes a dataset of `((x, y), paths)`, where `paths` are the `[k, edges]` of a group (see `FairPaths`). A step
    adds the gradients of the k paths' losses on the same images and moves the weights once. `evaluate` and `predict`
    are those of the path in `network.chosen`.

    Args:
        network: the shared paths.
        method: a `Method` or the name of one, whose `path_learning_rate`, `momentum`, `l2` and `clip` are the
            optimizer's.
        sync_batch_norm: as of `Search`.
        **overrides: other choices on the method's axes, by their names.
    """

    def __init__(
        self, network: PathNetwork, method: str | Method = "darts", sync_batch_norm: bool = False, **overrides
    ):
        super().__init__(name="fair_training", dtype=network.dtype_policy)
        self.network, self.sync_batch_norm = network, sync_batch_norm
        self.method = (get_method(method) if isinstance(method, str) else method).override(**overrides)
        self._calibrate = tf.function(lambda x: self.network(x, training=True), autograph=False)
        self._sums = tf.function(self._sums_of, autograph=False)
        self.built = True

    def compile(self, optimizer=None, loss=None, metrics=("accuracy",), **kwargs):
        """As of `keras.Model`.

        Args:
            optimizer: None: the method's SGD.
            loss: of integer labels and logits; None: mean cross-entropy.
            metrics, **kwargs: as of `keras.Model.compile`.
        """
        m, net = self.method, self.network
        if optimizer is None:
            optimizer = SGD(m.path_learning_rate, m.momentum, m.l2, global_clipnorm=m.clip)
        loss = keras.losses.get(cross_entropy(net.variable_dtype) if loss is None else loss)
        super().compile(optimizer=optimizer, loss=loss, metrics=list(metrics), **kwargs)
        self.optimizer.build(net.trainable_variables)
        self._loss_of = whole_loss(loss)
        # Metrics make their variables when they first see data; inside the step that would cost a second trace of it.
        self.compute_metrics(None, tf.zeros((1,), tf.int32), tf.zeros((1, net.num_classes)))
        self.reset_metrics()

    def call(self, x, training=False):
        return self.network(x, training=training)

    def fit(self, x, **kwargs):
        """As of `keras.Model`, from a dataset of `((x, y), paths)`, which shuffles by itself."""
        with without_graph_rewriting():
            return super().fit(x, **{"shuffle": False, **kwargs})

    def train_step(self, data):
        """One step of the weights along the sum of the gradients of a group's paths."""
        (x, y), paths = data
        weights, kept = self.network.trainable_variables, self.network.space.kept
        with synchronized(self.sync_batch_norm), tf.GradientTape() as tape:
            logits = self.network.group(x, paths, training=True)
            loss = tf.add_n([self._loss_of(y, each) for each in tf.unstack(logits)])
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, weights, unconnected_gradients="zero")
        gradients, statistics = mean_over_replicas((gradients, self.network.statistics))
        self.optimizer.apply(counted_once(gradients), weights)
        if replicas() > 1:
            for variable, value in zip(self.network.statistics, statistics, strict=True):
                variable.assign(value)
        self._loss_tracker.update_state(loss / kept, sample_weight=tf.shape(x)[0])
        return self.compute_metrics(x, tf.tile(y, [kept]), tf.reshape(logits, [-1, logits.shape[-1]]))

    def measure(self, path, calibration, valid) -> tuple[float, float]:
        """The part of images that a path names rightly and its mean loss, with running statistics of its own.

        What came before has no influence, and only the running statistics and `network.chosen` change.

        Args:
            path: `[edges]`, the index of its operation on each edge.
            calibration: batches of training images, for the running statistics.
            valid: batches `(x, y)` to measure on.

        Returns:
            Accuracy, 0 to 1, and loss.
        """
        self.network.chosen.assign(path)
        self.network.recalibrate(self._calibrate, calibration)
        sums = np.sum([[*map(float, self._sums(x, y)), len(y)] for x, y in valid], 0)
        return float(sums[0] / sums[2]), float(sums[1] / sums[2])

    def _sums_of(self, x, y):
        logits = self.network(x, training=False)
        right = tf.equal(tf.argmax(logits, -1, tf.int32), tf.cast(y, tf.int32))
        return tf.math.count_nonzero(right), self._loss_of(y, logits) * tf.cast(tf.shape(y)[0], logits.dtype)
