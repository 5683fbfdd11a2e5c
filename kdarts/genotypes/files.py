"""Atomic writing of files, reading of JSON with a format, and a check of zip archives."""

import json
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
    """Writes a file atomically: under a temporary name in the same folder, which is then renamed.

    Args:
        path: The file. Its folder is made if it does not exist.
        write: A function that writes the file whose path it is given. The temporary path has the suffix of `path`.
        failures: The exceptions besides `OSError` that `write` raises if the system cannot write, such as libraries on
            a full disk.

    Raises:
        KdartsError: If the file cannot be written. The message has the path and the reason, and an old file is kept.
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
    """Writes `text` as UTF-8, atomically."""
    write_with(path, lambda temporary: temporary.write_text(text, "utf-8"))


MOST_TEXT = 16
"""The most megabytes of a text that is read as one: a genotype of a thousand cells has one."""


def text_of(path: str | os.PathLike) -> str:
    """Returns the text of a file in UTF-8, at most 16 MB; raises `KdartsError` if there is none."""
    try:
        if os.path.getsize(path) > MOST_TEXT * 1e6:
            raise KdartsError(f"{path}: is larger than {MOST_TEXT} MB, the most of a text that is read as one")
        return pathlib.Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KdartsError(f"{path}: cannot be read as text ({error})") from None


def fields_of(text: str, where, what: str, form: str, needed: set[str], optional: set[str]) -> dict:
    """Returns the fields of a JSON object, without its `"format"`, which must be `form`.

    Raises `KdartsError` for another format or other keys. Its message begins with `where` and says `what` was expected.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KdartsError(f"{where}: not JSON ({error})") from None
    if not isinstance(data, dict) or data.pop("format", None) != form:
        raise KdartsError(f'{where}: not a {what}; its "format" must be "{form}"')
    data.pop("sha256", None)  # Earlier releases wrote a checksum.
    unknown, missing = set(data) - needed - optional, needed - set(data)
    if unknown or missing:
        raise KdartsError(f"{where}: unknown keys {sorted(unknown)}, missing keys {sorted(missing)}")
    return data


def check_archive(path: str | os.PathLike) -> None:
    """Compares the content of a zip archive, such as `.npz` and `.keras`, with the checksums in it.

    Raises `DamageError` if they differ or the file is not a zip archive, and `KdartsError` if it cannot be read.
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
