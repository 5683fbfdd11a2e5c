"""A CSV file of pictures and their labels, as it comes with many data sets: columns are found by name."""

import csv
import functools
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from kdarts.data.splits import ODD, ROLES, Picture
from kdarts.genotypes.errors import KdartsError, listed, shortened

FILES = ("file", "filename", "filepath", "path", "image", "imagefile", "imagename", "imagepath", "imageid", "img")
FILES += ("picture", "photo", "id", "name")
"""Names of the column of files, the preferred first; capitals, spaces, `_` and `-` do not matter."""

LABELS = ("label", "labels", "class", "classname", "category", "target", "species", "breed", "y", "labelname")
"""Names of the column of labels, likewise."""

SPLITS = ("split", "subset", "partition")
"""Names of the column that says which part a picture is for, likewise."""


def read(file: str, root: str, names: Sequence[str], tell: Callable[[str], None]) -> list[Picture]:
    """Reads the labels of pictures.

    Args:
        file: the CSV file; commas, semicolons or tabs between its columns.
        root: the folder of the pictures.
        names: the pictures below it. A row means one of them by its path, or by its file name if that is unique, with
            or without suffix; or any file by its absolute path.
        tell: takes a line about rows that are left out.

    Returns:
        The labelled pictures, each once, in order of rows. Their part is that of the column of splits if there is one,
        or else "".

    Raises:
        KdartsError: a file that cannot be read, no column of files or labels, other words in the column of splits, rows
            that contradict each other or could mean several pictures, no row of a picture that is there.
    """
    rows, columns = read_rows(file, {"files": FILES, "labels": LABELS}, SPLITS)
    find = _finder(root, os.path.dirname(os.path.abspath(file)), names)
    found: dict[str, Picture] = {}
    faults = defaultdict(list)
    for row in rows:
        cells = [row[column].strip() if column is not None and column < len(row) else "" for column in columns]
        cell, label, split = cells
        if not any(cells):
            continue
        part = ROLES.get(split.lower(), "")
        if columns[2] is not None and not part:
            faults["split"].append(split or "''")
            continue
        if not label or not cell:
            faults["empty"].append(cell or "''")
            continue
        matches = find(cell, part)
        if len(matches) != 1:
            faults["several" if matches else "missing"].append(cell)
            continue
        if ODD.search(label):
            faults["unprintable"].append(label)
            continue
        picture = Picture(matches[0], label, part)
        known = found.setdefault(picture.name, picture)
        if known is not picture:
            faults["repeated" if known == picture else "contrary"].append(cell)

    def rows_of(kind: str) -> str:
        return f"{file}: {len(faults[kind])} of {len(rows)} rows"

    if faults["split"]:
        words = listed(sorted(set(faults["split"])))
        raise KdartsError(f"{rows_of('split')} have the split {words}; allowed: {', '.join(ROLES)}")
    if faults["contrary"]:
        raise KdartsError(
            f"{rows_of('contrary')} give a picture another label or split than a row before: "
            f"{listed(faults['contrary'])}; allowed: one of each"
        )
    if faults["several"]:
        raise KdartsError(
            f"{rows_of('several')} could mean several pictures: {listed(faults['several'])}; "
            f"allowed: paths below {root}"
        )
    if faults["unprintable"]:
        raise KdartsError(
            f"{rows_of('unprintable')} have labels {listed(faults['unprintable'])}; allowed: one line of text"
        )
    if not found:
        unused = listed(faults["missing"] or faults["empty"]) or "no rows"
        raise KdartsError(
            f"{file}: none of its {len(rows)} rows has a label and a picture in {root}: {unused}; "
            "allowed: names of pictures below it, or absolute paths"
        )
    for kind, what in (
        ("missing", "name files that are not there"),
        ("empty", "have no label or no file"),
        ("repeated", "repeat a row before"),
    ):
        if faults[kind]:
            tell(f"{rows_of(kind)} {what}, left out: {listed(faults[kind])}")
    if unlabelled := len(set(names) - found.keys()):
        tell(f"{unlabelled} of {len(names)} pictures in {root} have no row in {file}, left out")
    return list(found.values())


def read_rows(
    file: str, needed: dict[str, Sequence[str]], *optional: Sequence[str]
) -> tuple[list[list[str]], list[int | None]]:
    """Reads the rows of a CSV file: UTF-8, or UTF-16 with a byte order mark; its columns between `,`, `;`, tab or `|`.

    Args:
        file: the CSV file.
        needed: the names of each column that it needs to have, such as `FILES`, by what the column holds.
        *optional: the names of columns that it may have.

    Returns:
        The rows below the first, and the position of each needed and each optional column; None for one that is not
        there. A row may be too short.

    Raises:
        KdartsError: a file that cannot be read, or a column that is missing.
    """
    try:
        with open(file, "rb") as stream:
            content = stream.read()
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise KdartsError(f"{file}: cannot be read ({error.strerror}); allowed: a CSV file") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise KdartsError(f"{file}: not UTF-8 in line {line}; allowed: a CSV file in UTF-8") from None
    heads, fault = [], ""
    for delimiter in ",;\t|":
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            rows = list(reader)
        except csv.Error as error:
            fault = fault or f"line {reader.line_num}: {error}"
            continue
        heads.append(head := rows[0] if rows else [])
        columns = [_column(head, names) for names in (*needed.values(), *optional)]
        if None not in columns[: len(needed)]:
            for twice in (head[column] for column in columns if column is not None and head.count(head[column]) > 1):
                raise KdartsError(f"{file} has two columns {listed([twice])}; allowed: one of each name")
            return rows[1:], columns
    if fault:
        raise KdartsError(f"{file}, {fault}; allowed: a CSV file")
    head = [shortened(name) for name in max(heads, key=len)]
    lacking = [f"of {what} ({', '.join(names)})" for what, names in needed.items() if _column(head, names) is None]
    raise KdartsError(f"{file} has columns {listed(head, 9) or 'none'}; needed: one {' and one '.join(lacking)}")


def _column(head: list[str], names: Sequence[str]) -> int | None:
    """The column whose name comes first in `names`."""
    plain = [re.sub(r"[\s_-]", "", name).lower() for name in head]
    return next((plain.index(name) for name in names if name in plain), None)


def _finder(root: str, beside: str, names: Sequence[str]) -> Callable[[str, str], list[str]]:
    """A function of a cell and a part, to the names that the cell can mean."""
    exact, below = set(names), os.path.relpath(beside, root)

    @functools.cache
    def known() -> dict[str, list[str]]:
        """The names by what is shorter, which few files of labels need."""
        found = defaultdict(list)
        for name in names:
            # A set: of a picture in the root itself, the path is the file name.
            for key in {name.rpartition(".")[0], os.path.basename(name), os.path.basename(name).rpartition(".")[0]}:
                found[key].append(name)
        return found

    def find(cell: str, part: str) -> list[str]:
        for path in (cell, cell.replace("\\", "/")):
            for name in (os.path.normpath(path), os.path.normpath(os.path.join(below, path))):
                if os.path.isabs(name) and os.path.isfile(name):
                    inside = os.path.relpath(name, root)
                    return [name if inside.startswith("..") else inside]
                if name in exact:
                    return [name]
                if found := known().get(name):
                    return [one for one in found if part and ROLES.get(one.split("/")[0].lower()) == part] or found
                if os.path.isfile(os.path.join(root, name)):  # of another suffix
                    return [name]
        return []

    return find
