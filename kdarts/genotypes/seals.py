"""Checksums that files carry in themselves: a byte that changed, or a lost part, is noticed when they are read.

A JSON object has its own under the key `sha256`, at its end; a zip archive, such as `.npz` and `.keras`, in its
comment; lines of text in a last line that is a comment. So each file is written whole with its checksum, or not at all.
"""

import hashlib
import json
import os
import pathlib
import zipfile
import zlib

from kdarts.genotypes.errors import DamageError, KdartsError

KEY = "sha256"
_MARK = b"sha256:"
_LINE = "# sha256 "
_DIGITS = 64


def damaged(where) -> DamageError:
    """What to raise for a file whose checksum is not that of its content."""
    return DamageError(f"{where}: damaged (checksum)")


def _of_object(value: dict) -> str:
    text = json.dumps({name: part for name, part in value.items() if name != KEY}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed_json(text: str) -> str:
    """The text of a JSON object that is not empty, with its checksum as the last key."""
    body = text.rstrip().removesuffix("}").rstrip()
    return f'{body},\n  "{KEY}": "{_of_object(json.loads(text))}"\n}}\n'


def unsealed(value, where):
    """What was read as JSON, without its checksum.

    Args:
        value: an object is checked if it has a checksum: one that people write has none.
        where: named in the message.

    Raises:
        DamageError: if the checksum is that of other content.
    """
    if not isinstance(value, dict) or KEY not in value:
        return value
    if value[KEY] != _of_object(value):
        raise DamageError(f'{where}: damaged (checksum); if it was changed on purpose, remove its "{KEY}"')
    return {name: part for name, part in value.items() if name != KEY}


def sealed_lines(text: str) -> str:
    """Lines of text with their checksum in a last one."""
    return f"{text}{_LINE}{hashlib.sha256(text.encode()).hexdigest()}\n"


def unsealed_lines(text: str, where) -> str:
    """The lines without their checksum; raises `DamageError` if there is none or it is that of others."""
    body, mark, _ = text.rpartition(_LINE)
    if not mark or sealed_lines(body) != text:
        raise damaged(where)
    return body


def seal_archive(path: str | os.PathLike) -> None:
    """Gives a zip archive the checksum of all that comes before it in the file."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = _MARK + b"0" * _DIGITS
    with pathlib.Path(path).open("r+b") as file:
        digits = _digest(file).encode()
        file.seek(-_DIGITS, os.SEEK_END)
        file.write(digits)


def check_archive(path: str | os.PathLike, foreign: bool = False) -> None:
    """Holds a zip archive against its checksum.

    Args:
        path: of the archive.
        foreign: whether it may be one that other programs wrote; of such a one, each member's CRC is checked.

    Raises:
        DamageError: if it is damaged.
        KdartsError: if it cannot be read.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_MARK) - _DIGITS))
            end = file.read()
            if end.startswith(_MARK) and len(end) == len(_MARK) + _DIGITS:
                whole = _digest(file).encode() == end.removeprefix(_MARK)
            else:
                whole = foreign and _members_are_whole(file)
    except OSError as error:
        raise KdartsError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not whole:
        raise damaged(path)


def _members_are_whole(file) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError):
        return False


def _digest(file) -> str:
    """Of all of a file but the last digits, where its checksum stands."""
    left, sha = file.seek(0, os.SEEK_END) - _DIGITS, hashlib.sha256()
    file.seek(0)
    while left > 0:
        block = file.read(min(left, 1 << 20))
        if not block:
            break
        sha.update(block)
        left -= len(block)
    return sha.hexdigest()
