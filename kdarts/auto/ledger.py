"""The record of a run with a time limit: what was decided, and how long each part took.

A decision that depends on time, such as a number of epochs, is made once and recorded before it is acted on. So a run
that is killed and continued decides the same again, and the time of a part is counted once.
"""

import time
from collections.abc import Callable

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.training.workdir import Workdir, read_json, write_json

FILE = "auto.json"


class Ledger:
    """The record in a folder, as `auto.json`.

    Args:
        workdir: The folder of the run.
        seconds: The time limit.
        began: `time.monotonic()` when this process began. Defaults to now.
    """

    def __init__(self, workdir: Workdir, seconds: float, began: float | None = None):
        self.path, self.seconds = workdir / FILE, seconds
        self._parts: dict[str, dict] = self._read()
        self._since = time.monotonic() if began is None else began

    def _read(self) -> dict[str, dict]:
        if not self.path.exists():
            return {}
        try:
            parts = read_json(self.path, ("parts",))["parts"]
            if all(isinstance(each.get("seconds", 0.0), int | float) for each in parts.values()):
                return parts
        except (DamageError, AttributeError):
            pass
        raise KdartsError(f"{self.path}: is damaged; remove it and the folder's trainings to begin again")

    @property
    def spent(self) -> float:
        """The seconds of all finished parts."""
        return sum(part.get("seconds", 0.0) for part in self._parts.values())

    @property
    def left(self) -> float:
        """The seconds until the limit, 0 or more."""
        return max(0.0, self.seconds - self.spent - (time.monotonic() - self._since))

    def seconds_of(self, part: str) -> float:
        """Returns the seconds of a part; 0 if it is not finished."""
        return self._parts.get(part, {}).get("seconds", 0.0)

    def decide(self, part: str, make: Callable[[], object]):
        """Returns what was decided about a part; if nothing was, it calls `make` and records the result, as JSON."""
        if "decided" not in self._parts.get(part, {}):
            self._parts.setdefault(part, {})["decided"] = make()
            self._write()
        return self._parts[part]["decided"]

    def timed(self, part: str, make: Callable[[], object]):
        """Does the same for a part that is finished when it is decided."""
        decided = self.decide(part, make)
        self.finish(part)
        return decided

    def finish(self, part: str, seconds: float = 0.0) -> None:
        """Records the time of a part, unless it is known.

        It is the time since the part before, in this process, or `seconds`, those of a part that an earlier process
        began, if they are more.
        """
        now = time.monotonic()
        if "seconds" not in self._parts.setdefault(part, {}):
            self._parts[part]["seconds"] = max(seconds, now - self._since)
            self._write()
        self._since = now

    def _write(self) -> None:
        write_json(self.path, {"minutes": self.seconds / 60, "parts": self._parts})
