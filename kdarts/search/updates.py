"""When α moves, and by which optimizer.

Keras and TensorFlow are imported where they are used: commands that only read settings do not wait for them.
"""

from dataclasses import dataclass
from typing import ClassVar

from kdarts.genotypes.settings import MOST_EPOCHS, MOST_RATE, Axis, Registry, setting

UPDATES = Registry("update")

ARCH_OPTIMIZERS = ("adam", "sgd")

ATTENTION_MODES = ("each_update", "once", "offset")
"""When α gets the constants: after each of its updates, at the start, or never, but in mixing, as softmax(α + w)."""


def _attention(text: str):
    from kdarts.supernet.parameters import parse_attention

    return parse_attention(text)


_DECAY = "at 1 a running mean never moves"


@dataclass(frozen=True)
class Update(Axis):
    """When α moves; a kind of it says so. The optimizers are as in PyTorch.

    Attributes:
        each_step: whether α moves at every step.
        each_epoch: whether α moves once an epoch, after its last step.
    """

    each_step: ClassVar[bool] = False
    each_epoch: ClassVar[bool] = False

    arch_learning_rate: float = setting(3e-4, "learning rate of α at the start", least=0, most=MOST_RATE, open=True)
    arch_final_learning_rate: float | None = setting(
        None,
        "learning rate of α at the end, reached by half a cosine; unset: the rate is constant",
        least=0,
        most=MOST_RATE,
    )
    arch_optimizer: str = setting(
        "adam", "optimizer of α: adam, or sgd, plain descent without momentum", choices=ARCH_OPTIMIZERS
    )
    arch_beta_1: float = setting(0.5, "beta_1 of the Adam optimizer of α", least=0, most=0.9999, why=_DECAY)
    arch_beta_2: float = setting(0.999, "beta_2 of the Adam optimizer of α", least=0, most=0.999999, why=_DECAY)
    arch_l2: float = setting(1e-3, "L2 penalty on α", least=0, most=MOST_RATE)
    arch_clip: float = setting(
        0.0,
        "largest norm of the gradient of α and β together, to which it is clipped; 0: no clipping",
        least=0,
        most=1e6,
    )
    pretrain_epochs: int = setting(
        0,
        "epochs before those of the search in which only the weights are trained, at a constant learning rate",
        least=0,
        most=MOST_EPOCHS,
    )
    warmup_epochs: int = setting(
        0,
        "number of epochs at the start of the search in which only the weights are trained; scaled with --epochs",
        least=0,
        most=MOST_EPOCHS,
    )
    attention: tuple = setting(
        (),
        "constants that are added to α, such as sep_conv_3x3:0.0006,dil_conv_5x5:-0.0006; empty: none",
        parse=_attention,
        source="eDARTS, sections III-A and IV-C",
    )
    attention_mode: str = setting(
        "each_update",
        "when these constants are added: each_update, once (at the start) or offset (only where α is mixed)",
        choices=ATTENTION_MODES,
    )

    @property
    def resting_epochs(self) -> int:
        """Epochs at the start of the run in which α does not move."""
        return self.pretrain_epochs + self.warmup_epochs

    def optimizer(self):
        """The optimizer of α and β."""
        from kdarts.search.optimizers import SGD, Adam

        shared = {"l2": self.arch_l2, "global_clipnorm": self.arch_clip or None}
        if self.arch_optimizer == "sgd":
            return SGD(self.arch_learning_rate, **shared)
        return Adam(self.arch_learning_rate, self.arch_beta_1, self.arch_beta_2, epsilon=1e-8, **shared)

    def rate(self, epochs: int, begin: int):
        """The learning rate of α by epoch: a descent over `epochs` behind `begin` epochs at the first rate."""
        from kdarts.search.schedules import Cosine

        final = self.arch_final_learning_rate
        return Cosine(self.arch_learning_rate, self.arch_learning_rate if final is None else final, epochs, begin)


def register_update(kind: type[Update]) -> type[Update]:
    """Makes an update known by its `name`, to `--update` and to `update=`."""
    return UPDATES.add(kind)


@register_update
@dataclass(frozen=True)
class EveryStep(Update):
    """α moves at every step, before the weights (DARTS, Algorithm 1)."""

    name: ClassVar[str] = "step"
    each_step: ClassVar[bool] = True


@register_update
@dataclass(frozen=True)
class EveryEpoch(Update):
    """α moves once an epoch, after its last step, on the batches of that step (eDARTS, section III-C)."""

    name: ClassVar[str] = "epoch"
    each_epoch: ClassVar[bool] = True


@register_update
@dataclass(frozen=True)
class Frozen(Update):
    """α never moves."""

    name: ClassVar[str] = "frozen"
