"""JSON, arrays and tables, each written whole or not at all."""

import csv
import io
import json
import os
import pathlib

import numpy as np

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_text, write_with


def write_json(path: str | os.PathLike, value) -> None:
    """Writes `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: str | os.PathLike) -> dict:
    """The object in a JSON file; raises `KdartsError` naming the file if there is none in it."""
    try:
        value = json.loads(pathlib.Path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise KdartsError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise KdartsError(f"{path}: holds no JSON object")
    return value


def write_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays as `.npz`."""
    write_with(path, lambda temporary: np.savez(temporary, **arrays))


def read_column(path: str | os.PathLike, name: str) -> list[float]:
    """The numbers in a column of a CSV written by `write_table`."""
    with pathlib.Path(path).open(newline="", encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def write_table(path: str | os.PathLike, rows: list[dict]) -> None:
    """Writes rows as CSV, with a column for every key of any row, in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
