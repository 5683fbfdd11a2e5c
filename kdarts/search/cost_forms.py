"""Published forms of a cost in the loss of α, to compare with the multipliers of `cost_target`.

L is the validation loss, T a limit, and C the cost that a chain of choices has under α: the sum over its places of the
costs of the choices, each times its share of the mixing weights there. Several costs multiply or add as one does.
Milliseconds count as microseconds, so that logarithms are above 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from kdarts.genotypes.errors import KdartsError


@dataclass(frozen=True)
class CostForm:
    """A form of the loss.

    Attributes:
        multiplies: whether L is multiplied by the function of each cost; else they are added to it.
        weight, power: a and b of the source; None: it has no b.
        of: from C, T, a and b to a scalar.
    """

    multiplies: bool
    weight: float
    power: float | None
    of: Callable

    def loss(self, loss, costs, weight: float | None = None, power: float | None = None):
        """The loss that α descends, a scalar.

        Args:
            loss: L, a scalar.
            costs: of each limit C, a scalar, and T.
            weight, power: a and b; None: those of the source.
        """
        weight, power = (own if given is None else given for given, own in ((weight, self.weight), (power, self.power)))
        for cost, limit in costs:
            value = tf.cast(self.of(cost, limit, weight, power), loss.dtype)
            loss = loss * value if self.multiplies else loss + value
        return loss


def _log(cost):
    return tf.math.log(tf.maximum(tf.convert_to_tensor(cost), 2.0))


FORMS = {
    "fbnet": CostForm(True, 0.2, 0.6, lambda c, t, a, b: a * _log(c) ** b),
    "proxyless_product": CostForm(True, 0.2, 0.3, lambda c, t, a, b: a * (_log(c) / _log(t)) ** b),
    "proxyless_sum": CostForm(False, 0.1, None, lambda c, t, a, b: a * (c / t - 1)),
    "absolute": CostForm(False, 0.1, None, lambda c, t, a, b: a * tf.abs(c / t - 1)),
    "hinge": CostForm(False, 0.1, None, lambda c, t, a, b: a * tf.nn.relu(c / t - 1)),
}
"""L a (ln C)ᵇ (FBNet, Wu et al. 2019, Eq. 2), L a (ln C / ln T)ᵇ and L + a (C − T) / T (ProxylessNAS, Cai et al. 2019,
in its program), L + a |C / T − 1| (TuNAS, Bender et al. 2020), and L + a max(0, C / T − 1)."""


def chosen_form(method, limits) -> CostForm | None:
    """The form of a method's costs; None: the multipliers.

    Args:
        method: has `cost_form`, `cost_weight` and `cost_power`.
        limits: the kinds of its limits.

    Raises:
        KdartsError: for a form without a cost, or a number that the form has no place for.
    """
    name, form = method.cost_form, FORMS.get(method.cost_form)
    if form is not None and not set(limits) - {"ram"}:
        raise KdartsError(f"cost_form {name!r}: needs a limit such as max_macs, max_params or max_latency_ms")
    if form is not None and (method.update == "frozen" or not method.axes["sampling"].moves_alpha):
        raise KdartsError(f"cost_form {name!r}: α does not move with update 'frozen' or sampling 'path'")
    places = {"cost_weight": FORMS, "cost_power": [each for each, known in FORMS.items() if known.power is not None]}
    for number, owners in places.items():
        if getattr(method, number) is not None and name not in owners:
            raise KdartsError(
                f"{number} {getattr(method, number):g}: has no effect with cost_form {name!r}; it is for "
                f"{', '.join(owners)}"
            )
    return form


def gradients_of(loss: Callable, at, architecture) -> list:
    """What a form adds to the gradients of α.

    Args:
        loss: from L to the whole loss.
        at: a `Validation`, with L and its gradients.
        architecture: the variables that the gradients are of.
    """
    values, plain = [variable.value for variable in architecture], tf.identity(at.loss)
    with tf.GradientTape() as tape:
        tape.watch(plain)
        whole = loss(plain)
    factor, *own = tape.gradient(whole, [plain, *values], unconnected_gradients="zero")
    return [g + tf.cast(factor - 1, g.dtype) * tf.cast(of, g.dtype) for g, of in zip(own, at.gradients, strict=True)]
