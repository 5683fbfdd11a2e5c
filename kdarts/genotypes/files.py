"""Atomic writing of files, reading of JSON with a format, and a check of zip archives."""

import json
import math
import os
import pathlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable

from kdarts.genotypes.errors import DamageError, KdartsError, quoted

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
        return pathlib.Path(path).read_text("utf-8-sig")  # Some editors begin a file with a byte order mark.
    except OSError as error:
        raise KdartsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise DamageError(f"{path}: cannot be read as text ({error})") from None


DEEPEST, _DIGITS = 100, 20
"""How deep lists and objects of a JSON text may be nested, and how many digits a whole number may have."""


def json_of(text: str | bytes):
    """Returns what a JSON text says, if it is within what kdarts and its users write.

    JSON has no NaN and no infinity, which Python's reader takes. Numbers that become infinite, whole numbers of more
    than 20 digits and values nested more than 100 deep are refused too, because whatever computes with them fails.

    Raises:
        ValueError: If the text is not JSON or beyond these limits.
    """

    def refuse(word):
        raise ValueError(f"{word[:_DIGITS]} is no number of JSON's, or beyond all that are used")

    def real(word):
        return float(word) if math.isfinite(float(word)) else refuse(word)

    def whole(word):
        return int(word) if len(word) <= _DIGITS else refuse(word)

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=real, parse_int=whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [part for each in level if isinstance(each, list | dict) for part in _parts(each)]
        if not level:
            return value
    raise ValueError("nested too deeply")


def _parts(value: list | dict):
    return value.values() if isinstance(value, dict) else value


def json_in(path: str | os.PathLike):
    """Returns what a JSON file says (see `json_of`).

    Raises:
        DamageError: If the content is not JSON. The message names the file.
        KdartsError: If the file cannot be read.
    """
    text = text_of(path)
    try:
        return json_of(text)
    except ValueError as error:
        raise DamageError(f"{path}: cannot be read as JSON ({error})") from None


def fields_of(text: str, where, what: str, form: str, needed: set[str], optional: set[str]) -> dict:
    """Returns the fields of a JSON object, without its `"format"`, which must be `form`.

    Raises `KdartsError` for another format or other keys. Its message begins with `where` and says `what` was expected.
    """
    try:
        data = json_of(text)
    except ValueError as error:
        raise KdartsError(f"{where}: not JSON ({error})") from None
    if not isinstance(data, dict) or data.pop("format", None) != form:
        raise KdartsError(f'{where}: not a {what}; its "format" must be "{form}"')
    data.pop("sha256", None)  # Earlier releases wrote a checksum.
    unknown, missing = set(data) - needed - optional, needed - set(data)
    if unknown or missing:
        raise KdartsError(f"{where}: unknown keys {quoted(sorted(unknown))}, missing keys {sorted(missing)}")
    return data


def check_archive(path: str | os.PathLike) -> None:
    """Compares the content of a zip archive, such as `.npz` and `.keras`, with the checksums in it.

    Raises `DamageError` if they differ, the file is not a zip archive, or it would unpack to far more than arrays and
    text ever do, and `KdartsError` if it cannot be read.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            unpacked = _unpacked(file)
            if unpacked > max(_PACKED * size, 64e6):
                raise DamageError(f"{path}: unpacks to {unpacked / 1e6:,.0f} MB, over {_PACKED} times its own size")
            whole = _members_are_whole(file)
    except OSError as error:
        raise KdartsError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not whole:
        raise DamageError(f"{path}: damaged (checksum)")


_PACKED = 50
"""How many times its size the content of an archive may have: numbers pack to a half, tables and text to a tenth."""

_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError)
"""A damaged archive makes `zipfile` fail in any of these ways."""


def _unpacked(file) -> int:
    """The bytes of the members of an archive, as it declares them; 0 if it is damaged."""
    try:
        return sum(member.file_size for member in zipfile.ZipFile(file).infolist())
    except _BROKEN:
        return 0


def _members_are_whole(file) -> bool:
    try:
        return zipfile.ZipFile(file).testzip() is None
    except _BROKEN:
        return False
