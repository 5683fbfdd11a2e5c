"""Files that are written whole or not at all."""

import os
import pathlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable

from kdarts.genotypes.errors import DamageError, KdartsError

_UNFINISHED = ".writing"


def write_with(
    path: str | os.PathLike, write: Callable[[pathlib.Path], None], failures: tuple[type[Exception], ...] = ()
) -> None:
    """Calls `write` with a temporary name beside `path`, which keeps its suffix, and renames the result.

    Args:
        path: file to write; its folder is made if need be.
        write: writes the file whose path it is given.
        failures: what `write` may raise besides `OSError` when the system refuses, as libraries do on a full disk.

    Raises:
        KdartsError: if the system refuses; the message names the path and the reason, and the old file stays.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem[:80]}.", suffix=_UNFINISHED) as folder:
            temporary = pathlib.Path(folder, path.name)
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except (OSError, *failures) as error:
        raise KdartsError(f"{path}: cannot be written ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)


def sweep(folder: str | os.PathLike) -> None:
    """Removes the unfinished files that a killed process left in `folder` and its sub-folders."""
    for unfinished in pathlib.Path(folder).glob(f"**/.*{_UNFINISHED}"):
        shutil.rmtree(unfinished, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8."""
    write_with(path, lambda temporary: temporary.write_text(text, "utf-8"))


def check_archive(path: str | os.PathLike) -> None:
    """Compares the content of a zip archive, such as `.npz` and `.keras`, with the checksums in it.

    Args:
        path: of the archive.

    Raises:
        DamageError: if they differ or the file is no zip archive.
        KdartsError: if it cannot be read.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            whole = _members_are_whole(file)
    except OSError as error:
        raise KdartsError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not whole:
        raise DamageError(f"{path}: damaged (checksum)")


def _members_are_whole(file) -> bool:
    try:
        return zipfile.ZipFile(file).testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError):
        return False  # A damaged archive makes `zipfile` fail in any of these ways.
