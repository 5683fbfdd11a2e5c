"""The working directory of a run: its flags, its lock, and its files, which are written atomically."""

import contextlib
import csv
import fcntl
import io
import json
import math
import os
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from kdarts.genotypes.cuboid import Architecture, architecture_from_json
from kdarts.genotypes.errors import DamageError, KdartsError, listed, quoted, shortened
from kdarts.genotypes.files import check_archive, json_in, json_of, sweep, write_text, write_with
from kdarts.training import entries

_held: dict[pathlib.Path, int] = {}
"""Descriptors of the folders that this process has locked. The system removes the locks when the process ends."""

_without_locks: list[pathlib.Path] = []
"""The first folder that could not be locked: only this one is reported."""


class InUse(KdartsError):
    """Another process uses the folder. The same call may succeed later."""


def measures_for_chief() -> bool:
    """Returns whether this process measures trials for keras-tuner's chief, by its environment variables."""
    return bool(os.environ.get("KERASTUNER_ORACLE_IP")) and "chief" not in os.environ.get("KERASTUNER_TUNER_ID", "")


def shares() -> bool:
    """Returns whether this process shares the folder of another: of a chief, or of the first of several workers."""
    if measures_for_chief():
        return True
    try:
        task = json.loads(os.environ.get("TF_CONFIG", "{}"))["task"]
        return (task["type"], int(task["index"])) not in (("chief", 0), ("worker", 0))
    except (ValueError, KeyError, TypeError):
        return False


def lock(folder: pathlib.Path, keep: bool = True) -> None:
    """Locks a folder for this process until it ends.

    On a file system without locks it does nothing, and reports this once on standard error.

    Args:
        folder: The folder, which must exist.
        keep: Whether to keep the lock. Otherwise it only checks that the folder is not locked.

    Raises:
        InUse: If another process has locked the folder.
        KdartsError: If the folder cannot be opened.
    """
    folder = pathlib.Path(folder).absolute()
    if shares():
        return
    if folder in _held:
        if os.path.samestat(os.fstat(_held[folder]), folder.stat()):
            return
        os.close(_held.pop(folder))  # Of one that was removed.
    try:
        # It locks the folder itself, because a lock file could be lost or left behind.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KdartsError(f"{folder}: cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        number = _holder(os.fstat(descriptor))
        os.close(descriptor)
        by = f"process {number}" if number else "another process"
        raise InUse(f"workdir {str(folder)!r} is in use by {by}; wait for it, or choose another one") from None
    except OSError as error:
        keep = False
        if not _without_locks:
            _without_locks.append(folder)
            text = f"{folder} cannot be locked ({error.strerror}); let no second process work there"
            print(f"kdarts: {text}", file=sys.stderr, flush=True)
    if keep:
        _held[folder] = descriptor
    else:
        os.close(descriptor)


def _holder(about: os.stat_result) -> int | None:
    """Returns the process that has locked a folder, None if the system does not tell."""
    with contextlib.suppress(OSError, ValueError):
        place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
        for line in pathlib.Path("/proc/locks").read_text("ascii").splitlines():
            words = line.split()
            if place in words and "FLOCK" in words and int(words[4]) > 0:
                return int(words[4])
    return None


_FLAGS, _DATA = "flags.flags", "data.npz"

STOPPED = "stopped.json"
"""The file that a diverged run writes: `stopped_by` "divergence", `what`, and `epoch` and `step`, counted from 1."""


WEIGHTS = "selection_weights.npz"
"""The file of what a finished search's selection compares: `[edges, operations]` for each cell of the genotype."""


class Workdir:
    """A folder that belongs to one run, which is identified by the flags that it was started with.

    Args:
        path: The folder. `begin` makes it.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._data: dict[str, np.ndarray] | None = None

    def __truediv__(self, name: str) -> pathlib.Path:
        return self.path / name

    def flags(self) -> dict[str, str]:
        """Returns the recorded flags of the run, {} if there is no record."""
        return self._flags() or {}

    def check(self, flags: dict[str, str], defaults: dict[str, str] | None = None) -> None:
        """Checks that the folder is new or belongs to this run. It changes nothing.

        Args:
            flags: The flags that determine the result of the run, as text. Flags with their default may be left out.
            defaults: The defaults of the flags, as text. A flag that is missing in the record of the run or in `flags`
                has its default there, so that a release can add flags.

        Raises:
            InUse: If another process uses the folder.
            KdartsError: If the folder belongs to a run with other flags (the message names the first of them), is a
                file, or has other files and no record of flags.
        """
        try:
            os.fsencode(self.path).decode("utf-8")
            self.path.stat()
        except UnicodeError:
            raise KdartsError(f"workdir {str(self.path)!r}: needs a name in UTF-8") from None
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            name = shortened(str(self.path), 200)
            raise KdartsError(f"workdir {name!r}: cannot be used ({error.strerror})") from None
        if not self.path.is_dir():
            raise KdartsError(f"workdir {str(self.path)!r} is a file; it needs to be a folder or new")
        lock(self.path, keep=False)
        before, usual = self._flags(), defaults or {}
        if before is None:
            if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise KdartsError(f"workdir {str(self.path)!r} holds other files and no {_FLAGS}; choose a new one")
            return
        for name in sorted(set(before) | set(flags)):
            there, here = (kept.get(name, usual.get(name, "unset")) for kept in (before, flags))
            if there != here:
                raise KdartsError(
                    f"workdir {str(self.path)!r} belongs to another run: there --{name}={there}, here --{name}={here} "
                    f"(its {_FLAGS}); choose another --workdir"
                )

    def check_data(self, **splits) -> None:
        """Checks that the run has the data that it was started with: classes, files and labels. It changes nothing.

        Args:
            **splits: An `ImageData` for each split that is read, by name.

        Raises:
            KdartsError: If they differ. The message says in what, as far as it is known.
        """
        self._data = _data_record(splits)
        try:
            before = read_arrays(self / _DATA) if (self / _DATA).exists() else {}
        except DamageError as error:
            print(f"{error}; made again", flush=True)
            before = {}
        if "class_names" not in before:  # A run of an earlier release.
            before["class_names"] = (read_summary(self) or {}).get("class_names", self._data["class_names"])
        changes = data_changes(before, self._data)
        if changes:
            raise KdartsError(
                f"workdir {str(self.path)!r} was started with other data: {'; '.join(changes)}. Restore the data, or "
                "choose another --workdir"
            )

    def begin(self, flags: dict[str, str], defaults: dict[str, str] | None = None) -> None:
        """Checks and locks the folder, removes unfinished files in it and records the flags and the data.

        Args:
            flags, defaults: See `check`. The data are those of `check_data`, if it was called.

        Raises:
            KdartsError: See `check`; also if the folder cannot be written.
        """
        self.check(flags, defaults)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KdartsError(f"{self.path}: cannot be written ({error.strerror})") from None
        lock(self.path)
        sweep(self.path)
        write_text(self / _FLAGS, "".join(f"--{name}={value}\n" for name, value in sorted(flags.items())))
        if self._data is not None:
            write_arrays(self / _DATA, self._data)

    def release(self) -> None:
        """Removes the record of a run that has not saved anything, so that another run can use the folder."""
        if not any((self / "backup").glob("*")) and not (self / "stages").exists():
            (self / _FLAGS).unlink(missing_ok=True)
            (self / _DATA).unlink(missing_ok=True)

    def _flags(self) -> dict[str, str] | None:
        """Reads the recorded flags, None if there is no record."""
        try:
            text = (self / _FLAGS).read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KdartsError(f"{self / _FLAGS}: cannot be read ({error.strerror})") from None
        pairs = [line.removeprefix("--").partition("=") for line in text.splitlines() if line.startswith("--")]
        return {name: value for name, _, value in pairs}


def _data_record(splits) -> dict[str, np.ndarray]:
    """The class names, and the sorted fingerprints of the examples of each split."""
    names = next(iter(splits.values())).class_names
    # Sorted, since the order of a listing follows from its content.
    return {"class_names": np.array(names, str)} | {name: np.sort(data.fingerprint()) for name, data in splits.items()}


def data_changes(before: dict[str, np.ndarray], now: dict[str, np.ndarray]) -> list[str]:
    """Returns in words what differs between two records of data, with `class_names` and numbers for each split."""
    old, new = (list(map(str, record.get("class_names", ()))) for record in (before, now))
    gone, added = ([name for name in one if name not in other] for one, other in ((old, new), (new, old)))
    if len(gone) == len(added) == 1:
        return [f"class {gone[0]!r} is now {added[0]!r}"]
    if gone or added:
        each = ((what, some) for what, some in (("no longer there", gone), ("new", added)) if some)
        return [f"class{'es' * (len(some) > 1)} {listed(map(repr, some))} {what}" for what, some in each]
    changes = ["its classes have another order"] if old != new else []
    for split in sorted((before.keys() & now.keys()) - {"class_names"}):
        more = len(np.setdiff1d(now[split], before[split]))
        less = len(np.setdiff1d(before[split], now[split]))
        told = [f"{number} {what}" for number, what in ((more, "added"), (less, "removed")) if number]
        note = " (or now in another class)" if more and less else ""
        changes += [f"images of the {split} split: {', '.join(told)}{note}"] if told else []
    return changes


def write_json(path: str | os.PathLike, value: dict) -> None:
    """Writes an object as indented JSON, atomically. JSON has no NaN and no infinity: they become null."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_ENTRIES = {"summary.json": entries.SUMMARY, "setting.json": entries.SETTING, STOPPED: entries.STOPPED}


def read_json(path: str | os.PathLike, needed: Sequence[str] = ()) -> dict:
    """Reads the object in a JSON file. What the files of a run hold is checked by their names (see `entries`).

    Args:
        path: The file.
        needed: The names of entries that it must have.

    Raises:
        DamageError: If the content is not JSON, or an entry is missing or not what it may be. The message names the
            file.
        KdartsError: If the file cannot be read or its content is not an object.
    """
    value = json_in(path)
    if not isinstance(value, dict):
        raise KdartsError(f"{path}: holds no JSON object")
    value.pop("sha256", None)  # Earlier releases wrote a checksum.
    entries.check(value, _ENTRIES.get(pathlib.Path(path).name, {}), path, needed)
    return value


def read_summary(folder, needed: Sequence[str] = ()) -> dict | None:
    """Reads the summary of a finished run from its folder.

    Args:
        folder: The folder.
        needed: The names of entries without which it is damaged.

    Returns:
        The summary. None if there is none, or if it is damaged, which is reported in one line.
    """
    path = folder / "summary.json"
    if not path.exists():
        return None
    try:
        return read_json(path, needed)
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
            arrays = {name: data[name] for name in data.files}
        if all(isinstance(array, np.ndarray) for array in arrays.values()):  # NumPy returns other members as bytes.
            return arrays
        raise ValueError
    except Exception:  # Of any kind: a header that is no header fails in Python's tokenizer, for one.
        raise DamageError(f"{path}: cannot be read as arrays") from None


def read_table(path: str | os.PathLike) -> list[dict[str, str]]:
    """Reads the rows of a CSV file that `write_table` wrote; raises `DamageError` if it is no such table."""
    try:
        with pathlib.Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames
    except OSError as error:
        raise KdartsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamageError(f"{path}: cannot be read as a table ({error})") from None
    if columns is None:
        raise DamageError(f"{path}: damaged; it is empty")
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise DamageError(f"{path}: damaged; it has two columns {quoted(twice[0])}")
    if any(None in row or None in row.values() for row in rows):
        raise DamageError(f"{path}: damaged; a row has more or fewer values than there are columns")
    return rows


def read_history(path: str | os.PathLike) -> list[dict[str, float | None]]:
    """Reads the figures of each epoch of one search or training from its `history.csv`.

    Returns:
        A row for each epoch. A figure is None where the epoch does not have it, or where it is not finite.

    Raises:
        DamageError: If a figure is no number, an accuracy is not from 0 to 1, or the epochs are not counted from 0.
    """
    rows = []
    for number, row in enumerate(read_table(path)):
        try:
            rows.append({name: entries.finite(float(value)) if value else None for name, value in row.items()})
        except ValueError as error:
            raise DamageError(f"{path}: damaged ({shortened(str(error))})") from None
        if rows[-1].get("epoch", number) != number:
            raise DamageError(f"{path}: damaged; its row {number} is of epoch {shortened(row['epoch'], 20)}")
        for name, value in rows[-1].items():
            if name in ("accuracy", "val_accuracy") and value is not None and not 0 <= value <= 1:
                given = shortened(row[name], 20)
                raise DamageError(f"{path}: damaged; epoch {number} has {name} {given}, allowed is 0 to 1")
    return rows


def read_column(path: str | os.PathLike, name: str) -> list[float]:
    """Reads the numbers in a column of a `history.csv`; raises `DamageError` if it is damaged."""
    rows = read_history(path)
    if any(row.get(name) is None for row in rows):
        raise DamageError(f"{path}: damaged; needs a number {name} in each row")
    return [row[name] for row in rows]


def read_genotypes(path: str | os.PathLike) -> list[Architecture]:
    """Reads the architecture after each epoch from `genotypes.jsonl`; raises `KdartsError` if a line has none."""
    try:
        lines = pathlib.Path(path).read_text("utf-8").splitlines()
        return [architecture_from_json(json.dumps(json_of(line)["genotype"]), str(path)) for line in lines]
    except KdartsError:
        raise
    except OSError as error:
        raise KdartsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DamageError(f"{path}: damaged ({shortened(str(error))})") from None


def write_table(path: str | os.PathLike, rows: list[dict]) -> None:
    """Writes rows as CSV, atomically. The columns are the keys of all rows, in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def summary_beside(path) -> dict:
    """Reads the `summary.json` in the folder of a model, {} if there is none."""
    summary = pathlib.Path(path).with_name("summary.json")
    return read_json(summary) if summary.is_file() else {}
