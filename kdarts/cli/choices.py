"""What a tuning chooses from, as the flag `--choose` spells it.

`--choose=NAME=A,B,C` lists values of a flag of `kdarts search`, `--choose=NAME=A|B` those that have commas in them, and
`--choose=NAME=LEAST..MOST`, `LEAST..MOST:log`, spans numbers, evenly or evenly in their logarithm.
"""

import math
from dataclasses import dataclass

from absl import flags

from kdarts.genotypes.errors import KdartsError
from kdarts.search.method import Method

_AROUND = 4.0
"""By default, how many times less or more than the method's own value a rate may be; of a loss weight, half as many."""


@dataclass(frozen=True)
class Choice:
    """A flag and the values it may have.

    Attributes:
        name: of the flag.
        values: all of them; of a span its least and its greatest.
        span: None for a list; else `linear` or `log`.
    """

    name: str
    values: tuple
    span: str | None = None

    def parameter(self, parameters) -> None:
        """Declares it on keras-tuner's `HyperParameters`."""
        if self.span is None:
            parameters.Choice(self.name, list(self.values))
        else:
            kind = parameters.Int if isinstance(self.values[0], int) else parameters.Float
            kind(self.name, *self.values, sampling=self.span)


def parse_choice(text: str, values: flags.FlagValues) -> Choice:
    """Reads one `--choose`.

    Args:
        text: such as `zero_one_weight=5,10,20` or `arch_learning_rate=1e-4..1e-2:log`.
        values: the flags that may be chosen.

    Raises:
        KdartsError: for an unknown flag or a value that it does not take, and what it takes.
    """
    name, equals, listed = text.partition("=")
    name = name.strip().removeprefix("--")
    if not equals or not listed.strip():
        raise KdartsError(f"--choose={text}: needs a flag of kdarts search and its values, such as channels=8,16")
    if name not in values:
        raise KdartsError(f"--choose={text}: {name!r} is no flag that can be chosen; kdarts search --help lists them")
    flag = values[name]
    numeric = flag.flag_type() in ("int", "float")
    if ".." in listed and numeric:
        return _span(text, name, listed, flag)
    words = [word.strip() for word in listed.split("|" if "|" in listed else ",")]
    found = tuple(_value(text, flag, word) for word in words)
    if len(set(found)) < len(found):
        raise KdartsError(f"--choose={text}: one value is there twice")
    return Choice(name, found)


def _span(text: str, name: str, listed: str, flag) -> Choice:
    ends, _, scale = listed.partition(":")
    least, _, most = ends.partition("..")
    found = _value(text, flag, least.strip()), _value(text, flag, most.strip())
    scale = scale.strip() or "linear"
    if scale not in ("linear", "log"):
        raise KdartsError(f"--choose={text}: {scale!r}; allowed behind a span are linear and log")
    if not found[0] < found[1] or (scale == "log" and found[0] <= 0):
        least = "more than 0 and " if scale == "log" else ""
        raise KdartsError(f"--choose={text}: the first needs to be {least}less than the second")
    return Choice(name, found, scale)


def _value(text: str, flag, word: str):
    try:
        value = flag.parser.parse(word)
    except ValueError as error:
        raise KdartsError(f"--choose={text}: {word!r}: {error}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise KdartsError(f"--choose={text}: {word!r}: needs a finite number")
    return str(value).lower() if isinstance(value, bool) else value


def default_choices(method: Method) -> list[Choice]:
    """Both learning rates around the method's own, and the weights of the losses that it has."""
    around = {"learning_rate": _AROUND, "arch_learning_rate": _AROUND}
    around |= {"zero_one_weight": _AROUND / 2, "ablation_weight": _AROUND / 2, "beta_weight": _AROUND / 2}
    own = {name: getattr(method, name) for name in around}
    return [Choice(name, (own[name] / far, own[name] * far), "log") for name, far in around.items() if own[name]]
