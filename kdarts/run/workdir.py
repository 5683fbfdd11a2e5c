"""The working directory of a run: its only state."""

import os
import pathlib

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import sweep, write_text

_FLAGS = "flags.flags"


class Workdir:
    """A folder that belongs to one run, known by the flags that it was started with.

    Args:
        path: the folder; it is made by `claim`.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)

    def __truediv__(self, name: str) -> pathlib.Path:
        return self.path / name

    def flags(self) -> dict[str, str]:
        """The flags that its run was started with; none before it was."""
        return _read(self / _FLAGS) if (self / _FLAGS).exists() else {}

    def check(self, flags: dict[str, str]) -> None:
        """Refuses a folder that belongs to another run, before anything in it is changed.

        Args:
            flags: what decides the run's outcome, as text.

        Raises:
            KdartsError: if the folder was started with other flags (the message names the first that differs), or is
                a file, or holds anything but no record of its flags.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise KdartsError(f"workdir {str(self.path)!r} is a file; it needs to be a folder or new")
        record = self / _FLAGS
        if not record.exists():
            if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise KdartsError(f"workdir {str(self.path)!r} holds other files and no {_FLAGS}; choose a new one")
            return
        before = _read(record)
        for name in sorted(set(before) | set(flags)):
            if before.get(name) != flags.get(name):
                raise KdartsError(
                    f"workdir {str(self.path)!r} belongs to another run: there --{name}={before.get(name, 'unset')}, "
                    f"here --{name}={flags.get(name, 'unset')}; choose another --workdir"
                )

    def claim(self, flags: dict[str, str]) -> None:
        """Checks the folder, clears away what a killed run left half written there, and writes the flags down."""
        self.check(flags)
        sweep(self.path)
        if not (self / _FLAGS).exists():
            lines = "".join(f"--{name}={value}\n" for name, value in sorted(flags.items()))
            write_text(self / _FLAGS, lines)


def _read(record: pathlib.Path) -> dict[str, str]:
    try:
        lines = record.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KdartsError(f"{record}: cannot be read ({error})") from None
    pairs = [line.removeprefix("--").partition("=") for line in lines if line.startswith("--")]
    return {name: value for name, _, value in pairs}
