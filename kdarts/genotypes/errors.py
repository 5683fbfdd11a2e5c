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


def choice(what: str, given, allowed) -> str:
    """`given` if it is one of `allowed`; otherwise raises `KdartsError` naming them, the nearest first."""
    names = [str(name) for name in allowed]
    if isinstance(given, str) and given in names:
        return given
    near = difflib.get_close_matches(str(given), names, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    listed = ", ".join(names) if len(names) <= 30 else f"one of {len(names)} known names"
    raise KdartsError(f"unknown {what} {given!r}{hint}; allowed: {listed}")
