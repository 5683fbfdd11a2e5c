"""The architecture's variable of a HyperCuboid, and what its transitions weigh."""

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import choice
from kdarts.nets import mixing as mixings
from kdarts.nets.candidates import mix_candidates


@keras.saving.register_keras_serializable("kdarts")
class StageMixture(keras.layers.Layer):
    """α of the stages: the transitions of one stage compete.

    Args:
        allowed: boolean `[stages, states, states, choices]`.
        mixing: one of `MIXINGS` that looks at one row.

    Attributes:
        alphas: one variable `[stages, transitions]`; 0 where forbidden.
        candidates: one boolean array of its shape; None: all are allowed.
        progress: variable, 0 to 1: how much of a search is done.
    """

    def __init__(self, allowed: np.ndarray, mixing: str, **kwargs):
        super().__init__(autocast=False, **kwargs)
        rows = allowed.reshape(len(allowed), -1)
        self.candidates = None if rows.all() else (rows,)
        known = [name for name in mixings.MIXINGS if name != "node_softmax"]
        self._mix = mixings.get_mixing(choice("mixing", mixing, known))
        self._rank = mixings.get_ranking(mixing)
        start = mixings.initializer(mixing)
        self.alphas = [self.add_weight(name="alpha", shape=rows.shape, initializer=start, autocast=False)]
        if self.candidates is not None:
            self.alphas[0].assign(tf.where(rows, self.alphas[0], 0.0))
        self.progress = self.add_weight(name="progress", shape=(), initializer="zeros", trainable=False)
        self.built = True

    def _mixed(self, mix) -> list:
        return [mix_candidates(mix, tf.convert_to_tensor(self.alphas[0]), self.candidates and self.candidates[0])]

    def weights_of_operations(self) -> list:
        """α after mixing, `[stages, transitions]`; 0 for what is forbidden."""
        return self._mixed(self._mix)

    def weights_of_candidates(self) -> list:
        """The same without what is forbidden: flat where something is."""
        weights = self.weights_of_operations()
        return weights if self.candidates is None else [tf.boolean_mask(weights[0], self.candidates[0])]

    def strengths(self) -> list:
        """What a path is found by: the weights after mixing, but for Max-W, whose scores are its softmax."""
        return self._mixed(self._rank)

    def redraw(self) -> None:
        """Nothing is drawn here."""
