"""Files that are written whole or not at all."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.seals import sealed_json

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
    """Removes from `folder` and its sub-folders what a killed process left half written."""
    for unfinished in pathlib.Path(folder).glob(f"**/.*{_UNFINISHED}"):
        shutil.rmtree(unfinished, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8."""
    write_with(path, lambda temporary: temporary.write_text(text, "utf-8"))


def write_sealed(path: str | os.PathLike, text: str) -> None:
    """Writes the text of a JSON object with its checksum (see `kdarts.genotypes.seals`)."""
    write_text(path, sealed_json(text))
