"""What ends a search before its last epoch."""

from kdarts.genotypes.errors import choice
from kdarts.search.method import Method


def epochs(history: list[dict], method: Method) -> bool:
    """Never: the search runs its epochs."""
    return False


def distance(history: list[dict], method: Method) -> bool:
    """Once the distance to the start no longer changes (D-DARTS section 5.4).

    Each of the last `stop_window` epochs, all from `stop_from` on, is within `stop_tolerance` of the latest.
    """
    first = method.pretrain_epochs + method.stop_from
    values = [row["distance"] for row in history if row["epoch"] >= first]
    last = values[-method.stop_window :]
    return len(last) == method.stop_window and all(abs(v - last[-1]) <= method.stop_tolerance for v in last)


RULES = {"epochs": epochs, "distance": distance}


def get_stop(name: str):
    """The rule called `name`, of the history and the method; raises `KdartsError` with the known names otherwise."""
    return RULES[choice("stop", name, RULES)]
