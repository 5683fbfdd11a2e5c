"""Things known by a name."""

from kdarts.genotypes.errors import KdartsError, choice


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
