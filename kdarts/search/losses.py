"""The terms that are added to the loss of α.

A term of α alone defines `value`. Others make something that they keep in a search, and give a gradient. The set is
open: a program registers a class of its own by `register_loss`.

Keras and TensorFlow are imported where they are used: commands that only read settings do not wait for them.
"""

from dataclasses import dataclass
from typing import ClassVar

from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.settings import Axis, Registry, setting

LOSSES = Registry("loss")

ZERO_ONE = ("l2", "l1")
ABLATIONS = ("drawn", "exact", "own", "constant")
REMOVALS = ("skip", "zero", "half", "random")
SIGNS = ("reward", "paper")

COST_FORMS = ("multiplier", "fbnet", "proxyless_product", "proxyless_sum", "absolute", "hinge")
"""The first is kdarts' own, the others are `cost_forms.FORMS`."""


@dataclass(frozen=True)
class LossTerm(Axis):
    """A term of the loss that α descends. The names of its fields are those of its flags, so they say whose they are.

    A term of α alone needs nothing but `value`.
    """

    @property
    def active(self) -> bool:
        """Whether the term is there: its first field, the weight, is not 0."""
        return bool(next(iter(self.config().values())))

    def value(self, supernet):
        """The term, a scalar that is differentiable in α; None for one that gives gradients itself.

        Args:
            supernet: its `mixture` has `alphas`, `weights_of_candidates()`, `candidates` and `progress`.
        """
        return None

    def attach(self, search):
        """What the term keeps in a search, made when the search is; None: nothing.

        It may have `gradients(validation, valid, seed, scale)`, a list for α and β, `updated(steps)`, called after each
        update, `callbacks()` and `epoch_logs`.
        """
        return None


def register_loss(kind: type[LossTerm]) -> type[LossTerm]:
    """Makes a term known by its `name`; its fields become choices of every method, and flags."""
    return LOSSES.add(kind)


_WEIGHT = {"least": 0, "most": 1e6}
_MOST_COST = 1e15
_LIMIT = {"least": 0, "most": _MOST_COST, "open": True}


@register_loss
@dataclass(frozen=True)
class ZeroOne(LossTerm):
    """The zero-one loss: it drives each mixing weight to 0 or 1 (FairDARTS Eq. 4, D-DARTS Eq. 4)."""

    name: ClassVar[str] = "zero_one"
    zero_one_weight: float = setting(
        0.0, "weight of the zero-one loss, which drives each mixing weight to 0 or 1; 0: none", **_WEIGHT
    )
    zero_one: str = setting("l2", "form of the zero-one loss", choices=ZERO_ONE, source="FairDARTS, Eq. 4 and 5")

    def value(self, supernet):
        joint = supernet.sharing == "shared"
        return self.zero_one_weight * zero_one_loss(supernet.mixture.weights_of_candidates(), self.zero_one, joint)


@register_loss
@dataclass(frozen=True)
class BetaDecay(LossTerm):
    """The beta-decay loss: it keeps the α of an edge from growing apart (beta-DARTS, Ye et al. 2022, Eq. 12)."""

    name: ClassVar[str] = "beta_decay"
    beta_weight: float = setting(
        0.0, "weight of the beta-decay loss at the end of the search, towards which it grows from 0", **_WEIGHT
    )

    def value(self, supernet):
        import tensorflow as tf

        mixture = supernet.mixture
        rising = self.beta_weight * tf.cast(tf.convert_to_tensor(mixture.progress), mixture.alphas[0].dtype)
        return rising * beta_decay(mixture.alphas, mixture.candidates)


@register_loss
@dataclass(frozen=True)
class Ablation(LossTerm):
    """The ablation loss: each cell is judged by what its absence costs (D-DARTS section 4.2; see `ablation`)."""

    name: ClassVar[str] = "ablation"
    ablation_weight: float = setting(
        0.0, "weight of the ablation loss, which rewards a cell by what its absence costs; 0: none", **_WEIGHT
    )
    ablation: str = setting(
        "drawn",
        "gradient of the ablation loss: exact; drawn (exact on average, through one cell a step); own (an "
        "approximation from forward passes alone); constant (none)",
        choices=ABLATIONS,
        source="D-DARTS, Eq. 8",
    )
    removal: str = setting("skip", "replacement of a removed cell", choices=REMOVALS)
    ablation_sign: str = setting(
        "reward",
        "what a cell gets that contributes more than its share: reward, or paper (the printed sign)",
        choices=SIGNS,
    )
    ablation_margin: float = setting(
        0.02, "the ablation loss counts while the mean contribution is below minus this", least=-1e9, most=1e9
    )
    ablation_clip: float = setting(
        5.0, "largest absolute value of a factor in the gradient of the ablation loss", least=0, most=1e9
    )

    def attach(self, search):
        from kdarts.search.ablation import AblationLoss

        return AblationLoss(search, self)


@register_loss
@dataclass(frozen=True)
class Anchor(LossTerm):
    """The anchor of DrNAS: it keeps the edges' Dirichlet distributions near the uniform one (Chen et al. 2021).

    Σ KL(Dir(c) || Dir(1)) over all edges, in place of the L2 penalty that the authors' program has by default.
    """

    name: ClassVar[str] = "anchor"
    anchor_weight: float = setting(
        0.0, "weight of the divergence of the edges' Dirichlet distributions from the uniform one; 0: none", **_WEIGHT
    )

    def value(self, supernet):
        import tensorflow as tf

        concentrations = [tf.exp(logs) for logs in supernet.mixture.log_weights()]
        return self.anchor_weight * anchor_divergence(concentrations, supernet.mixture.candidates)

    def attach(self, search):
        if search.method.sampling != "dirichlet":
            raise KdartsError(f"anchor_weight {self.anchor_weight}: is for sampling 'dirichlet' only")


def _count(text: str) -> float:
    from kdarts.search.cost_target import count

    return count(text)


def _bytes(text: str) -> float:
    from kdarts.search.cost_target import memory

    return memory(text)


@register_loss
@dataclass(frozen=True)
class CostTarget(LossTerm):
    """A target for the cost of the derived network, or limits that it keeps (see `cost_target`)."""

    name: ClassVar[str] = "cost_target"
    target_macs: float | None = setting(
        None,
        "target for the multiply-accumulates of the network found, at the channels and cells of the "
        "search, such as 2.5M or 800k; unset: none",
        least=0,
        most=_MOST_COST,
        open=True,
        parse=_count,
    )
    target_params: float | None = setting(
        None, "target for the number of its weights", least=0, most=_MOST_COST, open=True, parse=_count
    )
    target_latency_ms: float | None = setting(
        None, "target for its time in milliseconds, by --latency_table", least=0, most=_MOST_COST, open=True
    )
    latency_table: str = setting("", "file of measured latencies, which tools/latency_table.py writes")
    max_macs: float | None = setting(
        None,
        "most MACs of the derived network of a chain of choices such as --space=mobile; of several limits all are kept",
        **_LIMIT,
        parse=_count,
    )
    max_params: float | None = setting(None, "most weights of it", **_LIMIT, parse=_count)
    max_ram: float | None = setting(
        None,
        "most bytes of its activations at a time as int8 values, such as 64KiB: larger blocks are left out",
        **_LIMIT,
        parse=_bytes,
    )
    max_flash: float | None = setting(
        None, "most bytes of its int8 file, as estimated, such as 100kB", **_LIMIT, parse=_bytes
    )
    max_latency_ms: float | None = setting(None, "most milliseconds of it, by --latency_table", **_LIMIT)
    cost_form: str = setting(
        "multiplier",
        "how limits enter the loss of α: by multipliers that follow the costs of the network, or in a published form",
        choices=COST_FORMS,
        source="FBNet; ProxylessNAS; TuNAS",
    )
    cost_weight: float | None = setting(
        None, "a of the published forms; unset: 0.2 of a product, 0.1 of a sum", **_WEIGHT
    )
    cost_power: float | None = setting(None, "b of the products; unset: 0.6 of fbnet, 0.3", **_WEIGHT)

    @property
    def active(self) -> bool:
        return self != type(self)()

    def attach(self, search):
        from kdarts.search.cost_target import LimitControl, TargetControl, chosen_limits

        if chosen_limits(search.method):
            return LimitControl(search.supernet, search.method)
        return TargetControl(search.supernet, search.method, search.genotype())


def beta_decay(alphas, candidates=None):
    """The mean over all edges of log Σ exp α; a scalar.

    `alphas` are `[edges, operations]` each; `candidates` as of `Mixture`.
    """
    import tensorflow as tf

    values = [tf.convert_to_tensor(alpha) for alpha in alphas]
    if candidates is not None:
        values = [tf.where(left, v, v.dtype.min) for left, v in zip(candidates, values, strict=True)]
    return tf.reduce_mean(tf.reduce_logsumexp(tf.concat(values, 0), -1))


def anchor_divergence(concentrations, candidates=None):
    """The sum over all edges of KL(Dir(c) || Dir(1)); a scalar, at least 0, and 0 where every c is 1.

    lnΓ(c₀) − Σ lnΓ(c) − lnΓ(K) + Σ (c − 1)(ψ(c) − ψ(c₀)) with c₀ = Σ c, for an edge of K candidates.

    Args:
        concentrations: for each α its c, `[edges, operations]`, above 0.
        candidates: as of `Mixture`.
    """
    import tensorflow as tf

    parts = []
    for c, there in zip(concentrations, candidates or [True] * len(concentrations), strict=True):
        left = tf.broadcast_to(there, c.shape)
        whole = tf.reduce_sum(tf.where(left, c, 0.0), -1, keepdims=True)
        count = tf.reduce_sum(tf.cast(left, c.dtype), -1, keepdims=True)
        c = tf.where(left, c, 1.0)  # What is no candidate adds 0.
        rows = (c - 1) * (tf.math.digamma(c) - tf.math.digamma(whole)) - tf.math.lgamma(c)
        parts.append(tf.reduce_sum(rows) + tf.reduce_sum(tf.math.lgamma(whole) - tf.math.lgamma(count)))
    return tf.add_n(parts)


def zero_one_loss(weights, form: str = "l2", joint: bool = False):
    """The sum of the cells' losses, each of which depends on its own α alone; a scalar, at most 0.

    With the form "l2" the loss of a cell is −mean (w − ½)², with "l1" −mean |w − ½|, which pulls alike at any distance.

    Args:
        weights: for each α the weights after mixing, `[edges, operations]`, 0 to 1.
        form: "l2" or "l1".
        joint: whether all α have one loss together, the mean over all of them (FairDARTS), instead of one each
            (D-DARTS).
    """
    import tensorflow as tf

    size = {"l2": tf.square, "l1": tf.abs}[choice("zero_one", form, ZERO_ONE)]
    parts = [tf.concat(weights, 0)] if joint else weights
    return tf.add_n([-tf.reduce_mean(size(part - 0.5)) for part in parts])
