"""The one error that kdarts raises for what a caller got wrong, and its kind for damaged files.

Things known by a name.
"""

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


class Registry:
    """Named things of one kind, in the order in which they were made known.

    Args:
        what: the kind, for messages: "operation", "space", ….
    """

    def __init__(self, what: str):
        self.what = what
        self._items: dict = {}

    def add(self, item):
        """Makes `item` known by its `name`, and returns it; a name is given once."""
        if item.name in self._items:
            raise KdartsError(f"{self.what} {item.name!r} exists already")
        self._items[item.name] = item
        return item

    def get(self, name: str):
        """What is called `name`; raises `KdartsError` with the known names otherwise."""
        return self._items[choice(self.what, name, sorted(self._items))]

    def names(self) -> list[str]:
        """Every known name."""
        return list(self._items)
