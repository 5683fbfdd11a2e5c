"""A method of one's own: a relaxation, a loss term and a stop rule, and a search by all three."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

import kdarts


@kdarts.register_relaxation
@dataclass(frozen=True)
class Dirichlet(kdarts.Relaxation):
    """Weights drawn from a Dirichlet distribution of concentrations 1 + elu(α) (DrNAS, Chen et al. 2021, Eq. 4)."""

    name: ClassVar[str] = "dirichlet"
    zero_start: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    def weights(self, alpha, inputs=None):  # the mean of the distribution
        concentrations = tf.nn.elu(alpha) + 1
        return concentrations / tf.reduce_sum(concentrations, -1, keepdims=True)

    def sample(self, alpha, progress, seed, inputs=None):  # a draw: normalised gamma variables
        concentrations = tf.maximum(tf.nn.elu(alpha) + 1, 1e-3)
        drawn = tf.random.stateless_gamma(alpha.shape, seed, concentrations, dtype=alpha.dtype)
        return drawn / tf.reduce_sum(drawn, -1, keepdims=True)


@kdarts.register_loss
@dataclass(frozen=True)
class Entropy(kdarts.LossTerm):
    """The mean entropy of the edges, in nats: less of it lets one operation of each edge win."""

    name: ClassVar[str] = "entropy"
    entropy_weight: float = kdarts.setting(0.0, "weight of the entropy of the mixing weights; 0: none", least=0)

    def value(self, supernet):
        weights = tf.concat(supernet.mixture.weights_of_operations(), 0)
        return -self.entropy_weight * tf.reduce_mean(tf.reduce_sum(tf.math.xlogy(weights, weights), -1))


@kdarts.register_stopping
@dataclass(frozen=True)
class StableGenotype(kdarts.Stopping):
    """Ends the search once so many epochs in a row have derived the same strongest operation on every edge."""

    name: ClassVar[str] = "stable"
    stable_epochs: int = kdarts.setting(3, "epochs that must agree on the strongest operations", least=2)

    def should_stop(self, so_far):
        last = [alpha[-self.stable_epochs :].argmax(-1) for alpha in so_far.alphas]  # [epochs, edges] each
        return len(so_far.history) >= self.stable_epochs and all((ranks == ranks[-1]).all() for ranks in last)


axes = {"mixing": "dirichlet", "entropy_weight": 0.1, "stop": "stable", "arch_learning_rate": 0.01}
search = kdarts.Search("darts", (8, 8, 1), num_classes=10, channels=4, cells=3, epochs=20, seed=0, **axes)
search.fit(kdarts.search_dataset("digits", batch_size=64), verbose=2)
print(search.genotype().to_json())
