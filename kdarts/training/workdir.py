"""Keeps two processes out of one folder.

The working directory of a run: its only state.
"""

import contextlib
import fcntl
import json
import os
import pathlib

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.genotypes.files import sweep, write_text
from kdarts.genotypes.seals import sealed_lines, unsealed_lines

_held: dict[pathlib.Path, int] = {}
"""Descriptors of the folders that this process has locked; the system unlocks them at its end, however it ends."""


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

    Args:
        folder: is there.
        keep: False: only looks whether it could be locked.

    Raises:
        KdartsError: if another process has locked it.
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
        raise KdartsError(f"workdir {str(folder)!r} is in use by {by}; wait for it, or choose another one") from None
    except OSError:
        keep = False  # A file system without locks.
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
_COPY = f"backup/{_FLAGS}"

STOPPED = "stopped.json"
"""What a run that diverged leaves there: `stopped_by` "divergence", `what`, `epoch` and `step`, both from 1."""


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
        """The flags that its run was started with; none before it was. Raises `KdartsError` if they are damaged."""
        return self._flags() or {}

    def check(self, flags: dict[str, str]) -> None:
        """Refuses a folder that belongs to another run, before anything in it is changed.

        Args:
            flags: what decides the run's outcome, as text.

        Raises:
            KdartsError: if the folder was started with other flags (the message names the first that differs), or is
                a file, or holds anything but no record of its flags, or a damaged one and no copy; or if another
                process works there.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise KdartsError(f"workdir {str(self.path)!r} is a file; it needs to be a folder or new")
        lock(self.path, keep=False)
        before = self._flags()
        if before is None:
            if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise KdartsError(f"workdir {str(self.path)!r} holds other files and no {_FLAGS}; choose a new one")
            return
        for name in sorted(set(before) | set(flags)):
            if before.get(name) != flags.get(name):
                raise KdartsError(
                    f"workdir {str(self.path)!r} belongs to another run: there --{name}={before.get(name, 'unset')}, "
                    f"here --{name}={flags.get(name, 'unset')}; choose another --workdir"
                )

    def claim(self, flags: dict[str, str]) -> None:
        """Checks the folder, locks it until this process ends, and clears away what a killed run left half written.

        Then it writes the flags down, twice: one of the records may be damaged.
        """
        self.check(flags)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KdartsError(f"{self.path}: cannot be written ({error.strerror})") from None
        lock(self.path)
        sweep(self.path)
        text = sealed_lines("".join(f"--{name}={value}\n" for name, value in sorted(flags.items())))
        for record in (self / _FLAGS, self / _COPY):
            if record.exists() and record.read_bytes() == text.encode():
                continue
            if record.exists():
                print(f"{record}: damaged (checksum); made again from its copy", flush=True)
            write_text(record, text)

    def release(self) -> None:
        """Forgets the flags of a run that has not begun, so that the folder may be another's."""
        if any((self / "backup").glob("epoch-*")) or (self / "stages").exists():
            return
        for record in (self / _FLAGS, self / _COPY):
            record.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self / "backup").rmdir()

    def _flags(self) -> dict[str, str] | None:
        """The flags that were written down; None if none were."""
        records = [record for record in (self / _FLAGS, self / _COPY) if record.exists()]
        for record in records:
            with contextlib.suppress(DamageError):
                return _read(record)
        if records:
            names = " and ".join(map(str, records))
            raise KdartsError(f"{names}: damaged (checksum); what the run was started with is not known any more")
        return None


def _read(record: pathlib.Path) -> dict[str, str]:
    try:
        text = record.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise KdartsError(f"{record}: cannot be read ({error.strerror})") from None
    lines = unsealed_lines(text, record).splitlines()
    pairs = [line.removeprefix("--").partition("=") for line in lines if line.startswith("--")]
    return {name: value for name, _, value in pairs}
