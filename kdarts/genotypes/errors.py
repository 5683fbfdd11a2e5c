"""The one error that kdarts raises for what a caller got wrong, and its kind for damaged files."""

import difflib


class KdartsError(ValueError):
    """The message is one line: what was given, what is allowed, and where."""


class DamageError(KdartsError):
    """A file that kdarts wrote is not as it was written."""


def choice(what: str, given, allowed) -> str:
    """`given` if it is one of `allowed`; otherwise raises `KdartsError` naming them, the nearest first."""
    names = [str(name) for name in allowed]
    if isinstance(given, str) and given in names:
        return given
    near = difflib.get_close_matches(str(given), names, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    listed = ", ".join(names) if len(names) <= 30 else f"one of {len(names)} known names"
    raise KdartsError(f"unknown {what} {given!r}{hint}; allowed: {listed}")
