"""Pictures in folders: which files there are, of which class, and for which part."""

import dataclasses
import hashlib
import os
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from kdarts.data import label_files, splits
from kdarts.data.pictures import SUFFIXES
from kdarts.data.sources import Progress
from kdarts.data.splits import ODD, ROLES, Picture, no_split
from kdarts.genotypes.errors import KdartsError, listed

_SKIPPED = ("__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information", "__pycache__")
_JUNK = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
_OF_RUNS = ("flags.flags", "setting.json")  # a workdir has one of them

_told: set[str] = set()
"""Notes of this process: each is printed once, however often a folder is read."""


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """The pictures of one part of a data set, in a fixed random order.

    Args:
        files: the paths.
        labels: int32 `[n]`, indices of `class_names`.
        class_names: one name per class.
        names: of the files, relative to the folder, with `/`; absolute for files elsewhere.
    """

    files: tuple[Path, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)


@dataclasses.dataclass(frozen=True, eq=False)
class Listings:
    """The parts of a data set.

    Args:
        train: the pictures for training.
        test: those for the test.
        path: the folder.
        divided: whether a hash decided on the parts.
        valid: the pictures for validation, where they are kept apart.
    """

    train: Listing
    test: Listing
    path: str
    divided: bool
    valid: Listing | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all parts."""
        return self.train.files + self.test.files + (self.valid.files if self.valid else ())

    def part(self, split: str) -> Listing:
        """The part "train", "test" or "valid"; raises `KdartsError` if it has no picture."""
        chosen = {"train": self.train, "test": self.test, "valid": self.valid}[split]
        if not len(chosen):
            if self.divided:
                raise KdartsError(
                    f"too few pictures in {self.path!r} for a {split} split: of {len(self.files)}, 1 in {splits.SHARE} "
                    "different pictures or groups is drawn for the test; allowed: more, or folders train and test"
                )
            raise KdartsError(f"no pictures for the {split} split in {self.path!r}; allowed: both train and test")
        return chosen


def listing(path: str, split: str, labels: str | None = None, group: str | None = None) -> Listing:
    """One part of `listings`; raises `KdartsError` as it does, and if the part has no picture."""
    return listings(path, labels, group).part(split)


def listings(
    path: str, labels: str | None = None, group: str | None = None, valid_split: str | None = None
) -> Listings:
    """Lists the pictures in a folder, their classes and their parts.

    Classes are the sub-folders of `path`, or of `path/train` and `path/test` (see `splits.ROLES` for other names of
    these; with `val` as well, its pictures join the training). Pictures in sub-folders of a class belong to it. Where
    there are no such parts, one picture in five is for the test, by a hash of its content (see `splits`).

    Args:
        path: the folder.
        labels: a CSV file of files and labels in place of class folders, absolute or relative to `path` or to the
            working directory; see `label_files.read`.
        group: a regular expression with one group, such as `(.*)_\\d+`: pictures in whose names (below the class) it
            finds the same are of one part.
        valid_split: "val" or another name of that part in `splits.ROLES` keeps its pictures apart; None: they join the
            training, or are the test where there is none.

    Returns:
        The parts. Classes are in sorted order (numbers of a CSV file by value), pictures in a random order that
        depends on their names alone.

    Raises:
        KdartsError: no folder, fewer than two classes with pictures, classes of one part only, folders that cannot be
            read, class names of more than one line, a CSV file as `label_files.read` refuses it, a pattern without one
            group or that finds nothing, a `valid_split` that is not there.
    """
    root = os.path.expanduser(path)
    if not path or not os.path.isdir(root):
        raise KdartsError(f"no folder {path!r}; allowed: a folder with one sub-folder of pictures per class")
    if ODD.search(root):
        raise KdartsError(f"folder {path!r}; allowed: a path of one line in UTF-8")
    pattern = splits.compiled(group)
    pictures = _from_folders(root) if labels is None else _from_table(root, labels)
    class_names = _class_names(pictures, numbers=labels is not None)
    if len(class_names) < 2:
        raise KdartsError(f"classes in {path!r}: {listed(class_names)}; allowed: two or more")
    pictures = _joined(root, pictures) if valid_split is None else _apart(root, pictures, valid_split)
    divide = not pictures[0].part
    progress = Progress(f"folder:{path}", len(pictures), "listing")
    digests = None
    if divide:
        digests = splits.fingerprints(root, [picture.name for picture in pictures], progress.update)
        pictures, notes = splits.divided(pictures, digests, pattern)
        for note in notes:
            _tell(f"{root}: {note}")
    else:
        _check_classes(root, pictures)
        if pattern and (both := splits.shared_groups(pictures, pattern)):
            _tell(f"{root}: {len(both)} groups have pictures in more than one part: {listed(both)}")
    compared = [picture for picture in pictures if picture.part != "val"]
    if (not divide or pattern) and (pairs := splits.duplicates(root, compared, digests, progress.update)):
        _tell(f"{root}: {len(pairs)} test pictures are copies of training pictures, the first: {' of '.join(pairs[0])}")
    pictures.sort(key=lambda picture: (hashlib.blake2b(picture.name.encode(), digest_size=8).digest(), picture.name))
    number = {name: i for i, name in enumerate(class_names)}
    parts = []
    for part in ("train", "test", "val"):
        own = [picture for picture in pictures if picture.part == part]
        files = tuple(Path(root, picture.name) for picture in own)
        indices = np.array([number[picture.label] for picture in own], np.int32)
        parts.append(Listing(files, indices, class_names, tuple(picture.name for picture in own)))
    return Listings(*parts[:2], path, divide, None if valid_split is None else parts[2])


def _tell(line: str) -> None:
    if line not in _told:
        _told.add(line)
        print(f"note: {line}", file=sys.stderr)


def _class_names(pictures: list[Picture], numbers: bool) -> tuple[str, ...]:
    names = {picture.label for picture in pictures}
    if numbers and all(re.fullmatch("[0-9]{1,9}", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _joined(root: str, pictures: list[Picture]) -> list[Picture]:
    """The pictures, with those for validation in training if there is a test part, or else in the test part."""
    counts = Counter(picture.part for picture in pictures)
    if not counts["val"]:
        return pictures
    role = "train" if counts["test"] else "test"
    if counts["test"]:
        _tell(
            f"{root}: the {counts['val']} pictures for validation join the {counts['train']} for training; "
            f"{counts['test']} are for the test"
        )
    return [Picture(picture.name, picture.label, role) if picture.part == "val" else picture for picture in pictures]


def _apart(root: str, pictures: list[Picture], valid_split: str) -> list[Picture]:
    """The pictures; raises `KdartsError` unless some are for validation by that name, beside those for the test."""
    parts = {picture.part for picture in pictures}
    # Without a part for the test, the pictures for validation are the test.
    found = sorted(name for name, role in ROLES.items() if role == "val") if {"val", "test"} <= parts else []
    if valid_split.lower() not in found:
        raise no_split(valid_split, root, found)
    known = {picture.label for picture in pictures if picture.part == "train"}
    if lone := sorted({picture.label for picture in pictures if picture.part == "val"} - known):
        raise KdartsError(f"classes of {valid_split} in {root} that train has not: {listed(lone)}; allowed: its own")
    return pictures


def _check_classes(root: str, pictures: list[Picture]) -> None:
    """Raises `KdartsError` if a class is in one part only, where there are both."""
    held = {part: {one.label for one in pictures if one.part == part} for part in ("train", "test")}
    if all(held.values()) and held["train"] != held["test"]:
        lone = [
            f"only in {part}: {listed(sorted(held[part] - held[other]))}"
            for part, other in (("train", "test"), ("test", "train"))
            if held[part] - held[other]
        ]
        raise KdartsError(f"classes of train and test in {root} differ, {'; '.join(lone)}; allowed: the same in both")


def _from_table(root: str, labels: str) -> list[Picture]:
    """The pictures of a CSV file."""
    given = os.path.expanduser(labels)
    places = {os.path.realpath(file): file for file in (os.path.join(root, given), given) if os.path.isfile(file)}
    if len(places) != 1:
        what = "is in both" if places else "is in neither of"
        raise KdartsError(
            f"labels {labels!r} {what} {root} and the working directory; allowed: a CSV file in one of them, or an "
            "absolute path"
        )
    found = _walk(root, [""])
    pictures = label_files.read(*places.values(), root, _regular(root, found.pictures), _tell)
    if not pictures[0].part:
        roles = [ROLES.get(one.name.split("/")[0].lower(), "") for one in pictures]
        if all(roles) and "train" in roles and len(set(roles)) > 1:
            pictures = [Picture(one.name, one.label, role) for one, role in zip(pictures, roles, strict=True)]
    return pictures


def _from_folders(root: str) -> list[Picture]:
    """The pictures of class folders, below folders for the parts if there are any."""
    roles, others = _top(root)
    found = _walk(root, list(roles.values()))
    deep = [name for name in found.pictures if name.count("/") > 1]
    with_classes = {ROLES[name.split("/")[0].lower()] for name in deep}
    if "train" in with_classes or (with_classes and "train" not in roles and not others):
        if flat := len(found.pictures) - len(deep):
            _tell(f"{root}: {flat} pictures lie beside the class folders of {', '.join(roles.values())}, left out")
        if others:
            _tell(f"{root}: beside {', '.join(roles.values())}, left out: {listed(others)}")
        parts = [name.split("/") for name in deep]
        alone = with_classes == {"train"}
        pictures = [Picture("/".join(part), part[1], "" if alone else ROLES[part[0].lower()]) for part in parts]
        _tell_skipped(root, found, {f"{one[0]}/{one[1]}" for one in parts})
    else:
        found = _walk(root, [""])
        pictures = [Picture(name, name.split("/")[0], "") for name in found.pictures if "/" in name]
        _check_layout(root, pictures, found)
        _tell_skipped(root, found, {picture.label for picture in pictures})
    odd = sorted({picture.label for picture in pictures if ODD.search(picture.label)})
    if odd:
        raise KdartsError(f"{root}: names of classes {listed(odd)}; allowed: one line of UTF-8")
    regular = set(_regular(root, [picture.name for picture in pictures]))
    return [picture for picture in pictures if picture.name in regular]


def _regular(root: str, names: list[str]) -> list[str]:
    """The names that are one line of UTF-8; the others are told."""
    if odd := [name for name in names if ODD.search(name)]:
        _tell(f"{root}: {len(odd)} names are not one line of UTF-8, left out: {listed(odd)}")
    return [name for name in names if not ODD.search(name)]


def _top(root: str) -> tuple[dict[str, str], list[str]]:
    """The folders for parts by their role, and the other sub-folders."""
    roles, others = {}, []
    for name in sorted(entry.name for entry in _entries(root) if _is_folder(entry)):
        role = ROLES.get(name.lower())
        if role and _holds(os.path.join(root, name), root):
            continue  # a link back
        if role in roles:
            raise KdartsError(f"{root} has {roles[role]} and {name}; allowed: one folder for {role}")
        if role:
            roles[role] = name
        elif not _is_skipped(name):
            others.append(name)
    return roles, others


def _check_layout(root: str, pictures: list[Picture], found: "_Walk") -> None:
    """Raises `KdartsError`, with what there is instead, unless the sub-folders are classes."""
    names = sorted({picture.label for picture in pictures})
    flat = sum("/" not in name for name in found.pictures)
    inner = defaultdict(set)
    for picture in pictures:
        if picture.name.count("/") > 1:
            inner[picture.label].add(picture.name.split("/")[1].lower())
    if names and all(name.lower() in ROLES for name in names):
        raise KdartsError(
            f"{root}: {', '.join(names)} hold pictures and no class folders; allowed: class folders, or "
            f"{_tables(root, names)}"
        )
    if len(names) < 2:
        also = [f"no pictures in {listed(empty)}"] if (empty := found.without(set(names))) else []
        also += [f"{flat} pictures in the folder itself"] if flat else []
        also += (
            [f"perhaps folder:{listed([os.path.join(root, names[0])])}"] if names and len(inner[names[0]]) > 1 else []
        )
        raise KdartsError(
            f"classes in {root!r}: {listed(names) or 'none'}; allowed: two or more sub-folders with pictures, one per "
            f"class, or {_tables(root, names)}{''.join(f'; {one}' for one in also)}"
        )
    for name in names:
        if name.lower() in ROLES and len(inner[name] & {other.lower() for other in names}) > 1:
            raise KdartsError(f"{root}: {name} holds classes, as {root} does; allowed: train and test side by side")
    if all(inner[name] and inner[name] <= ROLES.keys() for name in names):
        raise KdartsError(
            f"{root}: the classes hold {listed(sorted(inner[names[0]]))}; allowed: these above the classes"
        )
    if flat:
        _tell(f"{root}: {flat} pictures lie beside the class folders, left out")


def _tables(root: str, names: list[str]) -> str:
    """What there is in place of class folders: a CSV file in `root` or in its sub-folders `names`."""
    for top in ["", *names]:
        for name in sorted(os.listdir(os.path.join(root, top))):
            if name.lower().endswith((".csv", ".tsv")):
                table = os.path.join(top, name)
                return f"--labels={listed([table])} (labels={table!r})"
    return "a CSV file of files and labels (--labels, labels)"


def _tell_skipped(root: str, found: "_Walk", classes: set[str]) -> None:
    if names := found.without(classes):
        _tell(f"{root}: no classes, being empty, hidden, runs of kdarts or links back: {listed(names)}")
    if found.ignored:
        _tell(f"{root}: {found.ignored} files ignored that are not named {', '.join(SUFFIXES)}")


@dataclasses.dataclass
class _Walk:
    """What a walk through folders met, as names below the root."""

    pictures: list[str] = dataclasses.field(default_factory=list)
    folders: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    ignored: int = 0

    def without(self, classes: set[str]) -> list[str]:
        """The folders that were skipped, and those beside `classes` that have no pictures."""
        depths = {name.count("/") for name in classes} or {0}
        empty = {name for name in self.folders if name.count("/") in depths} - classes
        return sorted({*self.skipped, *empty})


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SKIPPED


def _is_folder(entry: os.DirEntry) -> bool:
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _is_file(entry: os.DirEntry) -> bool:
    return entry.is_file(follow_symlinks=False) or (entry.is_symlink() and os.path.isfile(entry.path))


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise KdartsError(f"{folder}: cannot be read ({error.strerror}); allowed: readable folders") from None


def _walk(root: str, tops: list[str]) -> _Walk:
    """Goes through the folders `tops` below `root` and all in them."""
    walk, unreadable = _Walk(), []
    bases = [os.path.join(root, top) for top in tops]
    linked: set[str] = set()
    left = list(tops)
    while left:
        folder = left.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            unreadable.append(f"{folder} ({error.strerror})")
            continue
        if folder and any(entry.name in _OF_RUNS for entry in entries):
            walk.skipped.append(folder)
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if _is_folder(entry):
                if _is_skipped(entry.name) or (entry.is_symlink() and _leads_back(entry.path, bases, linked)):
                    walk.skipped.append(name)
                else:
                    walk.folders.append(name)
                    left.append(name)
            elif entry.name.startswith(".") or entry.name.lower() in _JUNK:
                continue
            elif not entry.name.lower().endswith(SUFFIXES) or not _is_file(entry):
                walk.ignored += bool(folder)
            else:
                walk.pictures.append(name)
    if unreadable:
        raise KdartsError(f"{root}: cannot read {listed(sorted(unreadable))}; allowed: readable folders")
    walk.pictures.sort()
    return walk


def _leads_back(link: str, bases: list[str], linked: set[str]) -> bool:
    """Whether a link leads to a folder that is read without it, or that a link before led to, or above either."""
    target = os.path.realpath(link)
    here = os.path.dirname(link)
    back = target in linked or any(_holds(target, base) or _holds(base, target) for base in bases)
    linked.add(target)
    return back or _holds(target, here)


def _holds(folder: str, other: str) -> bool:
    """Whether `other` is `folder` or in it, where links lead."""
    return f"{os.path.realpath(other)}/".startswith(f"{os.path.realpath(folder)}/".replace("//", "/"))
