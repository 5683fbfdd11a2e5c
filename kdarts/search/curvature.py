"""The curvature of the validation loss in α, a sign that a search collapses.

Zela et al., "Understanding and Robustifying Differentiable Architecture Search", ICLR 2020, section 4: where the
dominant eigenvalue of the Hessian ∇²α L_valid(w, α) grows, the derived networks generalise worse.
"""

import numpy as np
import tensorflow as tf

from kdarts.ops import kernels
from kdarts.search.objective import Objective

PRODUCTS = 40
"""Most products with the Hessian in one measurement."""

TOLERANCE = 1e-3
"""The eigenvalue is known once what is left of its vector is so small, relative to it; its own error is far smaller."""


class Curvature:
    """The Hessian of the validation loss in α (not in β) at the current weights.

    Its products with vectors are exact, by differentiating twice. β and the weights stand still, running statistics and
    draws too: measuring changes nothing.

    Args:
        objective: gives the loss.
    """

    def __init__(self, objective: Objective):
        self.objective = objective
        self._product = tf.function(self._product_with, autograph=False)

    def product(self, batch, vector: np.ndarray) -> np.ndarray:
        """H v.

        Args:
            batch: `(x, y)`.
            vector: as long as all α together, in their order, rows first.
        """
        shapes = [alpha.shape for alpha in self.objective.supernet.alphas]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        parts = [p.reshape(s) for p, s in zip(np.split(np.asarray(vector), ends[:-1]), shapes, strict=True)]
        dtype = self.objective.supernet.alphas[0].dtype
        found = self._product(*batch, [tf.constant(part, dtype) for part in parts])
        return np.concatenate([np.asarray(part, np.float64).ravel() for part in found])

    def _product_with(self, x, y, direction):
        weights, architecture, statistics = self.objective.values()
        alphas, others = architecture[: len(direction)], architecture[len(direction) :]
        with kernels.twice_differentiable(), tf.GradientTape(watch_accessed_variables=False) as outer:
            outer.watch(alphas)
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                inner.watch(alphas)
                loss = self.objective.loss(weights, [*alphas, *others], statistics, (x, y))["loss"]
            slopes = inner.gradient(loss, alphas, unconnected_gradients="zero")
            along = tf.add_n([tf.reduce_sum(g * v) for g, v in zip(slopes, direction, strict=True)])
        return outer.gradient(along, alphas, unconnected_gradients="zero")

    def eigenvalue(self, batch, seed: int = 0) -> float:
        """The dominant eigenvalue: that of the greatest size, with its sign.

        The powers of H at a random vector, each made orthogonal to those before it (Lanczos): the vector that the last
        power alone leads to lies in their span, and is found there after far fewer products.

        Args:
            batch: `(x, y)`.
            seed: of the vector.
        """
        size = sum(int(np.prod(alpha.shape)) for alpha in self.objective.supernet.alphas)
        vector = np.random.default_rng(seed).normal(size=size)
        basis, beside, diagonal = [vector / np.linalg.norm(vector)], [], []
        while True:
            image = self.product(batch, basis[-1])
            if not np.isfinite(image).all():
                return float("nan")
            diagonal.append(basis[-1] @ image)
            for _ in range(2):  # Once leaves a rest of rounding that grows.
                image = image - np.stack(basis).T @ (np.stack(basis) @ image)
            left = np.linalg.norm(image)
            values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
            best = np.argmax(np.abs(values))
            known = left * abs(vectors[-1, best]) <= TOLERANCE * abs(values[best])
            if known or len(diagonal) >= min(PRODUCTS, size):
                return float(values[best])
            basis.append(image / left)
            beside.append(left)
