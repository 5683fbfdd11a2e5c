"""JSON, arrays and tables, each written whole or not at all."""

import csv
import io
import json
import os
import pathlib

import numpy as np

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.genotypes.files import check_archive, write_text, write_with


def write_json(path: str | os.PathLike, value: dict) -> None:
    """Writes an object as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: str | os.PathLike) -> dict:
    """Reads the object in a JSON file.

    Raises:
        DamageError: If the content is not JSON. The message names the file.
        KdartsError: If the file cannot be read or its content is not an object.
    """
    try:
        value = json.loads(pathlib.Path(path).read_text("utf-8"))
    except OSError as error:
        raise KdartsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise DamageError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise KdartsError(f"{path}: holds no JSON object")
    value.pop("sha256", None)  # Earlier releases wrote a checksum.
    return value


def read_summary(folder) -> dict | None:
    """Reads the summary of a finished run from its folder.

    Returns:
        The summary. None if there is none, or if it is damaged, which is reported in one line.
    """
    path = folder / "summary.json"
    if not path.exists():
        return None
    try:
        return read_json(path)
    except DamageError as error:
        print(f"{error}; made again", flush=True)
        return None


def write_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays as `.npz`, atomically."""

    def write(temporary):
        with temporary.open("wb") as file:  # NumPy appends its own suffix to the path of a file.
            np.savez(file, **arrays)

    write_with(path, write, (ValueError,))


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the named arrays of an `.npz` file. Raises `DamageError` with the file's name if it is damaged."""
    check_archive(path)  # NumPy alone checks only what it reads.
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, KeyError, EOFError):
        raise DamageError(f"{path}: cannot be read as arrays") from None


def read_column(path: str | os.PathLike, name: str) -> list[float]:
    """Reads the numbers in a column of a CSV file that `write_table` wrote."""
    with pathlib.Path(path).open(newline="", encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def write_table(path: str | os.PathLike, rows: list[dict]) -> None:
    """Writes rows as CSV, atomically. The columns are the keys of all rows, in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
