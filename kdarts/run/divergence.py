"""What happens where a run diverges: it stops with one line, and leaves the last good state behind."""

import keras

from kdarts.genotypes.errors import KdartsError
from kdarts.run.checkpoint import Checkpoint
from kdarts.run.files import write_json
from kdarts.run.workdir import Workdir


class NotFinite(ArithmeticError):
    """A step came to something that is not finite; the message says what."""


class Divergence(KdartsError):
    """A run diverged."""
