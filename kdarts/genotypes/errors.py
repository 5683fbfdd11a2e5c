"""The one error that kdarts raises for what a caller got wrong, and its kind for damaged files."""

import difflib
import re


class KdartsError(ValueError):
    """The message is one line: what was given, what is allowed, and where."""


class DamageError(KdartsError):
    """A file that kdarts wrote is not as it was written."""


def handed_on(error: Exception) -> str | None:
    """The line of a `KdartsError` that a pipeline's Python function raised, in the error that TensorFlow makes of it.

    Args:
        error: any.

    Returns:
        The line, or None if it is no such error.
    """
    found = re.search(r"\b(?:Kdarts|Damage|Picture)Error: ([^\n]*)", str(error))
    return found[1] if found and type(error).__module__.startswith("tensorflow.") else None


LONGEST_QUOTE = 80
"""The most characters of a user's text that a message repeats."""


_LONGEST_NAME = 200
"""The most characters of a name of a list: it may be the path of a file."""


def shortened(text: str, longest: int = LONGEST_QUOTE) -> str:
    """A user's text for a message, of which an ellipsis cuts off what is longer than `longest`."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def listed(names, most: int = 5) -> str:
    """The first `most` of some names for a message, printable and `shortened`, and how many more there are."""
    names = list(names)
    short = [shortened(name, _LONGEST_NAME) for name in names[:most]]
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in short)
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def quoted(value) -> str:
    """The `repr` of a user's value for a message, `shortened`."""
    try:
        return shortened(repr(value))
    except RecursionError:
        return "something nested deeply"


def choice(what: str, given, allowed) -> str:
    """`given` if it is one of `allowed`; otherwise raises `KdartsError` naming them, the nearest first."""
    names = [str(name) for name in allowed]
    if isinstance(given, str) and given in names:
        return given
    near = difflib.get_close_matches(str(given)[:LONGEST_QUOTE], names, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    known = ", ".join(names) if len(names) <= 60 else f"one of {len(names)} known names"
    raise KdartsError(f"unknown {what} {quoted(given)}{hint}; allowed: {known}")
