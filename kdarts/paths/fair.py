"""Path-wise strictly fair training of shared paths (DARTS-PD, section 3.2, Eq. 4).

A path is a vector p of one digit of base k for each of E edges. The paths fall into k^(E-1) groups of k paths {p + j
(1, ..., 1) mod k : j = 0 .. k-1}: a group uses every operation of every edge once, and every path is in one group. A
step trains a group (Algorithm 1), a cycle of k^(E-1) steps each group once, in a random order. After every cycle all
paths were trained equally often, and at any time no path more than once more than another.
"""

import functools

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.path_space import PathSpace
from kdarts.ops.replicas import counted_once, loss_metric, mean_over_replicas, replicas, synchronized, whole_loss
from kdarts.paths.network import PathNetwork
from kdarts.search.method import Method, get_method
from kdarts.search.objective import cross_entropy, without_graph_rewriting
from kdarts.search.optimizers import SGD
from kdarts.search.schedules import Cosine

_SHUFFLED = 2**20
"""Up to so many groups, a cycle's order is a true permutation, drawn whole; of more, an affine one."""


class PathSampler:
    """The paths of every step, as a function of the seed and the step alone. A kind of it defines `group`.

    Args:
        edges: E, at least 1.
        kept: k, operations on each edge, at least 1.
        seed: 0 to 2**32 - 1.
    """

    def __init__(self, edges: int, kept: int, seed: int = 0):
        self.edges, self.kept, self.seed = edges, kept, seed

    def group(self, step: int) -> np.ndarray:
        """The paths of a step, counted from 0: in each row of `[paths, edges]` the indices of a path's operations."""
        raise NotImplementedError

    def groups(self, first: int, last: int) -> np.ndarray:
        """The groups of steps `first` to before `last`, `[last - first, paths, edges]`, uint8."""
        return np.stack([self.group(step) for step in range(first, last)]).astype(np.uint8)


class UniformPaths(PathSampler):
    """One path a step, all equally likely (SPOS, Guo et al. 2020)."""

    def group(self, step):
        return np.random.RandomState([self.seed, step]).randint(0, self.kept, (1, self.edges))


class PermutedPaths(PathSampler):
    """In each step k paths that use every operation of every edge once, drawn anew (FairNAS, Chu et al. 2021)."""

    def group(self, step):
        random = np.random.RandomState([self.seed, step])
        return np.stack([random.permutation(self.kept) for _ in range(self.edges)], 1)


class FairPaths(PathSampler):
    """The groups of DARTS-PD, which come to every path equally often; the arguments are those of `PathSampler`."""

    def __init__(self, edges: int, kept: int, seed: int = 0):
        super().__init__(edges, kept, seed)
        self.cycle = kept ** (edges - 1)
        """Steps after which every path was trained equally often again."""
        self._order_of = functools.lru_cache(maxsize=2)(self._order)

    def group(self, step: int) -> np.ndarray:
        """The paths of a step, counted from 0: in each row of `[kept, edges]` the indices of a path's operations.

        Every column holds every index once.
        """
        cycle, position = divmod(step, self.cycle)
        representative, labels = self._order_of(cycle)
        number, digits = representative(position), np.zeros(self.edges, np.int64)
        for edge in range(1, self.edges):  # The representative has a 0 on the first edge.
            number, digits[edge] = divmod(number, self.kept)
        shifted = (digits + np.arange(self.kept)[:, np.newaxis]) % self.kept
        return np.take_along_axis(labels, shifted, 0)

    def _order(self, cycle: int):
        """A function from a position in a cycle to the number of the group there, and the operations of the digits.

        For k = 2 a group is a path and its opposite, whichever operations the digits stand for. From k = 3 on, other
        operations in each cycle make new groups.
        """
        # A legacy generator: its stream is the same in every version of NumPy.
        random = np.random.RandomState([self.seed, cycle])
        labels = np.arange(self.kept)[:, np.newaxis].repeat(self.edges, 1)
        if self.kept > 2:
            labels = np.stack([random.permutation(self.kept) for _ in range(self.edges)], 1)
        if self.cycle <= _SHUFFLED:
            order = random.permutation(self.cycle)
            return lambda position: int(order[position]), labels
        # i -> a i + b modulo k^(E-1), one-to-one as a = 1 modulo k has no divisor in common with k.
        factor, offset = (
            sum(int(digit) * self.kept**k for k, digit in enumerate(random.randint(0, self.kept, self.edges)[::-1]))
            for _ in range(2)
        )
        factor = factor * self.kept + 1
        return lambda position: (factor * position + offset) % self.cycle, labels


SAMPLERS = {"fair": FairPaths, "fairnas": PermutedPaths, "spos": UniformPaths}
"""By the names of `path_sampler`."""


@keras.saving.register_keras_serializable("kdarts")
class FairTraining(keras.Model):
    """The second stage of DARTS-PD (section 3.2, Algorithm 1): path-wise strict fairness, with no α any more.

    `fit` takes a dataset of `((x, y), paths)`, where `paths` are those of a step (see `PathSampler`). A step adds the
    gradients of the paths' losses on the same images and moves the weights once. `evaluate` and `predict`
    are those of the path in `network.chosen`.

    Args:
        network: the shared paths.
        method: a `Method` or the name of one, whose `path_learning_rate`, `momentum`, `path_l2` (else `l2`) and `clip`
            are the optimizer's.
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
        """As of `keras.Model`, by default with the method's SGD and the mean cross-entropy of logits."""
        m, net = self.method, self.network
        if optimizer is None:
            l2 = m.l2 if m.path_l2 is None else m.path_l2
            optimizer = SGD(m.path_learning_rate, m.momentum, l2, global_clipnorm=m.clip)
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
        weights, count = self.network.trainable_variables, paths.shape[0]
        with synchronized(self.sync_batch_norm), tf.GradientTape() as tape:
            logits = self.network.group(x, paths, training=True)
            loss = tf.add_n([self._loss_of(y, each) for each in tf.unstack(logits)])
            scaled = self.optimizer.scale_loss(loss)
        # By TensorFlow's variables: of Keras' own, none may be without a gradient, as those of other paths are.
        gradients = tape.gradient(scaled, [w.value for w in weights], unconnected_gradients="zero")
        gradients, statistics = mean_over_replicas((gradients, self.network.statistics))
        self.optimizer.apply(counted_once(gradients), weights)
        if replicas() > 1:
            for variable, value in zip(self.network.statistics, statistics, strict=True):
                variable.assign(value)
        loss_metric(self).update_state(loss / count, sample_weight=tf.shape(x)[0])
        return self.compute_metrics(x, tf.tile(y, [count]), tf.reshape(logits, [-1, logits.shape[-1]]))

    def measure(self, path, calibration, valid) -> tuple[float, float]:
        """The accuracy, 0 to 1, and the mean loss of a path, with running statistics of its own.

        What came before has no influence, and only the running statistics and `network.chosen` change.

        Args:
            path: `[edges]`, the index of its operation on each edge.
            calibration: batches of training images, for the running statistics.
            valid: batches `(x, y)` to measure on.
        """
        self.network.chosen.assign(path)
        self.network.recalibrate(self._calibrate, calibration)
        sums = np.sum([[*map(float, self._sums(x, y)), len(y)] for x, y in valid], 0)
        return float(sums[0] / sums[2]), float(sums[1] / sums[2])

    def _sums_of(self, x, y):
        logits = self.network(x, training=False)
        right = tf.equal(tf.argmax(logits, -1, tf.int32), tf.cast(y, tf.int32))
        return tf.math.count_nonzero(right), self._loss_of(y, logits) * tf.cast(tf.shape(y)[0], logits.dtype)


class PathEpochs(keras.callbacks.Callback):
    """Sets the learning rate, half a cosine to 0, and the drop-path rate at the beginning of each epoch."""

    def __init__(self, learning_rate: float, epochs: int):
        super().__init__()
        self._rate, self._epochs = Cosine(learning_rate, 0.0, epochs), epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate = self._rate(epoch)
        drop_path = self.model.network.drop_path
        if drop_path is not None:
            drop_path.rate.assign(drop_path.final_rate * epoch / self._epochs)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


def training_length(choice, space: PathSpace, steps: int) -> tuple[int, int]:
    """Steps of an epoch and number of epochs of the training of shared paths; a pass over the images takes `steps`.

    `choice` asks for epochs by `path_epochs`, or for cycles by `path_cycles`. Then the steps of an epoch are the
    largest divisor of a cycle that is a power of k and at most `steps`.
    """
    if choice.path_cycles is None:
        return steps, choice.path_epochs
    length = 1
    while space.kept > 1 and length * space.kept <= min(steps, space.kept ** (space.edges - 1)):
        length *= space.kept
    return length, choice.path_cycles * space.kept ** (space.edges - 1) // length
