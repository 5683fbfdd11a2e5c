"""The ablation loss: each cell is judged by what its absence costs (D-DARTS section 4.2).

With CE the cross-entropy of the validation batch and CE₋ᵢ that of the network whose cell i is removed,

    Mᵢ = CE − CE₋ᵢ                  (Eq. 7)    below zero where the cell helps
    L_AB,i = (Mᵢ − M̄) / M̄           (Eq. 8)    M̄ the mean over the n cells
    L_T,i = CE + … + s w_AB L_AB,i  (Eq. 10)   the loss that αᵢ descends

The sign s is −1, as in the authors' program: a cell that contributes more than its share (Mᵢ/M̄ > 1) is rewarded. The
paper prints +1, which punishes it. With gᵢ = ∂CE/∂αᵢ, Dᵢ = ∂CE₋ᵢ/∂αᵢ, Gᵢ = Σⱼ ∂CE₋ⱼ/∂αᵢ and rᵢ = Mᵢ/M̄,

    ∂L_AB,i/∂αᵢ = [(1 − rᵢ) gᵢ − Dᵢ + rᵢ Gᵢ/n] / M̄                     mode `exact`
    ∂L_AB,i/∂αᵢ = [(1 − rᵢ) gᵢ − n 1{i = j} Dᵢ + rᵢ ∂CE₋ⱼ/∂αᵢ] / M̄      mode `drawn`
    ∂L_AB,i/∂αᵢ = (1 − rᵢ/n) gᵢ / M̄                                     mode `own`
    ∂L_AB,i/∂αᵢ = 0                                                      mode `constant`: the authors' program

`drawn` takes the values Mᵢ from forward passes, as `own` does, and differentiates CE₋ⱼ alone, of a cell j that each
step draws uniformly, by the step and the seed: one backward pass in place of n + 1. Its mean over j is `exact`. `own`
is an approximation: Mⱼ, j ≠ i, and CE₋ᵢ count as independent of αᵢ, so that it has no direction but that of gᵢ.

With one α, L_AB is 0 whatever the network does; its gradient is then left out in every mode. The removed cell is
replaced in its edges' weights; the paper leaves open by what.

Near M̄ = 0 the loss explodes, and above it a cell would be rewarded for harm; so it counts while M̄ < −margin only (and
never at 0). Where a factor of a cell's gradients exceeds ±clip, all of its factors are made smaller alike, so that the
direction stays; `drawn` does so before n multiplies. With partial channels a cell's β goes the way of its α.
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.errors import KdartsError, choice
from kdarts.ops.replicas import mean_over_replicas
from kdarts.search.gradients import Validation
from kdarts.search.objective import Objective, scaled_gradient


@dataclass(frozen=True)
class Removed:
    """A removed cell.

    Attributes:
        weights: in place of its weights after mixing, `[edges, operations]`.
        only: the columns that are not zero; None: all of them.
        passes: whether, with partial channels, the others still pass by on its edges.
    """

    weights: tf.Tensor
    only: frozenset[int] | None = None
    passes: bool = True


def skip(operations, edges: int, seed) -> Removed:
    """Its edges pass skip_connect alone: what is left is the wiring."""
    if "skip_connect" not in operations:
        raise KdartsError(f"removal 'skip' needs skip_connect among the operations; there are {', '.join(operations)}")
    column = operations.index("skip_connect")
    weights = np.zeros((edges, len(operations)), np.float32)
    weights[:, column] = 1
    return Removed(tf.constant(weights), frozenset([column]))


def zero(operations, edges: int, seed) -> Removed:
    """Its output is zero."""
    return Removed(tf.zeros((edges, len(operations))), frozenset(), passes=False)


def half(operations, edges: int, seed) -> Removed:
    """It weighs every operation alike, as a sigmoid does at the start."""
    return Removed(tf.fill((edges, len(operations)), 0.5))


def random(operations, edges: int, seed) -> Removed:
    """It weighs the operations at random, each from 0 to 1 (the authors' program)."""
    step, cell = (tf.cast(part, tf.int32) for part in seed)
    return Removed(tf.random.stateless_uniform((edges, len(operations)), tf.stack([step, cell])))


REMOVALS = {"skip": skip, "zero": zero, "half": half, "random": random}
MODES = ("drawn", "exact", "own", "constant")
SIGNS = {"reward": -1.0, "paper": 1.0}


ALONE = "the ablation loss is always 0 here: it compares cells with α of their own, and all share one (see sharing)"
"""What is said of a loss that has nothing to compare."""


class Contributions(keras.metrics.Metric):
    """The mean over steps of M: `contribution` of all cells and, of several, `contribution_NAME` of each.

    Args:
        names: of the α in use.
    """

    def __init__(self, names):
        super().__init__(name="contribution")
        self._names = tuple(names)
        self._total = self.add_variable((len(self._names),), "zeros", name="total")
        self._count = self.add_variable((), "zeros", name="count")

    def update_state(self, values):
        """Adds the M of a step, `[n]`."""
        self._total.assign_add(keras.ops.cast(values, self.dtype))
        self._count.assign_add(1)

    def result(self):
        """The means by the names of their columns in a history."""
        means = keras.ops.divide_no_nan(self._total, self._count)
        each = {f"contribution_{name}": means[place] for place, name in enumerate(self._names)}
        return {"contribution": keras.ops.mean(means), **(each if len(each) > 1 else {})}


class AblationLoss:
    """L_AB of a supernet and its gradient. A "cell" is the first of those that share an α: n is the number of α in use.
    With one it is `alone`: there is nothing to compare.

    The cells before the removed one are computed once, for all. No running statistic changes. The `owner`, an
    `Objective` or a compiled `Search`, gives CE; the `method`, which may be the term `Ablation` alone, gives the mode
    and the rest.
    """

    def __init__(self, owner, method):
        self._owner, self.method = owner, method
        choice("ablation", method.ablation, MODES)
        self._scale = SIGNS[choice("ablation_sign", method.ablation_sign, SIGNS)] * method.ablation_weight
        self._remove = REMOVALS[choice("removal", method.removal, REMOVALS)]
        sequence = owner.supernet.sequence
        self.owners = {index: sequence.index(index) for index in sorted(set(sequence))}
        """For each α in use the first cell that uses it: the one that is removed."""
        self.alone = len(self.owners) == 1
        self.mode = "constant" if self.alone else method.ablation
        self.removed(0)  # Tells at once if the space lacks what the removal needs.

    @property
    def objective(self) -> Objective:
        """Gives CE."""
        return getattr(self._owner, "objective", self._owner)

    def metric(self) -> Contributions:
        """A metric of M, to be updated at each step."""
        names = self._owner.supernet.alpha_names
        return Contributions(names[index] for index in self.owners)

    def removed(self, seed) -> list[Removed]:
        """Returns the replacement of each owner, by the method's removal."""
        net = self._owner.supernet
        edges = net.alphas[0].shape[0]
        return [self._remove(net.space.operations, edges, (seed, index)) for index in self.owners]

    def contributions(self, at: Validation, valid, removed: list[Removed]):
        """M (Eq. 7), `[n]`, from forward passes alone on the batch `valid`, one after the other to save memory.

        `at` is the validation loss, and `removed` the replacement of each owner.
        """
        _, alphas, statistics = self.objective.values()
        after, losses = at.gradients, []
        with self.objective.at(at.weights, alphas, statistics):
            mixtures = self.objective.supernet.mixture.drawn(training=True)
            for owner, instead in zip(self.owners.values(), removed, strict=True):
                with tf.control_dependencies(after):
                    s0, s1 = tf.identity(at.states[owner]), tf.identity(at.states[owner + 1])
                after = [self._loss_without(owner, instead, s0, s1, mixtures, valid[1])]
                losses += after
        return at.loss - mean_over_replicas(tf.stack(losses))

    def _loss_without(self, owner, removed, s0, s1, mixtures, y):
        """CE₋ᵢ, from what enters cell i."""
        net = self.objective.supernet
        weights, shares = mixtures[net.sequence[owner]]
        if shares is not None and not removed.passes:
            shares = tf.zeros_like(shares)
        instead = tf.cast(removed.weights, weights.dtype)
        s0, s1 = s1, net.run_cell(owner, s0, s1, instead, shares, True, removed.only)
        for index in range(owner + 1, len(net.cells)):
            s0, s1 = s1, net.run_cell(index, s0, s1, *mixtures[net.sequence[index]], training=True)
        return self.objective.loss_of(y, net.classify(s1))

    def gradients(self, at: Validation, valid, seed, scale=None) -> tuple[list, tf.Tensor]:
        """s w_AB ∂L_AB,i/∂αᵢ for each α, and M, on the batch `valid`.

        Args:
            at: the validation loss and its gradient; an unrolled one stands for gᵢ as a whole, while in mode `exact` Dᵢ
                and Gᵢ are taken at w' without the part that goes through it.
            valid: its batch, `(x, y)`.
            seed: an integer, of a random removal and of the drawn cell.
            scale: as of `scaled_gradient`.
        """
        removed = self.removed(seed)
        if self.mode == "exact":
            contributions, own, totals = self._differentiated(at, valid, removed, scale)
        else:
            contributions = self.contributions(at, valid, removed)
        if self.mode == "drawn":
            own, totals = self._of_one(at, valid, removed, self.drawn(seed), scale, [contributions])
        mean = tf.reduce_mean(contributions)
        active = (mean < -self.method.ablation_margin) & (mean != 0)
        mean = tf.where(active, mean, -1.0)
        ratios, n = contributions / mean, len(removed)

        def factors(*values):
            values = self._scale * tf.stack(values) / mean
            shrunk = tf.math.divide_no_nan(self.method.ablation_clip, tf.reduce_max(tf.abs(values)))
            return tf.unstack(tf.where(active, tf.minimum(shrunk, 1) * values, 0.0))

        gradients = [tf.zeros_like(g) for g in at.gradients]
        for place, index in enumerate(self.owners if self.mode != "constant" else ()):
            r = ratios[place]
            [of_g, *of_others] = factors(1 - r / n) if self.mode == "own" else factors(1 - r, -tf.ones_like(r), r / n)
            for own_place, position in enumerate(self._of(index)):
                gradients[position] = of_g * at.gradients[position]
                if of_others:
                    others = own[place][own_place], totals[position]
                    gradients[position] += of_others[0] * others[0] + of_others[1] * others[1]
        return gradients, contributions

    def drawn(self, seed):
        """The place of the cell that mode `drawn` differentiates, by the number of the step and the search's seed."""
        # A random removal draws by the step and the number of an α, which is never below zero.
        apart = -1 - getattr(self._owner, "seed", 0)
        seed = tf.stack([tf.cast(seed, tf.int64), tf.constant(apart, tf.int64)])
        return tf.random.stateless_uniform((), seed, maxval=len(self.owners), dtype=tf.int32)

    def _of_one(self, at: Validation, valid, removed, drawn, scale, after):
        """D and G with those of the drawn cell alone, n times, once `after` is computed: their mean is that of all.

        One graph serves every draw: the drawn cell's weights are chosen inside it.
        """
        objective, net = self.objective, self.objective.supernet
        _, alphas, statistics = objective.values()
        places = {owner: place for place, owner in enumerate(self.owners.values())}
        with objective.at(at.weights, alphas, statistics), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(alphas)
            with tf.control_dependencies(after):
                s0, s1 = (tf.identity(s) for s in at.states[:2])
            mixtures = net.mixture.drawn(training=True)
            for index in range(len(net.cells)):
                weights, shares = mixtures[net.sequence[index]]
                if index in places:
                    here, instead = tf.equal(drawn, places[index]), removed[places[index]]
                    more = weights.shape[1] - instead.weights.shape[1]  # an auxiliary skip connection
                    in_place = tf.pad(tf.cast(instead.weights, weights.dtype), [[0, 0], [0, more]])
                    weights = tf.where(here, in_place, weights)
                    if shares is not None and not instead.passes:
                        shares = tf.where(here, tf.zeros_like(shares), shares)
                s0, s1 = s1, net.run_cell(index, s0, s1, weights, shares, True)
            loss = self.objective.loss_of(valid[1], net.classify(s1))
        found = mean_over_replicas(scaled_gradient(tape, loss, alphas, scale))
        totals = [len(removed) * g for g in found]
        own = [
            [tf.where(tf.equal(drawn, place), totals[position], 0.0) for position in self._of(index)]
            for place, index in enumerate(self.owners)
        ]
        return own, totals

    def _of(self, index: int) -> range:
        """Where α number `index`, and its β if there is one, stand in the supernet's `architecture`."""
        net = self.objective.supernet
        return range(index, len(net.architecture), len(net.alphas))

    def _differentiated(self, at: Validation, valid, removed, scale):
        """M, D and G. What enters a cell is reached from all passes at once, in one backward pass of their sum."""
        objective, net = self.objective, self.objective.supernet
        _, alphas, statistics = objective.values()
        after, losses, own = at.gradients, [], []
        with objective.at(at.weights, alphas, statistics):
            with tf.control_dependencies(after), tf.GradientTape(watch_accessed_variables=False) as prefix:
                prefix.watch(alphas)
                states = net.states(tf.identity(valid[0]), training=True)
            back, totals = [tf.zeros_like(s) for s in states], [tf.zeros_like(a) for a in alphas]
            for (index, owner), instead in zip(self.owners.items(), removed, strict=True):
                with tf.control_dependencies(after):
                    entering = [tf.identity(s) for s in states[owner : owner + 2]]
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch((alphas, entering))
                    mixtures = net.mixture.drawn(training=True)
                    losses.append(self._loss_without(owner, instead, *entering, mixtures, valid[1]))
                by_alphas, by_entering = scaled_gradient(tape, losses[-1], (alphas, entering), scale)
                own.append([by_alphas[position] for position in self._of(index)])
                totals = [t + g for t, g in zip(totals, by_alphas, strict=True)]
                for side, gradient in enumerate(by_entering):
                    back[owner + side] += gradient
                after = [*totals, *by_entering]
        before = prefix.gradient(states, alphas, output_gradients=back, unconnected_gradients="zero")
        totals = [t + g for t, g in zip(totals, before, strict=True)]
        losses, own, totals = mean_over_replicas((tf.stack(losses), own, totals))
        return at.loss - losses, own, totals
