"""Keeps two processes out of one folder."""

import contextlib
import fcntl
import json
import os
import pathlib

from kdarts.genotypes.errors import KdartsError

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
