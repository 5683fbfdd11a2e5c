"""A term in the loss of the weights that makes the cells agree on the α that they share (Λ-DARTS, ICLR 2023).

Each cell l pulls at the mixing weights p by a gradient of its own, g_l = ∂L_train/∂p. Those of the cells near the
output are the largest by far, so that they decide for all. With û_l = g_l / |g_l| in n cells, their mean cosine is

    Λ = 2 / (n (n − 1)) Σ_{l<k} û_l · û_k,        v_l = ∂Λ/∂g_l = 2 / (n (n − 1)) (I − û_l û_lᵀ) Σ_k û_k / |g_l|

and the weights descend L_train − λ Λ, whose gradient is a difference of two passes with the mixing weights of all cells
shifted at once:

    ∇w Λ = Σ_l (∂g_l/∂w)ᵀ v_l ≈ [∇w L_train(p_l + ε v_l) − ∇w L_train(p_l − ε v_l)] / 2ε,    ε = ε₀ / |(v_1, …, v_n)|

Keras and TensorFlow are imported where they are used: commands that only read settings do not wait for them.
"""

from dataclasses import dataclass

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import MOST_RATE, Axis, setting

LOW_PRECISION = 10
"""How many times farther the difference reaches where activations have 16 bits: rounding drowns a shorter reach."""


@dataclass(frozen=True)
class Alignment(Axis):
    """The agreement of the normal cells that share an α (Movahedi et al. 2023)."""

    alignment_weight: float = setting(
        0.0,
        "weight of the alignment loss Λ in the last epoch; it grows linearly from 0; 0: no such loss",
        least=0,
        most=MOST_RATE,
        source="Λ-DARTS",
    )
    alignment_radius: float = setting(
        1e-3, "ε₀, how far the mixing weights of all cells together are shifted", least=0, most=1, open=True
    )

    @property
    def passes(self) -> int:
        """Gradients of the training loss that it takes, for estimates of cost."""
        return 2 if self.alignment_weight else 0

    def check(self, net) -> None:
        """Raises `KdartsError` for a supernet of which no two normal cells share an α."""
        if self.alignment_weight and (net.grid or not groups(net)):
            has = "a HyperCuboid has no cells" if net.grid else "here each has its own, or there is one"
            raise KdartsError(
                f"alignment_weight {self.alignment_weight}: needs two normal cells or more that share an α; {has}"
            )

    def correction(self, objective, values, batch, by_shifts, shifts, progress, epochs: int, scale=None) -> list:
        """What the term adds to the gradient of the weights, −λ ∇w Λ, the mean over the replicas.

        Args:
            objective: an `Objective`.
            values: weights, α and statistics, as of `Objective.values`.
            batch: the training batch, `(x, y)`.
            by_shifts, shifts: for each cell ∂L_train/∂p of its own, the mean over the replicas, and where it was taken.
            progress: scalar, 0 to below 1, how many of the `epochs` are done.
            epochs: length of the search.
            scale: as of `scaled_gradient`.
        """
        import tensorflow as tf

        from kdarts.ops.replicas import mean_over_replicas

        directions = [tf.zeros_like(shift) for shift in shifts]
        for cells in groups(objective.supernet):
            _, found = agreement([by_shifts[cell] for cell in cells])
            for cell, direction in zip(cells, found, strict=True):
                directions[cell] = direction
        length = tf.linalg.global_norm(directions)
        radius = self.alignment_radius * (LOW_PRECISION if objective.low_precision else 1)
        epsilon = tf.math.divide_no_nan(tf.cast(radius, length.dtype), length)
        sides = []
        for sign in (1, -1):
            moved = [shift + sign * epsilon * v for shift, v in zip(shifts, directions, strict=True)]
            sides.append(objective.gradients(*values, batch, scale, moved)["by_weights"])
        weight = self.alignment_weight * tf.cast(progress, length.dtype) * (epochs / max(1, epochs - 1))
        factor = -weight * length / (2 * radius)
        return [
            tf.cast(factor, plus.dtype) * (plus - minus) for plus, minus in zip(*mean_over_replicas(sides), strict=True)
        ]


def groups(net) -> list[list[int]]:
    """The normal cells of a supernet by the α that they share, where two or more do."""
    found: dict[int, list[int]] = {}
    for cell, (index, plan) in enumerate(zip(net.sequence, net.plan, strict=True)):
        if not plan.reduction:
            found.setdefault(index, []).append(cell)
    return [cells for cells in found.values() if len(cells) > 1]


def agreement(gradients: list) -> tuple:
    """Λ of two gradients or more of one shape, and its derivatives v by each; a gradient of 0 agrees with none."""
    import tensorflow as tf

    norms = [tf.norm(g) for g in gradients]
    units = [tf.math.divide_no_nan(g, norm) for g, norm in zip(gradients, norms, strict=True)]
    count, whole = len(gradients), tf.add_n(units)
    mean = 2 / (count * (count - 1))
    value = mean / 2 * (tf.reduce_sum(whole * whole) - tf.add_n([tf.reduce_sum(u * u) for u in units]))
    across = [whole - u * tf.reduce_sum(u * whole) for u in units]
    return value, [mean * tf.math.divide_no_nan(v, norm) for v, norm in zip(across, norms, strict=True)]
