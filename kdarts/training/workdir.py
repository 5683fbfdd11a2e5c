"""The working directory of a run: its flags, and a lock that keeps a second process out."""

import contextlib
import fcntl
import json
import os
import pathlib
import sys

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import sweep, write_text

_held: dict[pathlib.Path, int] = {}
"""Descriptors of the folders that this process has locked; the system unlocks them at its end, however it ends."""

_without_locks: list[pathlib.Path] = []
"""The first folder that could not be locked: the user is told once."""


class InUse(KdartsError):
    """Another process works in a folder; the same call may succeed later."""


def measures_for_chief() -> bool:
    """Whether this process measures trials for keras-tuner's chief, as its environment variables say."""
    return bool(os.environ.get("KERASTUNER_ORACLE_IP")) and "chief" not in os.environ.get("KERASTUNER_TUNER_ID", "")


def shares() -> bool:
    """Whether this process works in another's folder on purpose: for a chief, or for the first of several workers."""
    if measures_for_chief():
        return True
    try:
        task = json.loads(os.environ.get("TF_CONFIG", "{}"))["task"]
        return (task["type"], int(task["index"])) not in (("chief", 0), ("worker", 0))
    except (ValueError, KeyError, TypeError):
        return False


def lock(folder: pathlib.Path, keep: bool = True) -> None:
    """Locks a folder for this process, until it ends.

    On a file system without locks it says so once on standard error and does nothing.

    Args:
        folder: must exist.
        keep: False: only looks whether it could be locked.

    Raises:
        InUse: if another process has locked it.
        KdartsError: if it cannot be opened.
    """
    folder = pathlib.Path(folder).absolute()
    if shares():
        return
    if folder in _held:
        if os.path.samestat(os.fstat(_held[folder]), folder.stat()):
            return
        os.close(_held.pop(folder))  # Of one that was removed.
    try:
        # The folder itself: a file for the purpose could be damaged, lost or left.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KdartsError(f"{folder}: cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        number = _holder(os.fstat(descriptor))
        os.close(descriptor)
        by = f"process {number}" if number else "another process"
        raise InUse(f"workdir {str(folder)!r} is in use by {by}; wait for it, or choose another one") from None
    except OSError as error:
        keep = False
        if not _without_locks:
            _without_locks.append(folder)
            print(
                f"kdarts: {folder} cannot be locked ({error.strerror}); let no second process work there",
                file=sys.stderr,
                flush=True,
            )
    if keep:
        _held[folder] = descriptor
    else:
        os.close(descriptor)


def _holder(about: os.stat_result) -> int | None:
    """The process that has locked a folder, where the system tells."""
    with contextlib.suppress(OSError, ValueError):
        place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
        for line in pathlib.Path("/proc/locks").read_text("ascii").splitlines():
            words = line.split()
            if place in words and "FLOCK" in words and int(words[4]) > 0:
                return int(words[4])
    return None


_FLAGS = "flags.flags"

STOPPED = "stopped.json"
"""What a run that diverged leaves there: `stopped_by` "divergence", `what`, `epoch` and `step`, both from 1."""


class Workdir:
    """A folder that belongs to one run, known by the flags that it was started with.

    Args:
        path: the folder; `begin` makes it.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)

    def __truediv__(self, name: str) -> pathlib.Path:
        return self.path / name

    def flags(self) -> dict[str, str]:
        """Reads the flags that its run was started with; {} if there is no record of them."""
        return self._flags() or {}

    def check(self, flags: dict[str, str], defaults: dict[str, str] | None = None) -> None:
        """Refuses a folder that belongs to another run, before anything in it is changed.

        Args:
            flags: what decides the run's outcome, as text; a flag may be left out where it has its default.
            defaults: of the flags that have one, as text. A flag that the record lacks, such as one that is newer than
                the run, is taken to have its default there.

        Raises:
            InUse: if another process works there.
            KdartsError: if the folder was started with other flags (the message names the first that differs), is a
                file, or holds anything but no record of its flags.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise KdartsError(f"workdir {str(self.path)!r} is a file; it needs to be a folder or new")
        lock(self.path, keep=False)
        before, usual = self._flags(), defaults or {}
        if before is None:
            if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise KdartsError(f"workdir {str(self.path)!r} holds other files and no {_FLAGS}; choose a new one")
            return
        for name in sorted(set(before) | set(flags)):
            there, here = (kept.get(name, usual.get(name, "unset")) for kept in (before, flags))
            if there != here:
                raise KdartsError(
                    f"workdir {str(self.path)!r} belongs to another run: there --{name}={there}, here --{name}={here} "
                    f"(its {_FLAGS}); choose another --workdir"
                )

    def begin(self, flags: dict[str, str], defaults: dict[str, str] | None = None) -> None:
        """Checks the folder, locks it until this process ends, removes unfinished files and records the flags.

        Args:
            flags, defaults: as of `check`.

        Raises:
            KdartsError: as of `check`, or if the folder cannot be written.
        """
        self.check(flags, defaults)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KdartsError(f"{self.path}: cannot be written ({error.strerror})") from None
        lock(self.path)
        sweep(self.path)
        if self._flags() is None:
            write_text(self / _FLAGS, "".join(f"--{name}={value}\n" for name, value in sorted(flags.items())))

    def release(self) -> None:
        """Removes the record of the flags, unless the run has saved something: the folder may be another's."""
        if not any((self / "backup").glob("*")) and not (self / "stages").exists():
            (self / _FLAGS).unlink(missing_ok=True)

    def _flags(self) -> dict[str, str] | None:
        """The recorded flags; None without a record."""
        try:
            text = (self / _FLAGS).read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KdartsError(f"{self / _FLAGS}: cannot be read ({error.strerror})") from None
        pairs = [line.removeprefix("--").partition("=") for line in text.splitlines() if line.startswith("--")]
        return {name: value for name, _, value in pairs}
