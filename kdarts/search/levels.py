"""On which images the weights and α learn (Li, Khodak, Balcan and Talwalkar, ICLR 2021)."""

from dataclasses import dataclass
from typing import ClassVar

from kdarts.genotypes.settings import Axis, Registry

LEVELS = Registry("level")


@dataclass(frozen=True)
class Level(Axis):
    """How the images are divided between the weights and α.

    Attributes:
        one: whether both learn from the same images, those that no size keeps out of the training.
    """

    one: ClassVar[bool] = False


@dataclass(frozen=True)
class Bilevel(Level):
    """The weights learn from one half of the images and α from the other (DARTS, Eq. 3 and 4)."""

    name: ClassVar[str] = "bilevel"


@dataclass(frozen=True)
class Single(Level):
    """Both learn from all images, each from a batch of its own (GAEA's empirical risk minimization)."""

    name: ClassVar[str] = "single"
    one: ClassVar[bool] = True


for _kind in (Bilevel, Single):
    LEVELS.add(_kind)
